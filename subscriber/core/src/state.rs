//! What a host remembers about one profile. All of it is durable but where it says otherwise.

use herald_proto::{
    beacon::Freshness,
    id::{BootId, ClosureDigest, Incarnation, Sequence, TargetHash},
    report::{Hold, OrderName, PhaseName, Refusal},
    store_path::StorePath,
    target::Target,
    text::Prose,
    time::Timestamp,
};

use crate::{
    admit::Accepted,
    attempt::{Attempt, HealthProof, LinkProof, TrustProof},
    ending::{Cause, Ending},
    now::{Monotonic, Now},
    wait::{Wait, Waited},
};

/// How many systems that rolled back are remembered.
const QUARANTINE: usize = 16;

/// The state of one profile.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct State {
    /// The life of this state.
    pub incarnation: Incarnation,
    /// Whether earlier states are accounted for.
    pub standing: Standing,
    /// The boot during which the state was written.
    pub boot: BootId,
    /// The number of the last report.
    pub reports: u64,
    /// The number of the last attempt.
    pub attempts: u64,
    /// The latest time that a taken release was signed at: the clock is not believed below it.
    pub floor: Timestamp,
    /// When the latest beacon was signed that this host has heard.
    #[serde(default)]
    pub beacon: Option<Timestamp>,
    /// The highest order that was taken or rejected.
    pub taken: Option<Taken>,
    /// Systems that ran here and were confirmed, or were there before; the latest last.
    pub history: Vec<Confirmed>,
    /// The latest system whose closure was fetched, unless its order was left before it was armed.
    pub staged: Option<StorePath>,
    /// The last message that was refused.
    pub refusal: Option<Refusal>,
    /// Systems that rolled back here, the latest last. None is put to use again before an order
    /// that came after that names it.
    #[serde(default)]
    pub quarantine: Vec<StorePath>,
    /// That somebody at the host holds it.
    #[serde(default)]
    pub hold: Option<Hold>,
    /// Where the host is with its order.
    pub phase: Phase,
}

/// Whether earlier states are accounted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// This is the host's first state, or an operator named it since.
    Known,
    /// A state was there and is lost, and with it the highest sequence.
    Lost,
}

/// The highest order that was taken or rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Taken {
    /// Its sequence.
    pub sequence: Sequence,
    /// Its target.
    pub target: TargetHash,
}

/// A system that ran here and was confirmed, or that was there before.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Confirmed {
    /// The system.
    pub toplevel: StorePath,
    /// The digest of its closure, once it was computed.
    pub closure: Option<ClosureDigest>,
}

/// Where the host is with its order. Each phase but the first and the last waits for one thing,
/// and for no longer than its deadline.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// There was no order yet.
    Idle,
    /// Gets the closure.
    Realising {
        /// The attempt's number.
        attempt: u64,
        /// The order.
        order: Accepted,
        /// How often it failed and was tried again.
        retries: u32,
        /// How often the subscriber started meanwhile.
        starts: u32,
        /// When it is given up.
        deadline: Monotonic,
        /// What came of waiting before, where the closure is only looked at again.
        #[serde(default)]
        waited: Waited,
    },
    /// Has the closure, and waits.
    Waiting {
        /// The attempt's number.
        attempt: u64,
        /// The order.
        order: Accepted,
        /// The digest of the closure.
        closure: ClosureDigest,
        /// What for.
        wait: Wait,
        /// What came of waiting so far.
        #[serde(default)]
        waited: Waited,
        /// What the target needs a reboot for, compared with what was booted.
        #[serde(default)]
        reboot_needed: Option<Prose>,
        /// How often the subscriber started meanwhile.
        starts: u32,
    },
    /// Prepares the way back. Nothing is activated yet.
    Armed {
        /// The attempt.
        attempt: Attempt,
        /// When it is given up.
        deadline: Monotonic,
        /// How often the subscriber started meanwhile.
        starts: u32,
    },
    /// Runs the switch program.
    Activating {
        /// The attempt.
        attempt: Attempt,
        /// When the runner ends it.
        deadline: Monotonic,
    },
    /// Restarts the machine, to boot the new system once.
    Rebooting {
        /// The attempt.
        attempt: Attempt,
        /// When it is given up.
        deadline: Monotonic,
        /// How often the subscriber started meanwhile.
        starts: u32,
    },
    /// Makes sure that the new system is reachable and healthy.
    Confirming {
        /// The attempt.
        attempt: Attempt,
        /// When it rolls back.
        deadline: Monotonic,
        /// Whether the broker was reached. Not durable: a restart asks again.
        #[serde(skip, default = "LinkProof::awaited")]
        link: LinkProof,
        /// Whether it trusts those who signed. Not durable: a restart asks again.
        #[serde(skip, default = "TrustProof::awaited")]
        trust: TrustProof,
        /// How healthy it is. Not durable: a restart asks again.
        #[serde(skip, default = "HealthProof::none")]
        health: HealthProof,
    },
    /// Makes the new system the boot default.
    Committing {
        /// The attempt.
        attempt: Attempt,
        /// When it rolls back.
        deadline: Monotonic,
        /// How often the subscriber started meanwhile.
        starts: u32,
    },
    /// Brings the previous system back.
    RollingBack {
        /// The attempt.
        attempt: Attempt,
        /// Why.
        cause: Cause,
        /// When it is given up.
        deadline: Monotonic,
        /// How often the subscriber started meanwhile.
        starts: u32,
        /// What became of the last resort.
        #[serde(default)]
        resort: Resort,
    },
    /// Is done with the order.
    Ended {
        /// The order.
        order: OrderName,
        /// How it ended.
        ending: Ending,
    },
}

