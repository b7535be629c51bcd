//! What was lost is put back from a copy, or not at all: a broker's store, and a host's state.

#![allow(clippy::unwrap_used, reason = "a test ends where something is missing")]

use std::{fs, path::Path};

use herald_tests::{Fleet, Guarded, Outcome, wait_for};
use serde_json::Value;

/// A fleet of three hosts at a broker that lets them in by the roster; gamma is never switched on.
fn guarded() -> (Fleet, Guarded) {
    let mut fleet = Fleet::without_hosts();
    for host in ["alpha", "beta", "gamma"] {
        fleet.add_host(host);
    }
    let file = fs::read_to_string(fleet.path("fleet.toml")).unwrap();
    fs::write(fleet.path("fleet.toml"), format!("trust = \"trust.toml\"\n{file}")).unwrap();
    let logins = format!(
        "fleet = \"test\"\ntrust = {:?}\n[operators]\nalice = [{:?}]\n",
        fleet.path("trust.toml"),
        Guarded::alice(&fleet)
    );
    let broker = Guarded::start(&mut fleet, &logins);
    for host in ["alpha", "beta"] {
        broker.point_here(&fleet.host(host).config_file());
    }
    broker.point_here(fleet.path("fleet.toml").as_ref());
    done(&host(&fleet, &["announce"]));
    for host in ["alpha", "beta"] {
        fleet.spawn_subscriber(host);
        wait_for_report(&fleet, host);
    }
    (fleet, broker)
}

/// Runs a command of the operator alice.
fn alice(fleet: &Fleet, arguments: &[&str]) -> Outcome {
    fleet.herald(&[&["--login-key", &fleet.path("login.key")], arguments].concat())
}

fn host(fleet: &Fleet, arguments: &[&str]) -> Outcome {
    alice(fleet, &[&["host"], arguments, &["--key", &fleet.path("operator.key")]].concat())
}

fn done(outcome: &Outcome) {
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
}

fn report(fleet: &Fleet, name: &str) -> Value {
    let status = alice(fleet, &["status", "--json"]);
    done(&status);
    let status: Value = serde_json::from_str(&status.stdout).unwrap();
    status["hosts"].as_array().unwrap().iter().find(|host| host["host"] == name).unwrap().clone()
}

fn wait_for_report(fleet: &Fleet, name: &str) {
    wait_for(&format!("{name} to report"), || {
        let report = report(fleet, name);
        (report["presence"] == "online" && report["phase"].is_string()).then_some(())
    });
}

/// Publishes to hosts, without waiting for them unless that is asked for.
fn publish(fleet: &Fleet, targets: &[(&str, &str)], more: &[&str]) {
    let key = fleet.path("operator.key");
    let targets: Vec<_> = targets.iter().map(|(name, system)| format!("{name}={system}")).collect();
    let targets = targets.iter().flat_map(|target| ["--host", target]);
    let fixed = ["publish", "--key", &key, "--stable-for", "0s", "--confirm-within", "10s"];
    let all: Vec<_> = fixed.into_iter().chain(targets).chain(more.iter().copied()).collect();
    done(&alice(fleet, &all));
}

fn copy(from: &Path, to: &Path) {
    let copied = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status();
    assert!(copied.is_ok_and(|status| status.success()), "cp -a {from:?} {to:?}");
}

#[test]
fn a_broker_from_an_old_copy_takes_no_host_back_and_is_told_again_what_it_lacks() {
    let (mut fleet, mut broker) = guarded();
    let systems = |label: &str| ["alpha", "beta"].map(|host| fleet.system(host, label, &[]));
    let ([alpha_1, beta_1], [alpha_2, beta_2]) = (systems("1"), systems("2"));
    publish(&fleet, &[("alpha", &alpha_1), ("beta", &beta_1)], &["--watch"]);
    broker.stop();
    let backup = fleet.path("backup");
    copy(&broker.state(), backup.as_ref());
    broker.start_again();

    // What the copy lacks: an order that was followed, one that was not, and that a host was removed.
    fleet.host_mut("beta").subscriber().kill();
    publish(&fleet, &[("alpha", &alpha_2)], &["--watch"]);
    publish(&fleet, &[("beta", &beta_2)], &[]);
    done(&host(&fleet, &["remove", "gamma", "--yes"]));
    broker.stop();
    fs::remove_dir_all(broker.state()).unwrap();
    copy(backup.as_ref(), &broker.state());
    broker.start_again();
    fleet.spawn_subscriber("beta");

    wait_for("alpha to refuse the old order", || {
        (report(&fleet, "alpha")["refusal"]["code"] == "replayed").then_some(())
    });
    wait_for_report(&fleet, "beta");
    fleet.host("alpha").assert_settled_on(&alpha_2);
    fleet.host("beta").assert_settled_on(&beta_1);
    publish(&fleet, &[("alpha", &alpha_2), ("beta", &beta_2)], &["--watch"]);
    fleet.host("alpha").assert_settled_on(&alpha_2);
    fleet.host("beta").assert_settled_on(&beta_2);
    done(&host(&fleet, &["remove", "gamma", "--yes"]));
    let again = host(&fleet, &["remove", "gamma", "--yes"]);
    assert_eq!(
        again.code,
        Some(1),
        "the old copy had let it in again, and now it is out: {again:?}"
    );
}

