//! What changes the machine beside the core's own doing: restarts, people, the boot loader.

use herald_core::{Attempt, Claim, Effect, Procedure};
use herald_proto::store_path::StorePath;

use super::Sim;
use crate::kit::{choice::Deed, old, other};

impl Sim {
    pub(super) fn runs_target(&self, attempt: &Attempt) -> bool {
        self.host.seen.running.as_ref() == Some(&attempt.order.target().toplevel)
    }

    /// Boots what the boot loader was told to boot once, or the default.
    pub(super) fn restart(&mut self, falls_back: bool) {
        match self.one_shot.take().filter(|_| !falls_back) {
            Some(once) => self.host.reboot_into(once),
            None => self.host.reboot(),
        }
    }

    pub(super) fn stop_subscriber(&mut self) {
        (self.current, self.check, self.permit) = (None, None, None);
        (self.looks, self.asked, self.trust) = (false, false, false);
        self.measures.clear();
    }

    pub(super) fn let_somebody(&mut self, deed: Deed) {
        let back = self.previous();
        let seen = &mut self.host.seen;
        match deed {
            Deed::Switches => {
                seen.running = Some(other());
                seen.profile = Some(other());
                seen.boot_default = Some(other());
            }
            Deed::Tests => seen.running = Some(other()),
            Deed::GoesBack => seen.running = Some(back),
            Deed::Unplugs => seen.connected = !seen.connected,
        }
    }

    /// Prepares the way back of what is under way.
    pub(super) fn arm(&mut self) {
        self.claim = Claim::Armed;
        if let Some(Effect::Arm { attempt, .. }) = &self.current
            && attempt.procedure == Procedure::Reboot
        {
            self.one_shot = Some(attempt.order.target().toplevel.clone());
            self.host.seen.boot_default = Some(attempt.baseline.previous.clone());
        }
    }

    pub(super) fn previous(&self) -> StorePath {
        self.host.state.phase.attempt().map_or_else(old, |a| a.baseline.previous.clone())
    }
}
