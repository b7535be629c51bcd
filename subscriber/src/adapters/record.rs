//! The armed record: what a roll back needs to know, in a format that never changes.
//!
//! Its name says who holds it. `armed-<n>` is claimed by renaming it, to `commit-<n>` or to
//! `rollback-<n>`: of a commit and a roll back that both try, one wins. Whatever version of this
//! program made it, every later version must be able to roll back from it; keys may be added, and
//! readers pass over those that they do not know.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use herald_core::{ActivationEnd, Attempt, Claim, Monotonic, Procedure};
use herald_proto::{
    host::{ProfileName, UnitName},
    id::BootId,
    store_path::StorePath,
};

use super::{boot_loader::BootLoader, own_unit, systems::store_path_at};
use crate::{
    config::{Profile, Restart, Runner},
    durable,
    os::{Linux, System},
};

/// A time that does not come; TOML has no greater number.
const NEVER: u64 = i64::MAX.cast_unsigned();
/// The number of the format. A reader refuses any other.
const FORMAT: u16 = 1;

/// What is needed to bring the previous system back, without Nix, state or configuration.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ArmedRecord {
    /// The format's number.
    pub format: u16,
    /// The attempt's number.
    pub attempt: u64,
    /// The profile's name.
    pub profile_name: ProfileName,
    /// Whether a system is activated, so that the previous one must be activated again.
    pub activates: bool,
    /// The new system.
    pub target: StorePath,
    /// The system that ran.
    pub previous: StorePath,
    /// The link that says what runs.
    pub current: PathBuf,
    /// The profile.
    pub profile: PathBuf,
    /// What the profile's link said, which is a generation's name.
    pub profile_link: Option<PathBuf>,
    /// What the next boot would have taken.
    pub boot_default: Option<StorePath>,
    /// The link that says what the next boot takes, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_default_link: Option<PathBuf>,
    /// The boot.
    pub boot: BootId,
    /// When the dead-man rolls back, in milliseconds of `CLOCK_MONOTONIC`.
    pub dead_man_at: u64,
    /// How long the switch program may take, in milliseconds.
    pub activate_limit: u64,
    /// What runs the processes.
    pub runner: Runner,
    /// The unit of the subscriber, which is started anew where the two systems differ in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subscriber: Option<UnitName>,
    /// The program that restarts the machine, where that is the last resort of a roll back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_resort: Option<Vec<String>>,
    /// What there is to know about a system that is booted and not activated.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "boot_once")]
    pub reboot: Option<RebootRecord>,
}

/// What is needed to boot a system once, and to forget it again.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct RebootRecord {
    /// The profile through which the boot loader has an entry for it.
    pub own_profile: PathBuf,
    /// The program that restarts the machine.
    pub command: Vec<String>,
    /// The program that armed this: it goes back, too.
    pub program: PathBuf,
    /// The boot loader.
    pub loader: BootLoader,
}

/// The records and results of a profile's attempts.
#[derive(Debug, Clone)]
pub struct Records {
    os: System,
    folder: PathBuf,
}

/// A record could not be claimed.
#[derive(Debug, thiserror::Error)]
pub enum NotClaimed {
    /// Another one was faster.
    #[error("the armed record of attempt {attempt} is held by {holder:?}")]
    Lost {
        /// The attempt.
        attempt: u64,
        /// Who has it.
        holder: Claim,
    },
    /// The file system refuses.
    #[error("cannot claim the armed record of attempt {attempt}: {source}")]
    Io {
        /// The attempt.
        attempt: u64,
        /// What the system said.
        source: io::Error,
    },
}

impl ArmedRecord {
    /// Makes the record of an attempt.
    pub fn new(
        os: &System,
        attempt: &Attempt,
        profile_name: &ProfileName,
        profile: &Profile,
        runner: Runner,
        restart: &Restart,
        dead_man_at: Option<Monotonic>,
    ) -> Self {
        let target = attempt.order.target();
        // Only the system itself is what boots.
        let boots = *profile_name == ProfileName::system();
        let activate_limit = target.limits.activate.as_millis();
        Self {
            format: FORMAT,
            attempt: attempt.number,
            profile_name: profile_name.clone(),
            activates: matches!(attempt.procedure, Procedure::Switch | Procedure::Test),
            target: target.toplevel.clone(),
            previous: attempt.baseline.previous.clone(),
            current: profile.current.clone(),
            profile: profile.profile.clone(),
            profile_link: os.read_link(&profile.profile).ok(),
            boot_default: attempt.baseline.boot_default.clone(),
            boot_default_link: profile.boot_default.clone(),
            boot: attempt.baseline.boot,
            dead_man_at: dead_man_at.map_or(NEVER, Monotonic::as_millis),
            activate_limit: u64::try_from(activate_limit).unwrap_or(u64::MAX),
            runner,
            subscriber: match runner {
                Runner::Systemd => own_unit::of_this_process(&**os),
                Runner::Direct => None,
            },
            last_resort: (boots && restart.is_last_resort).then(|| restart.command.clone()),
            reboot: (attempt.procedure == Procedure::Reboot).then(|| RebootRecord {
                own_profile: restart.own_profile.clone(),
                command: restart.command.clone(),
                program: std::env::current_exe().unwrap_or_default(),
                loader: restart.loader.clone(),
            }),
        }
    }

