//! The subscriber's configuration file.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use herald_client::{BadTls, BrokerUrl, PasswordInTheOpen, SessionKind};
use herald_proto::{
    host::{FleetId, HostId, ProfileName, System},
    store_path::is_store_dir,
    substituter::Substituter,
    text::Unparsable,
    trust::{BadTrust, Trust},
};

use crate::{
    access::{LoginConfig, TlsConfig},
    adapters::{
        boot_loader::BootLoader,
        health_folder::{self, BadCheck},
        windows::{BadCalendar, Calendar},
    },
    enrolment::EnrolConfig,
    lasting::Lasting,
    os::Linux,
    retention::Retention,
    room::Room,
};

/// What the host is, where things are, and how activations are run.
#[derive(Debug, Clone, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The fleet.
    pub fleet: FleetId,
    /// The host's name in the fleet.
    pub host: HostId,
    /// The host's system type.
    #[serde(default = "own_system")]
    pub system: System,
    /// Where the broker is.
    pub broker: BrokerUrl,
    /// How the host says to the broker who it is.
    #[serde(default)]
    pub login: LoginConfig,
    /// What TLS uses, where the broker's address asks for it.
    #[serde(default)]
    pub tls: TlsConfig,
    /// With what the host asks to be known by its key.
    pub enrol: Option<EnrolConfig>,
    /// Whether the broker remembers the host between its connections.
    #[serde(default)]
    pub session: SessionKind,
    /// The trust file.
    pub trust: PathBuf,
    /// Where the host keeps its state and its key.
    #[serde(default = "default_state_dir")]
    pub state_dir: PathBuf,
    /// Where the daemon listens for people at the machine.
    pub control: Option<PathBuf>,
    /// Whether the fleet is told what activations print.
    #[serde(default)]
    pub activation_output: ActivationOutput,
    /// Whether the state folder outlasts a boot.
    #[serde(default)]
    pub state: Lasting,
    /// The folder of the Nix store.
    #[serde(default = "default_store_dir")]
    pub store_dir: String,
    /// The binary caches that releases may name, with what is in folders below them.
    #[serde(default)]
    pub allowed_substituters: Vec<Substituter>,
    /// What runs activations, so that they outlive the subscriber.
    #[serde(default)]
    pub runner: Runner,
    /// When the host may be changed; at any time without it.
    pub window: Option<Calendar>,
    /// Whether whoever uses the host is asked before anything is activated.
    pub consent: Option<Consent>,
    /// How the machine is restarted, and when.
    #[serde(default)]
    pub reboot: Reboot,
    /// How much room stays on the disks.
    #[serde(default)]
    pub room: Room,
    /// What is kept of earlier systems.
    #[serde(default)]
    pub retention: Retention,
    /// The folder of the host's own health checks.
    #[serde(default = "default_health_folder")]
    pub health_folder: PathBuf,
    /// The profiles that releases may name.
    #[serde(default = "default_profiles")]
    pub profiles: BTreeMap<ProfileName, Profile>,
}

/// What runs activations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Runner {
    /// Transient units of systemd.
    #[default]
    Systemd,
    /// Processes in sessions of their own, for machines without systemd.
    Direct,
}

/// Where what activations print can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ActivationOutput {
    /// On the host, and the end of it by whoever may read the host's topic of logs.
    #[default]
    Published,
    /// On the host only.
    Local,
}

/// How the machine is restarted, and when.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Reboot {
    /// The program that restarts the machine.
    pub command: Vec<String>,
    /// The boot loader; without it, it is found out.
    pub boot_loader: Option<BootLoader>,
    /// The profile by which a system that is not the default gets an entry in the boot loader.
    pub own_profile: PathBuf,
    /// Whether a roll back that fails restarts the machine, once; by default where systemd runs
    /// activations.
    pub if_roll_back_fails: Option<bool>,
}

impl Default for Reboot {
    fn default() -> Self {
        Self {
            command: vec!["systemctl".into(), "reboot".into()],
            boot_loader: None,
            own_profile: "/nix/var/nix/profiles/system-profiles/herald".into(),
            if_roll_back_fails: None,
        }
    }
}

/// How this machine is restarted, with all that had to be found out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restart {
    /// The program that restarts the machine.
    pub command: Vec<String>,
    /// The boot loader.
    pub loader: BootLoader,
    /// The profile by which a system that is not the default gets an entry in the boot loader.
    pub own_profile: PathBuf,
    /// Whether a roll back that fails restarts the machine, once.
    pub is_last_resort: bool,
}

/// How whoever uses the host is asked.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Consent {
    /// After which time it goes on without an answer, such as `8h`.
    #[serde(deserialize_with = "span")]
    pub deadline: Duration,
}

