//! What a start of the subscriber leads to, by the phase in which it stopped.

use std::time::Duration;

use herald_proto::{
    id::ClosureDigest, rejection::Code, store_path::StorePath, target::Target, text::Prose,
};

use crate::{
    admit::Accepted,
    attempt::{Attempt, Procedure, Runs},
    effect::Effect,
    ending::{Cause, Ending},
    event::{Claim, Failure, Found, RunnerTrace, Seen},
    now::Monotonic,
    state::{Phase, Resort},
    step::Turn,
    wait::{Consent, Wait, Waited},
};

/// How often one phase of an order may see the subscriber start before it is given up.
pub(crate) const MAX_STARTS: u32 = 5;

impl Turn<'_> {
    /// Takes up what was under way, and adopts what runs.
    pub(crate) fn started(&mut self, seen: &Seen, found: Found) {
        let reports = self.state.reports;
        self.take_up(seen, found);
        // The boot may be another one now: say so, even where the phase stays as it was.
        if self.state.reports == reports {
            self.report();
        }
    }

    fn take_up(&mut self, seen: &Seen, found: Found) {
        let same_boot = self.state.boot == self.now.boot;
        match self.state.phase.clone() {
            Phase::Idle | Phase::Ended { .. } => {
                if let Some(running) = &seen.running {
                    self.adopt(running);
                }
                if !same_boot {
                    self.needs_no_reboot_any_more(seen);
                }
                // The end may have been stored and what it left not removed yet.
                let (attempt, keep) = (self.state.attempts, self.state.kept());
                self.effects.push(Effect::CleanUp { attempt, keep });
            }
            Phase::Realising { attempt, order, retries, starts, deadline, waited } => {
                if starts >= MAX_STARTS {
                    self.abandon(Ending::TimedOut(too_many_starts()));
                    return;
                }
                let fresh = self.now.monotonic.plus(order.target().limits.realise);
                let deadline = if same_boot { deadline } else { fresh };
                let starts = starts + 1;
                self.state.phase =
                    Phase::Realising { attempt, order, retries, starts, deadline, waited };
                self.realise(Duration::ZERO);
            }
            Phase::Waiting { attempt, order, closure, starts, waited, reboot_needed, .. } => {
                self.wait_again(attempt, order, closure, starts, waited, reboot_needed);
            }
            Phase::Armed { attempt, starts, .. } if attempt.procedure == Procedure::Reboot => {
                self.started_rebooting(attempt, starts, found.claim, seen);
            }
            Phase::Rebooting { attempt, starts, .. } => {
                self.started_rebooting(attempt, starts, found.claim, seen);
            }
            Phase::Armed { attempt, .. } if found.claim == Claim::Rollback => {
                let cause = interrupted("armed", found.claim, same_boot);
                self.give_up(attempt, cause, seen);
            }
            Phase::Armed { attempt, starts, .. } => self.started_armed(attempt, starts, seen),
            Phase::Activating { attempt, deadline } => {
                self.started_activating(attempt, deadline, seen, found);
            }
            Phase::Confirming { attempt, deadline, .. } => {
                let held = same_boot && is_held(&attempt, found.claim);
                if held && attempt.runs(seen) == Runs::Target {
                    if attempt.procedure == Procedure::Reboot {
                        self.guard_what_booted(&attempt);
                    }
                    self.confirm(attempt, deadline);
                } else {
                    let cause = interrupted("confirming", found.claim, same_boot);
                    self.give_up(attempt, cause, seen);
                }
            }
            Phase::Committing { attempt, starts, .. } => {
                self.started_committing(attempt, starts, seen, found.claim);
            }
            Phase::RollingBack { attempt, cause, starts, resort, .. } => {
                self.started_rolling_back(attempt, cause, starts, resort, seen);
            }
        }
    }

    /// Stops saying that the order takes a reboot once that was made: what the profile names was booted.
    fn needs_no_reboot_any_more(&mut self, seen: &Seen) {
        if let Phase::Ended { order, ending: Ending::RebootNeeded(_) } = self.state.phase
            && seen.booted.is_some()
            && seen.booted == seen.profile
        {
            self.state.phase = Phase::Ended { order, ending: Ending::Succeeded };
        }
    }

    /// Waits on with a staged order. A power cut can empty files that were registered, so after
    /// another boot the closure is looked at again.
    fn wait_again(
        &mut self,
        attempt: u64,
        order: Accepted,
        closure: ClosureDigest,
        starts: u32,
        waited: Waited,
        reboot_needed: Option<Prose>,
    ) {
        if self.state.boot == self.now.boot {
            let wait = Wait::NotBefore;
            self.state.phase =
                Phase::Waiting { attempt, order, closure, wait, waited, reboot_needed, starts };
            self.proceed();
        } else {
            let (retries, limit) = (0, order.target().limits.realise);
            let deadline = self.now.monotonic.plus(limit);
            self.state.phase =
                Phase::Realising { attempt, order, retries, starts, deadline, waited };
            self.realise(Duration::ZERO);
        }
    }

    /// Nothing was activated: take the record away and queue again.
    fn started_armed(&mut self, attempt: Attempt, starts: u32, seen: &Seen) {
        self.effects.push(Effect::Disarm { attempt: attempt.number });
        if starts >= MAX_STARTS {
            self.end_attempt(&attempt, Ending::Failed(too_many_starts()), seen);
            return;
        }
        let Attempt { number, order, closure, next, reboot_needed, .. } = attempt;
        match next {
            Some(next) => self.supersede_with(*next, seen),
            // Consent and window are for a start that was made: they are not asked for again.
            None => {
                let waited = Waited {
                    since: Some(self.state.time(self.now)),
                    consent: Consent::Given,
                    ..Waited::default()
                };
                self.wait_again(number, order, closure, starts + 1, waited, reboot_needed);
            }
        }
    }

    fn started_activating(
        &mut self,
        attempt: Attempt,
        deadline: Monotonic,
        seen: &Seen,
        found: Found,
    ) {
        let (same_boot, guarded) =
            (self.state.boot == self.now.boot, attempt.procedure.activates());
        if guarded && attempt.runs(seen) == Runs::Other {
            self.stand_down(&attempt, seen);
            return;
        }
        let held = same_boot && (is_held(&attempt, found.claim) || !guarded);
        let cause = interrupted("activating", found.claim, same_boot);
        match found.runner {
            RunnerTrace::Running if held => {
                let attempt = Box::new(attempt);
                self.effects.push(Effect::Activate { attempt, deadline });
            }
            RunnerTrace::Ended(end) if held => {
                self.activation_ended(end, seen);
            }
            _ if guarded => self.roll_back(attempt, cause, seen),
            _ => self.end_attempt(&attempt, Ending::Failed(cause), seen),
        }
    }

    fn started_committing(&mut self, attempt: Attempt, starts: u32, seen: &Seen, claim: Claim) {
        let same_boot = self.state.boot == self.now.boot;
        let repeat = match attempt.runs(seen) {
            Runs::Target => claim != Claim::Rollback,
            Runs::Previous | Runs::Nothing => attempt.procedure == Procedure::Boot,
            Runs::Other => false,
        };
        if starts >= MAX_STARTS {
            self.give_up(attempt, too_many_starts(), seen);
        } else if repeat {
            self.commit(attempt, starts + 1);
        } else {
            self.give_up(attempt, interrupted("committing", claim, same_boot), seen);
        }
    }

    fn started_rolling_back(
        &mut self,
        attempt: Attempt,
        cause: Cause,
        starts: u32,
        resort: Resort,
        seen: &Seen,
    ) {
        if starts >= MAX_STARTS {
            let failure = Failure { cause: too_many_starts(), retry: false };
            if let Phase::RollingBack { resort, .. } = &mut self.state.phase {
                *resort = Resort::Used;
            }
            self.rollback_ended(Err(failure), seen);
            return;
        }
        self.roll_back_again(attempt, cause, starts + 1, resort, seen);
    }

    /// Somebody at the host wants the system of before back: ends an attempt that has not proved
    /// itself yet, or begins one of its own.
    pub(crate) fn wanted_back(&mut self, target: Option<Box<Target>>, seen: &Seen) -> Option<()> {
        match (self.state.phase.clone(), target) {
            (Phase::Activating { attempt, .. } | Phase::Confirming { attempt, .. }, _)
                if attempt.procedure.activates() && !attempt.is_irreversible() =>
            {
                let cause = Cause::new(Code::AskedLocally, "somebody at the host asked for it");
                self.give_up(attempt, cause, seen);
                Some(())
            }
            (Phase::Idle | Phase::Ended { .. }, Some(target)) => {
                if let Some(running) = seen.running.clone().filter(|run| *run != target.toplevel) {
                    self.state.put_in_quarantine(running);
                }
                let order = Accepted::by_hand(*target, &self.state, self.state.time(self.now));
                self.begin(order, seen);
                Some(())
            }
            _ => None,
        }
    }

    /// Somebody activated another system meanwhile: touch nothing.
    pub(crate) fn stand_down(&mut self, attempt: &Attempt, seen: &Seen) {
        self.effects.push(Effect::Disarm { attempt: attempt.number });
        let what = seen.running.as_ref().map_or("an unknown system", |path| path.as_str());
        let detail = format!("{what} runs, which is neither the new nor the previous system");
        let cause = Cause::new(Code::OtherSystemRuns, &detail);
        self.end_attempt(attempt, Ending::Overridden(cause), seen);
        if let Some(running) = &seen.running {
            self.adopt(running);
        }
    }

    /// Remembers a system that runs, or ran, as what an operator can roll back to.
    pub(crate) fn adopt(&mut self, running: &StorePath) {
        let latest = self.state.history.last().map(|known| &known.toplevel);
        if latest != Some(running) {
            self.state.remember(running.clone(), None, self.host.kept_systems);
        }
        if self.state.recorded(running).is_none() {
            self.effects.push(Effect::Measure(running.clone()));
        }
    }
}

/// Tells whether the way back of an attempt is guarded as it should be. A dead-man of a booted
/// system is started again, and one that is irreversible has none.
fn is_held(attempt: &Attempt, claim: Claim) -> bool {
    let unguarded = attempt.procedure == Procedure::Reboot || attempt.is_irreversible();
    claim == Claim::Armed || claim == Claim::None && unguarded
}

pub(crate) fn interrupted(phase: &str, claim: Claim, same_boot: bool) -> Cause {
    match (claim, same_boot) {
        (Claim::Rollback, _) => {
            Cause::new(Code::DeadMan, &format!("the dead-man rolled back while {phase}"))
        }
        (_, false) => {
            Cause::new(Code::Interrupted, &format!("the machine was restarted while {phase}"))
        }
        (_, true) => {
            Cause::new(Code::Interrupted, &format!("the subscriber was stopped while {phase}"))
        }
    }
}

pub(crate) fn too_many_starts() -> Cause {
    let detail = format!("the subscriber started more than {MAX_STARTS} times in one phase");
    Cause::new(Code::TooManyStarts, &detail)
}
