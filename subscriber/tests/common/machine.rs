//! A folder that plays a machine: a store with systems in it, and the links that say what runs.

use std::{
    fs::{self, File},
    os::unix::fs::{OpenOptionsExt as _, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use herald_core::Claim;
use herald_proto::{host::ProfileName, id::BootId, store_path::StorePath};
use herald_subscriber::{
    adapters::record::{ArmedRecord, Records},
    config::Runner,
};
use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};

use super::{Scratch, wait_for};

/// The number of every test's attempt.
pub(crate) const ATTEMPT: u64 = 7;

/// What a system's switch program does here: it writes down what was asked of it, stops at the
/// gate if there is one, and then sets the links. It wants what a roll back has to tell it.
const SWITCH: &str = r#"#!/bin/sh
set -eu
[ "${NIXOS_NO_CHECK:-}" = 1 ] || { echo "is this a NixOS machine?" >&2; exit 1; }
echo "$1 ${0%/bin/*}" >>MACHINE/switched
[ ! -p MACHINE/gate ] || cat MACHINE/gate
case $1 in
test) link=MACHINE/current ;;
boot) link=MACHINE/default ;;
esac
ln -sfn "${0%/bin/*}" "$link"
"#;

/// A machine whose switch from `previous` to `target` is under way.
pub(crate) struct Machine {
    pub(crate) scratch: Scratch,
    pub(crate) records: Records,
    pub(crate) previous: StorePath,
    pub(crate) target: StorePath,
}

impl Machine {
    /// Makes one in which the new system runs, and neither the profile nor the boot names it.
    pub(crate) fn new() -> Self {
        let scratch = Scratch::new();
        let folder = scratch.file("state");
        fs::create_dir(&folder).unwrap();
        let [previous, target] =
            ["0previous", "1target"].map(|name| make_system(scratch.path(), name));
        let machine = Self { records: Records::new(&folder), scratch, previous, target };
        symlink(machine.target.as_path(), machine.link("current")).unwrap();
        symlink(machine.previous.as_path(), machine.link("default")).unwrap();
        symlink(machine.previous.as_path(), machine.link("system-1-link")).unwrap();
        symlink("system-1-link", machine.link("system")).unwrap();
        machine
    }

    /// Does what a commit does: the next boot takes the new system, and the profile names it.
    pub(crate) fn commit(&self) {
        symlink(self.target.as_path(), self.link("system-2-link")).unwrap();
        self.point("system", Path::new("system-2-link"));
        self.point("default", self.target.as_path());
    }

    /// Writes the armed record.
    pub(crate) fn arm(&self, dead_man_at: u64) {
        self.records.write(Claim::Armed, &self.record(dead_man_at)).unwrap();
    }

    pub(crate) fn record(&self, dead_man_at: u64) -> ArmedRecord {
        ArmedRecord {
            format: 1,
            attempt: ATTEMPT,
            profile_name: ProfileName::system(),
            activates: true,
            target: self.target.clone(),
            previous: self.previous.clone(),
            current: self.link("current"),
            profile: self.link("system"),
            profile_link: Some("system-1-link".into()),
            boot_default: Some(self.previous.clone()),
            boot_default_link: None,
            boot: BootId::from_bytes([1; 16]),
            dead_man_at,
            activate_limit: 20_000,
            runner: Runner::Direct,
            subscriber: None,
            last_resort: None,
            reboot: None,
        }
    }

    /// Adds another system.
    pub(crate) fn system(&self, name: &str) -> StorePath {
        make_system(self.scratch.path(), name)
    }

    /// Replaces a system's switch program.
    pub(crate) fn replace_switch(&self, system: &StorePath, script: &str) {
        write_switch(self.scratch.path(), system.as_path(), script);
    }

    /// Makes switch programs stop before they set a link.
    pub(crate) fn close_gate(&self) {
        make_gate(&self.link("gate"));
    }

    /// Waits until somebody stops at the gate, and lets them and all that come later go on.
    pub(crate) fn open_gate(&self) {
        open_gate(&self.link("gate"));
        fs::remove_file(self.link("gate")).unwrap();
    }

    /// Points a link elsewhere.
    pub(crate) fn point(&self, link: &str, to: &Path) {
        let _ = fs::remove_file(self.link(link));
        symlink(to, self.link(link)).unwrap();
    }

    /// Gives what a link says.
    pub(crate) fn says(&self, link: &str) -> PathBuf {
        fs::read_link(self.link(link)).unwrap()
    }

    /// Tells what was asked of switch programs, in their order: the verb and the system.
    pub(crate) fn switched(&self) -> Vec<String> {
        let text = fs::read_to_string(self.link("switched")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    pub(crate) fn link(&self, name: &str) -> PathBuf {
        self.scratch.file(name)
    }
}

/// Makes a named pipe: a program that reads it stops until it is opened.
pub(crate) fn make_gate(path: &Path) {
    mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
}

/// Waits until somebody reads a gate. They go on when what is given is dropped.
pub(crate) fn open_gate(path: &Path) -> File {
    let mut options = File::options();
    // Opened like that, one that nobody reads is an error (fifo(7)).
    let options = options.write(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed());
    wait_for("somebody at the gate", || options.open(path).ok())
}

fn make_system(machine: &Path, name: &str) -> StorePath {
    let letter = &name[..1];
    let path = machine.join(format!("store/{}-nixos-system-{name}", letter.repeat(32)));
    fs::create_dir_all(path.join("bin")).unwrap();
    write_switch(machine, &path, SWITCH);
    path.to_str().unwrap().parse().unwrap()
}

fn write_switch(machine: &Path, system: &Path, script: &str) {
    // Another process writes it: had this one it open while another thread starts a process, that
    // could keep it open for a moment, and a program that is open for writing can't be run.
    let write = r#"printf %s "$1" >"$0" && chmod 755 "$0""#;
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(write).arg(system.join("bin/switch-to-configuration"));
    shell.arg(script.replace("MACHINE", machine.to_str().unwrap()));
    assert!(shell.status().unwrap().success());
}
