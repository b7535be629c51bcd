//! The one function that decides.

use herald_proto::{
    rejection::Code,
    report::{OrderName, PhaseName, Progress},
    store_path::StorePath,
    text::Prose,
};

use crate::{
    attempt::{Attempt, Procedure},
    effect::{Effect, ReportBody},
    ending::{Cause, Ending},
    event::{ActivationEnd, Capabilities, Event, Seen},
    now::Now,
    state::{Phase, State},
    verdict,
};

/// What an event leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The state to persist first.
    pub state: State,
    /// What to do then, in this order.
    pub effects: Vec<Effect>,
}

impl Step {
    /// Leaves out a report number, which is said by other means.
    pub fn skip_a_report_number(&mut self) {
        self.state.reports += 1;
        for effect in &mut self.effects {
            if let Effect::Report(body) = effect {
                body.number += 1;
            }
        }
    }
}

/// An event that does not belong to the phase: it came late, or twice. Nothing changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Illegal {
    /// The phase.
    pub phase: PhaseName,
    /// The event's name.
    pub event: &'static str,
}

/// Decides what an event leads to.
///
/// # Errors
/// [`Illegal`] when the event does not belong to the phase.
pub fn step(state: &State, event: Event, now: &Now, host: &Capabilities) -> Result<Step, Illegal> {
    let illegal = Illegal { phase: state.phase.name(), event: event.name() };
    let mut turn = Turn { state: state.clone(), effects: Vec::new(), now, host };
    turn.take(event).ok_or(illegal)?;
    turn.state.boot = now.boot;
    Ok(Step { state: turn.state, effects: turn.effects })
}

/// A step in the making.
pub(crate) struct Turn<'a> {
    pub(crate) state: State,
    pub(crate) effects: Vec<Effect>,
    pub(crate) now: &'a Now,
    pub(crate) host: &'a Capabilities,
}