/// Where a profile is, and which links say what runs.
#[derive(Debug, Clone, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// The Nix profile.
    pub profile: PathBuf,
    /// The link to what runs.
    pub current: PathBuf,
    /// The link to what was booted.
    pub booted: PathBuf,
    /// The link to what the next boot takes, where there is one.
    pub boot_default: Option<PathBuf>,
}

/// A configuration that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum BadConfig {
    /// A file can't be read.
    #[error("cannot read {}: check that it exists and that this user may read it", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The configuration is not well-formed, or has settings that are not known.
    #[error("cannot use {}", path.display())]
    Syntax {
        /// Which file.
        path: PathBuf,
        /// Where and what.
        source: Box<toml::de::Error>,
    },
    /// The trust file can't be used.
    #[error("cannot use {}", path.display())]
    Trust {
        /// Which file.
        path: PathBuf,
        /// Where and what.
        source: Box<BadTrust>,
    },
    /// The trust file is another fleet's.
    #[error("{} is for the fleet {found}, but {} says fleet = {own:?}", trust.display(), path.display(), own = own.as_str())]
    OtherFleet {
        /// The configuration file.
        path: PathBuf,
        /// The trust file.
        trust: PathBuf,
        /// The trust file's fleet.
        found: FleetId,
        /// The configuration's fleet.
        own: FleetId,
    },
    /// A path that must be absolute is not.
    #[error("{}: {setting} = {value:?} must be an absolute path", path.display())]
    NotAbsolute {
        /// Which file.
        path: PathBuf,
        /// Which setting.
        setting: &'static str,
        /// What it says.
        value: PathBuf,
    },
    /// The password would be sent in the open.
    #[error("{}: cannot use [login]", path.display())]
    PasswordInTheOpen {
        /// Which file.
        path: PathBuf,
        /// Whose password, and to which broker.
        source: Box<PasswordInTheOpen>,
    },
    /// The file with the password can't be read.
    #[error(
        "cannot read the password in {}, which file in [login] names: check that it exists and that \
         this user may read it",
        path.display()
    )]
    PasswordUnreadable {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file with the password is empty.
    #[error("{}, which file in [login] names, is empty: write the password into it", path.display())]
    NoPassword {
        /// Which file.
        path: PathBuf,
    },
    /// The broker's host can't be its name in tokens.
    #[error("{}: [login] needs broker_name", path.display())]
    NoBrokerName {
        /// Which file.
        path: PathBuf,
        /// Why its host can't.
        source: Unparsable,
    },
    /// The files for TLS don't fit together.
    #[error("{}: cannot use [tls]", path.display())]
    Tls {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        source: Box<BadTls>,
    },
    /// The maintenance windows can't be used.
    #[error("{}: cannot use [window]", path.display())]
    Window {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        source: Box<BadCalendar>,
    },
    /// A health check of the host's own can't be used.
    #[error(transparent)]
    Health(#[from] BadCheck),
    /// There is nothing to follow orders for.
    #[error("{}: there must be at least one [profiles.<name>]", path.display())]
    NoProfiles {
        /// Which file.
        path: PathBuf,
    },
}

impl Config {
    /// Reads the configuration, and the trust file that it names.
    ///
    /// # Errors
    /// When either can't be used; the message names the file and the place.
    pub fn load(path: &Path) -> Result<(Self, Trust), BadConfig> {
        let config = Self::parse(path)?;
        config.check(path)?;
        let trust = Trust::from_toml(&read(&config.trust)?).map_err(|source| BadConfig::Trust {
            path: config.trust.clone(),
            source: Box::new(source),
        })?;
        if *trust.fleet() != config.fleet {
            return Err(BadConfig::OtherFleet {
                path: path.to_owned(),
                trust: config.trust,
                found: trust.fleet().clone(),
                own: config.fleet,
            });
        }
        Ok((config, trust))
    }

    /// Reads the configuration alone, and takes it as it is: enough for whoever wants to find the
    /// daemon that runs with it.
    ///
    /// # Errors
    /// When it is not there or can't be read.
    pub fn parse(path: &Path) -> Result<Self, BadConfig> {
        toml::from_str(&read(path)?)
            .map_err(|source| BadConfig::Syntax { path: path.to_owned(), source: Box::new(source) })
    }

    /// Gives the path of the control socket. A daemon with a state folder of its own, as in a test,
    /// has its socket there too; it depends on nothing but this file, so that commands find it.
    pub fn control(&self) -> PathBuf {
        match &self.control {
            Some(path) => path.clone(),
            None if self.state_dir == default_state_dir() => "/run/herald/control.sock".into(),
            None => self.state_dir.join("control.sock"),
        }
    }

    /// Names the file by which a profile's state that is gone with its whole folder can be told from
    /// a first start: beside the store, which is not made new with the system's own disk. A daemon with
    /// a state folder of its own, as in a test, has none.
    pub fn canary(&self, profile: &ProfileName) -> Option<PathBuf> {
        let expected = self.state != Lasting::Ephemeral && self.state_dir == default_state_dir();
        expected.then(|| Path::new("/nix/var/herald").join(profile.as_str()))
    }

    /// Finds out how this machine is restarted.
    pub fn restart(&self) -> Restart {
        let Reboot { command, boot_loader, own_profile, if_roll_back_fails } = &self.reboot;
        Restart {
            command: command.clone(),
            loader: boot_loader.clone().unwrap_or_else(|| BootLoader::detect(&Linux)),
            own_profile: own_profile.clone(),
            is_last_resort: if_roll_back_fails.unwrap_or(self.runner == Runner::Systemd),
        }
    }

    /// Checks what only systemd can tell: the maintenance windows.
    ///
    /// # Errors
    /// When they can't be used.
    pub async fn check_windows(&self, path: &Path) -> Result<(), BadConfig> {
        let Some(calendar) = &self.window else { return Ok(()) };
        let bad = |source| BadConfig::Window { path: path.to_owned(), source: Box::new(source) };
        calendar.check().await.map_err(bad)
    }

    /// Checks the host's own health checks, and counts them.
    ///
    /// # Errors
    /// When one of them can't be used.
    pub fn check_health(&self) -> Result<usize, BadConfig> {
        let found = health_folder::read(&Linux, &self.health_folder)?;
        let count = found.len();
        found.into_iter().collect::<Result<Vec<_>, _>>()?;
        Ok(count)
    }

    /// Gives the settings that name files which the daemon will read and which are not there now. It may
    /// well be that they only come with the unit, as credentials of systemd do: those are left out.
    pub fn absent(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        let files = self.login.files().chain(self.tls.files());
        files.filter(|(_, file)| !file.starts_with("/run/credentials") && !file.exists())
    }

    fn check(&self, path: &Path) -> Result<(), BadConfig> {
        let store_dir = PathBuf::from(&self.store_dir);
        let absolute = |setting, value: &Path, fine: bool| {
            let value = value.to_owned();
            let path = path.to_owned();
            if fine { Ok(()) } else { Err(BadConfig::NotAbsolute { path, setting, value }) }
        };
        absolute("store_dir", &store_dir, is_store_dir(&self.store_dir))?;
        absolute("state_dir", &self.state_dir, self.state_dir.is_absolute())?;
        absolute("control", &self.control(), self.control().is_absolute())?;
        for profile in self.profiles.values() {
            absolute("profile", &profile.profile, profile.profile.is_absolute())?;
            absolute("current", &profile.current, profile.current.is_absolute())?;
            absolute("booted", &profile.booted, profile.booted.is_absolute())?;
        }
        absolute("health_folder", &self.health_folder, self.health_folder.is_absolute())?;
        let own_profile = &self.reboot.own_profile;
        absolute("reboot.own_profile", own_profile, own_profile.is_absolute())?;
        if let Some(folder) = &self.room.boot_folder {
            absolute("room.boot_folder", folder, folder.is_absolute())?;
        }
        let token = self.enrol.iter().map(|enrol| ("enrol.token", enrol.token.as_path()));
        for (setting, file) in self.login.files().chain(self.tls.files()).chain(token) {
            absolute(setting, file, file.is_absolute())?;
        }
        self.check_access(path)?;
        if self.profiles.is_empty() {
            return Err(BadConfig::NoProfiles { path: path.to_owned() });
        }
        Ok(())
    }
}

impl Default for Profile {
    fn default() -> Self {
        Self {
            profile: "/nix/var/nix/profiles/system".into(),
            current: "/run/current-system".into(),
            booted: "/run/booted-system".into(),
            boot_default: None,
        }
    }
}

pub(crate) fn read(path: &Path) -> Result<String, BadConfig> {
    fs::read_to_string(path)
        .map_err(|source| BadConfig::Unreadable { path: path.to_owned(), source })
}

/// Reads a span of time, such as `90min`.
pub(crate) fn span<'de, D: serde::Deserializer<'de>>(text: D) -> Result<Duration, D::Error> {
    let text: String = serde::Deserialize::deserialize(text)?;
    humantime::parse_duration(&text).map_err(serde::de::Error::custom)
}

fn own_system() -> System {
    System::of(std::env::consts::ARCH, std::env::consts::OS)
        .expect("Rust's names of architectures and systems have the letters of Nix's")
}

fn default_state_dir() -> PathBuf {
    "/var/lib/herald".into()
}

fn default_health_folder() -> PathBuf {
    "/etc/herald/health.d".into()
}

fn default_store_dir() -> String {
    "/nix/store".into()
}

fn default_profiles() -> BTreeMap<ProfileName, Profile> {
    BTreeMap::from([(ProfileName::system(), Profile::default())])
}

#[cfg(test)]
mod tests;
