//! A fleet whose broker takes nobody without a login: hosts and the operator log in over TLS, by
//! tokens that they sign with keys of their own.

use herald_tests::{Fleet, Guarded, wait_for};

/// Makes a fleet with one host, and puts it on such a broker. The host was not started yet.
fn guarded(host: &str) -> (Fleet, Guarded) {
    let mut fleet = Fleet::without_hosts();
    fleet.add_host(host);
    let alice = Guarded::alice(&fleet);
    let logins = logins(host, &fleet.public_key(host, &[]), &alice);
    let broker = Guarded::start(&mut fleet, &logins);
    broker.point_here(&fleet.host(host).config_file());
    broker.point_here(fleet.path("fleet.toml").as_ref());
    (fleet, broker)
}

fn logins(host: &str, host_key: &str, operator_key: &str) -> String {
    format!(
        "fleet = \"test\"\n[hosts]\n{host} = [{host_key:?}]\n[operators]\n\
         alice = [{operator_key:?}]\n"
    )
}

#[test]
fn a_release_goes_through_a_broker_that_takes_only_signed_logins() {
    let (mut fleet, _broker) = guarded("alpha");
    let login = fleet.path("login.key");
    fleet.spawn_subscriber("alpha");
    wait_for("alpha to say that it is there", || {
        let status = fleet.herald(&["--login-key", &login, "status", "--json"]);
        status.stdout.contains("\"online\"").then_some(())
    });
    let system = fleet.system("alpha", "1", &[]);
    let target = format!("alpha={system}");
    let outcome = fleet.publish(&["--login-key", &login, "--host", &target]);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    fleet.host("alpha").assert_settled_on(&system);
}

#[test]
fn an_operator_without_the_key_is_told_why_and_a_host_with_another_key_stays_out() {
    let (mut fleet, broker) = guarded("alpha");
    let made = fleet.herald(&["key", "generate", "alice", "--out", &fleet.path("other.key")]);
    let other = fleet.path("other.key");
    let refused = fleet.herald(&["--login-key", &other, "status"]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("login") || refused.stderr.contains("token"), "{refused:?}");

    // The broker knows another key for the host.
    let alice = fleet.herald(&["key", "public", &fleet.path("login.key")]).stdout;
    broker.change_logins(&logins("alpha", made.stdout.trim(), alice.trim()));
    fleet.spawn_subscriber("alpha");
    wait_for("the host to be refused", || {
        broker.process.output().contains("bad login").then_some(())
    });
    let login = fleet.path("login.key");
    let status = fleet.herald(&["--login-key", &login, "status", "--json"]);
    assert!(!status.stdout.contains("\"online\""), "{status:?}");
}
