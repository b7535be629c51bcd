//! The way back: to the system that ran before, and if that does not help, once through a reboot.

use std::time::Duration;

use herald_proto::rejection::Code;

use crate::{
    attempt::{Attempt, Runs},
    effect::Effect,
    ending::{Cause, Ending},
    event::{Failure, Seen},
    reboot::REBOOT_LIMIT,
    state::{Phase, Resort},
    step::Turn,
    verdict,
};

/// How much longer than the activation a roll back may take.
const ROLLBACK_GRACE: Duration = Duration::from_secs(2 * 60);
/// How long each switch program of a roll back may take at least: an order's own limits are about
/// the new system, and must not cut off the way back to the old one.
pub const WAY_BACK_LIMIT: Duration = Duration::from_secs(10 * 60);
/// How long the old system has to reach the broker again.
const RECONNECT_LIMIT: Duration = Duration::from_secs(2 * 60);

impl Turn<'_> {
    /// Rolls back, unless somebody activated another system meanwhile.
    pub(crate) fn give_up(&mut self, attempt: Attempt, cause: Cause, seen: &Seen) {
        match attempt.runs(seen) {
            Runs::Other => self.stand_down(&attempt, seen),
            Runs::Target | Runs::Previous | Runs::Nothing => self.roll_back(attempt, cause, seen),
        }
    }

    pub(crate) fn roll_back(&mut self, attempt: Attempt, cause: Cause, seen: &Seen) {
        if attempt.is_irreversible() {
            self.effects.push(Effect::Disarm { attempt: attempt.number });
            let detail = format!("not rolled back, as the order is irreversible: {}", cause.detail);
            let ending = Ending::Degraded(Cause::new(cause.code, &detail));
            self.end_attempt(&attempt, ending, seen);
            return;
        }
        let span = attempt.order.target().limits.activate * 2 + WAY_BACK_LIMIT * 2 + ROLLBACK_GRACE;
        let deadline = self.now.monotonic.plus(span);
        self.effects.push(Effect::RollBack { attempt: Box::new(attempt.clone()) });
        let resort = Resort::Unused;
        self.state.phase = Phase::RollingBack { attempt, cause, deadline, starts: 0, resort };
        self.report();
    }

    pub(crate) fn rollback_ended(
        &mut self,
        outcome: Result<(), Failure>,
        seen: &Seen,
    ) -> Option<()> {
        let Phase::RollingBack { attempt, cause, resort, .. } = self.state.phase.clone() else {
            return None;
        };
        self.state.put_in_quarantine(attempt.order.target().toplevel.clone());
        let may_reboot =
            resort == Resort::Unused && self.host.last_resort && attempt.procedure.activates();
        match verdict::undone(&attempt, seen) {
            Ok(()) => {
                let cause = match outcome {
                    Ok(()) => cause,
                    Err(Failure { cause: problem, .. }) => {
                        let detail =
                            format!("{}; while rolling back: {}", cause.detail, problem.detail);
                        Cause::new(cause.code, &detail)
                    }
                };
                if may_reboot && attempt.baseline.connected {
                    self.reconnect(attempt, cause);
                } else {
                    self.end_attempt(&attempt, Ending::RolledBack(cause), seen);
                }
            }
            Err(_) if attempt.runs(seen) == Runs::Other => self.stand_down(&attempt, seen),
            Err(what) => {
                let said =
                    outcome.err().map(|f| format!(": {}", f.cause.detail)).unwrap_or_default();
                let detail = format!("{what}{said}; it rolled back because: {}", cause.detail);
                // A reboot helps where the old system is what boots.
                if may_reboot && seen.boot_default == attempt.baseline.boot_default {
                    self.reboot_to_the_old(attempt, Cause::new(cause.code, &detail));
                } else {
                    let ending = Ending::Degraded(Cause::new(Code::RollbackFailed, &detail));
                    self.end_attempt(&attempt, ending, seen);
                }
            }
        }
        Some(())
    }

    /// The old system runs again: makes sure that it reaches the broker, as it did before.
    fn reconnect(&mut self, attempt: Attempt, cause: Cause) {
        self.effects.push(Effect::ProveLink { attempt: attempt.number });
        let deadline = self.now.monotonic.plus(RECONNECT_LIMIT);
        let resort = Resort::Reconnecting;
        self.state.phase = Phase::RollingBack { attempt, cause, deadline, starts: 0, resort };
    }

    /// The old system has reached the broker.
    pub(crate) fn reconnected(&mut self, seen: &Seen) -> Option<()> {
        match &mut self.state.phase {
            Phase::RollingBack { resort, .. } if *resort == Resort::Reconnecting => {
                *resort = Resort::Used;
            }
            _ => return None,
        }
        self.rollback_ended(Ok(()), seen)
    }

    /// Ends a roll back that has taken too long.
    pub(crate) fn rollback_overran(&mut self, seen: &Seen) -> Option<()> {
        let Phase::RollingBack { attempt, cause, resort, .. } = self.state.phase.clone() else {
            return None;
        };
        if resort == Resort::Reconnecting && attempt.runs(seen) != Runs::Other {
            let detail = format!("{}; the old system did not reach the broker again", cause.detail);
            self.reboot_to_the_old(attempt, Cause::new(cause.code, &detail));
            return Some(());
        }
        let cause = Cause::new(Code::LimitReached, "the roll back did not end in time");
        self.rollback_ended(Err(Failure { cause, retry: false }), seen)
    }

    /// Reboots into the old boot default: the last resort, once.
    fn reboot_to_the_old(&mut self, attempt: Attempt, cause: Cause) {
        self.effects.push(Effect::Reboot { attempt: Box::new(attempt.clone()) });
        let deadline = self.now.monotonic.plus(REBOOT_LIMIT);
        let resort = Resort::Used;
        self.state.phase = Phase::RollingBack { attempt, cause, deadline, starts: 0, resort };
        self.report();
    }

    /// A start while rolling back: does it again, or reboots, as that was about to happen.
    pub(crate) fn roll_back_again(
        &mut self,
        attempt: Attempt,
        cause: Cause,
        starts: u32,
        resort: Resort,
        seen: &Seen,
    ) {
        let same_boot = self.state.boot == self.now.boot;
        match (resort, attempt.runs(seen)) {
            (Resort::Used, Runs::Target | Runs::Previous | Runs::Nothing) if same_boot => {
                self.reboot_to_the_old(attempt, cause);
            }
            _ => self.give_up(attempt, cause, seen),
        }
        if let Phase::RollingBack { starts: counted, resort: kept, .. } = &mut self.state.phase {
            *counted = starts;
            if resort == Resort::Used {
                *kept = resort;
            }
        }
    }
}
