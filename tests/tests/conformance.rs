//! The main job on each broker that Herald's clients are meant for: the same scenarios with the
//! same programs, and no settings but the broker's address.
//!
//! A broker is started once, and each scenario has a fleet of its own there. With
//! `HERALD_SCENARIO=will` only those run that have `will` in their names.

#![allow(clippy::unwrap_used, reason = "a test ends where something is missing")]

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    time::{Duration, Instant},
};

use herald_tests::{BrokerKind, Brokers, Fleet, Ports, Process, Wire, wait_for};
use serde_json::Value;

#[test]
fn on_herald_broker() {
    run(
        BrokerKind::Embedded,
        &[EVERYWHERE, WHERE_MESSAGES_ARE_STORED, WHERE_A_CRASH_LOSES_NOTHING].concat(),
    );
}

#[test]
fn on_mosquitto() {
    run(BrokerKind::Mosquitto, &[EVERYWHERE, WHERE_MESSAGES_ARE_STORED].concat());
}

#[test]
fn on_nats() {
    run(BrokerKind::Nats, EVERYWHERE);
}

#[test]
fn on_nats_that_loses_servers() {
    run(BrokerKind::Nats, &[WHERE_A_CRASH_LOSES_NOTHING, IN_A_CLUSTER].concat());
}

#[test]
fn on_rabbitmq() {
    run(BrokerKind::RabbitMq, &[EVERYWHERE, WHERE_MESSAGES_ARE_STORED].concat());
}

