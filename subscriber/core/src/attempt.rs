//! One attempt at an order, from the moment at which the way back is prepared.

use herald_proto::{
    host::UnitName,
    id::{BootId, ClosureDigest},
    rejection::Code,
    store_path::StorePath,
    target::{Action, IfRebootNeeded, Mark, Target},
    text::Prose,
};

use crate::{
    admit::Accepted,
    ending::{Cause, Ending},
    event::Seen,
    now::Monotonic,
};

/// An order that is being done.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Attempt {
    /// Counts the attempts of this state; names files and units.
    pub number: u64,
    /// The order.
    pub order: Accepted,
    /// The digest of the closure that was realised for it.
    pub closure: ClosureDigest,
    /// What is done with it.
    pub procedure: Procedure,
    /// What the target needs a reboot for, compared with what was booted.
    #[serde(default)]
    pub reboot_needed: Option<Prose>,
    /// What was there before.
    pub baseline: Baseline,
    /// A newer order that came meanwhile; it is taken up when this one has ended.
    pub next: Option<Box<Accepted>>,
}

/// What runs, as seen from an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Runs {
    Target,
    Previous,
    /// Somebody activated another one.
    Other,
    /// Nothing that is a store path: an activation was cut off in the middle.
    Nothing,
}

impl Attempt {
    /// Tells whether nothing may go back once this was activated.
    pub fn is_irreversible(&self) -> bool {
        self.procedure.activates() && self.order.target().is(Mark::Irreversible)
    }

    pub(crate) fn runs(&self, seen: &Seen) -> Runs {
        match &seen.running {
            Some(path) if *path == self.order.target().toplevel => Runs::Target,
            Some(path) if *path == self.baseline.previous => Runs::Previous,
            Some(_) => Runs::Other,
            None => Runs::Nothing,
        }
    }
}

/// What an attempt does with the new system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Procedure {
    /// Activate, confirm, make it the boot default.
    Switch,
    /// Activate, confirm.
    Test,
    /// Make it the boot default.
    Boot,
    /// Say what activating would do.
    DryActivate,
    /// Boot into it, confirm it, make it the boot default.
    Reboot,
}

/// Tells whether an action changes what runs or boots, other than those that only get ready.
pub(crate) fn changes_host(action: Action) -> bool {
    match action {
        Action::Switch | Action::Boot | Action::Reboot | Action::Test => true,
        Action::DryActivate | Action::Stage | Action::None | Action::Unknown(_) => false,
    }
}

impl Procedure {
    /// Gives the procedure for an action; none for those that end once the closure is there.
    pub fn of(action: Action) -> Option<Self> {
        match action {
            Action::Switch => Some(Self::Switch),
            Action::Test => Some(Self::Test),
            Action::Boot => Some(Self::Boot),
            Action::DryActivate => Some(Self::DryActivate),
            Action::Reboot => Some(Self::Reboot),
            Action::Stage | Action::None | Action::Unknown(_) => None,
        }
    }

    /// Gives the procedure for a target, on a host where it may need a reboot.
    pub(crate) fn chosen(target: &Target, reboot_needed: Option<&Prose>) -> Result<Self, Ending> {
        let Some(procedure) = Self::of(target.action) else {
            let detail = format!("the action {} is not known here", target.action);
            return Err(Ending::Failed(Cause::new(Code::Unsupported, &detail)));
        };
        let (Some(what), Self::Switch | Self::Test) = (reboot_needed, procedure) else {
            return Ok(procedure);
        };
        match target.if_reboot_needed {
            None => Ok(procedure),
            Some(IfRebootNeeded::Boot) if procedure == Self::Switch => Ok(Self::Boot),
            Some(_) => Err(Ending::Rejected(Cause::new(Code::RebootNeeded, what.as_str()))),
        }
    }

    /// Gives what becomes of a switch that the new system's own check refuses, if the order allows it.
    pub(crate) fn of_a_refused_switch(target: &Target) -> Option<Self> {
        (target.if_reboot_needed == Some(IfRebootNeeded::Boot)).then_some(Self::Boot)
    }

    /// Tells whether it replaces what runs, so that the way back must be guarded.
    pub fn activates(self) -> bool {
        matches!(self, Self::Switch | Self::Test | Self::Reboot)
    }

    /// Tells whether what it makes the boot default may need a reboot to have its whole effect.
    pub(crate) fn leaves_the_kernel(self) -> bool {
        matches!(self, Self::Switch | Self::Boot)
    }
}

/// What was there when an attempt was armed: where a roll back goes.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Baseline {
    /// What ran.
    pub previous: StorePath,
    /// What the profile pointed to.
    pub profile: Option<StorePath>,
    /// What the next boot would have taken.
    pub boot_default: Option<StorePath>,
    /// Which units were failed already.
    pub failed_units: Vec<UnitName>,
    /// Whether a fresh connection to the broker is part of the proof: there was one before.
    pub connected: bool,
    /// During which boot that was.
    pub boot: BootId,
}

/// Whether the new system reached the broker again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkProof {
    /// There was no connection before, so none is asked for.
    NotNeeded,
    /// A fresh connection with a round trip is awaited.
    Awaited,
    /// There was one.
    Fresh,
}

/// Whether the new system trusts those who signed the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrustProof {
    /// Nobody signed: somebody at the host wants it.
    NotNeeded,
    /// Its trust file is to be looked at.
    Awaited,
    /// It accepts the order.
    Given,
}

/// For how long the new system has been healthy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HealthProof {
    /// No check has ended yet.
    Unchecked,
    /// The last check failed.
    Failing(Prose),
    /// All checks have held since the round that began then.
    HealthySince(Monotonic),
    /// All checks have held for as long as the order asks for.
    Stable,
}

impl LinkProof {
    /// Gives the proof that a baseline asks for, before there is any.
    pub fn needed(baseline: &Baseline) -> Self {
        if baseline.connected { Self::Awaited } else { Self::NotNeeded }
    }
}

impl TrustProof {
    /// Gives the proof that an order asks for, before there is any.
    pub fn needed(order: &Accepted) -> Self {
        if order.evidence().is_some() { Self::Awaited } else { Self::NotNeeded }
    }
}