impl Turn<'_> {
    /// Takes an event; `None` where it does not belong to the phase.
    pub(crate) fn take(&mut self, event: Event) -> Option<()> {
        match event {
            Event::Started { seen, found } => self.started(&seen, found),
            Event::OrderArrived { order, seen } => self.order_arrived(&order, &seen),
            Event::MessageRefused(refusal) => self.refuse(refusal),
            Event::Measured { toplevel, closure } => {
                let known =
                    self.state.history.iter_mut().find(|known| known.toplevel == toplevel)?;
                known.closure.get_or_insert(closure);
            }
            // A deploy is no worse for it: it is said, and that is all.
            Event::Pruned { outcome } => {
                if let Err(failure) = outcome {
                    self.report_because(self.state.phase.name(), &failure.cause);
                }
            }
            Event::Tick { seen } => return self.tick(&seen),
            Event::RealiseProgress { attempt, progress } => {
                self.concerns(attempt, PhaseName::Realising)?;
                self.report_as(PhaseName::Realising, Some(progress));
            }
            Event::RealiseEnded { attempt, outcome } => {
                self.concerns(attempt, PhaseName::Realising)?;
                self.realise_ended(outcome)?;
            }
            Event::WindowSeen { attempt, window } => {
                self.concerns(attempt, PhaseName::Waiting)?;
                self.window_seen(window)?;
            }
            Event::Answered { attempt, agrees } => {
                self.concerns(attempt, PhaseName::Waiting)?;
                self.answered(agrees)?;
            }
            Event::Held { reason } => self.held(reason),
            Event::Resumed => self.resumed()?,
            Event::WantedBack { target, seen } => self.wanted_back(target, &seen)?,
            Event::BeaconHeard { issued_at } => self.beacon_heard(issued_at)?,
            Event::Permitted { attempt, seen } => {
                self.concerns(attempt, PhaseName::Waiting)?;
                self.permitted(&seen)?;
            }
            Event::ArmEnded { attempt, outcome, seen } => {
                self.concerns(attempt, PhaseName::Armed)?;
                self.arm_ended(outcome, &seen)?;
            }
            Event::ActivationEnded { attempt, end, seen } => {
                self.concerns(attempt, PhaseName::Activating)?;
                self.activation_ended(end, &seen)?;
            }
            Event::LinkProved { attempt, seen } => {
                self.concerns(attempt, self.state.phase.name())?;
                self.link_proved(&seen)?;
            }
            Event::TrustSeen { attempt, verdict, seen } => {
                self.concerns(attempt, PhaseName::Confirming)?;
                self.trust_seen(verdict, &seen)?;
            }
            Event::HealthChecked { attempt, began, verdict, seen } => {
                self.concerns(attempt, PhaseName::Confirming)?;
                self.health_checked(began, verdict, &seen)?;
            }
            Event::CommitEnded { attempt, outcome, seen } => {
                self.concerns(attempt, PhaseName::Committing)?;
                self.commit_ended(outcome, &seen)?;
            }
            Event::RollbackEnded { attempt, outcome, seen } => {
                self.concerns(attempt, PhaseName::RollingBack)?;
                self.rollback_ended(outcome, &seen)?;
            }
        }
        Some(())
    }

    pub(crate) fn concerns(&self, attempt: u64, phase: PhaseName) -> Option<()> {
        let here = self.state.phase.attempt_number() == Some(attempt);
        (here && self.state.phase.name() == phase).then_some(())
    }

    pub(crate) fn tick(&mut self, seen: &Seen) -> Option<()> {
        let late = |deadline| self.now.monotonic >= deadline;
        match self.state.phase.clone() {
            Phase::Idle | Phase::Ended { .. } => return None,
            Phase::Realising { deadline, order, .. } if late(deadline) => {
                let detail = format!("not there within {:?}", order.target().limits.realise);
                self.abandon(Ending::TimedOut(Cause::new(Code::LimitReached, &detail)));
            }
            Phase::Waiting { .. } => return self.wait_on(),
            Phase::Armed { attempt, deadline, .. }
                if late(deadline) && attempt.procedure == Procedure::Reboot =>
            {
                let cause = Cause::new(Code::LimitReached, "the boot loader was not told in time");
                self.give_up(attempt, cause, seen);
            }
            Phase::Rebooting { attempt, deadline, .. } if late(deadline) => {
                let cause = Cause::new(Code::LimitReached, "the machine did not restart in time");
                self.give_up(attempt, cause, seen);
            }
            Phase::Armed { attempt, deadline, .. } if late(deadline) => {
                self.effects.push(Effect::Disarm { attempt: attempt.number });
                let cause = Cause::new(Code::LimitReached, "the way back was not prepared in time");
                self.end_attempt(&attempt, Ending::TimedOut(cause), seen);
            }
            Phase::Activating { deadline, .. } if late(deadline) => {
                let reason = Prose::lossy("the runner did not say how the activation ended");
                return self.activation_ended(ActivationEnd::Unknown { reason }, seen);
            }
            Phase::Confirming { attempt, deadline, link, trust, health } if late(deadline) => {
                let cause = verdict::unconfirmed(link, trust, &health, &attempt);
                self.give_up(attempt, cause, seen);
            }
            Phase::Committing { attempt, deadline, .. } if late(deadline) => {
                let cause = Cause::new(Code::LimitReached, "the commit did not end in time");
                self.give_up(attempt, cause, seen);
            }
            Phase::RollingBack { deadline, .. } if late(deadline) => {
                return self.rollback_overran(seen);
            }
            _ => {}
        }
        Some(())
    }

    /// Ends an order for which nothing was armed.
    pub(crate) fn abandon(&mut self, ending: Ending) {
        let (Some(attempt), Some(name)) =
            (self.state.phase.attempt_number(), self.state.phase.order())
        else {
            return;
        };
        let abandoned = self.state.phase.target().map(|target| target.toplevel.clone());
        self.effects.push(Effect::Abandon { attempt });
        self.effects.push(Effect::ReleasePermit);
        self.end(name, ending);
        self.give_up_root(attempt, abandoned.as_ref(), None);
    }

    /// Clears up after an order that was left before anything was armed: its system is kept from
    /// the garbage collector only where something else wants it, such as the order that comes next.
    pub(crate) fn give_up_root(
        &mut self,
        attempt: u64,
        abandoned: Option<&StorePath>,
        next: Option<&StorePath>,
    ) {
        self.state.staged.take_if(|staged| Some(&*staged) == abandoned && next != abandoned);
        let mut keep = self.state.kept();
        keep.extend(next.filter(|path| !keep.contains(path)).cloned());
        self.effects.push(Effect::CleanUp { attempt, keep });
    }

    /// Ends an attempt, and takes up the newer order that came meanwhile.
    pub(crate) fn end_attempt(&mut self, attempt: &Attempt, ending: Ending, seen: &Seen) {
        self.effects.push(Effect::ReleasePermit);
        self.end(attempt.order.name(), ending);
        let keep = self.state.kept();
        self.effects.push(Effect::CleanUp { attempt: attempt.number, keep });
        if let Some(next) = &attempt.next {
            self.begin((**next).clone(), seen);
        }
    }

    pub(crate) fn end(&mut self, order: OrderName, ending: Ending) {
        self.state.phase = Phase::Ended { order, ending };
        self.report();
    }

    pub(crate) fn attempt_mut(&mut self) -> Option<&mut Attempt> {
        match &mut self.state.phase {
            Phase::Armed { attempt, .. }
            | Phase::Activating { attempt, .. }
            | Phase::Rebooting { attempt, .. }
            | Phase::Confirming { attempt, .. }
            | Phase::Committing { attempt, .. }
            | Phase::RollingBack { attempt, .. } => Some(attempt),
            _ => None,
        }
    }

    /// Reports the phase as it is.
    pub(crate) fn report(&mut self) {
        self.report_as(self.state.phase.name(), None);
    }

    pub(crate) fn report_as(&mut self, phase: PhaseName, progress: Option<Progress>) {
        let cause = self.state.cause().filter(|_| phase == self.state.phase.name());
        self.push_report(phase, progress, cause);
    }

    pub(crate) fn report_because(&mut self, phase: PhaseName, cause: &Cause) {
        self.push_report(phase, None, Some(cause.clone()));
    }

    pub(crate) fn push_report(
        &mut self,
        phase: PhaseName,
        progress: Option<Progress>,
        cause: Option<Cause>,
    ) {
        self.state.reports += 1;
        let (code, detail) = cause.map(|cause| (cause.code, cause.detail)).unzip();
        self.effects.push(Effect::Report(ReportBody {
            number: self.state.reports,
            phase,
            code,
            detail,
            order: self.state.phase.order(),
            refusal: self.state.refusal.clone(),
            progress,
        }));
    }
}