type Scenario = (&'static str, fn(&mut Stage));

const EVERYWHERE: &[Scenario] = &[
    ("a-release-reaches-every-host", a_release_reaches_every_host),
    ("an-offline-host-catches-up", an_offline_host_catches_up),
    ("a-roll-back-is-seen", a_roll_back_is_seen),
    ("a-dead-host-is-offline", a_dead_host_is_offline),
    ("a-late-will-does-not-stay", a_late_will_does_not_stay),
    ("status-names-the-roster", status_names_the_roster),
    ("the-broker-dies-in-the-middle", the_broker_dies_in_the_middle),
];

const WHERE_MESSAGES_ARE_STORED: &[Scenario] =
    &[("an-order-outlives-a-stop", an_order_outlives_a_stop)];

const WHERE_A_CRASH_LOSES_NOTHING: &[Scenario] =
    &[("an-order-outlives-a-crash", an_order_outlives_a_crash)];

const IN_A_CLUSTER: &[Scenario] = &[
    ("a-leader-dies-in-the-middle", a_leader_dies_in_the_middle),
    ("the-hosts-node-dies", the_hosts_node_dies),
];

/// A running broker, and the name of the scenario's fleet.
struct Stage {
    brokers: Brokers,
    name: &'static str,
}

/// Runs all scenarios, whatever becomes of each; then fails if one did, with the names of all that
/// did.
fn run(kind: BrokerKind, scenarios: &[Scenario]) {
    let began = Instant::now();
    let mut stage = Stage { brokers: Brokers::start(kind), name: "" };
    println!("{kind:?}: ready after {:?}", began.elapsed());
    let mut failed = Vec::new();
    let chosen = std::env::var("HERALD_SCENARIO").unwrap_or_default();
    for (name, scenario) in scenarios.iter().filter(|(name, _)| name.contains(&chosen)) {
        let began = Instant::now();
        stage.name = name;
        let passed = catch_unwind(AssertUnwindSafe(|| scenario(&mut stage))).is_ok();
        let verdict = if passed { "passed" } else { "FAILED" };
        println!("{kind:?}: {name}: {verdict} after {:?}", began.elapsed());
        if !passed {
            failed.push(*name);
            stage.brokers.start_again();
        }
    }
    assert!(failed.is_empty(), "on {kind:?} these scenarios failed: {}", failed.join(", "));
}

impl Stage {
    /// Hosts at the first node; the operator at the last, which may be the same.
    fn fleet(&self, hosts: &[&str]) -> Fleet {
        self.fleet_at(0, self.brokers.nodes() - 1, hosts)
    }

    fn fleet_at(&self, hosts_at: usize, operator_at: usize, hosts: &[&str]) -> Fleet {
        let port = |node| self.brokers.port(node);
        let ports = Ports { hosts: port(hosts_at), operator: port(operator_at) };
        Fleet::start_at(self.name, ports, hosts)
    }
}

fn a_release_reaches_every_host(stage: &mut Stage) {
    let fleet = stage.fleet(&["alpha", "beta"]);
    let (alpha, beta) = (fleet.system("alpha", "1", &[]), fleet.system("beta", "1", &[]));
    let (to_alpha, to_beta) = (format!("alpha={alpha}"), format!("beta={beta}"));
    let outcome = fleet.publish(&["--host", &to_alpha, "--host", &to_beta]);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    for (host, system) in [("alpha", alpha), ("beta", beta)] {
        fleet.host(host).assert_settled_on(&system);
        assert_eq!(fleet.wait_for_phase(host, "succeeded")["running"], *system);
    }
}

fn an_offline_host_catches_up(stage: &mut Stage) {
    let mut fleet = stage.fleet(&["alpha"]);
    say_goodbye(&mut fleet, "alpha");
    let system = publish_unwatched(&fleet, "alpha", "1");
    fleet.spawn_subscriber("alpha");
    fleet.wait_for_phase("alpha", "succeeded");
    fleet.host("alpha").assert_settled_on(&system);
}

fn a_roll_back_is_seen(stage: &mut Stage) {
    let fleet = stage.fleet(&["alpha"]);
    let log = fleet.path("listen.log");
    let mut listen = fleet.herald_command(&["listen", "--json"]);
    let listener = Process::start(&mut listen, log.as_ref());
    wait_for("herald listen to begin", || (!listener.output().is_empty()).then_some(()));
    let first = fleet.host("alpha").first_system.clone();
    let system = fleet.system("alpha", "1", &[("activation", "late-fail")]);
    let outcome = fleet.publish(&["--host", &format!("alpha={system}")]);
    assert_eq!(outcome.code, Some(3), "{outcome:?}");
    fleet.host("alpha").assert_settled_on(&first);
    wait_for("the roll back", || said(&listener.output(), "rolled-back").then_some(()));
    let report = fleet.wait_for_phase("alpha", "rolled-back");
    assert_eq!(report["last_rollback"]["code"], "activation-failed");
    // And it is there for those who come later.
    let late = fleet.herald(&["listen", "--json", "--count", "1"]);
    assert!(said(&late.stdout, "rolled-back"), "{late:?}");
}

fn a_dead_host_is_offline(stage: &mut Stage) {
    let mut fleet = stage.fleet(&["alpha", "beta"]);
    fleet.host_mut("alpha").subscriber().kill();
    wait_for_presence(&fleet, "alpha", "offline");
    stays(&fleet, "beta", "online");
    fleet.start_subscriber("alpha");
    stays(&fleet, "alpha", "online");
}

/// The broker still has the host's old connection when the host comes back: it publishes the old
/// will, on some brokers after the new birth.
fn a_late_will_does_not_stay(stage: &mut Stage) {
    let wire = Wire::to(stage.brokers.port(0));
    let operator = stage.brokers.port(stage.brokers.nodes() - 1);
    let ports = Ports { hosts: wire.port(), operator };
    let fleet = Fleet::start_at(stage.name, ports, &["alpha"]);
    let connections = || fleet.host("alpha").log().matches("connected to the broker").count();
    wait_for("the host to be connected", || (connections() > 0).then_some(()));
    for _ in 0..3 {
        let before = connections();
        assert_eq!(wire.cut(), 1, "one host is connected");
        wait_for("the host to connect again", || (connections() > before).then_some(()));
        stays(&fleet, "alpha", "online");
    }
}

fn status_names_the_roster(stage: &mut Stage) {
    let mut fleet = stage.fleet(&["alpha"]);
    fleet.add_host("never-seen");
    let status = fleet.herald(&["status", "--json"]);
    assert_eq!(status.code, Some(0), "{status:?}");
    let status: Value = serde_json::from_str(&status.stdout).unwrap();
    let seen: Vec<_> = status["hosts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|host| (host["host"].as_str().unwrap(), host["presence"].as_str().unwrap()))
        .collect();
    assert_eq!(seen, [("alpha", "online"), ("never-seen", "unknown")]);
}

/// All nodes at once, without a chance to store anything; what they have lost, its owners say again.
fn the_broker_dies_in_the_middle(stage: &mut Stage) {
    let fleet = stage.fleet(&["alpha", "beta"]);
    let (alpha, beta) = waiting_systems(&fleet);
    let mut watching = publish_to_both(&fleet, &alpha, &beta);
    wait_until_runs(&fleet, "alpha", &alpha);
    wait_until_runs(&fleet, "beta", &beta);
    stage.brokers.kill();
    stage.brokers.start_again();
    let_go(&fleet);
    assert_eq!(watching.wait().code(), Some(0), "{}", watching.output());
    for (host, system) in [("alpha", alpha), ("beta", beta)] {
        fleet.host(host).assert_settled_on(&system);
        assert_eq!(fleet.wait_for_phase(host, "succeeded")["presence"], "online");
    }
}

fn an_order_outlives_a_stop(stage: &mut Stage) {
    an_order_outlives(stage, Brokers::stop);
}

fn an_order_outlives_a_crash(stage: &mut Stage) {
    an_order_outlives(stage, Brokers::kill);
}

/// Nobody who could say it again is there when the host comes back.
fn an_order_outlives(stage: &mut Stage, end: impl Fn(&mut Brokers)) {
    let mut fleet = stage.fleet(&["alpha"]);
    say_goodbye(&mut fleet, "alpha");
    let system = publish_unwatched(&fleet, "alpha", "1");
    end(&mut stage.brokers);
    stage.brokers.start_again();
    fleet.spawn_subscriber("alpha");
    fleet.wait_for_phase("alpha", "succeeded");
    fleet.host("alpha").assert_settled_on(&system);
}

/// The node that leads the stream of retained messages, to which nobody is connected. Hosts go on
/// without it; what the operator's subscriptions get from it comes when it is back.
fn a_leader_dies_in_the_middle(stage: &mut Stage) {
    let leader = stage.brokers.leader_of_retained();
    let others: Vec<_> = (0..stage.brokers.nodes()).filter(|node| *node != leader).collect();
    let fleet = stage.fleet_at(others[0], others[1], &["alpha", "beta"]);
    let (alpha, beta) = waiting_systems(&fleet);
    let mut watching = publish_to_both(&fleet, &alpha, &beta);
    wait_until_runs(&fleet, "alpha", &alpha);
    wait_until_runs(&fleet, "beta", &beta);
    stage.brokers.kill_node(leader);
    let_go(&fleet);
    for (host, system) in [("alpha", &alpha), ("beta", &beta)] {
        wait_for(&format!("{host} to commit"), || {
            (fleet.host(host).boot_default() == *system).then_some(())
        });
        fleet.host(host).assert_settled_on(system);
    }
    stage.brokers.start_again();
    assert_eq!(watching.wait().code(), Some(0), "{}", watching.output());
    for host in ["alpha", "beta"] {
        fleet.wait_for_phase(host, "succeeded");
    }
}

/// A host has one address: it waits for its node, and catches up with what others said meanwhile.
fn the_hosts_node_dies(stage: &mut Stage) {
    let fleet = stage.fleet_at(0, 1, &["alpha"]);
    stage.brokers.kill_node(0);
    let system = publish_unwatched(&fleet, "alpha", "1");
    stage.brokers.start_again();
    fleet.wait_for_phase("alpha", "succeeded");
    fleet.host("alpha").assert_settled_on(&system);
}

/// Ends a host's subscriber in good order.
fn say_goodbye(fleet: &mut Fleet, host: &str) {
    fleet.host_mut(host).subscriber().signal("TERM");
    assert_eq!(fleet.host_mut(host).subscriber().wait().code(), Some(0));
    wait_for_presence(fleet, host, "offline");
}

/// Publishes a new system for a host, and waits only for the broker.
fn publish_unwatched(fleet: &Fleet, host: &str, label: &str) -> String {
    let system = fleet.system(host, label, &[]);
    let (key, target) = (fleet.path("operator.key"), format!("{host}={system}"));
    let arguments = ["publish", "--key", &key, "--host", &target, "--connect-timeout", "30s"];
    let published = fleet.herald(&arguments);
    assert_eq!(published.code, Some(0), "{published:?}");
    system
}

/// Makes systems for alpha and beta whose activation waits for [`let_go`].
fn waiting_systems(fleet: &Fleet) -> (String, String) {
    let waits = [("activation", "waits")];
    (fleet.system("alpha", "1", &waits), fleet.system("beta", "1", &waits))
}

fn let_go(fleet: &Fleet) {
    for host in ["alpha", "beta"] {
        fs::write(fleet.path(&format!("hosts/{host}/root/run/go")), b"").unwrap();
    }
}

/// Publishes to both hosts in the background, and gives the watching command.
fn publish_to_both(fleet: &Fleet, alpha: &str, beta: &str) -> Process {
    let key = fleet.path("operator.key");
    let (to_alpha, to_beta) = (format!("alpha={alpha}"), format!("beta={beta}"));
    let mut command = fleet.herald_command(&[
        "publish",
        "--key",
        &key,
        "--stable-for",
        "0s",
        "--confirm-within",
        "60s",
        "--host",
        &to_alpha,
        "--host",
        &to_beta,
        "--watch",
    ]);
    Process::start(&mut command, fleet.path("publish.log").as_ref())
}

fn wait_until_runs(fleet: &Fleet, host: &str, system: &str) {
    wait_for(&format!("{host} to run the new system"), || {
        (fleet.host(host).running() == system).then_some(())
    });
}

fn wait_for_presence(fleet: &Fleet, host: &str, presence: &str) {
    wait_for(&format!("{host} to be {presence}"), || {
        fleet.report(host).filter(|report| report["presence"] == presence)
    });
}

/// Checks that a presence comes, and that nothing that is late changes it. A broker that is short of
/// time may cut a host off again; then it counts from the next connection.
fn stays(fleet: &Fleet, host: &str, presence: &str) {
    let losses = || fleet.host(host).log().matches("lost the broker").count();
    loop {
        let before = losses();
        wait_for_presence(fleet, host, presence);
        let (began, mut seen) = (Instant::now(), presence.to_owned());
        while began.elapsed() < Duration::from_millis(700) && seen == presence {
            seen = fleet.report(host).unwrap()["presence"].as_str().unwrap().to_owned();
        }
        if losses() == before {
            assert_eq!(seen, presence, "it changed");
            return;
        }
    }
}

/// Tells whether a complete line of `--json` has a phase.
fn said(lines: &str, phase: &str) -> bool {
    let lines = lines.lines().map_while(|line| serde_json::from_str::<Value>(line).ok());
    lines.into_iter().any(|line| line["phase"] == phase)
}
