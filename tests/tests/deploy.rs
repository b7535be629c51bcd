//! The main job: a signed release reaches hosts, and each ends where it should.

#![allow(clippy::unwrap_used, reason = "a test ends where something is missing")]

use std::{fs, time::Duration};

use herald_proto::{id::Sequence, key::SecretKey};
use herald_tests::{Fleet, Forgery, wait_for};

#[test]
fn a_release_is_activated_confirmed_and_made_the_boot_default() {
    let fleet = Fleet::start(&["alpha"]);
    let system = fleet.system("alpha", "1", &[]);
    let outcome = fleet.publish(&["--host", &format!("alpha={system}"), "--reason", "first"]);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    fleet.host("alpha").assert_settled_on(&system);
    let report = fleet.wait_for_phase("alpha", "succeeded");
    assert_eq!(report["running"], *system);
    assert_eq!(report["previous"], *fleet.host("alpha").first_system);
}

#[test]
fn of_several_hosts_each_ends_by_itself_and_the_worst_is_the_exit_code() {
    let fleet = Fleet::start(&["alpha", "beta", "gamma"]);
    let good = fleet.system("alpha", "1", &[]);
    let fails = fleet.system("beta", "1", &[("activation", "late-fail")]);
    let sick = fleet.system("gamma", "1", &[("healthy", "no")]);
    let map = serde_json::json!({"alpha": &good, "beta": &fails, "gamma": &sick});
    fs::write(fleet.path("map.json"), map.to_string()).unwrap();
    let check = r#"exec "$HERALD_TOPLEVEL/bin/healthy""#;
    let from = fleet.path("map.json");
    let arguments = ["--from", &from, "--health-command", check];
    let outcome = fleet.publish(&arguments);
    assert_eq!(outcome.code, Some(3), "{outcome:?}");
    fleet.host("alpha").assert_settled_on(&good);
    for (host, code) in [("beta", "activation-failed"), ("gamma", "unhealthy")] {
        let first = &fleet.host(host).first_system;
        fleet.host(host).assert_settled_on(first);
        let report = fleet.report(host).unwrap();
        assert_eq!((&report["phase"], &report["code"]), (&"rolled-back".into(), &code.into()));
        assert_eq!(report["last_rollback"]["code"], code);
    }
}

#[test]
fn a_host_that_was_offline_catches_up() {
    let mut fleet = Fleet::start(&["alpha"]);
    fleet.host_mut("alpha").subscriber().signal("TERM");
    assert_eq!(fleet.host_mut("alpha").subscriber().wait().code(), Some(0));
    assert_eq!(fleet.report("alpha").unwrap()["presence"], "offline", "it said goodbye");
    let system = fleet.system("alpha", "1", &[]);
    let key = fleet.path("operator.key");
    let target = format!("alpha={system}");
    let arguments = ["publish", "--key", &key, "--host", &target, "--stable-for", "0s"];
    let published = fleet.herald(&arguments);
    assert_eq!(published.code, Some(0), "{published:?}");
    fleet.spawn_subscriber("alpha");
    fleet.wait_for_phase("alpha", "succeeded");
    fleet.host("alpha").assert_settled_on(&system);
}

#[test]
fn a_host_that_dies_is_reported_as_offline_by_its_will() {
    let mut fleet = Fleet::start(&["alpha"]);
    fleet.host_mut("alpha").subscriber().kill();
    wait_for("the will", || fleet.report("alpha").filter(|report| report["presence"] == "offline"));
    fleet.start_subscriber("alpha");
}

#[test]
fn each_action_does_what_it_says_and_no_more() {
    let fleet = Fleet::start(&["alpha"]);
    let first = fleet.host("alpha").first_system.clone();
    let system = fleet.system("alpha", "1", &[]);
    let target = format!("alpha={system}");
    let does = |action: &str| {
        let outcome = fleet.publish(&["--host", &target, "--action", action]);
        assert_eq!(outcome.code, Some(0), "{action}: {outcome:?}");
        let host = fleet.host("alpha");
        (host.running() == system, host.profile() == system, host.boot_default() == system)
    };
    assert_eq!(does("none"), (false, false, false));
    assert_eq!(does("stage"), (false, false, false));
    assert_eq!(does("dry-activate"), (false, false, false));
    assert_eq!(does("test"), (true, false, false));
    let outcome = fleet.publish(&["--host", &format!("alpha={first}")]);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert_eq!(does("boot"), (false, true, true));
    assert_eq!(does("switch"), (true, true, true));
}

#[test]
fn an_operator_goes_back_with_one_command() {
    let fleet = Fleet::start(&["alpha"]);
    let first = fleet.host("alpha").first_system.clone();
    let system = fleet.system("alpha", "1", &[]);
    assert_eq!(fleet.publish(&["--host", &format!("alpha={system}")]).code, Some(0));
    let key = fleet.path("operator.key");
    let back = ["rollback", "alpha", "--key", &key, "--stable-for", "0s", "--watch"];
    let outcome = fleet.herald(&back);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    fleet.host("alpha").assert_settled_on(&first);
    // And forth again: what ran before the roll back is what it goes back to next.
    let outcome = fleet.herald(&back);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    fleet.host("alpha").assert_settled_on(&system);
}

#[test]
fn a_newer_release_takes_the_place_of_one_that_waits() {
    let fleet = Fleet::start(&["alpha"]);
    let (waits, wins) = (fleet.system("alpha", "1", &[]), fleet.system("alpha", "2", &[]));
    let key = fleet.path("operator.key");
    let target = format!("alpha={waits}");
    let tomorrow = tomorrow();
    let published =
        fleet.herald(&["publish", "--key", &key, "--host", &target, "--not-before", &tomorrow]);
    assert_eq!(published.code, Some(0), "{published:?}");
    fleet.wait_for_phase("alpha", "waiting");
    let outcome = fleet.publish(&["--host", &format!("alpha={wins}")]);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    fleet.host("alpha").assert_settled_on(&wins);
}

#[test]
fn a_release_that_was_signed_with_a_clock_ahead_does_not_shut_others_out() {
    let fleet = Fleet::start(&["alpha"]);
    let (ahead, system) = (fleet.system("alpha", "1", &[]), fleet.system("alpha", "2", &[]));
    let key: SecretKey = fs::read_to_string(fleet.path("operator.key")).unwrap().parse().unwrap();
    let mut forgery = Forgery::new("alpha", &ahead);
    let later = forgery.release.issued_at.plus(Duration::from_secs(3600));
    forgery.release.sequence = Sequence::new(later.as_millis());
    fleet.publish_raw("desired/alpha/system", &forgery.seal(&[&key]));
    fleet.wait_for_phase("alpha", "succeeded");
    let outcome = fleet.publish(&["--host", &format!("alpha={system}")]);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    fleet.host("alpha").assert_settled_on(&system);
}

/// Tomorrow, as the command takes it.
fn tomorrow() -> String {
    let output = std::process::Command::new("date")
        .args(["--utc", "--date=tomorrow", "+%Y-%m-%dT%H:%M:%SZ"])
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
