//! Whatever is killed, and whenever: the host ends on the new system confirmed, or on the old one.

#![allow(clippy::unwrap_used, reason = "a test ends where something is missing")]

use std::{fs, process::Command};

use herald_tests::{Fleet, Process, wait_for};

/// Publishes in the background and gives the watching command.
fn publish(fleet: &Fleet, arguments: &[&str]) -> Process {
    let key = fleet.path("operator.key");
    let mut all = vec!["publish", "--key", &key, "--stable-for", "0s"];
    all.extend(arguments);
    all.push("--watch");
    let log = fleet.path("publish.log");
    Process::start(&mut fleet.herald_command(&all), log.as_ref())
}

fn touch(fleet: &Fleet, name: &str) {
    fs::write(fleet.path(name), b"").unwrap();
}

/// Waits until a host's subscriber has entered a phase, as it says in its log.
fn wait_for_log(fleet: &Fleet, host: &str, text: &str) {
    wait_for(text, || fleet.host(host).log().contains(text).then_some(()));
}

/// Kills what runs the switch program, as a crash of it would.
fn kill_runner(fleet: &Fleet, attempt: u64) {
    let lock = fleet.host("alpha").state().join(format!("activate-lock-{attempt}"));
    let process = fs::read_to_string(lock).unwrap();
    let killed = Command::new("kill").args(["-s", "KILL", "--", &format!("-{process}")]).status();
    assert!(killed.unwrap().success());
}

#[test]
fn a_subscriber_that_was_killed_while_activating_takes_over_the_result() {
    let mut fleet = Fleet::start(&["alpha"]);
    let system = fleet.system("alpha", "1", &[("activation", "waits")]);
    let mut watching = publish(&fleet, &["--host", &format!("alpha={system}")]);
    wait_for("the new system to run", || (fleet.host("alpha").running() == system).then_some(()));
    fleet.host_mut("alpha").subscriber().kill();
    assert_ne!(fleet.host("alpha").boot_default(), system, "nothing is committed yet");
    fleet.spawn_subscriber("alpha");
    touch(&fleet, "hosts/alpha/root/run/go");
    assert_eq!(watching.wait().code(), Some(0), "{}", watching.output());
    fleet.host("alpha").assert_settled_on(&system);
}

#[test]
fn an_activation_that_was_killed_with_its_subscriber_is_rolled_back() {
    let mut fleet = Fleet::start(&["alpha"]);
    let first = fleet.host("alpha").first_system.clone();
    let system = fleet.system("alpha", "1", &[("activation", "waits")]);
    let mut watching = publish(&fleet, &["--host", &format!("alpha={system}")]);
    wait_for("the new system to run", || (fleet.host("alpha").running() == system).then_some(()));
    fleet.host_mut("alpha").subscriber().kill();
    kill_runner(&fleet, 1);
    fleet.start_subscriber("alpha");
    assert_eq!(watching.wait().code(), Some(3), "{}", watching.output());
    assert_eq!(fleet.report("alpha").unwrap()["code"], "interrupted");
    fleet.host("alpha").assert_settled_on(&first);
}

#[test]
fn a_subscriber_that_was_killed_while_confirming_goes_on_and_confirms() {
    let mut fleet = Fleet::start(&["alpha"]);
    let system = fleet.system("alpha", "1", &[]);
    let gate = fleet.path("healthy");
    let check = format!("test -e {gate}");
    let target = format!("alpha={system}");
    let arguments = ["--host", &target, "--health-command", &check, "--confirm-within", "60s"];
    let mut watching = publish(&fleet, &arguments);
    wait_for_log(&fleet, "alpha", "to=confirming");
    fleet.host_mut("alpha").subscriber().kill();
    touch(&fleet, "healthy");
    fleet.spawn_subscriber("alpha");
    assert_eq!(watching.wait().code(), Some(0), "{}", watching.output());
    fleet.host("alpha").assert_settled_on(&system);
}

#[test]
fn the_dead_man_rolls_back_when_the_subscriber_never_comes_back() {
    let mut fleet = Fleet::start(&["alpha"]);
    let first = fleet.host("alpha").first_system.clone();
    let system = fleet.system("alpha", "1", &[]);
    let target = format!("alpha={system}");
    let mut arguments = vec!["--host", &target, "--health-command", "false"];
    arguments.extend(["--activate-within", "5s", "--confirm-within", "1s"]);
    let _watching = publish(&fleet, &arguments);
    wait_for_log(&fleet, "alpha", "to=confirming");
    fleet.host_mut("alpha").subscriber().kill();
    wait_for("the dead-man to roll back", || {
        (fleet.host("alpha").running() == first).then_some(())
    });
    fleet.start_subscriber("alpha");
    let report = fleet.wait_for_phase("alpha", "rolled-back");
    assert_eq!(report["code"], "dead-man");
    fleet.host("alpha").assert_settled_on(&first);
}

