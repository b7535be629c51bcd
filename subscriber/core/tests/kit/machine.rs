//! One host, step by step: what a test lets happen to it, and what it wants done.

use std::time::Duration;

use herald_core::{
    ActivationEnd, Capabilities, Cause, Claim, Effect, Event, Failure, Found, Illegal, Monotonic,
    Now, RunnerTrace, Seen, Standing, State, Step, Wake, step,
};
use herald_proto::{
    id::Incarnation, rejection::Code, report::PhaseName, store_path::StorePath, text::Prose,
};

use super::{Draft, EPOCH, SECOND, boot, capabilities, closure, later, old, realised};

/// A host: its state, its clocks, and what is to be seen of it.
#[derive(Clone)]
pub(crate) struct Host {
    pub(crate) state: State,
    pub(crate) now: Now,
    pub(crate) can: Capabilities,
    pub(crate) seen: Seen,
}

pub(crate) fn exited(status: i32) -> ActivationEnd {
    ActivationEnd::Exited { status, output: Prose::lossy("what it printed") }
}

pub(crate) fn nothing_found() -> Found {
    Found { claim: Claim::None, runner: RunnerTrace::None }
}

impl Host {
    /// Makes a host that has started once, runs [`old`], and is connected.
    pub(crate) fn new() -> Self {
        // It has run for a month: a deadline of this boot is far away in the next one.
        let uptime = Monotonic::from_millis(30 * 24 * 60 * 60 * 1000);
        let now = Now { wall: EPOCH, monotonic: uptime, boot: boot(1) };
        let state = State::new(Incarnation::from_bytes([3; 16]), Standing::Known, now.boot);
        let old = Some(old());
        let seen = Seen {
            running: old.clone(),
            booted: old.clone(),
            boot_default: old.clone(),
            profile: old,
            failed_units: Some(vec![]),
            connected: true,
        };
        let mut host = Self { state, now, can: capabilities(), seen };
        host.start(nothing_found());
        let toplevel = super::old();
        let closure = closure(&toplevel);
        host.take(Event::Measured { toplevel, closure });
        host
    }

    pub(crate) fn try_take(&self, event: Event) -> Result<Step, Illegal> {
        step(&self.state, event, &self.now, &self.can)
    }

    /// Takes an event that belongs to the phase; time goes on by a millisecond.
    pub(crate) fn take(&mut self, event: Event) -> Vec<Effect> {
        later(&mut self.now, Duration::from_millis(1));
        let Step { state, effects } = self.try_take(event).expect("an event of this phase");
        self.state = state;
        effects
    }

    pub(crate) fn phase(&self) -> PhaseName {
        self.state.phase.name()
    }

    /// Gives why the order ended as it did.
    pub(crate) fn code(&self) -> Option<Code> {
        match &self.state.phase {
            herald_core::Phase::Ended { ending, .. } => ending.cause().map(|cause| cause.code),
            herald_core::Phase::RollingBack { cause, .. } => Some(cause.code),
            _ => None,
        }
    }

    /// Gives why the last message was refused.
    pub(crate) fn refused(&self) -> Option<Code> {
        self.state.refusal.as_ref().map(|refusal| refusal.code)
    }

    /// Gives the number of the draft that the phase is about.
    pub(crate) fn under_way(&self) -> Option<u64> {
        self.state.phase.order().map(|order| order.sequence.number() - EPOCH.as_millis())
    }

    pub(crate) fn attempt(&self) -> u64 {
        self.state.phase.attempt_number().unwrap_or_default()
    }

    pub(crate) fn pass(&mut self, span: Duration) {
        later(&mut self.now, span);
    }

    /// Lets time pass until the state wants to be woken, and not a millisecond longer.
    pub(crate) fn pass_to_wake(&mut self) {
        let span = match self.state.wake() {
            None => Duration::ZERO,
            Some(Wake::Monotonic(at)) => at.since(self.now.monotonic),
            Some(Wake::Wall(at)) => at.since(self.now.wall),
        };
        self.pass(span);
    }

    /// Cuts the power: another boot, whose clocks say little, of what the boot default is.
    pub(crate) fn reboot(&mut self) {
        let next = self.now.boot.as_bytes()[0].wrapping_add(1);
        self.now = Now {
            wall: self.now.wall.plus(60 * SECOND),
            monotonic: Monotonic::from_millis(5_000),
            boot: boot(next),
        };
        self.seen.running.clone_from(&self.seen.boot_default);
        self.seen.booted.clone_from(&self.seen.boot_default);
    }

    /// Restarts the machine into a system that is not the boot default.
    pub(crate) fn reboot_into(&mut self, toplevel: StorePath) {
        self.reboot();
        self.seen.running = Some(toplevel.clone());
        self.seen.booted = Some(toplevel);
    }

