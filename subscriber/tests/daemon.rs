//! The program `herald-subscriber` as a service manager and an operator see it: exit codes, what
//! it says, and that it starts and stops whatever the broker does.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test helper fails by panicking")]

mod common;

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpListener,
    os::unix::{fs::PermissionsExt as _, net::UnixDatagram, process::ExitStatusExt as _},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use common::{
    Running,
    host::{Host, closed_port},
    wait_for,
};
use herald_proto::{key::PublicKey, login, time::Timestamp};
use rustix::process::Signal;

/// Takes a connection, gives the texts in its CONNECT, and refuses it as not authorised.
fn refuse(listener: &TcpListener) -> Vec<String> {
    let (mut stream, _) = listener.accept().unwrap();
    let mut bytes = vec![0; 8192];
    let mut size = 0;
    // The fixed header of a CONNECT with a will and a token has 2 bytes of length.
    while size < 3 || size < 3 + usize::from(bytes[1] & 0x7f) + 128 * usize::from(bytes[2]) {
        let read = stream.read(&mut bytes[size..]).unwrap();
        assert!(read > 0);
        size += read;
    }
    stream.write_all(&[0x20, 2, 0, 5]).unwrap();
    let mut rest = &bytes[13..size];
    let mut texts = Vec::new();
    while !rest.is_empty() {
        let length = usize::from(u16::from_be_bytes([rest[0], rest[1]]));
        texts.push(String::from_utf8_lossy(&rest[2..2 + length]).into_owned());
        rest = &rest[2 + length..];
    }
    texts
}

#[test]
fn a_host_logs_in_with_tokens_of_its_own_key_and_says_what_to_check_when_they_are_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = Host::new(listener.local_addr().unwrap().port());
    let config = fs::read_to_string(host.config()).unwrap();
    let login = "[login]\nkind = \"signed\"\nbroker_name = \"hub\"\n";
    fs::write(host.config(), format!("{config}{login}")).unwrap();
    let public: PublicKey = host.run("public-key").stdout.trim_end().parse().unwrap();
    let _daemon = host.start();
    for _ in 0..2 {
        let texts = refuse(&listener);
        let [client_id, _topic, _will, user, token] = texts.as_slice() else { panic!("{texts:?}") };
        assert_eq!((client_id.as_str(), user.as_str()), ("home:alpha", "home/alpha"));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
        let now = Timestamp::from_millis(u64::try_from(now).unwrap());
        let principal = user.parse().unwrap();
        let expected = login::Login { principal: &principal, client_id };
        let (keys, brokers) = ([public.clone()], ["hub".parse().unwrap()]);
        login::verify(token, &keys, &expected, &brokers, now).unwrap();
        assert!(!host.log().contains(token.as_str()));
    }
    host.wait_for_log("the broker refused the login of home/alpha");
    host.wait_for_log("calls itself hub");
}

const COMMANDS: [&str; 3] = ["run", "public-key", "check-config"];

#[test]
fn a_bad_configuration_ends_every_command_with_2_and_names_the_file_and_the_fault() {
    let host = Host::new(1);
    let good = fs::read_to_string(host.config()).unwrap();
    for (from, to, fault) in [
        ("runner =", "runnner =", "unknown field `runnner`"),
        ("fleet =", "fleet", "expected"),
        ("\"direct\"", "\"dirrect\"", "unknown variant `dirrect`"),
        ("\"alpha\"", "\"al.pha\"", "not a valid host name"),
        ("mqtt://", "http://", "not a broker's address"),
        ("\nfleet = \"home\"", "", "missing field `fleet`"),
        ("state_dir = \"/", "state_dir = \"", "must be an absolute path"),
        ("fleet = \"home\"", "fleet = \"work\"", "is for the fleet home"),
        ("[profiles.system]", "[profiles]\n[profiles.\"a b\"]", "not a valid"),
    ] {
        let text = format!("\n{good}").replacen(from, to, 1);
        fs::write(host.config(), text).unwrap();
        for said in host.refused(&COMMANDS, 2) {
            assert!(said.contains(host.config().to_str().unwrap()), "{fault}: {said}");
            assert!(said.contains(fault), "{fault}: {said}");
            assert!(said.matches("parse error").count() <= 1, "once is enough: {said}");
        }
    }
    fs::remove_file(host.config()).unwrap();
    for said in host.refused(&COMMANDS, 2) {
        assert!(said.contains(host.config().to_str().unwrap()), "{said}");
        assert!(said.contains("check that it exists"), "{said}");
    }
    assert!(!host.scratch.file("herald").exists(), "nothing was made, no key either");
}

