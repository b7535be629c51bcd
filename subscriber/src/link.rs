//! The host's connection to its fleet: orders in, reports and presence out.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    num::NonZeroUsize,
    rc::Rc,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use herald_client::{
    Backoff, Client, ConnectionLost, Delivery, Event, Greeter, Greeting, Inbox, KEEP_ALIVE, Login,
    Message, Settings, Tls, Undelivered,
};
use herald_core::{ReportBody, Seen, State};
use herald_proto::{
    WIRE_VERSION,
    host::{FleetId, HostId, ProfileName},
    id::BootId,
    key::SecretKey,
    log::Log,
    login::host_client_id,
    report::{PhaseName, Report, Systems},
    signing::sign_as_host,
    text::Prose,
    topic::{Filter, Subject, Topic},
};
use tokio::sync::watch;

use crate::{
    adapters::printed::About,
    clock,
    config::Config,
    heartbeat::Vitals,
    identity::Sessions,
    ports::{Pending, Voice},
    trust_file::TrustFile,
};

/// How long the client waits before it tries again to connect, at first and at the most.
const BACKOFF: Backoff =
    Backoff { first: Duration::from_millis(200), longest: Duration::from_secs(60) };

/// How many failed units a report names, so that it stays a message that can be sent.
const NAMED_UNITS: usize = 32;

/// What reports and presences of this host have in common.
pub struct Speaker {
    pub(crate) fleet: FleetId,
    pub(crate) host: HostId,
    pub(crate) key: Arc<SecretKey>,
    pub(crate) boot: BootId,
    pub(crate) trust: Arc<TrustFile>,
    pub(crate) agent: Prose,
}

impl Speaker {
    /// Makes the speaker of a host.
    pub fn new(config: &Config, key: Arc<SecretKey>, boot: BootId, trust: Arc<TrustFile>) -> Self {
        let agent = Prose::lossy(env!("CARGO_PKG_VERSION"));
        Self { fleet: config.fleet.clone(), host: config.host.clone(), key, boot, trust, agent }
    }

    pub(crate) fn topic(&self, subject: Subject) -> Topic {
        Topic::new(self.fleet.clone(), subject)
    }
}

/// The latest message on each retained topic of this host. The host owns what is said there: it
/// says it again on every connection, as the broker may have lost it.
type Owned = Arc<Mutex<BTreeMap<String, Message>>>;

/// Says on each connection that the host is there, and leaves word for when it is gone.
struct Births {
    vitals: Arc<Vitals>,
    sessions: Sessions,
    owned: Owned,
    farewell: watch::Sender<Option<Message>>,
}

impl Greeter for Births {
    fn greet(&mut self) -> Greeting {
        let (session, incarnation) = (self.sessions.begin(), self.sessions.incarnation());
        let (birth, death) = self.vitals.begin(session, incarnation);
        self.farewell.send_replace(Some(death.clone()));
        let owned = self.owned.lock().unwrap_or_else(PoisonError::into_inner);
        let birth = std::iter::once(birth).chain(owned.values().cloned()).collect();
        Greeting { will: Some(death), birth }
    }
}

/// The connection, shared by the host's profiles.
pub struct Link {
    client: Client,
    speaker: Arc<Speaker>,
    vitals: Arc<Vitals>,
    owned: Owned,
    connected: Rc<Cell<bool>>,
    connections: watch::Sender<u64>,
    farewell: watch::Receiver<Option<Message>>,
    orders: RefCell<BTreeMap<ProfileName, watch::Sender<Vec<u8>>>>,
    beacons: watch::Sender<Vec<u8>>,
}

impl Link {
    /// Begins to connect.
    pub fn start(
        config: &Config,
        (tls, login): (Tls, Login),
        speaker: Speaker,
        sessions: Sessions,
        seed: u64,
    ) -> (Rc<Self>, Inbox) {
        let speaker = Arc::new(speaker);
        let settings = Settings {
            broker: config.broker.clone(),
            tls,
            login,
            client_id: host_client_id(&config.fleet, &config.host),
            session: config.session,
            keep_alive: KEEP_ALIVE,
            backoff: BACKOFF,
            window: NonZeroUsize::MIN,
        };
        let desired = |profile: &ProfileName| {
            let subject = Subject::Desired(config.host.clone(), profile.clone());
            Filter::Exactly(speaker.topic(subject))
        };
        let filters = config.profiles.keys().map(desired).collect();
        // A broker whose access list is from before there was this keeps its hosts.
        let own = Subject::Presence(config.host.clone());
        let wishes = [Subject::Beacon, own].map(|it| Filter::Exactly(speaker.topic(it))).to_vec();
        let vitals = Arc::new(Vitals::new(Arc::clone(&speaker), seed));
        let (farewell_sender, farewell) = watch::channel(None);
        let owned = Owned::default();
        let births = Births {
            vitals: Arc::clone(&vitals),
            sessions,
            owned: Arc::clone(&owned),
            farewell: farewell_sender,
        };
        let (client, inbox) = herald_client::start(settings, filters, Box::new(births), seed);
        client.wish(wishes);
        let link = Self {
            client,
            speaker,
            vitals,
            owned,
            connected: Rc::new(Cell::new(false)),
            connections: watch::Sender::new(0),
            farewell,
            orders: RefCell::default(),
            beacons: watch::Sender::new(Vec::new()),
        };
        (Rc::new(link), inbox)
    }

