//! What must hold at every step, and what is known to be true about the new system. It looks at
//! the machine and at what the subscriber says, and decides nothing.

use std::{collections::BTreeSet, path::Path, time::Duration};

use herald_core::{Phase, Procedure, ReportBody, State};
use herald_proto::{
    id::Sequence, rejection::Code, report::PhaseName, store_path::StorePath, target::Action,
};
use tokio::time::Instant;

use super::{
    disk::Disk,
    systems::{BOOT_DEFAULT, OLD, PERSONS, PROFILE, STORE, closure, content},
};

/// How much longer than its limit a phase may be seen to last: looks are a second apart, and what
/// ends it has to be stored, and seen.
const SLACK: Duration = Duration::from_secs(4);

/// Watches one run.
#[derive(Debug)]
pub(crate) struct Monitor {
    /// What was wrong, in the order in which it was seen.
    pub(crate) violations: Vec<String>,
    /// The phase that was stored last.
    pub(crate) phase: PhaseName,
    /// The state that was stored last.
    pub(crate) state: Option<State>,
    /// Whether the order makes a system the boot default that nobody has proved: a boot in the middle
    /// can't be undone then.
    pub(crate) boots_unproved: bool,
    /// Whether the machine was booted after that phase began.
    pub(crate) booted_since: bool,
    /// Whether no subscriber has started in this boot yet.
    pub(crate) fresh_boot: bool,
    /// Whether a person may have set links of their own.
    pub(crate) person: bool,
    /// Whether a person's own switch was cut off, which nobody but them puts right.
    pub(crate) person_cut_off: bool,
    /// Systems that may be the boot default, or the profile's.
    allowed: BTreeSet<StorePath>,
    /// How long the phase has lasted, while the subscriber could have ended it.
    lasted: Duration,
    healthy_since: Option<(StorePath, Instant)>,
    stable: BTreeSet<StorePath>,
    linked: bool,
    highest: Option<Sequence>,
    spoken: Option<(u64, bool)>,
    succeeded: BTreeSet<Sequence>,
}

impl Monitor {
    pub(crate) fn new() -> Self {
        Self {
            violations: Vec::new(),
            phase: PhaseName::Idle,
            state: None,
            booted_since: false,
            fresh_boot: false,
            boots_unproved: false,
            person: false,
            person_cut_off: false,
            allowed: [OLD.clone()].into(),
            lasted: Duration::ZERO,
            healthy_since: None,
            stable: BTreeSet::new(),
            linked: false,
            highest: None,
            spoken: None,
            succeeded: BTreeSet::new(),
        }
    }

    pub(crate) fn violated(&mut self, what: String) {
        if self.violations.len() < 20 && !self.violations.contains(&what) {
            self.violations.push(what);
        }
    }

    /// Looks at the disk: what boots next is whole, and is no unconfirmed system.
    pub(crate) fn look(&mut self, disk: &Disk) {
        for (link, synced) in [(BOOT_DEFAULT, false), (BOOT_DEFAULT, true), (PROFILE, false)] {
            let Some(system) = system_at(disk, link, synced) else {
                self.violated(format!("{link} names no system"));
                continue;
            };
            let persons = self.person && system == *PERSONS;
            if !persons && !self.allowed.contains(&system) {
                self.violated(format!("{link} names {}, which is not confirmed", system.name()));
            }
            let whole = closure(&system)
                .iter()
                .all(|path| disk.is_safe(&Path::new(STORE).join(path.base_name()), content(path)));
            if !whole {
                let name = system.name();
                self.violated(format!("{link} names {name}, which a power cut could damage"));
            }
        }
    }

    /// Hears that time has passed in which the subscriber ran and could store what it decides: no
    /// phase lasts longer than its limit.
    pub(crate) fn passed(&mut self, span: Duration) {
        self.lasted += span;
        let Some(limit) = self.state.as_ref().and_then(|state| limit(&state.phase)) else { return };
        if self.lasted > limit + SLACK {
            let phase = self.phase;
            self.violated(format!("it is {phase} for longer than {limit:?}"));
        }
    }

    /// Hears of one round of health checks, while a system runs.
    pub(crate) fn checked(&mut self, running: Option<&StorePath>, healthy: bool) {
        let now = Instant::now();
        self.healthy_since = match (running, &self.healthy_since) {
            (Some(running), Some((system, since))) if healthy && system == running => {
                if now - *since >= super::order::STABLE_FOR {
                    self.stable.insert(running.clone());
                }
                Some((running.clone(), *since))
            }
            (Some(running), _) if healthy => Some((running.clone(), now)),
            _ => None,
        };
    }

    /// Hears that what runs was replaced, or is about to be: nothing is proved of it.
    pub(crate) fn replaced(&mut self) {
        (self.healthy_since, self.linked) = (None, false);
        self.stable.clear();
    }

    /// Hears of a round trip to the broker.
    pub(crate) fn linked(&mut self) {
        self.linked = true;
    }

