//! `commit`: makes a system that was proved the profile's and the boot's, and no other.

use std::{
    fs::{self, File},
    path::Path,
};

use crate::common::{
    self, Running,
    machine::{ATTEMPT, Machine},
};

#[test]
fn what_somebody_activated_while_the_commit_waited_for_them_is_not_overruled() {
    let machine = Machine::new();
    machine.arm(0);
    machine.records.claim_for_commit(ATTEMPT).unwrap();
    fs::create_dir(machine.link("nixos")).unwrap();
    let lock = File::create(machine.link("nixos/switch-to-configuration.lock")).unwrap();
    lock.lock().unwrap();
    let mut command = common::subscriber();
    command.arg("commit").arg("--folder").arg(machine.records.folder());
    command.args(["--attempt", &ATTEMPT.to_string()]);
    let mut commit = Running::start(&mut command, &machine.link("commit.log"));
    let theirs = machine.system("2theirs");
    machine.point("current", theirs.as_path());
    assert!(commit.is_running() && machine.records.committed(ATTEMPT).is_none());
    drop(lock);
    assert!(commit.wait().success());
    let problems = machine.records.committed(ATTEMPT).expect("it says how it went").problems;
    assert!(problems[0].contains(theirs.as_str()), "{problems:?}");
    assert_eq!(machine.says("system"), Path::new("system-1-link"));
    assert_eq!(machine.says("default"), machine.previous.as_path());
    assert_eq!(machine.switched(), [""; 0]);
}