    /// Tells whether the profile is one that neither was there before nor is the new system's.
    pub fn profile_is_anothers(&self, os: &System) -> bool {
        os.read_link(&self.profile).ok() != self.profile_link
            && store_path_at(&**os, &self.profile).is_some_and(|path| path != self.target)
    }

    /// Gives how long the switch program may take.
    pub fn activate_limit(&self) -> Duration {
        Duration::from_millis(self.activate_limit)
    }
}

impl Records {
    /// Names the records in a profile's folder.
    pub fn new(folder: &Path) -> Self {
        Self::on(Arc::new(Linux), folder)
    }

    /// Names the records in a profile's folder of a system.
    pub fn on(os: System, folder: &Path) -> Self {
        Self { os, folder: folder.to_owned() }
    }

    /// Gives the system that they are on.
    pub fn os(&self) -> &System {
        &self.os
    }

    /// Gives the folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Gives the name of a file of an attempt.
    pub fn file(&self, what: &str, attempt: u64) -> PathBuf {
        self.folder.join(format!("{what}-{attempt}"))
    }

    /// Writes a record, durably.
    ///
    /// # Errors
    /// What the file system said.
    pub fn write(&self, holder: Claim, record: &ArmedRecord) -> io::Result<()> {
        let text = toml::to_string(record).map_err(io::Error::other)?;
        durable::write(&*self.os, &self.name(holder, record.attempt), text.as_bytes())
    }

    /// Reads the record of an attempt, whoever holds it.
    ///
    /// # Errors
    /// When there is none, or it is damaged or of another format.
    pub fn read(&self, attempt: u64) -> io::Result<ArmedRecord> {
        let (path, text) = loop {
            let holder = self.holder(attempt);
            let path = self.name(holder, attempt);
            match self.text(&path) {
                // It was claimed between the two looks.
                Err(error) if error.kind() == io::ErrorKind::NotFound && holder != Claim::None => {}
                text => break (path, text),
            }
        };
        let in_file =
            |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        let text = text.map_err(in_file)?;
        let record: ArmedRecord =
            toml::from_str(&text).map_err(|error| in_file(io::Error::other(error)))?;
        if record.format != FORMAT {
            let problem = format!("armed record of format {}, not {FORMAT}", record.format);
            return Err(in_file(io::Error::other(problem)));
        }
        Ok(record)
    }

    /// Tells who holds the record.
    pub fn holder(&self, attempt: u64) -> Claim {
        // In the order in which claims move it: looked for the other way round, one that is claimed
        // meanwhile would seem to be nowhere.
        let claims = [Claim::Armed, Claim::Commit, Claim::Rollback];
        claims.into_iter().fold(Claim::None, |found, claim| {
            if self.os.exists(&self.name(claim, attempt)) { claim } else { found }
        })
    }

    /// Claims the record for the commit, once more if the commit has it already.
    ///
    /// # Errors
    /// When a roll back has it, or there is none.
    pub fn claim_for_commit(&self, attempt: u64) -> Result<(), NotClaimed> {
        self.claim(attempt, &[Claim::Armed], Claim::Commit).or_else(|lost| match lost {
            NotClaimed::Lost { holder: Claim::Commit, .. } => Ok(()),
            other => Err(other),
        })
    }

    /// Claims the record for a roll back, once more if one has it already; a commit gives way.
    ///
    /// # Errors
    /// When there is none.
    pub fn claim_for_rollback(&self, attempt: u64) -> Result<(), NotClaimed> {
        let claimed = self.claim(attempt, &[Claim::Armed, Claim::Commit], Claim::Rollback);
        claimed.or_else(|lost| match lost {
            NotClaimed::Lost { holder: Claim::Rollback, .. } => Ok(()),
            other => Err(other),
        })
    }

    /// Claims the record for the dead-man: only if nobody else has.
    ///
    /// # Errors
    /// When somebody else has it, or there is none.
    pub fn claim_for_dead_man(&self, attempt: u64) -> Result<(), NotClaimed> {
        self.claim(attempt, &[Claim::Armed], Claim::Rollback)
    }

    fn claim(&self, attempt: u64, from: &[Claim], to: Claim) -> Result<(), NotClaimed> {
        for claim in from {
            match durable::rename(&*self.os, &self.name(*claim, attempt), &self.name(to, attempt)) {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(NotClaimed::Io { attempt, source }),
            }
        }
        Err(NotClaimed::Lost { attempt, holder: self.holder(attempt) })
    }

