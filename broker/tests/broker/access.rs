//! Who may come in, and what they may do.

use rustix::process::Signal;

use crate::{
    BEACON, EVENT, ORDER, ORDER_2, PRESENCE, STATUS,
    client::{Client, Connect, publish_packet, texts},
    login::{
        BROKER, Claims, LATE, TCP, everybody, key, logins, now, passwords, signed, signed_as, site,
    },
    process::{Broker, Site, run, text},
    wait::until,
};

fn code(connect: &Connect, broker: &Broker) -> Option<u8> {
    connect.attempt(broker.address()).err()
}

#[test]
fn a_password_signed_with_the_key_of_a_login_lets_in_and_any_other_is_refused_with_4() {
    let site = site(&everybody(), TCP);
    let broker = site.start_configured();
    for name in ["web-1", "alice", "conductor", "grafana"] {
        signed(name).open(broker.address()).ping();
    }
    let time = now();
    let late = herald_proto::time::Timestamp::from_millis(
        time.as_millis() - u64::try_from(LATE.as_millis()).unwrap(),
    );
    let refused = [
        Claims { broker: "other.example.org", ..Claims::of("web-1") }.signed(&key("web-1")),
        Claims { client_id: "another", ..Claims::of("web-1") }.signed(&key("web-1")),
        Claims { time: late, ..Claims::of("web-1") }.signed(&key("web-1")),
        Claims { time: time.plus(LATE), ..Claims::of("web-1") }.signed(&key("web-1")),
        Claims::of("web-1").signed(&key("web-2")),
        Claims::of("web-2").signed(&key("web-2")),
        String::new(),
        "guess".to_owned(),
    ];
    for password in &refused {
        let connect = Connect::new("web-1").login("home/web-1", password);
        assert_eq!(code(&connect, &broker), Some(4), "{password}");
    }
    let right = Claims::of("web-1").signed(&key("web-1"));
    for user in ["home/web-2", "home/nobody", "other/web-1", "web-1", ""] {
        let connect = Connect::new("web-1").login(user, &right);
        assert_eq!(code(&connect, &broker), Some(4), "{user}");
    }
    broker.wait_for_refusals("bad-login", refused.len() as u32 + 5);
    let log = broker.log();
    assert!(!log.contains(&right) && !log.contains("guess"), "{log}");
    // For each name of the broker.
    let claims = Claims { broker: "localhost", ..Claims::of("web-1") };
    Connect::new("web-1").login("home/web-1", &claims.signed(&key("web-1"))).open(broker.address());
}

#[test]
fn what_hash_password_prints_lets_its_password_in() {
    let site = site("fleet = \"home\"\n[monitors]\ngrafana = []\nother = []\n", TCP);
    let hashed = run(site.command(&["hash-password", "home/grafana"]), "correct horse\n");
    assert_eq!((hashed.code, hashed.stderr.as_str()), (Some(0), ""));
    assert!(hashed.stdout.starts_with("home/grafana:$argon2id$"), "{hashed:?}");
    passwords(&site, &hashed.stdout);
    let broker = site.start_configured();
    Connect::new("any").login("home/grafana", "correct horse").open(broker.address()).ping();
    for (user, password) in [
        ("home/grafana", "correct hors"),
        ("home/grafana", "correct horse\n"),
        ("home/grafana", ""),
        ("home/other", "correct horse"),
        ("home/nobody", "correct horse"),
    ] {
        let connect = Connect::new("any").login(user, password);
        assert_eq!(code(&connect, &broker), Some(4), "{user} {password:?}");
    }
}

#[test]
fn only_a_listener_that_says_so_takes_clients_without_a_login() {
    let listeners = format!("{TCP}{TCP}anonymous = true\n");
    let broker = site(&everybody(), &listeners).start_configured();
    let [closed, open] = broker.addresses[..] else { panic!("{:?}", broker.addresses) };
    assert_eq!(Connect::new("x").attempt(closed).err(), Some(5));
    Client::connect(open, "x").ping();
    // Who shows something wrong is not taken as nobody in particular.
    assert_eq!(Connect::new("x").login("home/web-1", "guess").attempt(open).err(), Some(4));
    let user = Connect { user: Some("home/web-1".to_owned()), ..Connect::new("x") };
    assert_eq!(user.attempt(open).err(), Some(4));
    // And who logs in there is that one.
    let mut host = signed("web-1").open(open);
    assert_eq!(host.subscribe_all(&[(ORDER_2, 1)]), [0x80]);
}