#[test]
fn a_bad_trust_file_ends_every_command_with_2_and_names_the_file_and_the_fault() {
    let host = Host::new(1);
    let good = fs::read_to_string(host.trust()).unwrap();
    for (from, to, fault) in [
        ("threshold = 1", "threshold = 2", "threshold"),
        ("threshold = 1", "threshold = 0", "threshold"),
        ("11qYAYKx", "!!", "key"),
        ("keys = ", "keyz = ", "keyz"),
        ("[release]", "[release", "release"),
    ] {
        fs::write(host.trust(), good.replacen(from, to, 1)).unwrap();
        for said in host.refused(&COMMANDS, 2) {
            assert!(said.contains(host.trust().to_str().unwrap()), "{to}: {said}");
            assert!(said.contains(fault), "{to}: {said}");
        }
    }
    fs::remove_file(host.trust()).unwrap();
    for said in host.refused(&COMMANDS, 2) {
        assert!(said.contains(host.trust().to_str().unwrap()), "{said}");
        assert!(said.contains("check that it exists"), "{said}");
    }
}

#[test]
fn a_nix_that_asks_for_no_signatures_is_told_and_left_as_it_is() {
    let host = Host::new(1);
    let check = |nix: &str| {
        let mut run = common::subscriber();
        run.arg("check-config").arg("--config").arg(host.config()).env("NIX_CONFIG", nix);
        host.said(&mut run)
    };
    let said = check("require-sigs = false");
    assert_eq!(said.code, Some(0), "{said:?}");
    let warning = "warning: Nix has require-sigs = false here";
    assert!(said.stderr.starts_with(warning) && said.stderr.lines().count() == 1, "{said:?}");
    assert_eq!(check("require-sigs = true").stderr, "");
}

#[test]
fn a_configuration_is_checked_without_making_anything() {
    let host = Host::new(1);
    let said = host.run("check-config");
    assert_eq!((said.code, said.stderr.as_str()), (Some(0), ""), "{said:?}");
    let expected =
        "host alpha of fleet home; releases need 1 of 1 keys; 0 health checks of its own\n";
    assert!(said.stdout.ends_with(expected), "{said:?}");

    let folder = host.scratch.file("health.d");
    fs::create_dir(&folder).unwrap();
    let good = fs::read_to_string(host.config()).unwrap();
    fs::write(host.config(), format!("health_folder = {folder:?}\n{good}")).unwrap();
    fs::write(folder.join("ssh.toml"), "check.tcp = \"127.0.0.1:22\"").unwrap();
    let said = host.run("check-config");
    assert!(said.stdout.ends_with("; 1 health checks of its own\n"), "{said:?}");
    fs::write(folder.join("web.toml"), "\ncheck.ping = \"web\"").unwrap();
    let said = host.run("check-config");
    assert_eq!(said.code, Some(2), "{said:?}");
    assert!(
        said.stderr.contains("web.toml as one check: ") && said.stderr.contains("line 2"),
        "{said:?}"
    );
    assert!(!host.scratch.file("herald").exists());
}

#[test]
fn the_public_key_is_made_once_and_printed_again_and_again() {
    let host = Host::new(1);
    let first = host.run("public-key");
    assert_eq!((first.code, first.stderr.as_str()), (Some(0), ""), "{first:?}");
    let key: PublicKey = first.stdout.trim_end().parse().expect("a public key and nothing else");
    assert!(key.to_string().starts_with("alpha:"), "{key}");
    let secret = fs::read(host.key()).unwrap();
    let again = host.run("public-key");
    assert_eq!((again.code, again.stdout), (Some(0), first.stdout));
    assert_eq!(fs::read(host.key()).unwrap(), secret);
    let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(host.key()), 0o600);
    assert_eq!(mode(host.scratch.file("herald")), 0o700);
}

