//! One process of a broker, on a port that it keeps.

use std::{
    net::TcpStream,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{process::Process, wait::wait_for};

/// One process of a broker: it can be ended in any way and started again.
pub(crate) struct Node {
    port: u16,
    log: PathBuf,
    is_ready: fn(u16) -> bool,
    command: Box<dyn Fn() -> Command>,
    process: Option<Process>,
}

impl Node {
    /// Prepares a process that is to serve MQTT on a port of loopback, and which is ready when that
    /// port is. Its output goes into a file in its folder.
    pub(crate) fn new(
        port: u16,
        folder: &Path,
        is_ready: fn(u16) -> bool,
        command: impl Fn() -> Command + 'static,
    ) -> Self {
        let log = folder.join("broker.log");
        Self { port, log, is_ready, command: Box::new(command), process: None }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Starts the process, unless it runs.
    pub(crate) fn spawn(&mut self) {
        if self.process.is_none() {
            self.process = Some(Process::start(&mut (self.command)(), &self.log));
        }
    }

    /// Waits until it is ready.
    ///
    /// # Panics
    /// When it ends instead, with what it said, or takes too long.
    pub(crate) fn wait_until_ready(&mut self) {
        let process = self.process.as_mut().expect("the node was started");
        let what = format!("a broker, whose log is {}", self.log.display());
        wait_for(&what, || {
            assert!(process.is_running(), "the broker ended: {}", process.output());
            (self.is_ready)(self.port).then_some(())
        });
    }

    pub(crate) fn kill(&mut self) {
        // Dropping it kills it.
        self.process = None;
    }

    pub(crate) fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.signal("TERM");
            process.wait();
        }
    }
}

/// Tells whether somebody listens on a port: all that can be told of a broker that wants a login.
pub(crate) fn listens(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).is_ok()
}
