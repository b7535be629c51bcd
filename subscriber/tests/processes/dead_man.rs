//! `roll-back --when-due`, the dead-man: does nothing before its time, and then what nobody else
//! has done.

use std::{path::Path, time::Duration};

use herald_core::Claim;
use herald_subscriber::clock;

use super::roll_back::{assert_undone, start};
use crate::common::{
    LIMIT, Running, leads_session,
    machine::{ATTEMPT, Machine},
    wait_until,
};

/// Starts a dead-man, and waits until it has begun.
fn start_dead_man(machine: &Machine) -> Running {
    let dead_man = start(machine, &["--when-due"]);
    wait_until("a session of its own", || leads_session(dead_man.id()));
    dead_man
}

fn in_time(span: Duration) -> u64 {
    clock::monotonic().plus(span).as_millis()
}

fn assert_untouched(machine: &Machine) {
    assert_eq!(machine.switched(), [""; 0]);
    assert_eq!(machine.records.undone(ATTEMPT), None);
    assert_eq!(machine.says("current"), machine.target.as_path());
    assert_eq!(machine.says("default"), machine.target.as_path());
    assert_eq!(machine.says("system"), Path::new("system-2-link"));
}

#[test]
fn a_dead_man_stands_by_until_the_commit_has_ended_and_then_goes() {
    let machine = Machine::new();
    // Its time comes while the commit is under way: that must not stop the commit.
    let due = in_time(Duration::from_millis(700));
    machine.arm(due);
    let mut dead_man = start_dead_man(&machine);
    machine.records.claim_for_commit(ATTEMPT).expect("the dead-man has not claimed it");
    machine.commit();
    wait_until("its time to be over", || clock::monotonic().as_millis() > due + 200);
    assert!(dead_man.is_running(), "it supervises until the commit ends");
    machine.records.remove(ATTEMPT);
    assert!(dead_man.wait().success());
    assert_untouched(&machine);
}

#[test]
fn a_dead_man_goes_when_the_record_is_withdrawn() {
    let machine = Machine::new();
    machine.commit();
    machine.arm(in_time(LIMIT));
    let mut dead_man = start_dead_man(&machine);
    assert!(dead_man.is_running());
    machine.records.withdraw(ATTEMPT).unwrap();
    assert!(dead_man.wait().success());
    assert_untouched(&machine);
    assert_eq!(machine.records.holder(ATTEMPT), Claim::None);
}

#[test]
fn a_dead_man_rolls_back_when_its_time_comes_and_not_before() {
    let machine = Machine::new();
    let due = in_time(Duration::from_millis(300));
    machine.arm(due);
    let mut dead_man = start(&machine, &["--when-due"]);
    wait_until("the claim", || {
        let holder = machine.records.holder(ATTEMPT);
        assert!(holder == Claim::Armed || clock::monotonic().as_millis() >= due, "too early");
        holder == Claim::Rollback
    });
    assert!(dead_man.wait().success());
    assert_undone(&machine);
    assert_eq!(machine.switched(), [format!("test {}", machine.previous)]);
}

#[test]
fn a_dead_man_that_was_killed_while_rolling_back_does_it_when_it_is_started_again() {
    let machine = Machine::new();
    machine.arm(0);
    machine.close_gate();
    let mut dead_man = start(&machine, &["--when-due"]);
    wait_until("it to switch", || !machine.switched().is_empty());
    dead_man.kill();
    machine.open_gate();
    assert_eq!(machine.records.holder(ATTEMPT), Claim::Rollback);
    assert!(start(&machine, &["--when-due"]).wait().success());
    assert_undone(&machine);
}

#[test]
fn a_dead_man_that_is_started_again_after_the_roll_back_does_nothing() {
    let machine = Machine::new();
    machine.arm(0);
    assert!(start(&machine, &["--when-due"]).wait().success());
    assert_undone(&machine);
    let switched = machine.switched();
    assert!(start(&machine, &["--when-due"]).wait().success());
    assert_eq!(machine.switched(), switched);
    machine.records.remove(ATTEMPT);
    assert!(start(&machine, &["--when-due"]).wait().success(), "nor when all is cleaned up");
    assert_eq!(machine.switched(), switched);
}

#[test]
fn a_dead_man_and_the_subscriber_s_roll_back_at_once_switch_once() {
    for _ in 0..5 {
        let machine = Machine::new();
        machine.arm(0);
        machine.commit();
        let mut dead_men = [start(&machine, &["--when-due"]), start(&machine, &["--when-due"])];
        machine.records.claim_for_rollback(ATTEMPT).unwrap();
        let mut roll_back = start(&machine, &[]);
        for process in dead_men.iter_mut().chain([&mut roll_back]) {
            assert!(process.wait().success());
        }
        assert_undone(&machine);
        let expected = ["test", "boot"].map(|verb| format!("{verb} {}", machine.previous));
        assert_eq!(machine.switched(), expected);
    }
}