#[test]
fn a_broker_that_lost_its_store_knows_its_hosts_again_when_they_are_announced() {
    let (mut fleet, mut broker) = guarded();
    let [alpha, beta] = ["alpha", "beta"].map(|host| fleet.system(host, "1", &[]));
    publish(&fleet, &[("alpha", &alpha)], &["--watch"]);
    fleet.host_mut("beta").subscriber().kill();
    publish(&fleet, &[("beta", &beta)], &[]);
    broker.stop();
    fs::remove_dir_all(broker.state()).unwrap();
    let refused = broker.process.output().matches("bad login").count();
    broker.start_again();
    wait_for("alpha to be refused", || {
        (broker.process.output().matches("bad login").count() > refused).then_some(())
    });
    done(&host(&fleet, &["announce"]));
    fleet.spawn_subscriber("beta");
    for host in ["alpha", "beta"] {
        wait_for_report(&fleet, host);
    }
    assert_eq!(report(&fleet, "alpha")["running"], alpha.as_str(), "it says its state again");
    let first = fleet.host("beta").first_system.clone();
    fleet.host("beta").assert_settled_on(&first);
    publish(&fleet, &[("beta", &beta)], &["--watch"]);
    fleet.host("beta").assert_settled_on(&beta);
}

#[test]
fn an_old_state_of_a_host_does_its_latest_order_again_and_without_it_takes_only_what_names_it() {
    let mut fleet = Fleet::start(&["alpha"]);
    let [first, second, third] = ["1", "2", "3"].map(|label| fleet.system("alpha", label, &[]));
    let publish = |fleet: &Fleet, system: &str, more: &[&str]| {
        let target = format!("alpha={system}");
        fleet.publish(&[&["--host", &target], more].concat())
    };
    done(&publish(&fleet, &first, &[]));
    fleet.host_mut("alpha").subscriber().kill();
    let state = fleet.host("alpha").state().parent().unwrap().to_owned();
    let backup = fleet.path("backup");
    copy(&state, backup.as_ref());
    fleet.start_subscriber("alpha");
    done(&publish(&fleet, &second, &[]));
    let before = fleet.report("alpha").unwrap();

    // The order is not known there any more, and the reports have their numbers a second time.
    fleet.host_mut("alpha").subscriber().kill();
    fs::remove_dir_all(&state).unwrap();
    copy(backup.as_ref(), &state);
    fleet.spawn_subscriber("alpha");
    let again = wait_for("alpha to do the order again", || {
        let is_later = |it: &Value| it["time_ms"].as_u64() > before["time_ms"].as_u64();
        let is_it = |it: &Value| it["phase"] == "succeeded" && it["sequence"] == before["sequence"];
        fleet.report("alpha").filter(|report| is_it(report) && is_later(report))
    });
    assert_eq!(again["incarnation"], before["incarnation"]);
    fleet.host("alpha").assert_settled_on(&second);

    // As docs/operations.md has it for a machine that was set back.
    fleet.host_mut("alpha").subscriber().kill();
    let key = fleet.public_key("alpha", &[]);
    fs::remove_file(state.join("session")).unwrap();
    fs::remove_file(state.join("system/state")).unwrap();
    fleet.start_subscriber("alpha");
    wait_for("alpha to refuse the order that the broker has", || {
        fleet.report("alpha").filter(|report| report["refusal"]["code"] == "state-lost")
    });
    assert_eq!(fleet.public_key("alpha", &[]), key, "it is the same host");
    assert_ne!(fleet.report("alpha").unwrap()["incarnation"], before["incarnation"]);
    assert_eq!(publish(&fleet, &third, &[]).code, Some(4));
    fleet.host("alpha").assert_settled_on(&second);
    done(&publish(&fleet, &third, &["--recover"]));
    fleet.host("alpha").assert_settled_on(&third);
}
