//! What the driver tells the core.

use std::time::Duration;

use herald_proto::{
    beacon::Freshness,
    host::UnitName,
    id::ClosureDigest,
    order::Order,
    report::{Progress, Refusal},
    signing::Verified,
    store_path::StorePath,
    target::Target,
    text::Prose,
    time::Timestamp,
};

use crate::{ending::Cause, now::Monotonic, wait::Window};

/// Something that happened. What concerns an attempt names it, so that a late event of an
/// abandoned one can be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The subscriber started, and looked at the machine.
    Started {
        /// What it saw.
        seen: Seen,
        /// What it found of an attempt that was under way.
        found: Found,
    },
    /// A verified order arrived.
    OrderArrived {
        /// The order.
        order: Box<Verified<Order>>,
        /// The machine at that time.
        seen: Seen,
    },
    /// A message on the order's topic failed verification.
    MessageRefused(Refusal),
    /// The digest of an adopted system was computed.
    Measured {
        /// The system.
        toplevel: StorePath,
        /// Its closure's digest.
        closure: ClosureDigest,
    },
    /// Realising went on.
    RealiseProgress {
        /// Which attempt.
        attempt: u64,
        /// How far it is.
        progress: Progress,
    },
    /// Realising ended.
    RealiseEnded {
        /// Which attempt.
        attempt: u64,
        /// How.
        outcome: Result<Realised, Failure>,
    },
    /// Somebody looked at the maintenance windows.
    WindowSeen {
        /// Which attempt.
        attempt: u64,
        /// Whether one is open; or why that can't be told.
        window: Result<Window, Failure>,
    },
    /// Whoever uses the host answered, or somebody did for them.
    Answered {
        /// Which attempt.
        attempt: u64,
        /// Whether it may go on now; otherwise they want it later.
        agrees: bool,
    },
    /// Somebody at the host wants nothing activated until further notice.
    Held {
        /// Why.
        reason: Prose,
    },
    /// Somebody at the host lets it go on.
    Resumed,
    /// Somebody at the host wants the system of before back.
    WantedBack {
        /// An order for it, as one would be signed; needed where no attempt is under way.
        target: Option<Box<Target>>,
        /// The machine at that time.
        seen: Seen,
    },
    /// A beacon came, which was verified.
    BeaconHeard {
        /// When it was signed.
        issued_at: Timestamp,
    },
    /// It is this profile's turn to activate.
    Permitted {
        /// Which attempt.
        attempt: u64,
        /// The machine at that time.
        seen: Seen,
    },
    /// The way back is prepared, or could not be.
    ArmEnded {
        /// Which attempt.
        attempt: u64,
        /// How.
        outcome: Result<(), Failure>,
        /// The machine at that time.
        seen: Seen,
    },
    /// The switch program ended.
    ActivationEnded {
        /// Which attempt.
        attempt: u64,
        /// How.
        end: ActivationEnd,
        /// The machine at that time.
        seen: Seen,
    },
    /// The broker answered on a connection that was made after the activation.
    LinkProved {
        /// Which attempt.
        attempt: u64,
        /// The machine at that time.
        seen: Seen,
    },
    /// Somebody looked at whom the new system trusts.
    TrustSeen {
        /// Which attempt.
        attempt: u64,
        /// Whether that is those who signed the order; or why not.
        verdict: Result<(), Cause>,
        /// The machine at that time.
        seen: Seen,
    },
    /// One round of health checks ended.
    HealthChecked {
        /// Which attempt.
        attempt: u64,
        /// When the round began.
        began: Monotonic,
        /// What failed, if anything did.
        verdict: Result<(), Prose>,
        /// The machine at that time.
        seen: Seen,
    },
    /// The commit ended.
    CommitEnded {
        /// Which attempt.
        attempt: u64,
        /// How.
        outcome: Result<(), Failure>,
        /// The machine at that time.
        seen: Seen,
    },
    /// The roll back ended.
    RollbackEnded {
        /// Which attempt.
        attempt: u64,
        /// What the roll back said about itself, if it failed. What counts is what was seen.
        outcome: Result<(), Failure>,
        /// The machine at that time.
        seen: Seen,
    },
    /// Old generations were deleted, or could not be.
    Pruned {
        /// How that went.
        outcome: Result<(), Failure>,
    },
    /// A time came for which the state asked to be woken.
    Tick {
        /// The machine at that time.
        seen: Seen,
    },
}

