//! The process: how it starts, ends, and tells how it is.

use std::{net::TcpListener, os::unix::net::UnixDatagram, path::Path};

use rustix::process::Signal;

use crate::{
    BEACON, ORDER, STATUS,
    client::{Client, Connect},
    login::{TCP, everybody, site},
    process::{Site, run, text},
    wait::{LIMIT, until},
};

/// What systemd would listen at.
fn notify_socket(path: &Path) -> impl FnMut() -> String + use<> {
    let socket = UnixDatagram::bind(path).unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    move || {
        let mut message = [0; 256];
        let length = socket.recv(&mut message).unwrap();
        String::from_utf8(message[..length].to_vec()).unwrap()
    }
}

#[test]
fn systemd_is_told_that_the_broker_is_ready_alive_and_stopping() {
    let site = Site::new();
    let mut told = notify_socket(&site.path("notify"));
    let mut command = site.command(&["--listen", "127.0.0.1:0", "--anonymous"]);
    command.env("NOTIFY_SOCKET", site.path("notify")).env("WATCHDOG_USEC", "1000000");
    let mut broker = site.spawn(command);
    assert_eq!(told(), "READY=1\n");
    for _ in 0..3 {
        assert_eq!(told(), "WATCHDOG=1\n");
    }
    broker.signal(Signal::TERM);
    until("it says that it stops", || match told().as_str() {
        "WATCHDOG=1\n" => false,
        other => {
            assert_eq!(other, "STOPPING=1\n");
            true
        }
    });
    assert_eq!(broker.wait(), Some(0));
}

#[test]
fn a_broker_that_serves_nobody_yet_is_not_ready() {
    let site = Site::new();
    std::fs::write(&site.state, "no folder").unwrap();
    let socket = UnixDatagram::bind(site.path("notify")).unwrap();
    socket.set_nonblocking(true).unwrap();
    let mut command = site.command(&["--listen", "127.0.0.1:0", "--anonymous"]);
    command.env("NOTIFY_SOCKET", site.path("notify"));
    let ended = run(command, "");
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(5), ""), "{}", ended.stderr);
    assert!(ended.stderr.contains(text(&site.state)), "{}", ended.stderr);
    socket.recv(&mut [0; 64]).unwrap_err();
}

#[test]
fn signals_to_stop_end_the_broker_with_0_at_once() {
    for signal in [Signal::TERM, Signal::INT] {
        // Also right after it has said that it listens.
        for clients in [0, 3] {
            let mut broker = Site::new().start();
            let connect = |number: usize| Client::connect(broker.address(), &number.to_string());
            let mut idle: Vec<_> = (0..clients).map(connect).collect();
            broker.signal(signal);
            assert_eq!(broker.wait(), Some(0), "{}", broker.log());
            idle.iter_mut().for_each(Client::assert_closed);
        }
    }
}

#[test]
fn an_address_in_use_ends_the_broker_with_3_and_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let ended = Site::new().run(&["--listen", &address, "--anonymous"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(3), ""), "{}", ended.stderr);
    assert!(ended.stderr.contains(&address) && ended.stderr.contains("--listen"));
    let site = Site::new();
    site.configure("");
    site.write("broker.toml", &format!("metrics = \"{address}\"\n"));
    let ended = site.run(&["--listen", "127.0.0.1:0", "--anonymous"]);
    assert_eq!(ended.code, Some(3), "{}", ended.stderr);
    assert!(ended.stderr.contains(&address), "{}", ended.stderr);
}

