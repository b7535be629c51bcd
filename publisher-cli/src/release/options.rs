//! The options that whatever makes a release shares.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use herald_proto::{
    host::{HostId, ProfileName, System, UnitName},
    http::HttpCheck,
    store_path::StorePath,
    substituter::Substituter,
    target::{Action, Check, Health, IfRebootNeeded, Integrity, Limits, Mark, Target},
    text::Prose,
    time::Timestamp,
};

use crate::{clock, keys::KeySource};

/// What `--timeout` allows for beside the limits: the way there and back.
const MARGIN: Duration = Duration::from_secs(60);

/// Who signs.
#[derive(Debug, clap::Args)]
pub(crate) struct KeyOptions {
    /// A key to sign with; again for more signatures: a file, agent:NAME for a key of ssh-agent,
    /// env:VARIABLE or credential:NAME [default: the only one in the user's keys]
    #[arg(long = "key", env = "HERALD_KEY", hide_env_values = true, value_name = "SOURCE")]
    #[arg(help_heading = "Signing")]
    pub(crate) keys: Vec<KeySource>,
}

/// What becomes of a release that is published.
#[derive(Debug, clap::Args)]
pub(crate) struct Follow {
    /// Wait until every host has ended the order; see the exit codes
    #[arg(long, conflicts_with = "dry_run", help_heading = "What happens")]
    pub(crate) watch: bool,
    /// With --watch: for how long [default: the limits, the time until --not-before, and a minute]
    #[arg(long, value_name = "TIME", requires = "watch", help_heading = "What happens")]
    #[arg(value_parser = humantime::parse_duration)]
    timeout: Option<Duration>,
    /// Also write each order to DIR/<host>.<profile>.order
    #[arg(long, value_name = "DIR", conflicts_with = "dry_run", help_heading = "What happens")]
    pub(crate) out: Option<PathBuf>,
}

impl Follow {
    /// Gives how long to wait for hosts, from a time on.
    pub(crate) fn patience(
        &self,
        targets: &[Target],
        not_before: Timestamp,
        now: Timestamp,
    ) -> Duration {
        let until = not_before.since(now);
        let sum = |target: &Target| {
            let Limits { realise, activate, confirm, wait } = target.limits;
            let parts = [realise, activate, confirm, until, wait.unwrap_or_default()];
            parts.iter().fold(MARGIN, |sum, part| sum.saturating_add(*part))
        };
        self.timeout.unwrap_or_else(|| targets.iter().map(sum).max().unwrap_or(MARGIN))
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    pub(crate) keys: KeyOptions,
    /// For how long hosts may start with it, counted from --not-before
    #[arg(long, value_name = "TIME", default_value = "7d", help_heading = "Signing")]
    #[arg(value_parser = humantime::parse_duration)]
    pub(crate) valid_for: Duration,
    /// Hosts may get it ready before, but activate nothing (RFC 3339, such as 2026-12-24T18:00:00Z)
    #[arg(long, value_name = "DATE", help_heading = "Signing", value_parser = clock::parse_rfc3339)]
    pub(crate) not_before: Option<Timestamp>,
    /// Why: shown to whoever looks at the release
    #[arg(long, value_name = "TEXT", help_heading = "Signing")]
    pub(crate) reason: Option<Prose>,
    /// Also for hosts that lost their state: names the new one, as their latest reports tell it
    #[arg(long, help_heading = "Signing")]
    pub(crate) recover: bool,

    /// Which profile of the hosts
    #[arg(long, default_value = "system", value_name = "NAME", help_heading = "Targets")]
    pub(crate) profile: ProfileName,
    /// The hosts' type of system
    #[arg(long, default_value_t = this_system(), value_name = "SYSTEM", help_heading = "Targets")]
    pub(crate) system: System,

    /// How long a host may take to have the closure in its store
    #[arg(long, value_name = "TIME", default_value = "1h", help_heading = "Limits")]
    #[arg(value_parser = humantime::parse_duration)]
    realise_within: Duration,
    /// How long the switch program may take
    #[arg(long, value_name = "TIME", default_value = "10m", help_heading = "Limits")]
    #[arg(value_parser = humantime::parse_duration)]
    activate_within: Duration,
    /// How long the new system has to become reachable and healthy, before it is rolled back
    #[arg(long, value_name = "TIME", default_value = "2m", help_heading = "Limits")]
    #[arg(value_parser = humantime::parse_duration)]
    confirm_within: Duration,

    /// How long a host may wait before it starts: for windows, people, its other profiles [default: until it expires]
    #[arg(long, value_name = "TIME", help_heading = "Limits", value_parser = humantime::parse_duration)]
    wait_within: Option<Duration>,
    /// Do not wait for the hosts' maintenance windows
    #[arg(long, help_heading = "Limits")]
    ignore_windows: bool,

    /// What hosts do where a switch needs a reboot, as the kernel or what else can't be switched differs
    #[arg(
        long,
        value_enum,
        default_value = "activate",
        value_name = "HOW",
        help_heading = "Targets"
    )]
    if_reboot_needed: RebootNeeded,
    /// A binary cache that hosts ask too, as far as their configuration allows it
    /// (allowed_substituters), such as https://cache.example.org; repeatable
    #[arg(long = "substituter", value_name = "URL", help_heading = "Targets")]
    substituters: Vec<Substituter>,
    /// Never roll back: for a system that changes data in a way that the old one can't read; where it
    /// fails, the host stops, says so, and needs somebody to look
    #[arg(long, help_heading = "Targets")]
    irreversible: bool,

    /// For how long all checks must hold without a break
    #[arg(long, value_name = "TIME", default_value = "10s", help_heading = "Health")]
    #[arg(value_parser = humantime::parse_duration)]
    stable_for: Duration,
    /// A text for `sh -c` that must exit with 0, with HERALD_TOPLEVEL set to the new system; repeatable
    #[arg(long, value_name = "TEXT", help_heading = "Health")]
    health_command: Vec<String>,
    /// An address, as the host sees it, that must take TCP connections; repeatable
    #[arg(long, value_name = "IP:PORT", help_heading = "Health")]
    health_tcp: Vec<SocketAddr>,
    /// A web page, as the host sees it: 'http://127.0.0.1:8080/ready', answered with status 200 to
    /// 299, or as ' status=200-399 host=NAME within=5s' behind it says; repeatable
    #[arg(long, value_name = "URL", help_heading = "Health")]
    health_http: Vec<HttpCheck>,
    /// A systemd unit that must be active; repeatable
    #[arg(long, value_name = "UNIT", help_heading = "Health")]
    health_unit: Vec<UnitName>,
    /// A systemd unit that may fail; repeatable
    #[arg(long, value_name = "UNIT", help_heading = "Health")]
    tolerate: Vec<UnitName>,

    /// How long connecting may take, and at most how long the broker may be silent
    #[arg(long, value_name = "TIME", default_value = "10s", help_heading = "What happens")]
    #[arg(value_parser = humantime::parse_duration)]
    pub(crate) connect_timeout: Duration,
    /// Sign and send nothing; show what would be signed
    #[arg(long, help_heading = "What happens")]
    pub(crate) dry_run: bool,
    /// Print one JSON object
    #[arg(long, help_heading = "What happens")]
    pub(crate) json: bool,
}

