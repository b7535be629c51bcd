//! `roll-back`: brings back what was there, once, whatever came in between.

use std::{fs, path::Path};

use herald_core::Claim;
use herald_subscriber::adapters::record::Outcome;

use crate::common::{
    self, Running,
    machine::{ATTEMPT, Machine},
    wait_until,
};

/// Starts a roll back.
pub(crate) fn start(machine: &Machine, more: &[&str]) -> Running {
    let mut command = common::subscriber();
    command.arg("roll-back").arg("--folder").arg(machine.records.folder());
    command.args(["--attempt", &ATTEMPT.to_string()]).args(more);
    Running::start(&mut command, &machine.link("roll-back.log"))
}

/// Checks that the previous system runs, is in the profile, and is what the next boot takes.
pub(crate) fn assert_undone(machine: &Machine) {
    assert_eq!(machine.records.undone(ATTEMPT), Some(Outcome { problems: vec![] }));
    assert_eq!(machine.says("current"), machine.previous.as_path());
    assert_eq!(machine.says("system"), Path::new("system-1-link"));
    assert_eq!(machine.says("default"), machine.previous.as_path());
}

fn claimed() -> Machine {
    let machine = Machine::new();
    machine.arm(0);
    machine.records.claim_for_rollback(ATTEMPT).unwrap();
    machine
}

#[test]
fn before_the_commit_the_previous_system_is_activated_and_nothing_more() {
    let machine = claimed();
    assert!(start(&machine, &[]).wait().success());
    assert_undone(&machine);
    assert_eq!(machine.switched(), [format!("test {}", machine.previous)]);
}

#[test]
fn after_the_commit_the_profile_and_the_boot_default_are_restored_too() {
    let machine = claimed();
    machine.commit();
    assert!(start(&machine, &[]).wait().success());
    assert_undone(&machine);
    let expected = ["test", "boot"].map(|verb| format!("{verb} {}", machine.previous));
    assert_eq!(machine.switched(), expected);
}

#[test]
fn a_generation_that_somebody_removed_meanwhile_is_made_again() {
    let machine = claimed();
    machine.commit();
    fs::remove_file(machine.link("system-1-link")).unwrap();
    assert!(start(&machine, &[]).wait().success());
    assert_undone(&machine);
    assert_eq!(machine.says("system-1-link"), machine.previous.as_path());
}

#[test]
fn a_boot_default_that_was_another_one_is_restored_as_it_was() {
    let machine = claimed();
    let tried_for_the_next_boot = machine.system("2default");
    let mut record = machine.record(0);
    record.boot_default = Some(tried_for_the_next_boot.clone());
    machine.records.write(Claim::Rollback, &record).unwrap();
    machine.commit();
    assert!(start(&machine, &[]).wait().success());
    assert_eq!(machine.says("current"), machine.previous.as_path());
    assert_eq!(machine.says("default"), tried_for_the_next_boot.as_path());
}

#[test]
fn what_only_set_the_next_boot_is_undone_without_activating_anything() {
    let machine = claimed();
    machine.point("current", machine.previous.as_path());
    let mut record = machine.record(0);
    record.activates = false;
    machine.records.write(Claim::Rollback, &record).unwrap();
    machine.commit();
    assert!(start(&machine, &[]).wait().success());
    assert_undone(&machine);
    assert_eq!(machine.switched(), [format!("boot {}", machine.previous)]);
}

#[test]
fn nothing_is_touched_when_somebody_activated_another_system() {
    let machine = claimed();
    machine.commit();
    let other = machine.system("3other");
    machine.point("current", other.as_path());
    assert!(start(&machine, &[]).wait().success());
    let problems = machine.records.undone(ATTEMPT).expect("a result").problems;
    assert!(problems.len() == 1 && problems[0].contains("another system"), "{problems:?}");
    assert_eq!(machine.switched(), [""; 0]);
    assert_eq!(machine.says("current"), other.as_path());
    assert_eq!(machine.says("system"), Path::new("system-2-link"));
    assert_eq!(machine.says("default"), machine.target.as_path());
}

#[test]
fn somebody_elses_switch_is_waited_for_and_what_it_did_is_left_alone() {
    let machine = claimed();
    let other = machine.system("3other");
    let lock = switch_lock(&machine);
    lock.lock().unwrap();
    let mut roll_back = start(&machine, &[]);
    wait_until("it to begin", || machine.records.file("undoing", ATTEMPT).exists());
    machine.point("current", other.as_path());
    drop(lock);
    assert!(roll_back.wait().success());
    let problems = machine.records.undone(ATTEMPT).expect("a result").problems;
    assert!(problems.len() == 1 && problems[0].contains("another system"), "{problems:?}");
    assert_eq!(machine.switched(), [""; 0]);
}

