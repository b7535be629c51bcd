//! A system that is booted once: preparing it, going back from it, and the dead-man of its boot.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use herald_core::Claim;
use herald_proto::id::BootId;
use herald_subscriber::{
    adapters::{
        boot_loader::BootLoader,
        record::{ArmedRecord, Outcome, RebootRecord},
    },
    clock::Clock,
};

use super::roll_back::{assert_undone, start};
use crate::common::{
    self, Running,
    machine::{ATTEMPT, Machine},
    wait_until,
};

/// Writes a program. Another process does: what this one has open for writing can't be run.
fn write_program(path: &Path, text: &str) {
    let write = r#"printf %s "$1" >"$0" && chmod 755 "$0""#;
    let status = Command::new("sh").arg("-c").arg(write).arg(path).arg(text).status();
    assert!(status.unwrap().success());
}

/// Makes a program that notes its name and arguments in the machine's folder.
fn noting(machine: &Machine, name: &str) -> PathBuf {
    let (path, notes) = (machine.link(name), machine.link("notes"));
    write_program(&path, &format!("#!/bin/sh\necho {name} \"$@\" >>{}\n", notes.display()));
    path
}

fn notes(machine: &Machine) -> Vec<String> {
    let text = fs::read_to_string(machine.link("notes")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn text(path: PathBuf) -> String {
    path.into_os_string().into_string().unwrap()
}

/// The record of a reboot into the target, armed before this boot.
fn record(machine: &Machine) -> ArmedRecord {
    let loader = BootLoader::Command { program: vec![text(noting(machine, "loader"))] };
    ArmedRecord {
        activates: false,
        boot: BootId::from_bytes([9; 16]),
        reboot: Some(RebootRecord {
            own_profile: machine.link("profiles/herald"),
            command: vec![text(noting(machine, "restart"))],
            program: env!("CARGO_BIN_EXE_herald-subscriber").into(),
            loader,
        }),
        ..machine.record(0)
    }
}

/// Gives the target an entry of its own, as a profile with one generation.
fn make_entry(machine: &Machine) {
    fs::create_dir_all(machine.link("profiles")).unwrap();
    symlink(machine.target.as_path(), machine.link("profiles/herald-1-link")).unwrap();
    symlink("herald-1-link", machine.link("profiles/herald")).unwrap();
    symlink("elsewhere", machine.link("profiles/herald-work-link")).unwrap();
}

fn assert_no_entry(machine: &Machine) {
    let left: Vec<_> = fs::read_dir(machine.link("profiles")).unwrap().flatten().collect();
    let left: Vec<_> = left.iter().map(|entry| entry.file_name()).collect();
    assert_eq!(left, ["herald-work-link"], "only what is not Herald's is left");
}

fn run(machine: &Machine, args: &[&str]) -> Running {
    let mut command = common::subscriber();
    let path = format!("{}:{}", machine.link("bin").display(), std::env::var("PATH").unwrap());
    command.args(args).env("PATH", path);
    Running::start(&mut command, &machine.link("process.log"))
}

#[test]
fn preparing_gives_the_new_system_an_entry_and_keeps_the_old_one_the_default() {
    let machine = Machine::new();
    machine.point("current", machine.previous.as_path());
    make_entry(&machine);
    // As nix-env does it, for paths that no Nix knows.
    fs::create_dir(machine.link("bin")).unwrap();
    let script = "#!/bin/sh\nln -s \"$4\" \"$2-2-link\" && ln -s \"${2##*/}-2-link\" \"$2\"\n";
    write_program(&machine.link("bin/nix-env"), script);
    machine.records.write(Claim::Armed, &record(&machine)).unwrap();
    let folder = text(machine.records.folder().to_owned());
    let args = ["prepare-reboot", "--folder", &folder, "--attempt", &ATTEMPT.to_string()];
    assert!(run(&machine, &args).wait().success());
    assert_eq!(machine.records.prepared(ATTEMPT), Some(Outcome { problems: vec![] }));
    assert_eq!(machine.says("profiles/herald"), Path::new("herald-2-link"));
    assert!(!machine.link("profiles/herald-1-link").exists(), "older entries are gone");
    assert_eq!(machine.switched(), [format!("boot {}", machine.previous)]);
    assert_eq!(notes(&machine), [format!("loader set {}", machine.target)]);
    assert_eq!(machine.says("default"), machine.previous.as_path());
    assert_eq!(machine.says("system"), Path::new("system-1-link"));
    let dead_man = fs::read_link(machine.records.folder().join("dead-man")).unwrap();
    assert_eq!(dead_man, Path::new(env!("CARGO_BIN_EXE_herald-subscriber")));
}

#[test]
fn a_machine_that_fell_back_forgets_the_entry_and_is_not_restarted() {
    let machine = Machine::new();
    machine.point("current", machine.previous.as_path());
    make_entry(&machine);
    machine.records.write(Claim::Rollback, &record(&machine)).unwrap();
    assert!(start(&machine, &[]).wait().success());
    assert_undone(&machine);
    assert_no_entry(&machine);
    assert_eq!(machine.switched(), [format!("boot {}", machine.previous)]);
    assert_eq!(notes(&machine), ["loader clear"]);
}

#[test]
fn a_system_that_was_booted_is_left_by_another_boot() {
    let machine = Machine::new();
    make_entry(&machine);
    machine.records.write(Claim::Rollback, &record(&machine)).unwrap();
    let mut roll_back = start(&machine, &[]);
    wait_until("the restart", || notes(&machine).contains(&"restart".to_owned()));
    assert!(roll_back.is_running(), "it waits for the end of this boot");
    assert_eq!(machine.records.undone(ATTEMPT), None, "nothing is undone before");
    assert_no_entry(&machine);
    assert_eq!(machine.switched(), [format!("boot {}", machine.previous)]);
    roll_back.kill();
    // The machine boots its default.
    machine.point("current", machine.previous.as_path());
    assert!(start(&machine, &[]).wait().success());
    assert_undone(&machine);
}

#[test]
fn the_dead_man_of_a_boot_is_the_program_that_armed_it() {
    let machine = Machine::new();
    let mut armed = record(&machine);
    let old = noting(&machine, "old-subscriber");
    if let Some(reboot) = &mut armed.reboot {
        reboot.program = old;
    }
    machine.records.write(Claim::Armed, &armed).unwrap();
    let state_dir = text(machine.records.folder().parent().unwrap().to_owned());
    assert!(run(&machine, &["dead-man", "--state-dir", &state_dir]).wait().success());
    let folder = machine.records.folder().display();
    let expected =
        format!("old-subscriber roll-back --folder {folder} --attempt {ATTEMPT} --when-due");
    assert_eq!(notes(&machine), [expected]);
}

#[test]
fn the_dead_man_of_a_boot_goes_back_when_its_time_comes_and_nobody_has_committed() {
    let machine = Machine::new();
    make_entry(&machine);
    machine.records.write(Claim::Armed, &record(&machine)).unwrap();
    let state_dir = text(machine.records.folder().parent().unwrap().to_owned());
    let mut dead_man = run(&machine, &["dead-man", "--state-dir", &state_dir]);
    wait_until("the restart", || notes(&machine).contains(&"restart".to_owned()));
    assert_eq!(machine.records.holder(ATTEMPT), Claim::Rollback);
    dead_man.kill();
}

#[test]
fn before_the_machine_has_restarted_and_where_nothing_is_armed_there_is_nothing_to_watch() {
    let machine = Machine::new();
    let state_dir = text(machine.records.folder().parent().unwrap().to_owned());
    assert!(run(&machine, &["dead-man", "--state-dir", &state_dir]).wait().success());
    let boot = Clock::open().unwrap().now().boot;
    let armed = ArmedRecord { boot, ..record(&machine) };
    machine.records.write(Claim::Armed, &armed).unwrap();
    assert!(run(&machine, &["dead-man", "--state-dir", &state_dir]).wait().success());
    assert_eq!(machine.records.holder(ATTEMPT), Claim::Armed);
    assert_eq!(notes(&machine), [""; 0]);
}

#[test]
fn a_dead_man_that_can_not_bring_the_old_system_back_restarts_the_machine_once() {
    let machine = Machine::new();
    machine.replace_switch(&machine.previous, "#!/bin/sh\nexit 1\n");
    let restart = noting(&machine, "restart");
    let armed = ArmedRecord { last_resort: Some(vec![text(restart)]), ..machine.record(0) };
    machine.records.write(Claim::Armed, &armed).unwrap();
    assert!(start(&machine, &["--when-due"]).wait().success());
    assert_eq!(notes(&machine), ["restart"]);
    machine.records.forget_outcomes(ATTEMPT);
    assert!(start(&machine, &["--when-due"]).wait().success());
    assert_eq!(notes(&machine), ["restart"], "once");
}
