//! The one loop of a profile: event, step, persist, effects.

use std::{rc::Rc, sync::Arc, time::Duration};

use herald_core::{
    Capabilities, Effect, Event, Failure, Illegal, Now, Realised, Standing, State, step,
};
use herald_proto::{
    beacon::Freshness,
    host::ProfileName,
    id::MessageDigest,
    log::Program,
    order::Addressee,
    rejection::Code,
    report::Refusal,
    signing::{verify_beacon, verify_order},
    text::Prose,
    time::Timestamp,
};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep},
};

use crate::{
    permits::{Permit, Permits},
    ports::Ports,
    request::{Asked, Refused, Request, Status, wanted_back},
    trust_file::TrustFile,
};

mod storing;
mod task;
mod waits;

use self::{
    task::Task,
    waits::{settled_look, until_wake},
};

/// How often the wall clock is looked at while something waits for a time of day: it may jump.
const WALL_CLOCK_CHECK: Duration = Duration::from_secs(30);
/// How long after its start the driver waits for a connection before it takes there to be none.
/// Whether there is one decides whether a new system has to reach the broker.
const FIRST_CONNECTION: Duration = Duration::from_secs(60);

/// The programs that lead to a commit.
const FORWARD: &[Program] = &[Program::PrepareReboot, Program::Activate, Program::Commit];

/// Drives one profile.
pub struct Driver {
    ports: Rc<Ports>,
    trust: Arc<TrustFile>,
    reader: Addressee,
    host: Capabilities,
    permits: Rc<Permits>,
    state: State,
    events: mpsc::UnboundedSender<Event>,
    inbox: mpsc::UnboundedReceiver<Event>,
    current: Task,
    check: Task,
    permit: Option<Permit>,
    /// Waits for the permit, a window, or somebody's consent.
    queue: Task,
    /// From when on there being no connection is believed.
    settled: Instant,
    /// Whether the state is gone with the next boot.
    forgets: bool,
    /// Whether a state was stored since the start.
    has_stored: bool,
    /// When the phase began; none where it was the same when the driver was made.
    since: Option<Timestamp>,
}

impl Driver {
    /// Makes the driver of a profile from its state.
    pub fn new(
        ports: Ports,
        trust: Arc<TrustFile>,
        reader: Addressee,
        host: Capabilities,
        permits: Rc<Permits>,
        state: State,
    ) -> Self {
        let (events, inbox) = mpsc::unbounded_channel();
        // What was under way when the subscriber stopped had the permit: it has it before any
        // other profile's driver runs.
        let permit = state.phase.attempt().and_then(|_| permits.take());
        Self {
            ports: Rc::new(ports),
            trust,
            reader,
            host,
            permits,
            state,
            events,
            inbox,
            current: Task::default(),
            check: Task::default(),
            permit,
            queue: Task::default(),
            settled: Instant::now() + FIRST_CONNECTION,
            forgets: false,
            has_stored: false,
            since: None,
        }
    }

    /// Tells whether the state is gone with the next boot: what came before is not known then.
    #[must_use]
    pub fn forgetting(mut self, forgets: bool) -> Self {
        self.forgets = forgets;
        self
    }