/// What became of the last resort of a roll back: a reboot into the old boot default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Resort {
    /// It was not needed yet.
    #[default]
    Unused,
    /// The old system runs, and is to reach the broker again.
    Reconnecting,
    /// The machine was told to restart, or needs not be.
    Used,
}

/// When the state wants to be woken by [`crate::Event::Tick`], if nothing else happens before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wake {
    /// At a time of the monotonic clock.
    Monotonic(Monotonic),
    /// At a time of the wall clock.
    Wall(Timestamp),
}

impl State {
    /// Makes the state of a host that was never asked to do anything.
    pub fn new(incarnation: Incarnation, standing: Standing, boot: BootId) -> Self {
        // Files of the lost state's attempts may still be there, with a dead-man that reads them:
        // the numbers of new attempts must not meet theirs.
        let attempts = match (standing, incarnation.as_bytes()) {
            (Standing::Known, _) => 0,
            (Standing::Lost, [a, b, c, d, ..]) => {
                u64::from(u32::from_le_bytes([*a, *b, *c, *d])) << 16
            }
        };
        Self {
            incarnation,
            standing,
            boot,
            reports: 0,
            attempts,
            floor: Timestamp::default(),
            beacon: None,
            taken: None,
            history: Vec::new(),
            staged: None,
            refusal: None,
            quarantine: Vec::new(),
            hold: None,
            phase: Phase::Idle,
        }
    }

    /// Gives the time to judge orders by: the clock, but never before a time that was signed.
    pub fn time(&self, now: &Now) -> Timestamp {
        now.wall.max(self.floor)
    }

    /// Tells whether a beacon vouches that nobody holds messages back, at this time.
    pub fn hears(&self, freshness: Freshness, time: Timestamp) -> bool {
        freshness.vouches(self.beacon, time)
    }

    /// Gives the digest that was recorded for a system.
    pub fn recorded(&self, toplevel: &StorePath) -> Option<ClosureDigest> {
        self.history.iter().find(|known| known.toplevel == *toplevel)?.closure
    }

    /// Gives the latest system that ran here and was confirmed, beside the one that runs. One that
    /// rolled back later is no way back.
    pub fn previous(&self, running: Option<&StorePath>) -> Option<&StorePath> {
        let mut known = self.history.iter().rev().map(|known| &known.toplevel);
        known.find(|toplevel| Some(*toplevel) != running && !self.quarantine.contains(toplevel))
    }

    /// Gives the systems to keep from the garbage collector.
    pub fn kept(&self) -> Vec<StorePath> {
        let confirmed = self.history.iter().map(|known| &known.toplevel);
        let staged =
            self.staged.iter().filter(|path| self.history.iter().all(|k| k.toplevel != **path));
        confirmed.chain(staged).cloned().collect()
    }

    /// Gives why the phase is what it is, where its name does not say.
    pub fn cause(&self) -> Option<Cause> {
        match &self.phase {
            Phase::Waiting { order, wait, waited, .. } => {
                wait.cause(order, waited, self.hold.as_ref())
            }
            Phase::RollingBack { cause, .. } => Some(cause.clone()),
            Phase::Ended { ending, .. } => ending.cause().cloned(),
            _ => None,
        }
    }

