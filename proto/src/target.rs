//! One host's part of a release.

use std::time::Duration;

pub use crate::check::Check;
use crate::{
    codec::{Malformed, Value, Wire},
    host::{HostId, ProfileName, System, UnitName},
    id::{ClosureDigest, Incarnation},
    store_path::StorePath,
    substituter::Substituter,
};

codes! {
    /// What a host does with the system that a target names.
    pub enum Action {
        /// Activate it, confirm it, and make it the boot default.
        Switch = 0 => "switch",
        /// Make it the boot default, without activating it.
        Boot = 1 => "boot",
        /// Boot into it with the old system as the fall-back.
        Reboot = 2 => "reboot",
        /// Activate and confirm it, and leave the boot default as it is.
        Test = 3 => "test",
        /// Say what activating it would do.
        DryActivate = 4 => "dry-activate",
        /// Have it in the store, and no more.
        Stage = 5 => "stage",
        /// Do nothing but take the sequence: what was ordered before can't run any more.
        None = 6 => "none",
    }
}

codes! {
    /// What a host does with an order to switch that needs a reboot to have its whole effect: the
    /// kernel, its modules, the initrd, the kernel's parameters or the switch inhibitors differ.
    pub enum IfRebootNeeded {
        /// Make it the boot default instead, and say so.
        Boot = 1 => "boot",
        /// Reject it.
        Refuse = 2 => "refuse",
    }
}

codes! {
    /// What sets an order apart from others.
    pub enum Mark {
        /// It does not wait for the host's maintenance windows.
        Urgent = 1 => "urgent",
        /// Nothing goes back once it was activated: what it did to data does not fit the old
        /// system. Where it fails, the host stops and says so.
        Irreversible = 2 => "irreversible",
    }
}

/// One host's part of a release.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Target {
    /// The host.
    pub host: HostId,
    /// Which of its profiles.
    pub profile: ProfileName,
    /// The system type that the host must have.
    pub system: System,
    /// The system to activate.
    pub toplevel: StorePath,
    /// What to do with it.
    pub action: Action,
    /// How the host makes sure that it got the right bytes.
    pub integrity: Integrity,
    /// How long each part may take.
    pub limits: Limits,
    /// When it counts as healthy.
    pub health: Health,
    /// If not empty: one of these must be what runs now.
    pub expect_current: Vec<StorePath>,
    /// Units that may fail.
    pub tolerated_units: Vec<UnitName>,
    /// The incarnation of the host's state that the order is for, to recover a lost state.
    pub incarnation: Option<Incarnation>,
    /// What to do where activating alone is not enough; if not there, it is activated all the same.
    #[serde(default)]
    pub if_reboot_needed: Option<IfRebootNeeded>,
    /// What sets the order apart.
    #[serde(default)]
    pub marks: Vec<Mark>,
    /// Binary caches that the host asks beside its own, as far as it allows them.
    #[serde(default)]
    pub substituters: Vec<Substituter>,
}

impl Target {
    /// Tells whether the order is set apart by a mark.
    pub fn is(&self, mark: Mark) -> bool {
        self.marks.contains(&mark)
    }
}

wire_map!(Target, unknown keys Refuse:
    1 => host required,
    2 => profile required,
    3 => system required,
    4 => toplevel required,
    5 => action required,
    6 => integrity required,
    7 => limits required,
    8 => health required,
    9 => expect_current list,
    10 => tolerated_units list,
    11 => incarnation optional,
    12 => if_reboot_needed optional,
    13 => marks list,
    14 => substituters list,
);

/// How a host makes sure that it got the bytes that the operator meant.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Integrity {
    /// The whole closure has this digest: a stolen cache key alone deploys nothing.
    Closure(Closure),
    /// Only the store path's name counts; the bytes are those that the host's caches sign.
    Toplevel,
    /// The digest that the host itself recorded when it confirmed this system before.
    Recorded,
}

/// A closure's content and extent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Closure {
    /// The digest of the manifest.
    pub digest: ClosureDigest,
    /// The sum of the NAR sizes, in bytes.
    pub size: u64,
    /// The number of store paths.
    pub paths: u64,
}

wire_map!(Closure, unknown keys Refuse:
    1 => digest required,
    2 => size required,
    3 => paths required,
);

impl Wire for Integrity {
    fn to_value(&self) -> Value {
        match self {
            Self::Closure(closure) => closure.to_value(),
            Self::Toplevel => 1u16.to_value(),
            Self::Recorded => 2u16.to_value(),
        }
    }

    fn from_value(value: Value) -> Result<Self, Malformed> {
        if value.is_map() {
            return Closure::from_value(value).map(Self::Closure);
        }
        match u16::from_value(value)? {
            1 => Ok(Self::Toplevel),
            2 => Ok(Self::Recorded),
            other => Err(Malformed::invalid(&format!("integrity {other} is not known"))),
        }
    }
}

/// How long each part of an order may take. Every wait is bounded by one of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Limits {
    /// To have the closure in the store.
    pub realise: Duration,
    /// For the switch program to end.
    pub activate: Duration,
    /// From the end of the activation to a healthy and reachable system.
    pub confirm: Duration,
    /// From when the closure is there and the order may start until it has started: for windows,
    /// people and the host's other profiles. Without it, until the order expires.
    #[serde(default)]
    pub wait: Option<Duration>,
}

wire_map!(Limits, unknown keys Refuse:
    1 => realise required,
    2 => activate required,
    3 => confirm required,
    4 => wait optional,
);

impl Default for Limits {
    fn default() -> Self {
        Self {
            realise: Duration::from_secs(60 * 60),
            activate: Duration::from_secs(10 * 60),
            confirm: Duration::from_secs(2 * 60),
            wait: None,
        }
    }
}

/// When a system counts as healthy.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct Health {
    /// For how long all checks must hold without a break.
    pub stable_for: Duration,
    /// What is checked beside the units that the host itself watches.
    pub checks: Vec<Check>,
}

wire_map!(Health, unknown keys Refuse:
    1 => stable_for required,
    2 => checks list,
);