/// What hosts do where a switch needs a reboot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum RebootNeeded {
    /// Activate it all the same
    Activate,
    /// Make it the boot default instead, and say so
    Boot,
    /// Reject the order
    Refuse,
}

impl From<RebootNeeded> for Option<IfRebootNeeded> {
    fn from(needed: RebootNeeded) -> Self {
        match needed {
            RebootNeeded::Activate => None,
            RebootNeeded::Boot => Some(IfRebootNeeded::Boot),
            RebootNeeded::Refuse => Some(IfRebootNeeded::Refuse),
        }
    }
}

impl Options {
    /// Makes a host's part of the release.
    pub(crate) fn target(
        &self,
        host: HostId,
        toplevel: StorePath,
        action: Action,
        integrity: Integrity,
        expect_current: Vec<StorePath>,
    ) -> Target {
        Target {
            host,
            profile: self.profile.clone(),
            system: self.system.clone(),
            toplevel,
            action,
            integrity,
            limits: self.limits(),
            health: Health { stable_for: self.stable_for, checks: self.checks() },
            expect_current,
            tolerated_units: self.tolerate.clone(),
            incarnation: None,
            if_reboot_needed: self.if_reboot_needed.into(),
            marks: self.marks(),
            substituters: self.substituters.clone(),
        }
    }

    fn limits(&self) -> Limits {
        Limits {
            realise: self.realise_within,
            activate: self.activate_within,
            confirm: self.confirm_within,
            wait: self.wait_within,
        }
    }

    fn marks(&self) -> Vec<Mark> {
        let urgent = self.ignore_windows.then_some(Mark::Urgent);
        let irreversible = self.irreversible.then_some(Mark::Irreversible);
        urgent.into_iter().chain(irreversible).collect()
    }

    fn checks(&self) -> Vec<Check> {
        let command = |text: &String| {
            let argv = ["/bin/sh", "-c", text];
            Check::Command(argv.map(str::to_owned).to_vec())
        };
        let commands = self.health_command.iter().map(command);
        let ports = self.health_tcp.iter().copied().map(Check::Tcp);
        let units = self.health_unit.iter().cloned().map(Check::Unit);
        let pages = self.health_http.iter().cloned().map(Check::Http);
        commands.chain(ports).chain(pages).chain(units).collect()
    }
}

/// Gives this machine's type of system, as Nix calls it.
fn this_system() -> System {
    System::of(std::env::consts::ARCH, std::env::consts::OS)
        .expect("Rust's names of architectures and systems have the letters of Nix's")
}
