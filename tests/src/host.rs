//! One host of a fleet, seen from outside.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::process::Process;

/// How many lines of a log are shown of a host whose test fails.
const LAST_LINES: usize = 30;

/// A host: its folder, and its subscriber if that was started.
#[derive(Debug)]
pub struct Host {
    name: String,
    folder: PathBuf,
    /// The system that it was installed with.
    pub first_system: String,
    /// The subscriber.
    pub subscriber: Option<Process>,
}

impl Host {
    pub(crate) fn new(name: &str, folder: &Path, first_system: String) -> Self {
        Self { name: name.to_owned(), folder: folder.to_owned(), first_system, subscriber: None }
    }

    /// Gives the system that runs.
    pub fn running(&self) -> String {
        self.link("root/run/current-system")
    }

    /// Gives the system that the next boot takes.
    pub fn boot_default(&self) -> String {
        self.link("root/boot/default")
    }

    /// Gives the system that the profile points to.
    pub fn profile(&self) -> String {
        let generation = self.link("profiles/system");
        self.link(&format!("profiles/{generation}"))
    }

    /// Checks that a system runs, is in the profile, and is what the next boot takes.
    ///
    /// # Panics
    /// When one of them is another.
    pub fn assert_settled_on(&self, system: &str) {
        assert_eq!(self.running(), system, "what {} runs", self.name);
        assert_eq!(self.profile(), system, "the profile of {}", self.name);
        assert_eq!(self.boot_default(), system, "the boot default of {}", self.name);
    }

    /// Gives the subscriber.
    ///
    /// # Panics
    /// When it was not started.
    pub fn subscriber(&mut self) -> &mut Process {
        self.subscriber.as_mut().expect("the test started the subscriber")
    }

    /// Gives the folder of the state of the profile `system`.
    pub fn state(&self) -> PathBuf {
        self.folder.join("herald/system")
    }

    /// Gives what the subscriber has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// Prints what the subscriber has logged last, for a test that fails.
    pub(crate) fn show_end_of_log(&self) {
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        let end = &lines[lines.len().saturating_sub(LAST_LINES)..];
        eprintln!("the last that {} logged:\n{}", self.name, end.join("\n"));
    }

    /// Gives the configuration file.
    pub fn config_file(&self) -> PathBuf {
        self.folder.join("subscriber.toml")
    }

    pub(crate) fn log_file(&self) -> PathBuf {
        self.folder.join("subscriber.log")
    }

    pub(crate) fn config(&self, fleet: &str, port: u16, at: &Path) -> String {
        let Self { name, folder, .. } = self;
        format!(
            "fleet = {fleet:?}\n\
             host = {name:?}\n\
             broker = \"mqtt://127.0.0.1:{port}\"\n\
             trust = {trust:?}\n\
             state_dir = {state:?}\n\
             state = \"durable-unchecked\"\n\
             store_dir = {store:?}\n\
             runner = \"direct\"\n\
             [profiles.system]\n\
             profile = {profile:?}\n\
             current = {current:?}\n\
             booted = {booted:?}\n\
             boot_default = {boot:?}\n",
            trust = at.join("trust.toml"),
            state = folder.join("herald"),
            store = at.join("nix/store"),
            profile = folder.join("profiles/system"),
            current = folder.join("root/run/current-system"),
            booted = folder.join("root/run/booted-system"),
            boot = folder.join("root/boot/default"),
        )
    }

    fn link(&self, name: &str) -> String {
        let target = fs::read_link(self.folder.join(name)).unwrap_or_default();
        target.to_string_lossy().into_owned()
    }
}
