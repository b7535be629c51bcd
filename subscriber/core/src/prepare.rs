//! From an order that arrives to the moment before anything is activated.

use std::time::Duration;

use herald_proto::{
    order::Order,
    rejection::Code,
    report::{OrderName, PhaseName, Refusal},
    signing::Verified,
    target::Action,
    time::Timestamp,
};

use crate::{
    admit::{Accepted, Admission, admit},
    attempt::{Attempt, Baseline, Procedure},
    effect::Effect,
    event::{Failure, Realised, Seen},
    state::{Cause, Ending, Phase, Standing, Taken, Wait},
    step::Turn,
    verdict,
};

/// How long preparing the way back may take.
pub(crate) const ARM_LIMIT: Duration = Duration::from_secs(15);
/// How often realising is tried again, and after which time first.
const RETRIES: u32 = 3;
const RETRY_DELAY: Duration = Duration::from_secs(2);

impl Turn<'_> {
    pub(crate) fn order_arrived(&mut self, order: &Verified<Order>, seen: &Seen) {
        match admit(&self.state, order, self.host, self.state.time(self.now)) {
            Admission::Again => self.report(),
            Admission::Refuse(Cause { code, detail }) => {
                self.refuse(Refusal { message: order.message, code, detail });
            }
            Admission::Reject(name, cause) => {
                self.consume(name, order.release.issued_at);
                if let Some(attempt) = self.attempt_mut() {
                    attempt.next = None;
                    let Cause { code, detail } = cause;
                    self.refuse(Refusal { message: order.message, code, detail });
                } else {
                    self.supersede();
                    self.end(name, Ending::Rejected(cause));
                }
            }
            Admission::Take(accepted) => {
                self.consume(accepted.name(), order.release.issued_at);
                match self.attempt_mut() {
                    Some(attempt) => attempt.next = Some(accepted),
                    None => self.supersede_with(*accepted, seen),
                }
            }
        }
    }

    /// Remembers a refused message; one that comes again, as retained ones do, is said once,
    /// although the words may differ by the time in them.
    pub(crate) fn refuse(&mut self, refusal: Refusal) {
        let same = |known: &Refusal| known.message == refusal.message && known.code == refusal.code;
        if !self.state.refusal.as_ref().is_some_and(same) {
            self.state.refusal = Some(refusal);
            self.report();
        }
    }

    /// Makes the sequence count, whatever comes of the order. Older ones can't come back then,
    /// so that a lost state is accounted for.
    pub(crate) fn consume(&mut self, name: OrderName, issued_at: Timestamp) {
        let OrderName { sequence, target, .. } = name;
        self.state.taken = Some(Taken { sequence, target });
        self.state.floor = self.state.floor.max(issued_at);
        self.state.refusal = None;
        self.state.standing = Standing::Known;
    }

    /// Takes up a newer order instead of one for which nothing was activated.
    pub(crate) fn supersede_with(&mut self, order: Accepted, seen: &Seen) {
        self.supersede();
        self.begin(order, seen);
    }

    /// Gives way to a newer order before anything is activated.
    pub(crate) fn supersede(&mut self) {
        if let Some(attempt) = self.state.phase.attempt_number() {
            self.report_as(PhaseName::Superseded, None);
            self.effects.push(Effect::Abandon { attempt });
            self.effects.push(Effect::ReleasePermit);
        }
    }

    /// Starts with an order that was taken.
    pub(crate) fn begin(&mut self, order: Accepted, seen: &Seen) {
        if let Err(cause) = self.still_wanted(&order, seen) {
            self.end(order.name(), cause);
            return;
        }
        if order.target().action == Action::None {
            self.end(order.name(), Ending::Succeeded);
            return;
        }
        self.state.attempts += 1;
        let deadline = self.now.monotonic.plus(order.target().limits.realise);
        let attempt = self.state.attempts;
        self.state.phase = Phase::Realising { attempt, order, retries: 0, starts: 0, deadline };
        self.report_as(PhaseName::Accepted, None);
        self.report();
        self.realise(Duration::ZERO);
    }

    /// Tells whether an order that nothing was activated for is still to be followed.
    pub(crate) fn still_wanted(&self, order: &Accepted, seen: &Seen) -> Result<(), Ending> {
        if order.is_expired(self.state.time(self.now)) {
            let detail = format!("it expired at {} before it could start", order.expires_at());
            return Err(Ending::Expired(Cause::new(Code::Expired, &detail)));
        }
        order.expects(seen.running.as_ref()).map_err(Ending::Rejected)
    }

    pub(crate) fn realise(&mut self, delay: Duration) {
        if let Phase::Realising { attempt, order, deadline, .. } = &self.state.phase {
            let (attempt, deadline) = (*attempt, *deadline);
            let target = Box::new(order.target().clone());
            self.effects.push(Effect::Realise { attempt, target, delay, deadline });
        }
    }

    pub(crate) fn realise_ended(&mut self, outcome: Result<Realised, Failure>) -> Option<()> {
        let Phase::Realising { attempt, order, retries, starts, deadline } =
            self.state.phase.clone()
        else {
            return None;
        };
        match outcome {
            Ok(Realised { closure }) => {
                self.report_as(PhaseName::Staged, None);
                self.state.staged = Some(order.target().toplevel.clone());
                let wait = Wait::NotBefore;
                self.state.phase = Phase::Waiting { attempt, order, closure, wait, starts };
                self.proceed()?;
            }
            Err(failure) if failure.retry && retries < RETRIES => {
                let retries = retries + 1;
                self.state.phase = Phase::Realising { attempt, order, retries, starts, deadline };
                let detail = format!("try {retries} of {RETRIES} failed: {}", failure.cause.detail);
                self.report_because(PhaseName::Realising, &Cause::new(failure.cause.code, &detail));
                self.realise(RETRY_DELAY * 4u32.pow(retries - 1));
            }
            Err(failure) => {
                let ending = match failure.cause.code {
                    Code::LimitReached => Ending::TimedOut(failure.cause),
                    _ => Ending::Failed(failure.cause),
                };
                self.abandon(ending);
            }
        }
        Some(())
    }

    /// Goes on with a staged order as far as time and permit allow.
    pub(crate) fn proceed(&mut self) -> Option<()> {
        let time = self.state.time(self.now);
        let Phase::Waiting { attempt, order, wait, .. } = &mut self.state.phase else {
            return None;
        };
        if order.target().action == Action::Stage {
            let name = order.name();
            self.end(name, Ending::Succeeded);
        } else if order.not_before() > time {
            *wait = Wait::NotBefore;
            self.report();
        } else {
            *wait = Wait::Permit;
            let attempt = *attempt;
            self.effects.push(Effect::RequestPermit { attempt });
        }
        Some(())
    }

    pub(crate) fn permitted(&mut self, seen: &Seen) -> Option<()> {
        let Phase::Waiting { attempt, order, closure, wait: Wait::Permit, starts } =
            self.state.phase.clone()
        else {
            return None;
        };
        if let Err(ending) = self.still_wanted(&order, seen) {
            self.abandon(ending);
            return Some(());
        }
        let Some(previous) = seen.running.clone() else {
            let detail = "nothing that is a store path runs, so there is no way back";
            self.abandon(Ending::Failed(Cause::new(Code::NoWayBack, detail)));
            return Some(());
        };
        let Some(procedure) = Procedure::of(order.target().action) else {
            let detail = format!("the action {} is not known here", order.target().action);
            self.abandon(Ending::Failed(Cause::new(Code::Unsupported, &detail)));
            return Some(());
        };
        let baseline = Baseline {
            previous,
            profile: seen.profile.clone(),
            boot_default: seen.boot_default.clone(),
            failed_units: seen.failed_units.clone(),
            connected: seen.connected,
            boot: self.now.boot,
        };
        let attempt = Attempt { number: attempt, order, closure, procedure, baseline, next: None };
        match procedure {
            Procedure::Switch | Procedure::Test => {
                let dead_man_at = self.now.monotonic.plus(verdict::dead_man_after(&attempt));
                self.effects.push(Effect::Arm { attempt: Box::new(attempt.clone()), dead_man_at });
                let deadline = self.now.monotonic.plus(ARM_LIMIT);
                self.state.phase = Phase::Armed { attempt, deadline, starts };
                self.report();
            }
            Procedure::Boot => self.commit(attempt, starts),
            Procedure::DryActivate => self.activate(attempt),
        }
        Some(())
    }
}