#[test]
fn a_host_reads_and_writes_what_is_its_own_and_nothing_else() {
    let broker = site(&everybody(), TCP).start_configured();
    let mut watcher = signed("alice").open(broker.address());
    let all = ["desired/+/+", "status/+/+", "presence/+", "event/+", "release/+"]
        .map(|kind| format!("herald/v1/home/{kind}"));
    watcher.subscribe_all(&all.each_ref().map(|filter| (filter.as_str(), 1)));
    let mut host = signed("web-1").open(broker.address());
    let granted = host.subscribe_all(&[
        (ORDER, 1),
        (ORDER_2, 1),
        ("herald/v1/home/desired/+/+", 1),
        ("herald/v1/other/desired/web-1/system", 1),
        ("herald/v1/home/status/web-2/+", 1),
        ("herald/v1/home/desired/web-1/+", 1),
        (BEACON, 1),
        (EVENT, 1),
    ]);
    assert_eq!(granted, [1, 0x80, 0x80, 0x80, 0x80, 1, 1, 0x80]);
    broker.wait_for_refusals("subscribe-denied", 5);
    host.retained(STATUS, "status");
    assert_eq!(watcher.take().text(), "status");

    let others = [
        ("herald/v1/home/status/web-2/system", true),
        ("herald/v1/other/status/web-1/system", true),
        (ORDER, true),
        (BEACON, true),
        (STATUS, false),
        (EVENT, true),
        ("herald/v1/home/status/web-1", true),
    ];
    for (topic, retain) in others {
        let mut host = signed("web-1").open(broker.address());
        host.publish(topic, "forged", retain);
        host.assert_closed();
        // A QoS of 0 helps nobody.
        let mut host = signed("web-1").open(broker.address());
        host.send(&publish_packet(topic, b"forged", None, retain));
        host.assert_closed();
    }
    broker.wait_for_refusals("publish-denied", 2 * 6);
    broker.wait_for_refusals("topic", 2);
    let will = |topic: &str| signed("web-1").will(topic, "forged");
    let foreign = "herald/v1/home/presence/web-2";
    assert_eq!(code(&will(foreign), &broker), Some(5));
    will(PRESENCE).open(broker.address()).vanish();
    assert_eq!(watcher.take().text(), "forged", "its own presence is its own");

    watcher.retained(ORDER_2, "secret");
    watcher.retained(ORDER, "order");
    assert_eq!(texts(&[watcher.take(), watcher.take()]), ["secret", "order"]);
    let mut host = signed("web-1").open(broker.address());
    host.subscribe(ORDER);
    assert_eq!(host.take().text(), "order");
    host.assert_idle();
}

#[test]
fn the_parts_of_members_are_kept_apart() {
    let broker = site(&everybody(), TCP).start_configured();
    let tries = [
        ("grafana", ORDER, false, false),
        ("grafana", STATUS, true, false),
        ("conductor", BEACON, true, true),
        ("alice", BEACON, true, false),
        ("alice", ORDER, true, true),
        ("alice", STATUS, true, false),
    ];
    for (name, topic, reads, writes) in tries {
        let mut client = signed(name).open(broker.address());
        let granted = if reads { 1 } else { 0x80 };
        assert_eq!(client.subscribe_all(&[(topic, 1)]), [granted], "{name} {topic}");
        if writes {
            client.retained(topic, "x");
        } else {
            client.retain(topic, "x");
            client.closed();
        }
    }
}