    pub(crate) fn start(&mut self, found: Found) -> Vec<Effect> {
        let seen = self.seen.clone();
        self.take(Event::Started { seen, found })
    }

    pub(crate) fn order(&mut self, draft: Draft) -> Vec<Effect> {
        let seen = self.seen.clone();
        self.take(Event::OrderArrived { order: Box::new(draft.verified()), seen })
    }

    pub(crate) fn tick(&mut self) -> Vec<Effect> {
        let seen = self.seen.clone();
        self.take(Event::Tick { seen })
    }

    /// Waits for as long as the state says, and ticks.
    pub(crate) fn overrun(&mut self) -> Vec<Effect> {
        self.pass_to_wake();
        self.tick()
    }

    pub(crate) fn realise(&mut self) -> Vec<Effect> {
        let outcome = Ok(realised(&self.target()));
        self.take(Event::RealiseEnded { attempt: self.attempt(), outcome })
    }

    pub(crate) fn fail_to_realise(&mut self, failure: Failure) -> Vec<Effect> {
        self.take(Event::RealiseEnded { attempt: self.attempt(), outcome: Err(failure) })
    }

    pub(crate) fn permit(&mut self) -> Vec<Effect> {
        let (attempt, seen) = (self.attempt(), self.seen.clone());
        self.take(Event::Permitted { attempt, seen })
    }

    pub(crate) fn arm(&mut self, outcome: Result<(), Failure>) -> Vec<Effect> {
        let (attempt, seen) = (self.attempt(), self.seen.clone());
        self.take(Event::ArmEnded { attempt, outcome, seen })
    }

    /// The switch program ends, and the target runs.
    pub(crate) fn activate(&mut self, end: ActivationEnd) -> Vec<Effect> {
        self.seen.running = Some(self.target());
        self.end_activation(end)
    }

    /// The switch program ends, whatever runs.
    pub(crate) fn end_activation(&mut self, end: ActivationEnd) -> Vec<Effect> {
        let (attempt, seen) = (self.attempt(), self.seen.clone());
        self.take(Event::ActivationEnded { attempt, end, seen })
    }

    pub(crate) fn link(&mut self) -> Vec<Effect> {
        let (attempt, seen) = (self.attempt(), self.seen.clone());
        self.take(Event::LinkProved { attempt, seen })
    }

    /// The new system's trust file is looked at, which takes no time.
    pub(crate) fn trust(&mut self, verdict: Result<(), Cause>) -> Vec<Effect> {
        let (attempt, seen) = (self.attempt(), self.seen.clone());
        let step = self.try_take(Event::TrustSeen { attempt, verdict, seen });
        let Step { state, effects } = step.expect("an event of this phase");
        self.state = state;
        effects
    }

    /// A round of health checks begins and ends now.
    pub(crate) fn check(&mut self, verdict: Result<(), &str>) -> Vec<Effect> {
        let (attempt, began, seen) = (self.attempt(), self.now.monotonic, self.seen.clone());
        let verdict = verdict.map_err(Prose::lossy);
        self.take(Event::HealthChecked { attempt, began, verdict, seen })
    }

    /// Profile and boot default become the target, and the commit says that it went well.
    pub(crate) fn commit(&mut self) -> Vec<Effect> {
        let target = Some(self.target());
        self.seen.profile.clone_from(&target);
        self.seen.boot_default = target;
        self.end_commit(Ok(()))
    }

    pub(crate) fn end_commit(&mut self, outcome: Result<(), Failure>) -> Vec<Effect> {
        let (attempt, seen) = (self.attempt(), self.seen.clone());
        self.take(Event::CommitEnded { attempt, outcome, seen })
    }

    /// Everything becomes what it was, and the roll back ends.
    pub(crate) fn roll_back(&mut self) -> Vec<Effect> {
        if let Some(attempt) = self.state.phase.attempt() {
            let baseline = &attempt.baseline;
            self.seen.running = Some(baseline.previous.clone());
            self.seen.profile.clone_from(&baseline.profile);
            self.seen.boot_default.clone_from(&baseline.boot_default);
        }
        self.end_rollback(Ok(()))
    }

    pub(crate) fn end_rollback(&mut self, outcome: Result<(), Failure>) -> Vec<Effect> {
        let (attempt, seen) = (self.attempt(), self.seen.clone());
        self.take(Event::RollbackEnded { attempt, outcome, seen })
    }

    /// Gives the system that the order under way is about.
    pub(crate) fn target(&self) -> StorePath {
        use herald_core::Phase::{Realising, Waiting};
        match &self.state.phase {
            Realising { order, .. } | Waiting { order, .. } => order.target().toplevel.clone(),
            phase => phase.attempt().map_or_else(old, |a| a.order.target().toplevel.clone()),
        }
    }
}
