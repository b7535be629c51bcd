//! What the core asks the driver to do. Every effect may be run twice.

use std::time::Duration;

use herald_proto::{
    rejection::Code,
    report::{OrderName, PhaseName, Progress, Refusal},
    store_path::StorePath,
    target::Target,
    text::Prose,
    time::Timestamp,
};

use crate::{attempt::Attempt, now::Monotonic};

/// Something to do, after the state is durable, in the order given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Publish a report.
    Report(ReportBody),
    /// Compute the closure digest of a system that was there before Herald. Answered by `measured`.
    Measure(StorePath),
    /// Get the closure, root it, check it. Answered by `realise-ended`.
    Realise {
        /// Which attempt.
        attempt: u64,
        /// What to get.
        target: Box<Target>,
        /// How long to wait first.
        delay: Duration,
        /// Until when.
        deadline: Monotonic,
    },
    /// Stop what is done for an attempt that is not armed, and forget it.
    Abandon {
        /// Which attempt.
        attempt: u64,
    },
    /// Look whether a maintenance window is open. Answered by `window-seen`.
    LookAtWindows {
        /// Which attempt.
        attempt: u64,
        /// At which time.
        at: Timestamp,
    },
    /// Ask whoever uses the host. Answered by `answered`, or not at all.
    AskConsent {
        /// Which attempt.
        attempt: u64,
        /// What would be done.
        target: Box<Target>,
        /// When it is done without an answer.
        until: Timestamp,
    },
    /// Queue for the host's one activation permit. Answered by `permitted`.
    RequestPermit {
        /// Which attempt.
        attempt: u64,
    },
    /// Give the permit back, or leave the queue; and nobody looks or asks any more.
    ReleasePermit,
    /// Check that both systems can be activated, write the armed record, start the dead-man; for a
    /// reboot, tell the boot loader to boot the new system once and the old one after that.
    /// Answered by `arm-ended`.
    Arm {
        /// The attempt.
        attempt: Box<Attempt>,
        /// When the dead-man rolls back; never for an order that is irreversible. Of a reboot it is
        /// a time of the boot that follows.
        dead_man_at: Option<Monotonic>,
    },
    /// Restart the machine. Answered by a start.
    Reboot {
        /// The attempt.
        attempt: Box<Attempt>,
    },
    /// Have a dead-man watch over a system that was booted.
    Guard {
        /// The attempt.
        attempt: Box<Attempt>,
        /// When it goes back.
        dead_man_at: Monotonic,
    },
    /// Stop the dead-man and remove the armed record, without touching what runs.
    Disarm {
        /// Which attempt.
        attempt: u64,
    },
    /// Run the switch program, or go on waiting for it. Answered by `activation-ended`.
    Activate {
        /// The attempt.
        attempt: Box<Attempt>,
        /// When the runner ends it.
        deadline: Monotonic,
    },
    /// Drop the connection and make a fresh one. Answered by `link-proved`.
    ProveLink {
        /// Which attempt.
        attempt: u64,
    },
    /// Look whether the system that runs now trusts those who signed the order; if it does, it is
    /// they whom the host listens to from now on. Answered by `trust-seen`.
    CheckTrust {
        /// The attempt.
        attempt: Box<Attempt>,
    },
    /// Run the health checks once. Answered by `health-checked`.
    CheckHealth {
        /// The attempt.
        attempt: Box<Attempt>,
        /// How long to wait first.
        delay: Duration,
    },
    /// Claim the armed record, and, as the procedure says, set the profile and the boot default; but
    /// no system that was not activated, and locks those out who signed.
    /// Answered by `commit-ended`.
    Commit {
        /// The attempt.
        attempt: Box<Attempt>,
    },
    /// Claim the armed record and bring the previous system back. Answered by `rollback-ended`.
    RollBack {
        /// The attempt.
        attempt: Box<Attempt>,
    },
    /// Delete old generations of the profile; nothing waits for it. Answered by `pruned`.
    Prune {
        /// The attempt that was committed.
        attempt: Box<Attempt>,
    },
    /// Remove what an ended attempt left, and the roots of systems that are not in `keep`.
    CleanUp {
        /// Which attempt.
        attempt: u64,
        /// The systems to keep from the garbage collector.
        keep: Vec<StorePath>,
    },
}

/// The part of a report that the core knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportBody {
    /// The report's number.
    pub number: u64,
    /// The phase.
    pub phase: PhaseName,
    /// Why, where the phase alone does not say.
    pub code: Option<Code>,
    /// More about it, for people.
    pub detail: Option<Prose>,
    /// The order that the phase is about.
    pub order: Option<OrderName>,
    /// The last message that was refused.
    pub refusal: Option<Refusal>,
    /// How far the realising is.
    pub progress: Option<Progress>,
}
