//! People at the machine: they hold it, go back, answer, and bring an order in a file.

#![allow(clippy::unwrap_used, reason = "a test ends where something is missing")]

use std::fs;

use herald_proto::{id::Sequence, key::SecretKey};
use herald_tests::{Fleet, Forgery, Outcome, binary, documented, wait_for};
use serde_json::Value;

/// Runs a command of the subscriber at a host.
fn at(fleet: &Fleet, host: &str, command: &[&str]) -> Outcome {
    let mut run = std::process::Command::new(binary("herald-subscriber"));
    run.args(command).arg("--config").arg(fleet.host(host).config_file());
    run.env_remove("HERALD_LOG").output().unwrap().into()
}

fn status(fleet: &Fleet) -> Value {
    let said = at(fleet, "alpha", &["status", "--json"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    documented(serde_json::from_str(&said.stdout).unwrap())
}

fn wait_for_status(fleet: &Fleet, key: &str, value: &str) -> Value {
    wait_for(&format!("{key} to be {value}"), || {
        Some(status(fleet)).filter(|status| status[key] == value)
    })
}

fn operator_key(fleet: &Fleet) -> SecretKey {
    fs::read_to_string(fleet.path("operator.key")).unwrap().parse().unwrap()
}

/// Writes an order for a host into a file.
fn order(fleet: &Fleet, name: &str, forgery: &Forgery, key: &SecretKey) -> String {
    let path = fleet.path(name);
    fs::write(&path, forgery.seal(&[key])).unwrap();
    path
}

/// Publishes an order without waiting for its end.
fn publish(fleet: &Fleet, system: &str) {
    let (key, target) = (fleet.path("operator.key"), format!("alpha={system}"));
    let published =
        fleet.herald(&["publish", "--key", &key, "--host", &target, "--stable-for", "0s"]);
    assert_eq!(published.code, Some(0), "{published:?}");
}

#[test]
fn a_hold_stops_an_order_which_the_operator_sees_and_resume_lets_it_on() {
    let fleet = Fleet::start(&["alpha"]);
    let system = fleet.system("alpha", "1", &[]);
    let first = fleet.host("alpha").first_system.clone();
    let held = at(&fleet, "alpha", &["hold", "--reason", "a demonstration"]);
    assert_eq!(held.code, Some(0), "{held:?}");
    let is_told = || fleet.herald(&["status"]).stdout.contains("held: a demonstration");
    wait_for("the operator to see the hold", || is_told().then_some(()));
    assert!(fleet.report("alpha").unwrap()["hold"]["since_ms"].is_u64());

    publish(&fleet, &system);
    let status = wait_for_status(&fleet, "waits_for", "hold");
    assert_eq!((&status["phase"], &status["code"]), (&"waiting".into(), &"held".into()));
    let report = fleet.wait_for_phase("alpha", "waiting");
    assert_eq!((&report["code"], &report["detail"]), (&"held".into(), &"a demonstration".into()));
    assert!(is_told(), "it is told once more as what the order waits for");
    fleet.host("alpha").assert_settled_on(&first);

    assert_eq!(at(&fleet, "alpha", &["resume"]).code, Some(0));
    let report = fleet.wait_for_phase("alpha", "succeeded");
    assert_eq!(report["hold"], Value::Null);
    fleet.host("alpha").assert_settled_on(&system);
}

#[test]
fn whoever_uses_the_host_puts_an_order_off_and_then_agrees() {
    let mut fleet = Fleet::start(&["alpha"]);
    fleet.host_mut("alpha").subscriber().signal("TERM");
    fleet.host_mut("alpha").subscriber().wait();
    let file = fleet.host("alpha").config_file();
    let config = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("{config}[consent]\ndeadline = \"8h\"\n")).unwrap();
    fleet.start_subscriber("alpha");
    let system = fleet.system("alpha", "1", &[]);
    publish(&fleet, &system);
    wait_for_status(&fleet, "code", "awaiting-consent");
    let later = at(&fleet, "alpha", &["consent", "later"]);
    assert_eq!(later.code, Some(0), "{later:?}");
    assert!(later.stdout.contains("waiting: postponed: "), "{later:?}");
    assert_eq!(status(&fleet)["code"], "postponed");
    fleet.host("alpha").assert_settled_on(&fleet.host("alpha").first_system);
    let now = at(&fleet, "alpha", &["consent", "now"]);
    assert_eq!(now.code, Some(0), "{now:?}");
    fleet.wait_for_phase("alpha", "succeeded");
    fleet.host("alpha").assert_settled_on(&system);
}

#[test]
fn an_order_from_a_file_is_followed_with_no_broker_and_goes_back_at_the_machine() {
    let mut fleet = Fleet::start(&["alpha"]);
    let (first, system) =
        (fleet.host("alpha").first_system.clone(), fleet.system("alpha", "1", &[]));
    fleet.broker_mut().process.kill();
    wait_for("the connection to be lost", || (status(&fleet)["connected"] == false).then_some(()));
    let (out, target) = (fleet.path("orders"), format!("alpha={system}"));
    let offline = |command: &[&str]| {
        let made = fleet.herald(&[command, &["--offline", "--out", &out]].concat());
        assert_eq!(made.code, Some(0), "{made:?}");
        made.stdout.trim().to_owned()
    };
    let key = fleet.path("operator.key");
    let file = offline(&["publish", "--key", &key, "--host", &target, "--stable-for", "0s"]);
    assert_eq!(file, format!("{out}/alpha.system.order"));
    let applied = at(&fleet, "alpha", &["apply", &file]);
    assert_eq!((applied.code, applied.stdout.as_str()), (Some(0), "succeeded\n"), "{applied:?}");
    assert!(applied.stderr.starts_with("realising\n"), "steps are told: {applied:?}");
    fleet.host("alpha").assert_settled_on(&system);
    let again = at(&fleet, "alpha", &["apply", &file]);
    assert_eq!(again.code, Some(0), "it is the same order: {again:?}");

    let back = at(&fleet, "alpha", &["rollback"]);
    assert_eq!((back.code, back.stdout.as_str()), (Some(0), "succeeded\n"), "{back:?}");
    fleet.host("alpha").assert_settled_on(&first);
    let old = at(&fleet, "alpha", &["apply", &file]);
    assert_eq!(old.code, Some(4), "what rolled back does not come again by itself: {old:?}");
    fleet.host("alpha").assert_settled_on(&first);
    // What was done without a broker is told once there is one.
    fleet.restart_broker();
    let report = wait_for("a report", || fleet.report("alpha"));
    assert_eq!(report["running"], *first);
}

#[test]
fn an_order_that_fails_rolls_back_and_the_command_says_so() {
    let fleet = Fleet::start(&["alpha"]);
    let system = fleet.system("alpha", "1", &[("activation", "late-fail")]);
    let key = operator_key(&fleet);
    let file = order(&fleet, "alpha.order", &Forgery::new("alpha", &system), &key);
    let applied = at(&fleet, "alpha", &["apply", &file]);
    assert_eq!(applied.code, Some(3), "{applied:?}");
    assert!(applied.stdout.starts_with("rolled-back: activation-failed: "), "{applied:?}");
    fleet.host("alpha").assert_settled_on(&fleet.host("alpha").first_system);
}

#[test]
fn a_file_is_no_way_around_the_signatures() {
    let fleet = Fleet::start(&["alpha", "beta"]);
    let first = fleet.host("alpha").first_system.clone();
    let system = fleet.system("alpha", "1", &[]);
    let key = operator_key(&fleet);
    let stranger = SecretKey::from_seed("stranger".parse().unwrap(), &[7; 32]).unwrap();
    let mut past = Forgery::new("alpha", &system);
    past.release.sequence = Sequence::new(1);
    let mut torn = Forgery::new("alpha", &system).seal(&[&key]);
    let middle = torn.len() / 2;
    torn[middle] ^= 1;
    fs::write(fleet.path("torn.order"), torn).unwrap();
    let good = order(&fleet, "good.order", &Forgery::new("alpha", &system), &key);
    assert_eq!(at(&fleet, "alpha", &["apply", &good]).code, Some(0));
    assert_eq!(at(&fleet, "alpha", &["rollback"]).code, Some(0));
    for (file, code) in [
        (order(&fleet, "a.order", &Forgery::new("alpha", &system), &stranger), "under-signed"),
        (order(&fleet, "b.order", &Forgery::new("beta", &system), &key), "wrong-host"),
        (order(&fleet, "c.order", &past, &key), "replayed"),
        (fleet.path("torn.order"), ""),
    ] {
        let refused = at(&fleet, "alpha", &["apply", &file]);
        assert_eq!(refused.code, Some(4), "{file}: {refused:?}");
        assert!(refused.stderr.contains(&format!("the order was refused: {code}")), "{refused:?}");
        fleet.host("alpha").assert_settled_on(&first);
    }
}

#[test]
fn what_is_being_proved_is_given_up_where_somebody_at_the_machine_wants_that() {
    let fleet = Fleet::start(&["alpha"]);
    let first = fleet.host("alpha").first_system.clone();
    let system = fleet.system("alpha", "1", &[]);
    let (key, target) = (fleet.path("operator.key"), format!("alpha={system}"));
    let slow = ["--stable-for", "10min", "--confirm-within", "20min"];
    let mut publish = vec!["publish", "--key", &key, "--host", &target];
    publish.extend(slow);
    assert_eq!(fleet.herald(&publish).code, Some(0));
    wait_for_status(&fleet, "phase", "confirming");
    assert_eq!(fleet.host("alpha").running(), system);
    let back = at(&fleet, "alpha", &["rollback"]);
    assert_eq!(back.code, Some(0), "{back:?}");
    assert!(back.stdout.starts_with("rolled-back: asked-locally"), "{back:?}");
    fleet.host("alpha").assert_settled_on(&first);
    let report = fleet.wait_for_phase("alpha", "rolled-back");
    assert_eq!(report["code"], "asked-locally");
}

#[test]
fn a_command_need_not_wait_for_the_end() {
    let fleet = Fleet::start(&["alpha"]);
    let system = fleet.system("alpha", "1", &[]);
    let key = operator_key(&fleet);
    let file = order(&fleet, "alpha.order", &Forgery::new("alpha", &system), &key);
    let taken = at(&fleet, "alpha", &["apply", "--no-wait", &file]);
    assert_eq!((taken.code, taken.stdout.as_str()), (Some(0), "realising\n"), "{taken:?}");
    fleet.wait_for_phase("alpha", "succeeded");
    let begun = at(&fleet, "alpha", &["rollback", "--no-wait"]);
    assert_eq!((begun.code, begun.stdout.as_str()), (Some(0), "realising\n"), "{begun:?}");
    wait_for("the system of before", || (status(&fleet)["phase"] == "succeeded").then_some(()));
    fleet.host("alpha").assert_settled_on(&fleet.host("alpha").first_system);
}