    /// Tells whether the broker is connected, now and later.
    pub fn connected(&self) -> Rc<Cell<bool>> {
        Rc::clone(&self.connected)
    }

    /// Gives the latest message on a profile's order topic. One that nobody has looked at yet
    /// gives way to a newer one: the topic is retained, and only its latest message counts.
    pub fn orders(&self, profile: &ProfileName) -> watch::Receiver<Vec<u8>> {
        let sender = watch::Sender::new(Vec::new());
        let receiver = sender.subscribe();
        self.orders.borrow_mut().insert(profile.clone(), sender);
        receiver
    }

    /// Gives the latest beacon.
    pub fn beacons(&self) -> watch::Receiver<Vec<u8>> {
        self.beacons.subscribe()
    }

    /// Gives the voice of a profile.
    pub fn voice(self: &Rc<Self>, profile: &ProfileName) -> ProfileVoice {
        ProfileVoice { link: Rc::clone(self), profile: profile.clone() }
    }

    /// Gives what tells the fleet what a profile's programs printed.
    pub fn log_voice(self: &Rc<Self>, profile: &ProfileName) -> LogVoice {
        LogVoice { link: Rc::clone(self), profile: profile.clone() }
    }

    /// Takes what the client says, and says that the host is there, for as long as it lives.
    pub async fn listen(&self, inbox: Inbox) {
        let beat = |heartbeat: Message| drop(self.client.publish(heartbeat));
        tokio::select! {
            () = self.take(inbox) => {}
            () = self.vitals.beat(self.connected(), beat) => {}
        }
    }

    async fn take(&self, mut inbox: Inbox) {
        let mut is_told = false;
        while let Some(event) = inbox.next().await {
            match event {
                Event::Connected { connection } => {
                    tracing::info!(connection, "connected to the broker");
                    self.connected.set(true);
                    self.connections.send_replace(connection);
                }
                Event::Disconnected { connection, reason } => {
                    let refused = matches!(reason, ConnectionLost::TokenRefused { .. });
                    if refused && !std::mem::replace(&mut is_told, true) {
                        tracing::info!(
                            "a host is refused until an operator lets it in: `herald host enrol {0}`, \
                             or without a token `herald host enrol {0} --public-key {1}`",
                            self.speaker.host,
                            self.speaker.key.public()
                        );
                    }
                    let wanted = matches!(reason, ConnectionLost::Reconnecting);
                    if self.connected.replace(false) && !wanted {
                        tracing::warn!(connection, reason = %chain(&reason), "lost the broker");
                    } else {
                        tracing::debug!(connection, reason = %chain(&reason), "no connection");
                    }
                }
                Event::Message { topic, payload, .. } => self.pass_on(&topic, payload),
            }
        }
    }

    fn pass_on(&self, topic: &Topic, payload: Vec<u8>) {
        if topic.fleet != self.speaker.fleet {
            return;
        }
        match &topic.subject {
            // Clearing a retained order means nothing: it is no message, and never a cancel.
            Subject::Desired(..) | Subject::Beacon if payload.is_empty() => {}
            Subject::Desired(host, profile) if *host == self.speaker.host => {
                if let Some(orders) = self.orders.borrow().get(profile) {
                    orders.send_replace(payload);
                }
            }
            Subject::Presence(host) if *host == self.speaker.host => self.vitals.heard(&payload),
            Subject::Beacon => drop(self.beacons.send_replace(payload)),
            _ => {}
        }
    }

    /// Connects at once where there is no connection, without waiting for the next attempt's time.
    pub fn try_again(&self) {
        if !self.connected.get() {
            self.client.reconnect();
        }
    }

    /// Says goodbye and closes the connection.
    pub async fn stop(&self, within: Duration) {
        let farewell: Vec<Message> = self.farewell.borrow().clone().into_iter().collect();
        self.client.clone().stop(farewell, within).await;
    }
}

