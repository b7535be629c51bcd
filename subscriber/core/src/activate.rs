//! From the moment when the way back is prepared to a good end: activate, confirm, commit.

use std::time::Duration;

use herald_proto::{rejection::Code, text::Prose};

use crate::{
    attempt::{Attempt, HealthProof, LinkProof, Procedure, Runs, TrustProof},
    effect::Effect,
    ending::{Cause, Ending},
    event::{ActivationEnd, Failure, Seen},
    now::Monotonic,
    state::Phase,
    step::Turn,
    verdict,
};

/// How much longer than the runner the core waits for the end of an activation.
pub(crate) const RUNNER_GRACE: Duration = Duration::from_secs(5);
/// How long setting the profile and the boot default may take.
pub(crate) const COMMIT_LIMIT: Duration = Duration::from_secs(12 * 60);
/// How long after a round of health checks the next one begins.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);

impl Turn<'_> {
    pub(crate) fn arm_ended(&mut self, outcome: Result<(), Failure>, seen: &Seen) -> Option<()> {
        let Phase::Armed { attempt, starts, .. } = self.state.phase.clone() else {
            return None;
        };
        match outcome {
            Ok(()) if attempt.runs(seen) == Runs::Other => self.stand_down(&attempt, seen),
            Ok(()) if attempt.procedure == Procedure::Reboot => self.reboot(attempt, 0),
            Ok(()) => self.activate(attempt),
            Err(failure) if failure.cause.code == Code::RebootNeeded => {
                self.effects.push(Effect::Disarm { attempt: attempt.number });
                self.switch_refused(attempt, starts, failure.cause, seen);
            }
            // The boot loader was written to.
            Err(failure) if attempt.procedure == Procedure::Reboot => {
                self.give_up(attempt, failure.cause, seen);
            }
            Err(failure) => {
                self.effects.push(Effect::Disarm { attempt: attempt.number });
                self.end_attempt(&attempt, Ending::Failed(failure.cause), seen);
            }
        }
        Some(())
    }

    /// The new system's own check does not let this one be switched over. Nothing was armed: as the
    /// order says it becomes what boots next, or nothing.
    fn switch_refused(&mut self, mut attempt: Attempt, starts: u32, cause: Cause, seen: &Seen) {
        match Procedure::of_a_refused_switch(attempt.order.target()) {
            Some(procedure) if attempt.procedure == Procedure::Switch => {
                attempt.procedure = procedure;
                attempt.reboot_needed = Some(cause.detail);
                self.commit(attempt, starts);
            }
            _ => self.end_attempt(&attempt, Ending::Rejected(cause), seen),
        }
    }

    pub(crate) fn activate(&mut self, attempt: Attempt) {
        let deadline = self.now.monotonic.plus(attempt.order.target().limits.activate);
        self.effects.push(Effect::Activate { attempt: Box::new(attempt.clone()), deadline });
        let deadline = deadline.plus(RUNNER_GRACE);
        self.state.phase = Phase::Activating { attempt, deadline };
        self.report();
    }

    pub(crate) fn activation_ended(&mut self, end: ActivationEnd, seen: &Seen) -> Option<()> {
        let Phase::Activating { attempt, deadline } = self.state.phase.clone() else {
            return None;
        };
        let outcome = verdict::judge(end, &attempt, seen, self.host);
        match (outcome, attempt.procedure) {
            (Ok(()), Procedure::DryActivate) => self.end_attempt(&attempt, Ending::Succeeded, seen),
            (Err(cause), Procedure::DryActivate) => {
                self.end_attempt(&attempt, Ending::Failed(cause), seen);
            }
            (Ok(()), _) => {
                // However late the end is heard of, the subscriber gives up before the dead-man.
                let ended = self.now.monotonic.min(deadline);
                let deadline = ended.plus(attempt.order.target().limits.confirm);
                self.confirm(attempt, deadline);
                self.report();
            }
            (Err(cause), _) => self.roll_back(attempt, cause, seen),
        }
        Some(())
    }

    /// Begins, or begins again, to prove the new system.
    pub(crate) fn confirm(&mut self, attempt: Attempt, deadline: Monotonic) {
        let link = LinkProof::needed(&attempt.baseline);
        if link == LinkProof::Awaited {
            self.effects.push(Effect::ProveLink { attempt: attempt.number });
        }
        let (trust, boxed) = (TrustProof::needed(&attempt.order), Box::new(attempt.clone()));
        if trust == TrustProof::Awaited {
            self.effects.push(Effect::CheckTrust { attempt: boxed.clone() });
        }
        self.effects.push(Effect::CheckHealth { attempt: boxed, delay: Duration::ZERO });
        let health = HealthProof::Unchecked;
        self.state.phase = Phase::Confirming { attempt, deadline, link, trust, health };
    }

    pub(crate) fn link_proved(&mut self, seen: &Seen) -> Option<()> {
        if let Phase::RollingBack { .. } = self.state.phase {
            return self.reconnected(seen);
        }
        let Phase::Confirming { link, .. } = &mut self.state.phase else {
            return None;
        };
        *link = LinkProof::Fresh;
        self.commit_if_proved()
    }

    /// A system that locks its operators out is not given the time of the other proofs.
    pub(crate) fn trust_seen(&mut self, verdict: Result<(), Cause>, seen: &Seen) -> Option<()> {
        let Phase::Confirming { attempt, trust, .. } = &mut self.state.phase else {
            return None;
        };
        match verdict {
            Ok(()) => {
                *trust = TrustProof::Given;
                self.commit_if_proved()
            }
            Err(cause) => {
                let attempt = attempt.clone();
                self.give_up(attempt, cause, seen);
                Some(())
            }
        }
    }

    pub(crate) fn health_checked(
        &mut self,
        began: Monotonic,
        verdict: Result<(), Prose>,
        seen: &Seen,
    ) -> Option<()> {
        let Phase::Confirming { attempt, link, trust, health, .. } = &mut self.state.phase else {
            return None;
        };
        let verdict = match attempt.runs(seen) {
            Runs::Target => verdict,
            Runs::Other => {
                let attempt = attempt.clone();
                self.stand_down(&attempt, seen);
                return Some(());
            }
            Runs::Previous | Runs::Nothing => Err(verdict::not_the_target(seen)),
        };
        let stable_for = attempt.order.target().health.stable_for;
        *health = verdict::health(health, began, verdict, stable_for);
        if verdict::is_proved(*link, *trust, health) {
            return self.commit_if_proved();
        }
        let delay = match health {
            HealthProof::HealthySince(since) => {
                since.plus(stable_for).since(self.now.monotonic).min(CHECK_INTERVAL)
            }
            _ => CHECK_INTERVAL,
        };
        let attempt = Box::new(attempt.clone());
        self.effects.push(Effect::CheckHealth { attempt, delay });
        Some(())
    }

    pub(crate) fn commit_if_proved(&mut self) -> Option<()> {
        let Phase::Confirming { attempt, link, trust, health, .. } = &self.state.phase else {
            return None;
        };
        if verdict::is_proved(*link, *trust, health) {
            self.commit(attempt.clone(), 0);
        }
        Some(())
    }

    pub(crate) fn commit(&mut self, attempt: Attempt, starts: u32) {
        self.effects.push(Effect::Commit { attempt: Box::new(attempt.clone()) });
        let deadline = self.now.monotonic.plus(COMMIT_LIMIT);
        self.state.phase = Phase::Committing { attempt, deadline, starts };
        self.report();
    }

    pub(crate) fn commit_ended(&mut self, outcome: Result<(), Failure>, seen: &Seen) -> Option<()> {
        let Phase::Committing { attempt, .. } = self.state.phase.clone() else {
            return None;
        };
        let outcome = outcome.map_err(|failure| failure.cause);
        match outcome.and_then(|()| verdict::read_back(&attempt, seen)) {
            Ok(()) => {
                self.adopt(&attempt.baseline.previous);
                // What only boots next has confirmed nothing: it is adopted once it runs.
                if attempt.runs(seen) == Runs::Target {
                    let toplevel = attempt.order.target().toplevel.clone();
                    let most = self.host.kept_systems;
                    self.state.remember(toplevel, Some(attempt.closure), most);
                }
                let ending = match attempt.reboot_needed.clone() {
                    Some(what) if attempt.procedure.leaves_the_kernel() => {
                        Ending::RebootNeeded(Cause { code: Code::RebootNeeded, detail: what })
                    }
                    _ => Ending::Succeeded,
                };
                self.end_attempt(&attempt, ending, seen);
                if self.host.prunes && attempt.procedure != Procedure::Test {
                    self.effects.push(Effect::Prune { attempt: Box::new(attempt) });
                }
            }
            Err(cause) => self.give_up(attempt, cause, seen),
        }
        Some(())
    }
}