    /// Tells whether an order was taken.
    pub(crate) fn has_taken(&self) -> bool {
        self.highest.is_some()
    }

    /// Looks at a state that was loaded by a start.
    pub(crate) fn loaded(&mut self, state: &State) {
        let sequence = state.taken.map(|taken| taken.sequence);
        if sequence < self.highest {
            let highest = self.highest;
            self.violated(format!("the sequence fell from {highest:?} to {sequence:?}"));
        }
        if let Some(saved) = &self.state
            && saved.incarnation != state.incarnation
        {
            self.violated("the state was lost".into());
        }
        self.watch_order(state);
        // A start does not give these more time.
        if !matches!(state.phase, Phase::Activating { .. } | Phase::Confirming { .. }) {
            self.lasted = Duration::ZERO;
        }
        // Killed after it was stored and before that was heard of: stored in this boot.
        if self.phase != state.phase.name() && !self.fresh_boot {
            self.booted_since = false;
        }
        self.fresh_boot = false;
        // What was stored when the power went may be there all the same.
        self.phase = state.phase.name();
    }

    /// Looks at a state that is durable now.
    pub(crate) fn saved(&mut self, state: &State) {
        let before = self.phase;
        let (lasted, order) = (self.lasted, self.state.as_ref().and_then(sequence));
        self.loaded(state);
        let same = self.phase == before && order == sequence(state);
        self.lasted = if same { lasted } else { Duration::ZERO };
        self.highest = state.taken.map(|taken| taken.sequence);
        if let Phase::Committing { attempt, .. } = &state.phase {
            let target = attempt.order.target();
            let linked = self.linked || !attempt.baseline.connected;
            let proved = self.stable.contains(&target.toplevel) && linked;
            // If it is not, its links must never name it: the dead-man may have been faster.
            if target.action == Action::Boot || proved {
                self.allowed.insert(target.toplevel.clone());
            }
        }
        if self.phase != before {
            self.booted_since = false;
        }
        self.state = Some(state.clone());
    }

    fn watch_order(&mut self, state: &State) {
        let Some(order) = state.phase.order().map(|order| order.sequence) else { return };
        match state.phase.name() {
            PhaseName::Succeeded => drop(self.succeeded.insert(order)),
            phase if self.succeeded.contains(&order) => {
                self.violated(format!("an order that had succeeded is {phase}"));
            }
            _ => {}
        }
    }

    /// Hears a report.
    pub(crate) fn heard(&mut self, state: &State, body: &ReportBody) {
        let unstored = matches!(body.code, Some(Code::DiskFull | Code::StateNotStored))
            && body.detail.as_ref().is_some_and(|detail| detail.as_str().starts_with("the state"));
        if let Some((last, last_unstored)) = self.spoken {
            let falls = body.number < last || (body.number == last && !(unstored || last_unstored));
            if falls {
                self.violated(format!("report {} came after report {last}", body.number));
            }
        }
        self.spoken = Some((body.number, unstored));
        self.watch_order(state);
        if body.phase == PhaseName::Degraded && !self.boots_unproved {
            let why = body.detail.as_ref().map_or("", |detail| detail.as_str());
            self.violated(format!("it is degraded: {why}"));
        }
    }

    /// Tells whether a system was confirmed.
    pub(crate) fn is_allowed(&self, system: &StorePath) -> bool {
        self.allowed.contains(system) || (self.person && *system == *PERSONS)
    }
}

fn sequence(state: &State) -> Option<Sequence> {
    state.phase.order().map(|order| order.sequence)
}

/// Gives how long a phase may last, as docs/states.md says; none where it may for ever.
fn limit(phase: &Phase) -> Option<Duration> {
    let limits = &phase.target()?.limits;
    let seconds = Duration::from_secs;
    Some(match phase {
        Phase::Idle | Phase::Ended { .. } => return None,
        Phase::Realising { .. } => limits.realise,
        // For its first connection a start waits for a minute, and nothing else is in the way here.
        Phase::Waiting { .. } => seconds(60),
        Phase::Armed { attempt, .. } if attempt.procedure == Procedure::Reboot => seconds(735),
        Phase::Armed { .. } => seconds(15),
        Phase::Activating { .. } => limits.activate + seconds(5),
        Phase::Rebooting { .. } => seconds(600),
        Phase::Confirming { .. } => limits.confirm,
        Phase::Committing { .. } => seconds(720),
        Phase::RollingBack { .. } => limits.activate + limits.activate + seconds(1320),
    })
}

/// Follows a link to a system; as it would be after the worst power cut, if asked.
pub(crate) fn system_at(disk: &Disk, link: &str, synced: bool) -> Option<StorePath> {
    let mut at = Path::new(link).to_owned();
    for _ in 0..4 {
        let next = if synced { disk.synced_link(&at)? } else { disk.read_link(&at).ok()? };
        if let Some(path) = next.to_str().and_then(|text| text.parse().ok()) {
            return Some(path);
        }
        at = at.parent()?.join(next);
    }
    None
}
