//! What a host says about itself and its order.

use crate::{
    host::{HostId, ProfileName, UnitName},
    id::{BootId, Incarnation, MessageDigest, ReleaseId, Sequence, TargetHash, TrustDigest},
    rejection::Code,
    store_path::StorePath,
    text::Prose,
    time::Timestamp,
};

codes! {
    /// Where a host is with its order.
    pub enum PhaseName {
        /// It has no order.
        Idle = 0 => "idle",
        /// It took the order; the sequence is durable.
        Accepted = 1 => "accepted",
        /// It will not do the order.
        Rejected = 2 => "rejected",
        /// It gets the closure.
        Realising = 3 => "realising",
        /// It has the closure, checked and kept from the garbage collector.
        Staged = 4 => "staged",
        /// It waits for the time or for its turn.
        Waiting = 5 => "waiting",
        /// The way back is prepared.
        Armed = 6 => "armed",
        /// It runs the switch program.
        Activating = 7 => "activating",
        /// It boots into the target.
        Rebooting = 8 => "rebooting",
        /// It makes sure that the new system is reachable and healthy.
        Confirming = 9 => "confirming",
        /// It makes the new system the boot default.
        Committing = 10 => "committing",
        /// The order is done.
        Succeeded = 11 => "succeeded",
        /// It goes back to the old system.
        RollingBack = 12 => "rolling-back",
        /// The old system runs again.
        RolledBack = 13 => "rolled-back",
        /// The order could not be done, and nothing was activated.
        Failed = 14 => "failed",
        /// A limit was reached before anything was activated.
        TimedOut = 15 => "timed-out",
        /// A newer order came before anything was activated.
        Superseded = 16 => "superseded",
        /// The roll-out was aborted before anything was activated.
        Cancelled = 17 => "cancelled",
        /// The order's time ran out before anything was activated.
        Expired = 18 => "expired",
        /// Somebody activated another system meanwhile; the host stands down.
        Overridden = 19 => "overridden-locally",
        /// The roll back did not bring the old system back.
        Degraded = 20 => "degraded",
    }
}

impl PhaseName {
    /// Tells whether the host is done with the order.
    pub fn is_terminal(self) -> bool {
        !matches!(
            self,
            Self::Idle
                | Self::Accepted
                | Self::Realising
                | Self::Staged
                | Self::Waiting
                | Self::Armed
                | Self::Activating
                | Self::Rebooting
                | Self::Confirming
                | Self::Committing
                | Self::RollingBack
                | Self::Unknown(_)
        )
    }
}

/// A host's signed status.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Report {
    /// The wire version.
    pub version: u16,
    /// The host.
    pub host: HostId,
    /// The profile.
    pub profile: ProfileName,
    /// The life of the host's state.
    pub incarnation: Incarnation,
    /// The report's number within that life; of two reports the higher is the newer.
    pub number: u64,
    /// The host's clock.
    pub time: Timestamp,
    /// The boot during which it was made.
    pub boot: BootId,
    /// The version of the subscriber.
    pub agent: Prose,
    /// The digest of the trust in force.
    pub trust: TrustDigest,
    /// Where the host is with its order.
    pub phase: PhaseName,
    /// Why, where the phase alone does not say.
    pub code: Option<Code>,
    /// More about it, for people.
    pub detail: Option<Prose>,
    /// The order that the phase is about.
    pub order: Option<OrderName>,
    /// The last message on the order's topic that was refused, if it left the phase as it was.
    pub refusal: Option<Refusal>,
    /// How far the realising is.
    pub progress: Option<Progress>,
    /// Which systems run, booted, boot next, and ran before.
    pub systems: Systems,
    /// Units that are failed now.
    pub failed_units: Vec<UnitName>,
    /// That somebody at the host holds it: nothing is activated until they let it go.
    #[serde(default)]
    pub hold: Option<Hold>,
}

wire_map!(Report, unknown keys Ignore:
    1 => version required,
    2 => host required,
    3 => profile required,
    4 => incarnation required,
    5 => number required,
    6 => time required,
    7 => boot required,
    8 => agent required,
    9 => trust required,
    10 => phase required,
    11 => code optional,
    12 => detail optional,
    13 => order optional,
    14 => refusal optional,
    15 => progress optional,
    16 => systems required,
    17 => failed_units list,
    18 => hold optional,
);

/// Why and since when a host is held.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Hold {
    /// Why, in the words of whoever holds it.
    pub reason: Prose,
    /// Since when.
    pub since: Timestamp,
}

wire_map!(Hold, unknown keys Ignore:
    1 => reason required,
    2 => since required,
);

/// Which order a report is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct OrderName {
    /// The release.
    pub release: ReleaseId,
    /// The host's target in it.
    pub target: TargetHash,
    /// The sequence that was taken.
    pub sequence: Sequence,
}

wire_map!(OrderName, unknown keys Ignore:
    1 => release required,
    2 => target required,
    3 => sequence required,
);

/// A message that was refused and changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Refusal {
    /// The SHA-256 of the message.
    pub message: MessageDigest,
    /// By which rule.
    pub code: Code,
    /// More about it, for people.
    pub detail: Prose,
}

wire_map!(Refusal, unknown keys Ignore:
    1 => message required,
    2 => code required,
    3 => detail required,
);

/// How much of a closure is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Progress {
    /// Store paths that are valid.
    pub done: u64,
    /// Store paths in all.
    pub total: u64,
}

wire_map!(Progress, unknown keys Ignore:
    1 => done required,
    2 => total required,
);

/// Which systems a host sees, each as its toplevel; absent where there is none or it can't be told.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct Systems {
    /// What runs.
    pub running: Option<StorePath>,
    /// What was booted.
    pub booted: Option<StorePath>,
    /// What the next boot takes.
    pub boot_default: Option<StorePath>,
    /// What the profile points to.
    pub profile: Option<StorePath>,
    /// What was confirmed before the one that runs: where a roll back by the operator goes.
    pub previous: Option<StorePath>,
}

wire_map!(Systems, unknown keys Ignore:
    1 => running optional,
    2 => booted optional,
    3 => boot_default optional,
    4 => profile optional,
    5 => previous optional,
);