#[test]
fn what_cannot_be_run_ends_the_broker_with_2_and_is_named() {
    let site = site(&everybody(), TCP);
    let good = site.settings();
    let logins = text(&site.path("home.toml")).to_owned();
    for (settings, facts) in [
        (format!("max_payloads = 1\n{good}"), &["line 1", "max_payloads"][..]),
        (good.replace("home.toml", "gone.toml"), &["gone.toml", "cannot read the logins"]),
        (good.replace("passwords\"", "gone\""), &["gone", "cannot read the passwords"]),
        (good.replace("localhost", "not a name"), &["`names`", "not a name"]),
        (good.replace("127.0.0.1", "0.0.0.0"), &["transport", "plaintext"]),
        (
            good.replace("\"tcp\"", "\"tls\"\ncertificate = \"/gone.pem\"\nkey = \"/gone.pem\""),
            &["/gone.pem", "cannot read"],
        ),
        (format!("logins = {:?}\n", [&logins, &logins]), &["home.toml"]),
    ] {
        site.write("broker.toml", &settings);
        let serving =
            if settings.contains("[[listener]]") { &[][..] } else { &["--listen", "127.0.0.1:0"] };
        for args in [&["check-config"][..], serving] {
            let ended = site.run(args);
            assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""), "{settings}: {ended:?}");
            for fact in facts {
                assert!(ended.stderr.contains(fact), "{fact} is not in {}", ended.stderr);
            }
        }
    }
    site.write("broker.toml", &good);
    for (args, words) in [
        (&["--listen", "0.0.0.0:1883"][..], "is not a loopback address"),
        (&["--anonymous"], "--listen"),
        (&["--bogus"], "--bogus"),
    ] {
        let ended = site.run(args);
        assert_eq!(ended.code, Some(2));
        assert!(ended.stderr.contains(words), "{}", ended.stderr);
    }
    site.write("broker.toml", "");
    for args in [&[][..], &["check-config"]] {
        let ended = site.run(args);
        assert!(ended.code == Some(2) && ended.stderr.contains("[[listener]]"), "{ended:?}");
        assert_eq!(ended.stdout, "");
    }
    // Nor without a place for its store.
    for command in [None, Some("check-config")] {
        let mut stateless = std::process::Command::new(env!("CARGO_BIN_EXE_herald-broker"));
        let config = site.write("stateless.toml", TCP);
        stateless.args(command).arg("--config").arg(config);
        let ended = run(stateless, "");
        assert!(ended.code == Some(2) && ended.stderr.contains("--state"), "{ended:?}");
        assert_eq!(ended.stdout, "");
    }
}

#[test]
fn check_config_prints_the_settings_in_effect_and_starts_nothing() {
    let site = site(&everybody(), TCP);
    site.write("broker.toml", &format!("max_connections = 7\n{}", site.settings()));
    let ended = site.run(&["check-config"]);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    for line in ["max_payload = 32768\nmax_connections = 7\n", "slow_after = \"20s\"\n"] {
        assert!(ended.stdout.contains(line), "{}", ended.stdout);
    }
    assert!(!site.state.exists());
    // What it prints is a configuration.
    site.write("broker.toml", &ended.stdout);
    assert_eq!(site.run(&["check-config"]).stdout, ended.stdout);
}

#[test]
fn metrics_tell_of_sessions_messages_and_refusals() {
    let site = Site::with("");
    let broker = site.start();
    let mut client = Client::connect(broker.address(), "client");
    let host = Connect::persistent("host").open(broker.address());
    client.retained(ORDER, "order");
    client.retained(STATUS, "status");
    client.retained(ORDER, "order 2");
    client.retained(STATUS, "");
    client.subscribe(ORDER);
    client.take();
    client.subscribe_all(&[("#", 1)]);
    for (series, value) in [
        ("herald_broker_connections", 2),
        ("herald_broker_sessions", 2),
        ("herald_broker_persistent_sessions", 1),
        ("herald_broker_retained_messages", 1),
        ("herald_broker_messages_received_total", 4),
        ("herald_broker_messages_sent_total", 1),
        ("herald_broker_messages_stored_total", 3),
        ("herald_broker_relay_lag_seconds_count", 4),
        ("herald_broker_refused_total{reason=\"filter\"}", 1),
        ("herald_broker_refused_total{reason=\"slow\"}", 0),
    ] {
        broker.wait_for_metric(series, value);
    }
    // 4 messages and a session, in at most as many commits.
    let commits = broker.metric("herald_broker_commit_seconds_count");
    assert!((1.0..=5.0).contains(&commits), "{commits}");
    assert!(broker.metric("herald_broker_commit_seconds_sum") > 0.0);
    host.vanish();
    client.disconnect();
    broker.wait_for_metric("herald_broker_sessions", 0);
    broker.wait_for_metric("herald_broker_connections", 0);
    broker.stop();

    let broker = site.start();
    broker.wait_for_metric("herald_broker_persistent_sessions", 1);
    broker.wait_for_metric("herald_broker_retained_messages", 1);
}

#[test]
fn a_packet_above_the_limit_closes_only_its_own_connection() {
    let site = Site::with("max_payload = 2048\n");
    let broker = site.start();
    let mut bystander = Client::connect(broker.address(), "bystander");
    let mut sender = Client::connect(broker.address(), "sender");
    // Topic and packet id take 2 bytes each, beside the topic itself.
    sender.retained(BEACON, vec![0; 2048 - BEACON.len() - 4]);
    sender.retain(BEACON, vec![0; 2048 - BEACON.len() - 3]);
    sender.assert_closed();
    broker.wait_for_refusals("too-large", 1);
    bystander.ping();
    Client::connect(broker.address(), "sender").ping();
}
