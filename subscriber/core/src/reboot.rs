//! A reboot into the new system, with the old one as the fall-back: what boots decides.

use std::time::Duration;

use herald_proto::rejection::Code;

use crate::{
    attempt::{Attempt, Runs},
    effect::Effect,
    ending::Cause,
    event::{Claim, Seen},
    now::Monotonic,
    start::{MAX_STARTS, interrupted, too_many_starts},
    state::Phase,
    step::Turn,
    verdict,
};

/// How long a machine may take from being told to restart until this boot is over.
pub(crate) const REBOOT_LIMIT: Duration = Duration::from_secs(10 * 60);

impl Turn<'_> {
    /// Restarts the machine. The boot loader was told to boot the new system, once.
    pub(crate) fn reboot(&mut self, attempt: Attempt, starts: u32) {
        self.effects.push(Effect::Reboot { attempt: Box::new(attempt.clone()) });
        let deadline = self.now.monotonic.plus(REBOOT_LIMIT);
        self.state.phase = Phase::Rebooting { attempt, deadline, starts };
        self.report();
    }

    /// Takes up an attempt that was about to restart the machine.
    pub(crate) fn started_rebooting(
        &mut self,
        attempt: Attempt,
        starts: u32,
        claim: Claim,
        seen: &Seen,
    ) {
        let armed = matches!(self.state.phase, Phase::Armed { .. });
        let same_boot = self.state.boot == self.now.boot;
        let phase = if armed { "armed" } else { "rebooting" };
        match (attempt.runs(seen), same_boot) {
            (Runs::Other, _) => self.stand_down(&attempt, seen),
            _ if claim == Claim::Rollback => {
                self.give_up(attempt, interrupted(phase, claim, same_boot), seen);
            }
            (Runs::Target, false) => self.confirm_what_booted(attempt),
            // Whether the boot loader was told is not known.
            _ if armed => self.give_up(attempt, interrupted(phase, claim, same_boot), seen),
            (_, true) if starts >= MAX_STARTS => self.give_up(attempt, too_many_starts(), seen),
            (_, true) => self.reboot(attempt, starts + 1),
            (Runs::Previous | Runs::Nothing, false) => {
                let detail = "the machine was restarted, and did not boot the new system";
                self.give_up(attempt, Cause::new(Code::FellBack, detail), seen);
            }
        }
    }

    /// The new system booted: begins to prove it, within a limit that counts from now, but for no
    /// longer than the dead-man waits.
    fn confirm_what_booted(&mut self, attempt: Attempt) {
        let latest = Monotonic::default().plus(verdict::BOOT_LIMIT);
        let began = self.now.monotonic.min(latest);
        let deadline = began.plus(attempt.order.target().limits.confirm);
        self.guard_what_booted(&attempt);
        self.confirm(attempt, deadline);
        self.report();
    }

    /// Has a dead-man watch over a system that was booted; one that came with it may do so already.
    pub(crate) fn guard_what_booted(&mut self, attempt: &Attempt) {
        let dead_man_at = verdict::dead_man_of_a_boot(attempt);
        self.effects.push(Effect::Guard { attempt: Box::new(attempt.clone()), dead_man_at });
    }
}
