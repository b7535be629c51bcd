//! The one loop of a profile: event, step, persist, effects.

use std::{rc::Rc, sync::Arc, time::Duration};

use herald_core::{
    Capabilities, Effect, Event, Illegal, Realised, ReportBody, Seen, Standing, State, Step, Wake,
    step,
};
use herald_proto::{
    id::MessageDigest, log::Program, order::Addressee, rejection::Code, report::Refusal,
    signing::verify_order, text::Prose, time::Timestamp, trust::Trust,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch},
    task::AbortHandle,
    time::{Instant, sleep},
};

use crate::{
    adapters::state_store,
    ports::Ports,
    request::{Asked, Refused, Request, Status, wanted_back},
};

/// How long to wait before a state that could not be stored is stored again.
const STORE_RETRY: Duration = Duration::from_secs(5);
/// How often the wall clock is looked at while something waits for a time of day: it may jump.
const WALL_CLOCK_CHECK: Duration = Duration::from_secs(30);
/// How long after its start the driver waits for a connection before it takes there to be none.
/// Whether there is one decides whether a new system has to reach the broker.
const FIRST_CONNECTION: Duration = Duration::from_secs(60);
/// How often it looks for one.
const CONNECTION_CHECK: Duration = Duration::from_millis(250);
/// The shortest sleep before a tick, so that a clock that stands still costs nothing.
const SHORTEST_SLEEP: Duration = Duration::from_millis(20);

/// The programs that lead to a commit.
const FORWARD: &[Program] = &[Program::PrepareReboot, Program::Activate, Program::Commit];

/// Drives one profile.
pub struct Driver {
    ports: Rc<Ports>,
    trust: Rc<Trust>,
    reader: Addressee,
    host: Capabilities,
    permits: Rc<Permits>,
    state: State,
    events: mpsc::UnboundedSender<Event>,
    inbox: mpsc::UnboundedReceiver<Event>,
    current: Task,
    check: Task,
    permit: Option<OwnedSemaphorePermit>,
    /// Waits for the permit, a window, or somebody's consent.
    queue: Task,
    /// From when on there being no connection is believed.
    settled: Instant,
    /// When the phase began; none where it was the same when the driver was made.
    since: Option<Timestamp>,
}

/// The host's one activation permit, for which its profiles queue.
pub struct Permits(Arc<Semaphore>);

impl Default for Permits {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }
}

/// Something that is under way; a new one ends the old.
#[derive(Default)]
struct Task(Option<AbortHandle>);

impl Task {
    fn replace(&mut self, work: impl Future<Output = ()> + 'static) {
        self.stop();
        self.0 = Some(tokio::task::spawn_local(work).abort_handle());
    }

    fn stop(&mut self) {
        if let Some(handle) = self.0.take() {
            handle.abort();
        }
    }
}