    /// Gives when to wake up.
    pub fn wake(&self) -> Option<Wake> {
        match &self.phase {
            Phase::Idle | Phase::Ended { .. } => None,
            Phase::Waiting { order, wait, waited, .. } => {
                let end = waited.end(order);
                Some(Wake::Wall(wait.due(order).map_or(end, |due| due.min(end))))
            }
            Phase::Realising { deadline, .. }
            | Phase::Armed { deadline, .. }
            | Phase::Activating { deadline, .. }
            | Phase::Rebooting { deadline, .. }
            | Phase::Confirming { deadline, .. }
            | Phase::Committing { deadline, .. }
            | Phase::RollingBack { deadline, .. } => Some(Wake::Monotonic(*deadline)),
        }
    }

    /// Puts a system that rolled back into quarantine, and forgets the oldest there.
    pub(crate) fn put_in_quarantine(&mut self, toplevel: StorePath) {
        self.quarantine.retain(|known| *known != toplevel);
        self.quarantine.push(toplevel);
        let surplus = self.quarantine.len().saturating_sub(QUARANTINE);
        self.quarantine.drain(..surplus);
    }

    /// Remembers a system as the latest confirmed one, and forgets the oldest but a number.
    pub(crate) fn remember(
        &mut self,
        toplevel: StorePath,
        closure: Option<ClosureDigest>,
        most: usize,
    ) {
        let closure = closure.or_else(|| self.recorded(&toplevel));
        self.history.retain(|known| known.toplevel != toplevel);
        self.history.push(Confirmed { toplevel, closure });
        let surplus = self.history.len().saturating_sub(most);
        self.history.drain(..surplus);
    }
}

impl Phase {
    /// Gives the phase's name in reports.
    pub fn name(&self) -> PhaseName {
        match self {
            Self::Idle => PhaseName::Idle,
            Self::Realising { .. } => PhaseName::Realising,
            Self::Waiting { .. } => PhaseName::Waiting,
            Self::Armed { .. } => PhaseName::Armed,
            Self::Activating { .. } => PhaseName::Activating,
            Self::Rebooting { .. } => PhaseName::Rebooting,
            Self::Confirming { .. } => PhaseName::Confirming,
            Self::Committing { .. } => PhaseName::Committing,
            Self::RollingBack { .. } => PhaseName::RollingBack,
            Self::Ended { ending, .. } => ending.name(),
        }
    }

    /// Gives the order that the phase is about.
    pub fn order(&self) -> Option<OrderName> {
        match self {
            Self::Idle => None,
            Self::Realising { order, .. } | Self::Waiting { order, .. } => Some(order.name()),
            Self::Ended { order, .. } => Some(*order),
            armed_or_later => armed_or_later.attempt().map(|attempt| attempt.order.name()),
        }
    }

    /// Gives what the order under way asks for.
    pub fn target(&self) -> Option<&Target> {
        match self {
            Self::Idle | Self::Ended { .. } => None,
            Self::Realising { order, .. } | Self::Waiting { order, .. } => Some(order.target()),
            armed_or_later => armed_or_later.attempt().map(|attempt| attempt.order.target()),
        }
    }

    /// Gives the attempt, from armed to its end.
    pub fn attempt(&self) -> Option<&Attempt> {
        match self {
            Self::Armed { attempt, .. }
            | Self::Activating { attempt, .. }
            | Self::Rebooting { attempt, .. }
            | Self::Confirming { attempt, .. }
            | Self::Committing { attempt, .. }
            | Self::RollingBack { attempt, .. } => Some(attempt),
            Self::Idle | Self::Realising { .. } | Self::Waiting { .. } | Self::Ended { .. } => None,
        }
    }

    /// Gives the number of the attempt that is under way.
    pub fn attempt_number(&self) -> Option<u64> {
        match self {
            Self::Realising { attempt, .. } | Self::Waiting { attempt, .. } => Some(*attempt),
            other => other.attempt().map(|attempt| attempt.number),
        }
    }
}

impl LinkProof {
    fn awaited() -> Self {
        Self::Awaited
    }
}

impl TrustProof {
    fn awaited() -> Self {
        Self::Awaited
    }
}

impl HealthProof {
    fn none() -> Self {
        Self::Unchecked
    }
}
