//! A process that a test started, with its output in a file; killed when dropped.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
};

use crate::wait::wait_for;

/// A process that is killed when it is dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a command; its output is added to a file.
    ///
    /// # Panics
    /// When it can't be started.
    pub fn start(command: &mut Command, log: &Path) -> Self {
        let file =
            File::options().create(true).append(true).open(log).expect("a log can be opened");
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("a file can be opened twice"))
            .stderr(file)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        Self { child, log: log.to_owned() }
    }

    /// Gives the process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Gives all that it and its predecessors with the same log have printed.
    pub fn output(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Kills it as a crash would, and waits until it is gone.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Sends a signal by its name, such as `TERM`.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg("-s").arg(name).arg(self.id().to_string()).status();
        assert!(sent.is_ok_and(|status| status.success()), "cannot send {name} to {}", self.id());
    }

    /// Waits until it has ended by itself.
    pub fn wait(&mut self) -> ExitStatus {
        wait_for("a process to end", || self.child.try_wait().ok().flatten())
    }

    /// Tells whether it runs.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|status| status.is_none())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
