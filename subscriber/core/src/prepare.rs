//! From an order that arrives to the moment when its closure is there.

use std::time::Duration;

use herald_proto::{
    beacon::MAX_BEACON_AHEAD,
    order::Order,
    rejection::Code,
    report::{OrderName, PhaseName, Refusal},
    signing::Verified,
    store_path::StorePath,
    target::Action,
    time::Timestamp,
};

use crate::{
    admit::{Accepted, Admission, admit},
    attempt::{Procedure, changes_host},
    effect::Effect,
    ending::{Cause, Ending},
    event::{Failure, Realised, Seen},
    state::{Phase, Standing, Taken},
    step::Turn,
    wait::{Wait, Waited},
};

/// How often realising is tried again, and after which time first.
const RETRIES: u32 = 3;
const RETRY_DELAY: Duration = Duration::from_secs(2);

impl Turn<'_> {
    pub(crate) fn order_arrived(&mut self, order: &Verified<Order>, seen: &Seen) {
        match admit(&self.state, order, self.host, self.state.time(self.now)) {
            Admission::Again => {
                // It may have been refused meanwhile for what has passed.
                let refused = self.state.refusal.as_ref().map(|refusal| refusal.message);
                if refused == Some(order.message) {
                    self.state.refusal = None;
                }
                self.report();
            }
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
                    self.supersede(PhaseName::Superseded, None);
                    self.end(name, Ending::Rejected(cause));
                }
            }
            Admission::Take(accepted) => {
                self.consume(accepted.name(), order.release.issued_at);
                let target = accepted.target();
                if changes_host(target.action) {
                    self.state.quarantine.retain(|path| *path != target.toplevel);
                }
                match self.attempt_mut() {
                    Some(attempt) => attempt.next = Some(accepted),
                    None => self.supersede_with(*accepted, seen),
                }
            }
        }
    }

    /// Takes note of a beacon; an older one than was heard before says nothing.
    pub(crate) fn beacon_heard(&mut self, issued_at: Timestamp) -> Option<()> {
        let latest = self.state.time(self.now).plus(MAX_BEACON_AHEAD);
        let news = self.state.beacon.is_none_or(|known| known < issued_at);
        // It does not raise the floor of time: that is for those who sign releases.
        (news && issued_at <= latest).then(|| self.state.beacon = Some(issued_at))
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
        // Whoever orders that nothing be done wants the older order cancelled, and nothing else.
        let cancels = order.target().action == Action::None;
        let ending = if cancels { PhaseName::Cancelled } else { PhaseName::Superseded };
        let begins = !cancels && self.still_wanted(&order, seen).is_ok();
        let next = begins.then(|| &order.target().toplevel);
        self.supersede(ending, next);
        self.begin(order, seen);
    }

    /// Gives way to a newer order, with its system, before anything is activated.
    fn supersede(&mut self, ending: PhaseName, next: Option<&StorePath>) {
        if let Some(attempt) = self.state.phase.attempt_number() {
            let abandoned = self.state.phase.target().map(|target| target.toplevel.clone());
            self.report_as(ending, None);
            self.effects.push(Effect::Abandon { attempt });
            self.effects.push(Effect::ReleasePermit);
            self.give_up_root(attempt, abandoned.as_ref(), next);
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
        let toplevel = &order.target().toplevel;
        if changes_host(order.target().action) && self.state.quarantine.contains(toplevel) {
            let detail = format!(
                "{toplevel} rolled back here after this order was signed; a new release may name it"
            );
            let cause = Cause::new(Code::Quarantined, &detail);
            self.end(order.name(), Ending::Rejected(cause));
            return;
        }
        self.state.attempts += 1;
        let deadline = self.now.monotonic.plus(order.target().limits.realise);
        let attempt = self.state.attempts;
        let (retries, starts, waited) = (0, 0, Waited::default());
        self.state.phase = Phase::Realising { attempt, order, retries, starts, deadline, waited };
        self.report_as(PhaseName::Accepted, None);
        self.report();
        self.realise(Duration::ZERO);
    }

    /// Tells whether an order that nothing was activated for is still to be followed.
    pub(crate) fn still_wanted(&self, order: &Accepted, seen: &Seen) -> Result<(), Ending> {
        self.in_time(order)?;
        order.expects(seen.running.as_ref()).map_err(Ending::Rejected)
    }

    /// Tells whether there is time left to start with an order.
    pub(crate) fn in_time(&self, order: &Accepted) -> Result<(), Ending> {
        if order.is_expired(self.state.time(self.now)) {
            let detail = format!("it expired at {} before it could start", order.expires_at());
            return Err(Ending::Expired(Cause::new(Code::Expired, &detail)));
        }
        Ok(())
    }

    pub(crate) fn realise(&mut self, delay: Duration) {
        if let Phase::Realising { attempt, order, deadline, .. } = &self.state.phase {
            let (attempt, deadline) = (*attempt, *deadline);
            let target = Box::new(order.target().clone());
            self.effects.push(Effect::Realise { attempt, target, delay, deadline });
        }
    }

    pub(crate) fn realise_ended(&mut self, outcome: Result<Realised, Failure>) -> Option<()> {
        let Phase::Realising { attempt, order, retries, starts, deadline, mut waited } =
            self.state.phase.clone()
        else {
            return None;
        };
        match outcome {
            Ok(Realised { closure, reboot_needed }) => {
                self.report_as(PhaseName::Staged, None);
                self.state.staged = Some(order.target().toplevel.clone());
                waited.since.get_or_insert(self.state.time(self.now));
                let wait = Wait::NotBefore;
                // Better now than in the middle of the night.
                let procedure = Procedure::chosen(order.target(), reboot_needed.as_ref());
                self.state.phase =
                    Phase::Waiting { attempt, order, closure, wait, waited, reboot_needed, starts };
                match procedure {
                    Err(ending @ Ending::Rejected(_)) => self.abandon(ending),
                    _ => self.proceed()?,
                }
            }
            Err(failure) if failure.retry && retries < RETRIES => {
                let retries = retries + 1;
                self.state.phase =
                    Phase::Realising { attempt, order, retries, starts, deadline, waited };
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
}