    /// Takes an unclaimed record away; one that a roll back has claimed stays.
    ///
    /// # Errors
    /// What the file system said.
    pub fn withdraw(&self, attempt: u64) -> io::Result<()> {
        match self.os.remove(&self.name(Claim::Armed, attempt)) {
            Ok(()) => durable::sync_parent(&*self.os, &self.name(Claim::Armed, attempt)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Writes how the activation of an attempt ended, durably.
    ///
    /// # Errors
    /// What the file system said.
    pub fn write_result(&self, attempt: u64, end: &ActivationEnd) -> io::Result<()> {
        let text = toml::to_string(end).map_err(io::Error::other)?;
        durable::write(&*self.os, &self.file("result", attempt), text.as_bytes())
    }

    /// Reads how the activation of an attempt ended, if it has.
    pub fn result(&self, attempt: u64) -> Option<ActivationEnd> {
        toml::from_str(&self.text(&self.file("result", attempt)).ok()?).ok()
    }

    /// Writes how the preparation of a reboot ended, durably.
    ///
    /// # Errors
    /// What the file system said.
    pub fn write_prepared(&self, attempt: u64, outcome: &Outcome) -> io::Result<()> {
        self.write_outcome("prepared", attempt, outcome)
    }

    /// Reads how the preparation of a reboot ended, if it has.
    pub fn prepared(&self, attempt: u64) -> Option<Outcome> {
        self.outcome("prepared", attempt)
    }

    /// Writes how the commit of an attempt ended, durably.
    ///
    /// # Errors
    /// What the file system said.
    pub fn write_committed(&self, attempt: u64, outcome: &Outcome) -> io::Result<()> {
        self.write_outcome("committed", attempt, outcome)
    }

    /// Reads how the commit of an attempt ended, if it has.
    pub fn committed(&self, attempt: u64) -> Option<Outcome> {
        self.outcome("committed", attempt)
    }

    /// Writes how deleting old generations after an attempt ended, durably.
    ///
    /// # Errors
    /// What the file system said.
    pub fn write_pruned(&self, attempt: u64, outcome: &Outcome) -> io::Result<()> {
        self.write_outcome("pruned", attempt, outcome)
    }

    /// Reads how deleting old generations after an attempt ended, if it has.
    pub fn pruned(&self, attempt: u64) -> Option<Outcome> {
        self.outcome("pruned", attempt)
    }

    /// Forgets how the commit or roll back of an attempt ended, so that it is done again.
    pub fn forget_outcomes(&self, attempt: u64) {
        for what in ["committed", "undone"] {
            let _ = self.os.remove(&self.file(what, attempt));
        }
    }

    /// Writes how the roll back of an attempt ended, durably.
    ///
    /// # Errors
    /// What the file system said.
    pub fn write_undone(&self, attempt: u64, outcome: &Outcome) -> io::Result<()> {
        self.write_outcome("undone", attempt, outcome)
    }

    /// Reads how the roll back of an attempt ended, if it has.
    pub fn undone(&self, attempt: u64) -> Option<Outcome> {
        self.outcome("undone", attempt)
    }

    fn write_outcome(&self, what: &str, attempt: u64, outcome: &Outcome) -> io::Result<()> {
        let text = toml::to_string(outcome).map_err(io::Error::other)?;
        let path = self.file(what, attempt);
        durable::write(&*self.os, &path, text.as_bytes())
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
    }

    fn outcome(&self, what: &str, attempt: u64) -> Option<Outcome> {
        toml::from_str(&self.text(&self.file(what, attempt)).ok()?).ok()
    }

    /// Gives the numbers of all attempts of which there are files.
    pub fn attempts(&self) -> Vec<u64> {
        let Ok(names) = self.os.list(&self.folder) else { return Vec::new() };
        let number = |name: &OsString| name.to_str()?.rsplit_once('-')?.1.parse::<u64>().ok();
        names.iter().filter_map(number).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// Removes all files of an attempt.
    pub fn remove(&self, attempt: u64) {
        let suffix = format!("-{attempt}");
        let Ok(names) = self.os.list(&self.folder) else { return };
        for name in names {
            if name.to_str().is_some_and(|name| name.ends_with(&suffix)) {
                let _ = self.os.remove(&self.folder.join(name));
            }
        }
    }

    fn text(&self, path: &Path) -> io::Result<String> {
        String::from_utf8(self.os.read(path)?).map_err(io::Error::other)
    }

    fn name(&self, claim: Claim, attempt: u64) -> PathBuf {
        self.file(
            match claim {
                Claim::Armed | Claim::None => "armed",
                Claim::Commit => "commit",
                Claim::Rollback => "rollback",
            },
            attempt,
        )
    }
}

/// How a commit or roll back ended, by its own account.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Outcome {
    /// What went wrong; empty when nothing did.
    pub problems: Vec<String>,
}