    /// Follows orders for as long as they can arrive, and does what people at the host ask for.
    pub async fn run(
        mut self,
        mut messages: watch::Receiver<Vec<u8>>,
        mut beacons: watch::Receiver<Vec<u8>>,
        mut requests: mpsc::Receiver<Asked>,
    ) {
        if self.state.standing == Standing::Known {
            self.sweep().await;
        }
        self.ports.voice.keep_in_mind(&self.state);
        let mut trust = self.trust.changes();
        let found = self.ports.activation.found(self.state.phase.attempt_number()).await;
        let seen = self.ports.machine.seen().await;
        let _ = self.handle(Event::Started { seen, found }).await;
        self.settle_trust().await;
        loop {
            let event = tokio::select! {
                // In this order, so that one history leads to one outcome.
                biased;
                Some(event) = self.inbox.recv() => event,
                Some(asked) = requests.recv() => {
                    self.answer(asked).await;
                    continue;
                }
                changed = messages.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    self.read(&mut messages).await
                }
                Ok(()) = beacons.changed() => {
                    let beacon = beacons.borrow_and_update().clone();
                    if !self.hear(&beacon).await || !self.may_pass(&messages.borrow()) {
                        continue;
                    }
                    self.read(&mut messages).await
                }
                // Whoever is trusted now may have signed what was refused before.
                Ok(()) = trust.changed() => {
                    if !self.is_refused(&messages.borrow()) {
                        continue;
                    }
                    self.read(&mut messages).await
                }
                () = sleep(WALL_CLOCK_CHECK), if self.may_pass(&messages.borrow()) => {
                    self.read(&mut messages).await
                }
                () = until_wake(&self.state, &self.ports) => {
                    Event::Tick { seen: self.ports.machine.seen().await }
                }
            };
            let _ = self.handle(event).await;
        }
    }

    /// Removes what attempts left that ended without it: a crash can come between the two. What
    /// there is of a lost state's attempts stays, as one may be waiting to roll back.
    async fn sweep(&self) {
        let current = self.state.phase.attempt_number();
        for attempt in self.ports.activation.left_over() {
            if Some(attempt) != current {
                self.ports.activation.disarm(attempt).await;
                self.ports.activation.clean_up(attempt).await;
            }
        }
    }

    /// Takes the trust in force for settled where the system that brought it is committed: nothing is
    /// being tried, and what runs is what the profile has. One that was only tested, or booted by hand
    /// from a menu, settles nothing, and neither does another profile: the trust file is the system's.
    async fn settle_trust(&self) {
        if self.reader.profile != ProfileName::system() || self.state.phase.attempt().is_some() {
            return;
        }
        let seen = self.ports.machine.seen().await;
        if seen.running.is_some() && seen.running == seen.profile {
            self.trust.settle();
        }
    }

    /// Tells whether the latest message was refused for what passes: the clock may be set right,
    /// and a beacon may come.
    fn may_pass(&self, message: &[u8]) -> bool {
        let code = self.state.refusal.as_ref().map(|refusal| refusal.code);
        matches!(code, Some(Code::TooFarAhead | Code::Stale)) && self.is_refused(message)
    }

    /// Tells whether the latest message was refused.
    fn is_refused(&self, message: &[u8]) -> bool {
        let refusal = self.state.refusal.as_ref();
        refusal.is_some_and(|refusal| refusal.message == MessageDigest::of(message))
    }

    /// Takes note of a beacon; tells whether it is news.
    async fn hear(&mut self, beacon: &[u8]) -> bool {
        match verify_beacon(beacon, &self.trust.in_force()) {
            Ok(beacon) => {
                let issued_at = beacon.issued_at;
                self.handle(Event::BeaconHeard { issued_at }).await.is_ok()
            }
            Err(rejection) => {
                tracing::warn!(profile = %self.reader.profile, %rejection, "refused a beacon");
                false
            }
        }
    }

    /// Turns the latest message on the order's topic into an event.
    async fn read(&self, messages: &mut watch::Receiver<Vec<u8>>) -> Event {
        let message = messages.borrow_and_update().clone();
        self.judge(&message).await
    }

    async fn judge(&self, message: &[u8]) -> Event {
        if let Err(problem) = self.trust.check() {
            return Event::MessageRefused(Refusal {
                message: MessageDigest::of(message),
                code: Code::RevocationsUnknown,
                detail: Prose::lossy(&problem.to_string()),
            });
        }
        match verify_order(message, &self.trust.in_force(), &self.reader) {
            Ok(order) => {
                let seen = self.ports.machine.seen().await;
                Event::OrderArrived { order: Box::new(order), seen }
            }
            Err(rejection) => {
                tracing::warn!(profile = %self.reader.profile, %rejection, "refused a message");
                Event::MessageRefused(Refusal {
                    message: MessageDigest::of(message),
                    code: rejection.code(),
                    detail: Prose::lossy(&rejection.to_string()),
                })
            }
        }
    }

    /// Does what somebody at the host wants, and tells where the host is then.
    async fn answer(&mut self, Asked { request, answer }: Asked) {
        let outcome = match self.meet(request).await {
            Ok(()) => Ok(Status::of(&self.state, self.since, &self.ports.machine.seen().await)),
            Err(refused) => Err(refused),
        };
        // Whoever asked may be gone; what they asked for is done all the same.
        let _ = answer.send(outcome);
    }

    async fn meet(&mut self, request: Request) -> Result<(), Refused> {
        let event = match request {
            Request::Status => return Ok(()),
            Request::Hold { reason } => Event::Held { reason },
            Request::Resume => Event::Resumed,
            Request::Consent { agrees } => {
                let attempt = self.state.phase.attempt_number().unwrap_or_default();
                Event::Answered { attempt, agrees }
            }
            Request::RollBack => {
                wanted_back(&self.state, &self.reader, self.ports.machine.seen().await)?
            }
            Request::Apply { order } => {
                let event = self.judge(&order).await;
                // Whoever stands before the host with an order needs no broker's word for it.
                self.handle_by(event, None, false).await?;
                let digest = MessageDigest::of(&order);
                let refusal = self.state.refusal.clone();
                return match refusal.filter(|refusal| refusal.message == digest) {
                    Some(refusal) => Err(Refused::Order(refusal)),
                    None => Ok(()),
                };
            }
        };
        Ok(self.handle(event).await?)
    }

    async fn handle(&mut self, event: Event) -> Result<(), Illegal> {
        self.handle_by(event, self.trust.in_force().freshness(), self.forgets).await
    }

    /// Lets the core decide, by the beacons that it needs.
    async fn handle_by(
        &mut self,
        event: Event,
        freshness: Option<Freshness>,
        forgets: bool,
    ) -> Result<(), Illegal> {
        self.host.freshness = freshness;
        let name = event.name();
        let permitted = matches!(event, Event::Permitted { .. });
        let now = (self.ports.clock)();
        // A clock that lost its time would make every beacon newer than this boot.
        let by_floor = Now { wall: self.state.time(&now), ..now };
        self.host.forgot_at = forgets.then(|| by_floor.start());
        match step(&self.state, event, &now, &self.host) {
            Ok(mut next) => {
                self.persist(&mut next).await;
                for effect in next.effects {
                    self.run_effect(effect).await;
                }
                Ok(())
            }
            Err(illegal) => {
                tracing::debug!(phase = %illegal.phase, event = name, "ignored a late event");
                if permitted {
                    self.queue.stop();
                    self.permit = None;
                }
                Err(illegal)
            }
        }
    }

    async fn run_effect(&mut self, effect: Effect) {
        let (ports, events) = (Rc::clone(&self.ports), self.events.clone());
        let send = move |event| drop(events.send(event));
        let incarnation = self.state.incarnation;
        match effect {
            Effect::Report(body) => {
                tracing::debug!(phase = %body.phase, number = body.number, "report");
                ports.voice.report(&self.state, body, &ports.machine.seen().await);
            }
            Effect::Measure(toplevel) => {
                tokio::task::spawn_local(async move {
                    match ports.closures.measure(&toplevel).await {
                        Ok(closure) => send(Event::Measured { toplevel, closure }),
                        Err(failure) => {
                            tracing::warn!(%toplevel, cause = %failure.cause.detail, "cannot measure what runs");
                        }
                    }
                });
            }
            Effect::Realise { attempt, target, delay, deadline: _ } => {
                let recorded = self.state.recorded(&target.toplevel);
                self.current.replace(async move {
                    sleep(delay).await;
                    let progress = |progress| send(Event::RealiseProgress { attempt, progress });
                    let outcome = ports.closures.realise(&target, recorded, &progress).await;
                    let outcome = outcome.map(|closure| Realised {
                        closure,
                        reboot_needed: ports.machine.reboot_needed(&target.toplevel),
                    });
                    send(Event::RealiseEnded { attempt, outcome });
                });
            }
            Effect::Abandon { .. } => {
                // Before what it leaves is cleaned up.
                self.current.end().await;
                self.check.stop();
            }
            Effect::LookAtWindows { attempt, at } => self.queue.replace(async move {
                let window = ports.windows.look(at).await;
                send(Event::WindowSeen { attempt, window });
            }),
            Effect::AskConsent { attempt, target, until } => self.queue.replace(async move {
                if let Some(agrees) = ports.people.ask(&target, until).await {
                    send(Event::Answered { attempt, agrees });
                }
            }),
            Effect::RequestPermit { attempt } => {
                self.queue.stop();
                if self.permit.is_none() {
                    match self.permits.take() {
                        Some(permit) => self.permit = Some(permit),
                        None => return self.queue_for_permit(attempt),
                    }
                }
                let settled = self.settled;
                self.queue.replace(async move {
                    let seen = settled_look(&ports, settled).await;
                    send(Event::Permitted { attempt, seen });
                });
            }
            Effect::ReleasePermit => {
                self.queue.stop();
                self.permit = None;
            }
            Effect::Arm { attempt, dead_man_at } => self.current.replace(async move {
                let rooted = ports.closures.root(&attempt.baseline.previous).await;
                let outcome = match rooted {
                    Ok(()) => ports.activation.arm(&attempt, dead_man_at).await,
                    Err(failure) => Err(failure),
                };
                let seen = ports.machine.seen().await;
                send(Event::ArmEnded { attempt: attempt.number, outcome, seen });
            }),
            Effect::Disarm { attempt } => {
                self.current.stop();
                self.check.stop();
                ports.activation.disarm(attempt).await;
            }
            Effect::Activate { attempt, deadline } => self.current.replace(async move {
                let end = ports.activation.activate(&attempt, deadline).await;
                if let Some(scribe) = &ports.scribe {
                    scribe.ended(&attempt, incarnation, &[Program::Activate]);
                }
                let seen = ports.machine.seen().await;
                send(Event::ActivationEnded { attempt: attempt.number, end, seen });
            }),
            Effect::Reboot { attempt } => {
                self.check.stop();
                self.current.replace(async move { ports.activation.reboot(&attempt).await });
            }
            Effect::Guard { attempt, dead_man_at } => {
                ports.activation.guard(&attempt, dead_man_at).await;
            }
            Effect::ProveLink { attempt } => self.current.replace(async move {
                ports.voice.prove_link().await;
                let seen = ports.machine.seen().await;
                send(Event::LinkProved { attempt, seen });
            }),
            Effect::CheckTrust { attempt } => {
                let verdict = self.trust.accepts(&attempt, &self.reader);
                let seen = ports.machine.seen().await;
                send(Event::TrustSeen { attempt: attempt.number, verdict, seen });
            }
            Effect::CheckHealth { attempt, delay } => self.check.replace(async move {
                sleep(delay).await;
                let began = (ports.clock)().monotonic;
                let verdict = ports.health.check(&attempt).await;
                let seen = ports.machine.seen().await;
                send(Event::HealthChecked { attempt: attempt.number, began, verdict, seen });
            }),
            Effect::Commit { attempt } => {
                self.check.stop();
                // What was activated has shown before whom it trusts.
                let trusted = match attempt.procedure.activates() {
                    true => Ok(()),
                    false => self.trust.accepts(&attempt, &self.reader),
                };
                self.current.replace(async move {
                    let outcome = match trusted {
                        Ok(()) => ports.activation.commit(&attempt).await,
                        Err(cause) => Err(Failure { cause, retry: false }),
                    };
                    if let Some(scribe) = &ports.scribe {
                        scribe.ended(&attempt, incarnation, FORWARD);
                    }
                    let seen = ports.machine.seen().await;
                    send(Event::CommitEnded { attempt: attempt.number, outcome, seen });
                });
            }
            Effect::RollBack { attempt } => {
                self.check.stop();
                self.current.replace(async move {
                    let outcome = ports.activation.roll_back(&attempt).await;
                    // All of them: one that overran its limit was killed by this.
                    if let Some(scribe) = &ports.scribe {
                        scribe.ended(&attempt, incarnation, Program::KNOWN);
                    }
                    let seen = ports.machine.seen().await;
                    send(Event::RollbackEnded { attempt: attempt.number, outcome, seen });
                });
            }
            Effect::Prune { attempt } => {
                tokio::task::spawn_local(async move {
                    let outcome = ports.prune.prune(&attempt).await;
                    send(Event::Pruned { outcome });
                });
            }
            Effect::CleanUp { attempt, keep } => {
                ports.activation.clean_up(attempt).await;
                self.trust.read_again();
                self.settle_trust().await;
                ports.closures.keep_only(&keep);
            }
        }
    }

    /// Waits for the permit; having got it, says so, and the core asks again if it still wants it.
    fn queue_for_permit(&mut self, attempt: u64) {
        let (ports, events) = (Rc::clone(&self.ports), self.events.clone());
        let (permits, settled) = (Rc::clone(&self.permits), self.settled);
        self.queue.replace(async move {
            let permit = permits.wait().await;
            let seen = settled_look(&ports, settled).await;
            drop(events.send(Event::Permitted { attempt, seen }));
            std::future::pending::<()>().await;
            drop(permit);
        });
    }
}
