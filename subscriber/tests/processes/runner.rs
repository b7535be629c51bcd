//! `activate`: whatever becomes of the switch program, there is a result that says so.

use std::{process::ExitStatus, time::Duration};

use herald_core::ActivationEnd;
use herald_subscriber::{adapters::record::Records, clock};

use crate::common::{self, Running, Scratch, machine::make_gate, wait_until};

const ATTEMPT: u64 = 3;
const LONG: Duration = Duration::from_secs(60);

/// Runs a script as the switch program; its log is there already, from an earlier start.
fn activate(scratch: &Scratch, limit: Duration, program: &[&str]) -> Running {
    std::fs::write(scratch.file("log"), "from before\n").unwrap();
    let mut command = common::subscriber();
    command.arg("activate").arg("--folder").arg(scratch.path());
    command.args(["--attempt", &ATTEMPT.to_string()]);
    command.args(["--until", &clock::monotonic().plus(limit).as_millis().to_string()]);
    command.arg("--log").arg(scratch.file("log")).arg("--").args(program);
    Running::start(&mut command, &scratch.file("runner.log"))
}

fn run(script: &str) -> (ExitStatus, ActivationEnd) {
    let scratch = Scratch::new();
    let status = activate(&scratch, LONG, &["/bin/sh", "-c", script]).wait();
    (status, result(&scratch).expect("a result"))
}

fn result(scratch: &Scratch) -> Option<ActivationEnd> {
    Records::new(scratch.path()).result(ATTEMPT)
}

#[test]
fn a_switch_program_that_succeeds_leaves_its_status_and_what_it_printed() {
    let (status, end) = run("echo activating; echo warning >&2; exit 0");
    assert!(status.success());
    let ActivationEnd::Exited { status: 0, output } = end else { panic!("{end:?}") };
    assert_eq!(output.as_str(), "from before\nactivating\nwarning");
}

#[test]
fn a_switch_program_that_fails_leaves_its_status_and_the_end_of_what_it_printed() {
    let (status, end) = run("for i in 1 2 3 4 5 6 7 8 9; do echo line $i; done; exit 3");
    assert!(status.success(), "the runner itself did what it had to");
    let ActivationEnd::Exited { status: 3, output } = end else { panic!("{end:?}") };
    assert_eq!(output.as_str().lines().next(), Some("line 2"));
    assert_eq!(output.as_str().lines().last(), Some("line 9"));
}

#[test]
fn a_switch_program_that_is_killed_leaves_that_and_what_it_printed() {
    let (status, end) = run("echo half; kill -KILL $$");
    assert!(status.success());
    let ActivationEnd::Killed { limit_reached: false, output } = end else { panic!("{end:?}") };
    assert_eq!(output.as_str(), "from before\nhalf");
}

#[test]
fn a_switch_program_that_can_not_be_started_leaves_why() {
    let scratch = Scratch::new();
    let program = scratch.file("switch-to-configuration");
    let status = activate(&scratch, LONG, &[program.to_str().unwrap(), "test"]).wait();
    assert!(status.success());
    let Some(ActivationEnd::Unknown { reason }) = result(&scratch) else { panic!("no result") };
    assert!(reason.as_str().contains("No such file"), "{reason}");
}

#[test]
fn a_switch_program_that_reaches_its_limit_is_killed_with_all_that_it_started() {
    let scratch = Scratch::new();
    make_gate(&scratch.file("gate"));
    // Three generations, each deaf to a polite request.
    let gate = scratch.file("gate");
    let gate = gate.display();
    let script = format!("trap '' TERM HUP; echo hanging; sh -c 'cat {gate} & cat {gate}'");
    let mut runner = activate(&scratch, Duration::from_millis(500), &["/bin/sh", "-c", &script]);
    wait_until("the switch program to hang", || {
        // The runner, two shells, and two that stop at the gate.
        scratch.processes("").len() == 5
    });
    runner.wait();
    let end = result(&scratch).expect("a result, though the runner ends itself too");
    let ActivationEnd::Killed { limit_reached: true, output } = end else { panic!("{end:?}") };
    assert_eq!(output.as_str(), "from before\nhanging");
    wait_until("all to be gone", || scratch.processes("").is_empty());
}

#[test]
fn a_runner_that_is_started_again_after_the_result_does_not_activate_twice() {
    let scratch = Scratch::new();
    let script = format!("echo once >>{}/ran; exit 4", scratch.text());
    for _ in 0..2 {
        assert!(activate(&scratch, LONG, &["/bin/sh", "-c", &script]).wait().success());
    }
    let end = result(&scratch).expect("a result");
    assert!(matches!(end, ActivationEnd::Exited { status: 4, .. }), "{end:?}");
    assert_eq!(std::fs::read_to_string(scratch.file("ran")).unwrap(), "once\n");
}
