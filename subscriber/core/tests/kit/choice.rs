//! What can happen in a small world.

use std::time::Duration;

use herald_core::{ActivationEnd, RunnerTrace, Seen};
use herald_proto::store_path::StorePath;

/// How often what nobody asked for may happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Budget {
    pub(crate) starts: u8,
    pub(crate) people: u8,
    pub(crate) dead_man: u8,
    pub(crate) retries: u8,
    pub(crate) sick: u8,
    /// How often a new system may not trust those who signed.
    pub(crate) strange: u8,
    /// How often somebody at the host may hold it, let it go, or want the old system back.
    pub(crate) hands: u8,
    /// How often a maintenance window may be found closed.
    pub(crate) closed: u8,
    /// Whether an order may come again.
    pub(crate) repeats: bool,
    /// The lowest order that has not come yet.
    pub(crate) next_order: usize,
}

/// Something that can happen.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Choice {
    Order(usize),
    Refused(u8),
    Measured,
    Progress,
    Realised(Result<(), bool>),
    Window {
        open: bool,
    },
    Answered {
        agrees: bool,
    },
    Held,
    Resumed,
    WantedBack,
    /// The machine does as it was told and restarts; the new system may not come up.
    Restarted {
        falls_back: bool,
    },
    Permitted,
    Armed(bool),
    /// The new system's own check does not let this one be switched over.
    SwitchRefused,
    /// The record is there, but nobody hears of it.
    ArmedUnheard,
    /// What is under way changes the machine a little.
    Creep(Part),
    Exited(ActivationEnd),
    Linked,
    Trusted(bool),
    Checked(bool),
    Committed(bool),
    RolledBack(bool),
    /// Time passes until the state wants to be woken.
    Late,
    Soon(Duration),
    /// The wall clock is set.
    Clock {
        hours: i8,
    },
    Start {
        rebooted: bool,
        runner: RunnerTrace,
    },
    DeadMan {
        done: bool,
    },
    Somebody(Deed),
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Part {
    Running,
    Nothing,
    Profile,
    BootDefault,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Deed {
    Switches,
    Tests,
    GoesBack,
    Unplugs,
}

impl Part {
    pub(crate) fn of(self, seen: &Seen) -> &Option<StorePath> {
        match self {
            Self::Running | Self::Nothing => &seen.running,
            Self::Profile => &seen.profile,
            Self::BootDefault => &seen.boot_default,
        }
    }

    pub(crate) fn of_mut(self, seen: &mut Seen) -> &mut Option<StorePath> {
        match self {
            Self::Running | Self::Nothing => &mut seen.running,
            Self::Profile => &mut seen.profile,
            Self::BootDefault => &mut seen.boot_default,
        }
    }
}