#[test]
fn a_client_id_is_its_principals_whether_that_is_connected_or_not() {
    let site = site(&everybody(), TCP);
    let broker = site.start_configured();
    let conductor = Connect { clean: false, ..signed_as("conductor", "shared") };
    let mut connected = conductor.open(broker.address());
    connected.subscribe(ORDER);
    let thieves = || {
        ["grafana", "alice"].into_iter().flat_map(|name| {
            let connect = signed_as(name, "shared");
            [Connect { clean: false, ..connect.clone() }, connect]
        })
    };
    for thief in thieves() {
        assert_eq!(code(&thief, &broker), Some(2));
    }
    connected.ping();
    connected.disconnect();
    for thief in thieves() {
        assert_eq!(code(&thief, &broker), Some(2));
    }
    broker.stop();
    let broker = site.start_configured();
    for thief in thieves() {
        assert_eq!(code(&thief, &broker), Some(2));
    }
    broker.wait_for_refusals("client-id", 4);
    let mut operator = signed("alice").open(broker.address());
    operator.retained(ORDER, "order");
    let mut back = conductor.resume(broker.address());
    assert_eq!(back.take().text(), "order");
    back.disconnect();
    // Once its owner has given it up, it is anybody's.
    Connect { clean: true, ..conductor }.open(broker.address()).disconnect();
    broker.wait_for_metric("herald_broker_sessions", 1);
    signed_as("web-2", "shared").open(broker.address()).ping();
}

#[test]
fn a_host_has_an_id_that_no_other_login_can_take_and_is_kept_under_that_one_only() {
    let site = site(&everybody(), "");
    let fleet = format!("fleet = \"other\"\n[hosts]\nweb-1 = [\"{}\"]\n", key("other").public());
    let other = text(&site.write("other.toml", &fleet)).to_owned();
    let settings = site.settings().replacen("logins = [", &format!("logins = [{other:?}, "), 1);
    site.configure(&(settings + TCP));
    let broker = site.start_configured();
    let own = "home:web-1";
    for name in ["web-2", "alice", "grafana"] {
        for clean in [true, false] {
            let thief = Connect { clean, ..signed_as(name, own) };
            assert_eq!(code(&thief, &broker), Some(2), "{name}");
        }
    }
    let principal = "other/web-1".parse().unwrap();
    let login = herald_proto::login::Login { principal: &principal, client_id: own };
    let password =
        herald_proto::login::sign(&login, &BROKER.parse().unwrap(), &key("other"), now());
    let stranger = Connect::new(own).login("other/web-1", password.as_str());
    assert_eq!(code(&stranger, &broker), Some(2));
    for (id, clean, refused) in
        [("web-1", false, Some(2)), ("web-1", true, None), (own, true, None), (own, false, None)]
    {
        let host = Connect { clean, ..signed_as("web-1", id) };
        assert_eq!(code(&host, &broker), refused, "{id} {clean}");
    }
    // As the command line is called.
    signed_as("alice", "herald-0123456789abcdef").open(broker.address()).ping();
}

#[test]
fn a_host_gets_its_own_id_whoever_has_it() {
    let site = site(&everybody(), TCP);
    let own = "home:web-1";
    let host = Connect { clean: false, ..signed_as("web-1", own) };
    // Somebody had it before there were logins.
    let broker = site.start();
    let mut former = Connect::persistent(own).open(broker.address());
    former.subscribe(BEACON);
    former.disconnect();
    broker.stop();
    let broker = site.start_configured();
    let mut client = host.open(broker.address());
    client.subscribe(ORDER);
    signed("conductor").open(broker.address()).retained(BEACON, "beacon");
    client.assert_idle();
    client.disconnect();
    // From now on it is the host's.
    signed("alice").open(broker.address()).retained(ORDER, "order");
    let mut client = host.resume(broker.address());
    assert_eq!(client.take().text(), "order");
    client.disconnect();
    broker.stop();

    // Somebody has it now.
    let anonymous = TCP.replace("\"tcp\"", "\"tcp\"\nanonymous = true");
    site.configure(&(site.settings() + &anonymous));
    let broker = site.start_configured();
    let [open, local] = broker.addresses[..] else { panic!("{:?}", broker.addresses) };
    // What is the host's is not to be had while it is away either.
    let thief = |clean| Connect { clean, ..Connect::new(own) }.attempt(local).err();
    assert_eq!((thief(true), thief(false)), (Some(2), Some(2)));
    Connect { clean: true, ..host.clone() }.open(open).disconnect();
    broker.wait_for_metric("herald_broker_sessions", 0);
    let mut thief = Connect::new(own).open(local);
    let mut client = host.open(open);
    thief.closed();
    client.ping();
    broker.wait_for_refusals("taken-over", 1);
}