#[test]
fn a_key_that_is_missing_exposed_or_damaged_ends_with_1_and_says_what_to_do() {
    let host = Host::new(closed_port());
    let mut daemon = host.start();
    daemon.kill();
    let key = host.key().display().to_string();
    let secret = fs::read_to_string(host.key()).unwrap();
    let refused = |what_to_do: &str| {
        for said in host.refused(&["run", "public-key"], 1) {
            let last = said.lines().last().unwrap_or_default();
            assert!(last.contains(&key), "{said}");
            assert!(last.contains(what_to_do), "{said}");
            assert!(!said.contains(secret.trim_end()), "the secret is not told");
        }
    };
    fs::set_permissions(host.key(), fs::Permissions::from_mode(0o640)).unwrap();
    refused("run chmod 600 on it");
    fs::set_permissions(host.key(), fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(host.key(), &secret[..secret.len() / 2]).unwrap();
    refused("restore it, or remove it and enrol the host again");
    fs::remove_file(host.key()).unwrap();
    refused("restore the key, or remove");
    assert!(!host.key().exists(), "it is not replaced");
    assert_eq!(host.run("check-config").code, Some(0), "which needs no key");

    fs::write(host.key(), secret).unwrap();
    fs::set_permissions(host.key(), fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(host.run("public-key").code, Some(0));
}

/// Stops a daemon, which must go by itself and soon: at the most the time that it gives its last
/// words.
fn stop(daemon: &mut Running, signal: Signal) {
    let began = Instant::now();
    daemon.signal(signal);
    let status = daemon.wait();
    assert_eq!((status.code(), status.signal()), (Some(0), None));
    let took = began.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[test]
fn a_daemon_whose_broker_refuses_gets_ready_stays_up_and_stops_quickly() {
    let hosts = [Signal::TERM, Signal::INT].map(|signal| (Host::new(closed_port()), signal));
    let daemons = hosts.each_ref().map(|(host, _)| host.start());
    for ((host, signal), mut daemon) in hosts.iter().zip(daemons) {
        host.wait_for_log("no connection");
        assert!(daemon.is_running());
        stop(&mut daemon, *signal);
        assert!(host.log().contains("stopping"));
    }
}

#[test]
fn a_daemon_whose_broker_hangs_up_tries_again_and_again() {
    let broker = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = Host::new(broker.local_addr().unwrap().port());
    let mut daemon = host.start();
    broker.set_nonblocking(true).unwrap();
    for _ in 0..3 {
        wait_for("a connection", || broker.accept().ok());
        assert!(daemon.is_running());
    }
    drop(broker);
    stop(&mut daemon, Signal::TERM);
}

#[test]
fn a_daemon_whose_broker_never_answers_stops_quickly() {
    let broker = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = Host::new(broker.local_addr().unwrap().port());
    let mut daemon = host.start();
    let (connection, _) = broker.accept().unwrap();
    // Its first byte says that it is connected, and waits for an answer.
    assert_eq!(connection.peek(&mut [0]).unwrap(), 1);
    stop(&mut daemon, Signal::TERM);
}

#[test]
fn a_daemon_that_is_connected_stops_quickly() {
    let port = closed_port();
    let host = Host::new(port);
    let config = host.scratch.file("mosquitto.conf");
    fs::write(&config, format!("listener {port} 127.0.0.1\nallow_anonymous true\n")).unwrap();
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin";
    let mut command = Command::new("mosquitto");
    let command = command.env("PATH", path).arg("-c").arg(&config);
    let _broker = Running::start(command, &host.scratch.file("mosquitto.log"));
    let mut daemon = host.start();
    host.wait_for_log("connected to the broker");
    stop(&mut daemon, Signal::TERM);
}

#[test]
fn a_daemon_whose_activations_are_units_does_not_start_without_systemd() {
    if Path::new("/run/systemd/system").exists() {
        eprintln!("skipped: systemd runs this machine");
        return;
    }
    let host = Host::new(closed_port());
    let config = fs::read_to_string(host.config()).unwrap();
    fs::write(host.config(), config.replace("runner = \"direct\"", "")).unwrap();
    let said = host.run("run");
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.stderr.contains("runner = \"direct\""), "{said:?}");
    assert!(!host.key().exists(), "nothing was made");
}

#[test]
fn a_systemd_that_hears_nothing_does_not_hold_a_daemon_up() {
    let host = Host::new(closed_port());
    let notified = host.scratch.file("deaf");
    let _deaf = UnixDatagram::bind(&notified).unwrap();
    let others = UnixDatagram::unbound().unwrap();
    others.connect(&notified).unwrap();
    others.set_nonblocking(true).unwrap();
    while others.send(b"STATUS=of another service\n").is_ok() {}
    let mut daemon = host.start_for(&notified);
    host.wait_for_log("no connection");
    stop(&mut daemon, Signal::TERM);
}

#[test]
fn a_daemon_that_was_killed_gets_ready_again_with_the_same_key() {
    let host = Host::new(closed_port());
    host.start().kill();
    let key = host.run("public-key").stdout;
    let mut daemon = host.start();
    host.wait_for_log("no connection");
    stop(&mut daemon, Signal::TERM);
    assert_eq!(host.log().matches(key.trim_end()).count(), 2, "it logs its public key");
}