/// Gives an error with all of its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Waits until it is known what became of a message, and says so if it was lost. The client keeps
/// it until the broker acknowledged it, so that mostly takes as long as an outage does.
async fn watch_over(message: Message, delivery: Delivery, owned: Owned) {
    let topic = &message.topic;
    match delivery.await {
        Ok(()) | Err(Undelivered::Replaced | Undelivered::Stopped) => {}
        Err(error @ Undelivered::Overflow) => {
            tracing::warn!(%topic, %error, "a message was dropped: the broker was away for long");
        }
        // It stays the host's own, and is said again: a broker's disk may have been full.
        Err(error @ Undelivered::Refused { .. }) => {
            tracing::error!(%topic, %error, "a message was given up for now");
        }
        Err(error @ Undelivered::TooLarge { .. }) => {
            tracing::error!(%topic, %error, "a message was given up");
            // It would be refused as a birth too, and cost the next connections.
            let mut owned = owned.lock().unwrap_or_else(PoisonError::into_inner);
            if owned.get(&topic.to_string()) == Some(&message) {
                owned.remove(&topic.to_string());
            }
        }
    }
}

/// What one profile says.
pub struct ProfileVoice {
    link: Rc<Link>,
    profile: ProfileName,
}

impl Voice for ProfileVoice {
    fn report(&self, state: &State, body: ReportBody, seen: &Seen) {
        let Speaker { fleet, host, key, boot, trust, agent } = &*self.link.speaker;
        let phase = body.phase;
        let report = Report {
            version: WIRE_VERSION,
            host: host.clone(),
            profile: self.profile.clone(),
            incarnation: state.incarnation,
            number: body.number,
            time: clock::wall(),
            boot: *boot,
            agent: agent.clone(),
            trust: trust.in_force().digest(),
            phase,
            code: body.code,
            detail: body.detail,
            order: body.order,
            refusal: body.refusal,
            progress: body.progress,
            systems: Systems {
                running: seen.running.clone(),
                booted: seen.booted.clone(),
                boot_default: seen.boot_default.clone(),
                profile: seen.profile.clone(),
                previous: state.previous(seen.running.as_ref()).cloned(),
            },
            failed_units: seen.failed_units.iter().flatten().take(NAMED_UNITS).cloned().collect(),
            hold: state.hold.clone(),
        };
        let payload = sign_as_host(&report, fleet, key);
        let (host, profile) = (host.clone(), self.profile.clone());
        // Whoever sees the status finds the roll back.
        let mut subjects = Vec::new();
        if matches!(phase, PhaseName::RolledBack | PhaseName::Degraded) {
            subjects.push(Subject::Rollback(host.clone(), profile.clone()));
        }
        subjects.extend([Subject::Status(host.clone(), profile), Subject::Event(host)]);
        for subject in subjects {
            let message = Message::new(self.link.speaker.topic(subject), payload.clone());
            if message.topic.is_retained() {
                let mut owned = self.link.owned.lock().unwrap_or_else(PoisonError::into_inner);
                owned.insert(message.topic.to_string(), message.clone());
            }
            let delivery = self.link.client.publish(message.clone());
            tokio::spawn(watch_over(message, delivery, Arc::clone(&self.link.owned)));
        }
    }

    fn keep_in_mind(&self, state: &State) {
        self.link.vitals.keep_in_mind(&self.profile, state);
    }

    fn prove_link(&self) -> Pending<'_, ()> {
        Box::pin(async {
            let mut connections = self.link.connections.subscribe();
            let before = self.link.client.reconnect();
            // That an older one worked may be told only now: it proves nothing.
            if connections.wait_for(|connection| *connection > before).await.is_err() {
                std::future::pending::<()>().await;
            }
        })
    }
}

/// What one profile's programs printed, as the fleet is told.
pub struct LogVoice {
    link: Rc<Link>,
    profile: ProfileName,
}

impl LogVoice {
    /// Signs and publishes the end of an output. It is queued while there is no connection.
    pub fn say(&self, about: About, lines: Vec<Prose>, cut: bool) {
        let Speaker { fleet, host, key, .. } = &*self.link.speaker;
        let About { incarnation, attempt, target, program } = about;
        let log = Log {
            version: WIRE_VERSION,
            host: host.clone(),
            profile: self.profile.clone(),
            incarnation,
            attempt,
            target,
            time: clock::wall(),
            program,
            cut,
            lines,
        };
        let topic = self.link.speaker.topic(Subject::Log(host.clone()));
        let message = Message::new(topic, sign_as_host(&log, fleet, key));
        let delivery = self.link.client.publish(message.clone());
        tokio::spawn(watch_over(message, delivery, Arc::clone(&self.link.owned)));
    }
}
