//! From a closure that is there to the moment before anything is activated: whatever an order has
//! to wait for, one thing after the other.

use std::time::Duration;

use herald_proto::{
    rejection::Code,
    report::Hold,
    target::{Action, Mark},
    text::Prose,
};

use crate::{
    activate::COMMIT_LIMIT,
    attempt::{Attempt, Baseline, Procedure, changes_host},
    effect::Effect,
    ending::{Cause, Ending},
    event::{Failure, Seen},
    now::Monotonic,
    state::Phase,
    step::Turn,
    verdict,
    wait::{Consent, Wait, Window},
};

/// How long preparing the way back may take.
pub(crate) const ARM_LIMIT: Duration = Duration::from_secs(15);
/// How long until a calendar that could not be read is looked at again.
const LOOK_AGAIN: Duration = Duration::from_secs(5 * 60);

/// How long until a systemd that did not say which units are failed is asked again, and how often.
const ASK_AGAIN: Duration = Duration::from_secs(30);
const MAX_UNANSWERED: u8 = 10;

impl Turn<'_> {
    /// Goes on with a staged order as far as people, time, windows and the permit allow.
    pub(crate) fn proceed(&mut self) -> Option<()> {
        let time = self.state.time(self.now);
        let held = self.state.hold.is_some();
        let Phase::Waiting { attempt, order, wait, .. } = &mut self.state.phase else {
            return None;
        };
        let (attempt, target) = (*attempt, order.target());
        let changes = changes_host(target.action);
        if target.action == Action::Stage {
            let name = order.name();
            self.end(name, Ending::Succeeded);
            let keep = self.state.kept();
            self.effects.push(Effect::CleanUp { attempt, keep });
        } else if held && changes && !order.is_by_hand() {
            *wait = Wait::Hold;
            self.report();
        } else if order.not_before() > time {
            *wait = Wait::NotBefore;
            self.report();
        } else if self.host.windows && changes && !target.is(Mark::Urgent) && !order.is_by_hand() {
            *wait = Wait::Window { opens: None };
            self.effects.push(Effect::LookAtWindows { attempt, at: time });
        } else {
            self.ask_or_queue();
        }
        Some(())
    }

    /// Takes in whether a maintenance window is open.
    pub(crate) fn window_seen(&mut self, window: Result<Window, Failure>) -> Option<()> {
        let time = self.state.time(self.now);
        let Phase::Waiting { wait: wait @ Wait::Window { .. }, waited, .. } = &mut self.state.phase
        else {
            return None;
        };
        match window {
            Ok(Window::Open { closes }) if closes > time => {
                waited.closes = Some(closes);
                self.ask_or_queue();
            }
            Ok(Window::Open { closes: opens } | Window::Closed { opens }) => {
                // One that opens right now is looked at again, but not at once for ever.
                *wait = Wait::Window { opens: Some(opens.max(time.plus(Duration::from_secs(1)))) };
                self.report();
            }
            Err(Failure { cause, .. }) => {
                *wait = Wait::Window { opens: Some(time.plus(LOOK_AGAIN)) };
                self.report_because(self.state.phase.name(), &cause);
            }
        }
        Some(())
    }

    /// Asks whoever uses the host where that is its custom, and then for the permit.
    fn ask_or_queue(&mut self) {
        let time = self.state.time(self.now);
        let Phase::Waiting { attempt, order, wait, waited, .. } = &mut self.state.phase else {
            return;
        };
        let attempt = *attempt;
        let interrupts =
            matches!(order.target().action, Action::Switch | Action::Test | Action::Reboot);
        if let (Some(patience), true, Consent::NotAsked) =
            (self.host.consent, interrupts && !order.is_by_hand(), waited.consent)
        {
            waited.consent = Consent::Asked { until: time.plus(patience) };
        }
        match waited.consent.until().filter(|until| *until > time) {
            Some(until) => {
                *wait = Wait::Consent { until };
                let target = Box::new(order.target().clone());
                if matches!(waited.consent, Consent::Asked { .. }) {
                    self.effects.push(Effect::AskConsent { attempt, target, until });
                }
                self.report();
            }
            None => {
                *wait = Wait::Permit;
                self.effects.push(Effect::RequestPermit { attempt });
            }
        }
    }

    /// Takes in what whoever uses the host says: that it may go on, or that they want it later.
    pub(crate) fn answered(&mut self, agrees: bool) -> Option<()> {
        let Phase::Waiting { wait, waited, .. } = &mut self.state.phase else {
            return None;
        };
        let asked = matches!(wait, Wait::Consent { .. });
        waited.consent = match (agrees, waited.consent.until()) {
            (true, _) => Consent::Given,
            (false, Some(until)) => Consent::Postponed { until },
            (false, _) => return None,
        };
        match (asked, agrees) {
            (true, true) => self.proceed(),
            (true, false) => {
                // Who has answered is asked no more, on no other desktop either.
                self.effects.push(Effect::ReleasePermit);
                self.report();
                Some(())
            }
            (false, _) => Some(()),
        }
    }

    /// Holds the host: nothing is begun, and what is armed goes on to its end.
    pub(crate) fn held(&mut self, reason: Prose) {
        let since = self.state.time(self.now);
        self.state.hold = Some(Hold { reason, since });
        if let Phase::Waiting { order, wait, .. } = &mut self.state.phase
            && changes_host(order.target().action)
            && !order.is_by_hand()
        {
            *wait = Wait::Hold;
            self.effects.push(Effect::ReleasePermit);
        }
        self.report();
    }

    /// Lets a held host go on.
    pub(crate) fn resumed(&mut self) -> Option<()> {
        self.state.hold.take()?;
        let reports = self.state.reports;
        if let Phase::Waiting { wait: Wait::Hold, .. } = self.state.phase {
            self.proceed()?;
        }
        if self.state.reports == reports {
            self.report();
        }
        Some(())
    }

    /// Looks at a waiting order again, as a time has come. What runs is compared when it gets its
    /// permit.
    pub(crate) fn wait_on(&mut self) -> Option<()> {
        let Phase::Waiting { order, wait, waited, .. } = &self.state.phase else {
            return None;
        };
        let time = self.state.time(self.now);
        if let Err(ending) = self.in_time(order).and_then(|()| waited.allows(order, time)) {
            self.abandon(ending);
            return Some(());
        }
        if wait.due(order).is_some_and(|due| due <= time) { self.proceed() } else { Some(()) }
    }

    pub(crate) fn permitted(&mut self, seen: &Seen) -> Option<()> {
        let Phase::Waiting {
            attempt,
            order,
            closure,
            wait: Wait::Permit,
            waited,
            reboot_needed,
            starts,
        } = self.state.phase.clone()
        else {
            return None;
        };
        let time = self.state.time(self.now);
        let may = waited.allows(&order, time).and_then(|()| self.still_wanted(&order, seen));
        if let Err(ending) = may {
            self.abandon(ending);
            return Some(());
        }
        if waited.closes.is_some_and(|closes| closes <= time) {
            self.effects.push(Effect::ReleasePermit);
            return self.proceed();
        }
        let Some(previous) = seen.running.clone() else {
            let detail = "nothing that is a store path runs, so there is no way back";
            self.abandon(Ending::Failed(Cause::new(Code::NoWayBack, detail)));
            return Some(());
        };
        let procedure = match Procedure::chosen(order.target(), reboot_needed.as_ref()) {
            Ok(procedure) => procedure,
            Err(ending) => {
                self.abandon(ending);
                return Some(());
            }
        };
        // Whatever had failed before would count against the new system.
        if seen.failed_units.is_none() && procedure.activates() {
            self.units_unknown();
            return Some(());
        }
        let baseline = Baseline {
            previous,
            profile: seen.profile.clone(),
            boot_default: seen.boot_default.clone(),
            failed_units: seen.failed_units.clone().unwrap_or_default(),
            connected: seen.connected,
            boot: self.now.boot,
        };
        let attempt = Attempt {
            number: attempt,
            order,
            closure,
            procedure,
            reboot_needed,
            baseline,
            next: None,
        };
        match procedure {
            Procedure::Switch | Procedure::Test => {
                let dead_man_at = self.now.monotonic.plus(verdict::dead_man_after(&attempt));
                let dead_man_at = (!attempt.is_irreversible()).then_some(dead_man_at);
                self.arm(attempt, dead_man_at, ARM_LIMIT, starts);
            }
            Procedure::Reboot => {
                let dead_man_at = Some(verdict::dead_man_of_a_boot(&attempt));
                // The boot loader is written to.
                self.arm(attempt, dead_man_at, ARM_LIMIT + COMMIT_LIMIT, starts);
            }
            Procedure::Boot => self.commit(attempt, starts),
            Procedure::DryActivate => self.activate(attempt),
        }
        Some(())
    }

    /// systemd does not say which units are failed: gives the permit back, and asks again later, for
    /// so many times.
    fn units_unknown(&mut self) {
        let time = self.state.time(self.now);
        let Phase::Waiting { wait, waited, .. } = &mut self.state.phase else {
            return;
        };
        waited.unanswered += 1;
        if waited.unanswered > MAX_UNANSWERED {
            let detail = "systemd does not say which units are failed, so nothing tells those that \
                          the new system would break; look at systemctl list-units --state=failed";
            self.abandon(Ending::Failed(Cause::new(Code::UnitsUnknown, detail)));
            return;
        }
        *wait = Wait::Units { again: time.plus(ASK_AGAIN) };
        self.effects.push(Effect::ReleasePermit);
        self.report();
    }

    fn arm(
        &mut self,
        attempt: Attempt,
        dead_man_at: Option<Monotonic>,
        limit: Duration,
        starts: u32,
    ) {
        self.effects.push(Effect::Arm { attempt: Box::new(attempt.clone()), dead_man_at });
        let deadline = self.now.monotonic.plus(limit);
        self.state.phase = Phase::Armed { attempt, deadline, starts };
        self.report();
    }
}