#[test]
fn units_that_only_the_new_system_has_are_taken_off_the_lists_of_a_switch_that_was_cut_off() {
    let machine = claimed();
    drop(switch_lock(&machine));
    let units = machine.previous.as_path().join("etc/systemd/system");
    fs::create_dir_all(&units).unwrap();
    fs::write(units.join("web.service"), "").unwrap();
    let list = machine.link("nixos/start-list");
    fs::write(&list, "new.service\nweb.service\n").unwrap();
    assert!(start(&machine, &[]).wait().success());
    assert_undone(&machine);
    assert_eq!(fs::read_to_string(list).unwrap(), "web.service\n");
}

/// Makes the file that switch programs lock.
fn switch_lock(machine: &Machine) -> fs::File {
    fs::create_dir(machine.link("nixos")).unwrap();
    fs::File::create(machine.link("nixos/switch-to-configuration.lock")).unwrap()
}

#[test]
fn of_two_roll_backs_at_once_the_second_waits_and_switches_nothing() {
    let machine = claimed();
    machine.close_gate();
    let mut first = start(&machine, &[]);
    wait_until("the first to switch", || !machine.switched().is_empty());
    let mut second = start(&machine, &[]);
    wait_until("the second to wait for the lock", || {
        // One that waits is listed with an arrow (proc_locks(5)).
        let locks = fs::read_to_string("/proc/locks").unwrap();
        let id = second.id().as_raw_nonzero().to_string();
        locks.lines().any(|line| line.contains("->") && line.split(' ').any(|word| word == id))
    });
    machine.open_gate();
    assert!(first.wait().success());
    assert!(second.wait().success());
    assert_undone(&machine);
    assert_eq!(machine.switched(), [format!("test {}", machine.previous)]);
}

#[test]
fn a_roll_back_that_was_cut_off_is_done_again_as_a_whole() {
    let machine = claimed();
    machine.commit();
    machine.close_gate();
    let mut first = start(&machine, &[]);
    wait_until("the first to switch", || !machine.switched().is_empty());
    first.kill();
    machine.open_gate();
    assert!(start(&machine, &[]).wait().success());
    assert_undone(&machine);
}

#[test]
fn what_goes_wrong_is_told_and_the_rest_is_done_all_the_same() {
    let machine = claimed();
    machine.commit();
    let broken = r#"[ "$1" = boot ] || { echo "no D-Bus" >&2; exit 1; }
        ln -sfn "${0%/bin/*}" MACHINE/default"#;
    machine.replace_switch(&machine.previous, &format!("#!/bin/sh\n{broken}\n"));
    assert!(start(&machine, &[]).wait().success());
    let problems = machine.records.undone(ATTEMPT).expect("a result").problems;
    assert!(problems.len() == 1 && problems[0].contains("no D-Bus"), "{problems:?}");
    assert_eq!(machine.says("system"), Path::new("system-1-link"));
    assert_eq!(machine.says("default"), machine.previous.as_path());
}

#[test]
fn a_daemon_that_the_switch_program_leaves_behind_does_not_hold_the_roll_back_up() {
    let machine = claimed();
    let daemon = "#!/bin/sh\ncat MACHINE/daemon &\nln -sfn ${0%/bin/*} MACHINE/current\n";
    common::machine::make_gate(&machine.link("daemon"));
    machine.replace_switch(&machine.previous, daemon);
    assert!(start(&machine, &[]).wait().success());
    assert_undone(&machine);
    assert_eq!(machine.scratch.processes("/daemon").len(), 1, "the daemon runs on");
}

#[test]
fn a_record_that_is_missing_or_of_another_format_rolls_nothing_back() {
    let machine = Machine::new();
    let refused = |why: &str| {
        assert_eq!(start(&machine, &[]).wait().code(), Some(1));
        let said = fs::read_to_string(machine.link("roll-back.log")).unwrap();
        let last = said.lines().last().unwrap_or_default();
        assert!(last.contains(machine.records.folder().to_str().unwrap()), "{last}");
        assert!(last.contains(why), "{last}");
    };
    refused("No such file");
    let mut record = machine.record(0);
    record.format = 2;
    machine.records.write(Claim::Rollback, &record).unwrap();
    refused("format 2");
    assert_eq!(machine.switched(), [""; 0]);
    assert_eq!(machine.records.undone(ATTEMPT), None);
}