fn reload(broker: &Broker, words: &str) {
    let times = || broker.log().matches(words).count();
    let before = times();
    broker.signal(Signal::HUP);
    until(words, || times() > before);
}

#[test]
fn logins_are_read_again_on_sighup_also_for_the_connected_and_a_broken_file_changes_nothing() {
    let site = site(&everybody(), TCP);
    let broker = site.start_configured();
    let mut connected = signed("web-1").open(broker.address());
    assert_eq!(code(&signed("web-3"), &broker), Some(4));
    let next = logins(&[("hosts", &["web-2", "web-3"]), ("operators", &["alice"])]);
    site.write("home.toml", &next);
    // Nothing changes by itself.
    signed("grafana").open(broker.address()).ping();
    // It is gone before its login is: only who is connected then is cut off.
    broker.wait_for_metric("herald_broker_sessions", 1);
    reload(&broker, "logins and passwords were read again");
    signed("web-3").open(broker.address()).ping();
    assert_eq!(code(&signed("web-1"), &broker), Some(4));
    assert_eq!(code(&signed("grafana"), &broker), Some(4));
    // Who is connected by a login that is gone is not any more.
    connected.closed();
    broker.wait_for_refusals("login-changed", 1);

    for broken in ["fleet = \"home\"\n[hosts]\nweb-1 = 7\n", "no TOML", &next.repeat(2)] {
        site.write("home.toml", broken);
        reload(&broker, "the logins before are kept");
        signed("web-3").open(broker.address()).ping();
        assert_eq!(code(&signed("web-1"), &broker), Some(4));
    }
    std::fs::remove_file(site.path("home.toml")).unwrap();
    reload(&broker, "the logins before are kept");
    signed("web-3").open(broker.address()).ping();
    site.write("home.toml", &everybody());
    reload(&broker, "logins and passwords were read again");
    signed("web-1").open(broker.address()).ping();
    assert_eq!(code(&signed("web-3"), &broker), Some(4));
}

#[test]
fn a_kept_session_loses_the_filters_that_its_owner_may_not_have_any_more() {
    let site = site(&everybody(), TCP);
    let broker = site.start_configured();
    let alice = || Connect { clean: false, ..signed("alice") };
    let mut client = alice().open(broker.address());
    let filters = [("herald/v1/home/desired/+/+", 1), ("herald/v1/home/status/+/+", 1)];
    assert_eq!(client.subscribe_all(&filters), [1, 1]);
    client.disconnect();
    site.write(
        "home.toml",
        &logins(&[("hosts", &["web-1"]), ("monitors", &["alice"]), ("operators", &["bob"])]),
    );
    reload(&broker, "logins and passwords were read again");

    let mut client = alice().resume(broker.address());
    let mut bob = signed("bob").open(broker.address());
    let mut host = signed("web-1").open(broker.address());
    bob.retained(ORDER, "secret");
    host.retained(STATUS, "status");
    assert_eq!(client.take().text(), "status");
    client.assert_idle();
    client.vanish();
    broker.stop();
    let broker = site.start_configured();
    let mut client = alice().resume(broker.address());
    client.assert_idle();
}

#[test]
fn the_log_and_the_answers_show_no_secret() {
    let site: Site = site(&everybody(), TCP);
    let mut command = site.command(&[]);
    command.env("HERALD_LOG", "trace");
    let broker = site.spawn(command);
    let token = Claims::of("web-1").signed(&key("web-1"));
    Connect::new("web-1").login("home/web-1", &token).open(broker.address()).ping();
    let wrong = Connect::new("web-1").login("home/web-1", "hunter2");
    assert_eq!(code(&wrong, &broker), Some(4));
    broker.wait_for_log("bad login");
    let log = broker.log();
    assert!(!log.contains(&token) && !log.contains("hunter2"), "{log}");
}