#[test]
fn an_activation_that_hangs_is_ended_at_its_limit_with_all_that_it_started() {
    let fleet = Fleet::start(&["alpha"]);
    let first = fleet.host("alpha").first_system.clone();
    let system = fleet.system("alpha", "1", &[("activation", "hangs")]);
    let target = format!("alpha={system}");
    let outcome = fleet.publish(&["--host", &target, "--activate-within", "1s"]);
    assert_eq!(outcome.code, Some(3), "{outcome:?}");
    assert_eq!(fleet.report("alpha").unwrap()["code"], "limit-reached");
    fleet.host("alpha").assert_settled_on(&first);
    // One process is left in the host's namespace: the subscriber.
    wait_for("everything else to be gone", || {
        let processes = fleet.processes_in_hosts();
        (processes.len() == 1).then_some(())
    });
}

#[test]
fn a_release_that_cuts_the_host_off_is_rolled_back() {
    let mut fleet = Fleet::start(&["alpha"]);
    let first = fleet.host("alpha").first_system.clone();
    let system = fleet.system("alpha", "1", &[("activation", "waits")]);
    let target = format!("alpha={system}");
    let arguments = ["--host", &target, "--confirm-within", "2s"];
    let mut watching = publish(&fleet, &arguments);
    wait_for("the new system to run", || (fleet.host("alpha").running() == system).then_some(()));
    fleet.broker_mut().process.kill();
    touch(&fleet, "hosts/alpha/root/run/go");
    wait_for("the roll back", || (fleet.host("alpha").running() == first).then_some(()));
    // The broker comes back and knows nothing any more: everybody says again what is theirs to say.
    fleet.restart_broker();
    let report = fleet.wait_for_phase("alpha", "rolled-back");
    assert_eq!(report["code"], "unreachable");
    assert_eq!(watching.wait().code(), Some(3), "{}", watching.output());
    fleet.host("alpha").assert_settled_on(&first);
}

#[test]
fn a_full_disk_is_reported_and_the_host_goes_on_when_there_is_room() {
    let fleet = Fleet::start(&["alpha"]);
    let system = fleet.system("alpha", "1", &[]);
    let state = fleet.host("alpha").state().to_str().unwrap().to_owned();
    let in_namespace = |script: &str| fleet.in_running_host("alpha", script, &[&state]);
    // A small file system over the state's folder, with the state in it and no room left.
    in_namespace(
        r#"cd /; cp -a "$1" "$1.copy"; mount -t tmpfs -o size=64k tmpfs "$1"; cp -a "$1.copy/." "$1"
        head -c 1M /dev/zero >"$1/filler" 2>/dev/null || true"#,
    );
    let mut watching = publish(&fleet, &["--host", &format!("alpha={system}")]);
    let report = wait_for("the host to say that its disk is full", || {
        fleet.report("alpha").filter(|report| report["code"] == "disk-full")
    });
    let detail = report["detail"].as_str().unwrap();
    assert!(detail.contains("state") && detail.contains("space"), "{detail}");
    assert_ne!(fleet.host("alpha").running(), system);
    in_namespace(r#"rm "$1/filler""#);
    assert_eq!(watching.wait().code(), Some(0), "{}", watching.output());
    fleet.host("alpha").assert_settled_on(&system);
}

#[test]
fn the_limits_of_an_order_do_not_cut_off_the_way_back() {
    let fleet = Fleet::start(&["alpha"]);
    let slow = fleet.system("alpha", "1", &[("hook", "sleep 2")]);
    assert_eq!(fleet.publish(&["--host", &format!("alpha={slow}")]).code, Some(0));
    let sick = fleet.system("alpha", "2", &[]);
    let target = format!("alpha={sick}");
    let arguments = ["--host", &target, "--activate-within", "1s", "--health-command", "false"];
    let outcome = fleet.publish(&arguments);
    assert_eq!(outcome.code, Some(3), "{outcome:?}");
    fleet.host("alpha").assert_settled_on(&slow);
}