impl Event {
    /// Gives the event's name, for logs and tables.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Started { .. } => "started",
            Self::OrderArrived { .. } => "order-arrived",
            Self::MessageRefused(_) => "message-refused",
            Self::Measured { .. } => "measured",
            Self::RealiseProgress { .. } => "realise-progress",
            Self::RealiseEnded { .. } => "realise-ended",
            Self::WindowSeen { .. } => "window-seen",
            Self::Answered { .. } => "answered",
            Self::Held { .. } => "held",
            Self::Resumed => "resumed",
            Self::WantedBack { .. } => "wanted-back",
            Self::BeaconHeard { .. } => "beacon-heard",
            Self::Permitted { .. } => "permitted",
            Self::ArmEnded { .. } => "arm-ended",
            Self::ActivationEnded { .. } => "activation-ended",
            Self::LinkProved { .. } => "link-proved",
            Self::TrustSeen { .. } => "trust-seen",
            Self::HealthChecked { .. } => "health-checked",
            Self::CommitEnded { .. } => "commit-ended",
            Self::RollbackEnded { .. } => "rollback-ended",
            Self::Pruned { .. } => "pruned",
            Self::Tick { .. } => "tick",
        }
    }
}

/// What the driver sees of the machine: links, units, and the connection.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Seen {
    /// The toplevel that runs.
    pub running: Option<StorePath>,
    /// The toplevel that was booted.
    pub booted: Option<StorePath>,
    /// The toplevel that the next boot takes.
    pub boot_default: Option<StorePath>,
    /// The toplevel that the profile points to.
    pub profile: Option<StorePath>,
    /// The units that are failed; none where systemd did not say.
    pub failed_units: Option<Vec<UnitName>>,
    /// Whether the broker is connected.
    pub connected: bool,
}

/// What a start finds of an attempt that was under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Who holds the armed record.
    pub claim: Claim,
    /// What there is of the runner.
    pub runner: RunnerTrace,
}

/// Who holds the armed record of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// There is no record.
    None,
    /// Nobody has claimed it yet.
    Armed,
    /// The commit.
    Commit,
    /// A roll back: the subscriber's or the dead-man's.
    Rollback,
}

/// What there is of the process that runs the switch program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunnerTrace {
    /// It runs.
    Running,
    /// It ended and left its result.
    Ended(ActivationEnd),
    /// It neither runs nor left a result.
    None,
}

/// How the switch program ended.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case", tag = "end")]
pub enum ActivationEnd {
    /// It exited.
    Exited {
        /// The exit status.
        status: i32,
        /// The end of what it printed.
        output: Prose,
    },
    /// It was ended, by a signal or because its limit was reached.
    Killed {
        /// Whether it had run out of time.
        limit_reached: bool,
        /// The end of what it printed.
        output: Prose,
    },
    /// It could not be started, or nothing is known about its end.
    Unknown {
        /// Why.
        reason: Prose,
    },
}

/// A closure that is in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Realised {
    /// The digest over all of its paths.
    pub closure: ClosureDigest,
    /// What it needs a reboot for, compared with what was booted: none where a switch is enough.
    pub reboot_needed: Option<Prose>,
}

/// Why an effect failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The cause.
    pub cause: Cause,
    /// Whether the same may succeed later.
    pub retry: bool,
}

/// What this host can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capabilities {
    /// The folder of the host's Nix store.
    pub store_dir: String,
    /// Whether there is a systemd that can be asked about units.
    pub units: bool,
    /// Whether it has maintenance windows.
    pub windows: bool,
    /// Whether whoever uses it is asked before anything is activated, and for how long their
    /// answer is awaited.
    pub consent: Option<Duration>,
    /// Whether its boot loader can boot a system once, and the old one after that.
    pub one_shot_boot: bool,
    /// How often a beacon has to come for orders to be taken; none where it needs none.
    pub freshness: Option<Freshness>,
    /// When a host started whose state does not outlast its boots: it takes orders only by a beacon
    /// that was signed later. None where the state lasts.
    pub forgot_at: Option<Timestamp>,
    /// Whether it reboots into the old boot default where a roll back fails.
    pub last_resort: bool,
    /// How many confirmed systems are remembered, and kept from the garbage collector.
    pub kept_systems: usize,
    /// Whether old generations of the profile are deleted.
    pub prunes: bool,
}