impl Driver {
    /// Makes the driver of a profile from its state.
    pub fn new(
        ports: Ports,
        trust: Rc<Trust>,
        reader: Addressee,
        host: Capabilities,
        permits: Rc<Permits>,
        state: State,
    ) -> Self {
        let (events, inbox) = mpsc::unbounded_channel();
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
            permit: None,
            queue: Task::default(),
            settled: Instant::now() + FIRST_CONNECTION,
            since: None,
        }
    }

    /// Follows orders for as long as they can arrive, and does what people at the host ask for.
    pub async fn run(
        mut self,
        mut messages: watch::Receiver<Vec<u8>>,
        mut requests: mpsc::Receiver<Asked>,
    ) {
        if self.state.phase.attempt().is_some() {
            // What was under way when the subscriber stopped had the permit.
            self.permit = Arc::clone(&self.permits.0).try_acquire_owned().ok();
        }
        if self.state.standing == Standing::Known {
            self.sweep().await;
        }
        let found = self.ports.activation.found(self.state.phase.attempt_number()).await;
        let seen = self.ports.machine.seen().await;
        let _ = self.handle(Event::Started { seen, found }).await;
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
                () = sleep(WALL_CLOCK_CHECK), if self.is_too_early(&messages.borrow()) => {
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

    /// Tells whether the latest message was refused for the clock, which may be set right.
    fn is_too_early(&self, message: &[u8]) -> bool {
        self.state.refusal.as_ref().is_some_and(|refusal| {
            refusal.code == Code::TooFarAhead && refusal.message == MessageDigest::of(message)
        })
    }

    /// Turns the latest message on the order's topic into an event.
    async fn read(&self, messages: &mut watch::Receiver<Vec<u8>>) -> Event {
        let message = messages.borrow_and_update().clone();
        self.judge(&message).await
    }

    async fn judge(&self, message: &[u8]) -> Event {
        match verify_order(message, &self.trust, &self.reader) {
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
                self.handle(event).await?;
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
        let name = event.name();
        let permitted = matches!(event, Event::Permitted { .. });
        let now = (self.ports.clock)();
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

    /// Makes the new state durable. Nothing follows from a state that is not: while the disk is
    /// full the host says so, and waits.
    async fn persist(&mut self, next: &mut Step) {
        if state_store::encode(&next.state) != state_store::encode(&self.state) {
            let (from, to) = (self.state.phase.name(), next.state.phase.name());
            if from != to {
                self.since = Some((self.ports.clock)().wall);
                tracing::info!(profile = %self.reader.profile, %from, %to, "phase");
            }
            let mut said = false;
            while let Err(error) = self.ports.memory.save(&next.state) {
                tracing::error!(%error, "the state can't be stored: make room on the disk; trying again");
                if !said {
                    self.say_not_stored(&error.to_string(), next).await;
                    said = true;
                }
                sleep(STORE_RETRY).await;
            }
        }
        self.state = next.state.clone();
    }

    /// Reports that the host is stuck where it was, under a number of its own: those of the step
    /// are moved up by one.
    async fn say_not_stored(&self, error: &str, next: &mut Step) {
        let number = self.state.reports + 1;
        next.state.reports += 1;
        for effect in &mut next.effects {
            if let Effect::Report(body) = effect {
                body.number += 1;
            }
        }
        let detail =
            format!("the state can't be stored, and nothing goes on until it can: {error}");
        let body = ReportBody {
            number,
            phase: self.state.phase.name(),
            code: Some(Code::DiskFull),
            detail: Some(Prose::lossy(&detail)),
            order: self.state.phase.order(),
            refusal: self.state.refusal.clone(),
            progress: None,
        };
        self.ports.voice.report(&self.state, body, &self.ports.machine.seen().await);
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
                self.current.stop();
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
                    match Arc::clone(&self.permits.0).try_acquire_owned() {
                        Ok(permit) => self.permit = Some(permit),
                        Err(_) => return self.queue_for_permit(attempt),
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
            Effect::CheckHealth { attempt, delay } => self.check.replace(async move {
                sleep(delay).await;
                let began = (ports.clock)().monotonic;
                let verdict = ports.health.check(&attempt).await;
                let seen = ports.machine.seen().await;
                send(Event::HealthChecked { attempt: attempt.number, began, verdict, seen });
            }),
            Effect::Commit { attempt } => {
                self.check.stop();
                self.current.replace(async move {
                    let outcome = ports.activation.commit(&attempt).await;
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
            Effect::CleanUp { attempt, keep } => {
                ports.activation.clean_up(attempt).await;
                ports.closures.keep_only(&keep);
            }
        }
    }

    /// Waits for the permit; having got it, says so, and the core asks again if it still wants it.
    fn queue_for_permit(&mut self, attempt: u64) {
        let (ports, events) = (Rc::clone(&self.ports), self.events.clone());
        let (permits, settled) = (Arc::clone(&self.permits.0), self.settled);
        self.queue.replace(async move {
            let Ok(permit) = permits.acquire_owned().await else { return };
            let seen = settled_look(&ports, settled).await;
            drop(events.send(Event::Permitted { attempt, seen }));
            std::future::pending::<()>().await;
            drop(permit);
        });
    }
}

/// Looks at the machine, once it is connected or has had the time for it.
async fn settled_look(ports: &Ports, settled: Instant) -> Seen {
    loop {
        let seen = ports.machine.seen().await;
        if seen.connected || Instant::now() >= settled {
            return seen;
        }
        sleep(CONNECTION_CHECK).await;
    }
}

/// Sleeps until the state wants to be woken.
async fn until_wake(state: &State, ports: &Ports) {
    let now = (ports.clock)();
    let span = match state.wake() {
        None => return std::future::pending().await,
        Some(Wake::Monotonic(at)) => at.since(now.monotonic),
        Some(Wake::Wall(at)) => at.since(state.time(&now)).min(WALL_CLOCK_CHECK),
    };
    sleep(span.max(SHORTEST_SLEEP)).await;
}
