use std::{num::NonZeroUsize, sync::mpsc, thread};

use herald_client::{
    Backoff, Client, Event, KEEP_ALIVE, Login, Message, SessionKind, Settings, Tls,
};
use herald_proto::{
    WIRE_VERSION,
    host::{FleetId, HostId, ProfileName},
    id::{BootId, Incarnation, MessageDigest, TrustDigest},
    key::SecretKey,
    order::Order,
    presence::{Liveness, Presence},
    rejection::Code,
    report::{OrderName, PhaseName, Refusal, Report, Systems},
    signing,
    text::Prose,
    time::Timestamp,
    topic::{Filter, Subject, Topic},
    trust::Trust,
};

use super::{Broker, HOME, path};

/// A host, before it is connected: its name, its key and its first report.
pub(crate) struct Host {
    pub(crate) name: HostId,
    pub(crate) key: SecretKey,
    pub(crate) report: Report,
}

impl Host {
    pub(crate) fn new(name: &str, key: u8) -> Self {
        let report = Report {
            version: WIRE_VERSION,
            host: name.parse().unwrap(),
            profile: ProfileName::system(),
            incarnation: Incarnation::from_bytes([key; 16]),
            number: 1,
            time: Timestamp::from_millis(1_700_000_000_000),
            boot: BootId::from_bytes([2; 16]),
            agent: Prose::lossy("0.1.0"),
            trust: TrustDigest::of(b""),
            phase: PhaseName::Idle,
            code: None,
            detail: None,
            order: None,
            refusal: None,
            progress: None,
            systems: Systems { running: Some(path("old").parse().unwrap()), ..Systems::default() },
            failed_units: vec![],
            hold: None,
        };
        let seed = SecretKey::from_seed(name.parse().unwrap(), &[key; 32]).unwrap();
        Self { name: report.host.clone(), key: seed, report }
    }

    pub(crate) fn with_previous(mut self, previous: &str) -> Self {
        self.report.systems.previous = Some(path(previous).parse().unwrap());
        self
    }
}

/// What a host says or does about an order.
#[derive(Clone)]
pub(crate) enum Answer {
    Phase(PhaseName, Option<Code>),
    /// Says that it rolled back, on the topic of roll backs, and stops before its status says so.
    RollbackAlone,
    /// Refuses the message; its own order is one with a sequence so much higher.
    Refuse(Code, u64),
    /// Publishes something else on the order's topic.
    Displace,
}

/// Answers each order with these, one list for the first, one for the second, and so on.
pub(crate) fn answers(lists: &[&[Answer]]) -> impl FnMut(&Order) -> Vec<Answer> + Send + use<> {
    let mut lists: std::collections::VecDeque<_> = lists.iter().map(|list| list.to_vec()).collect();
    move |_| lists.pop_front().unwrap_or_default()
}

/// A host that is connected and follows a script, until it is dropped.
pub(crate) struct Scripted {
    /// The orders that it got.
    pub(crate) orders: mpsc::Receiver<Order>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Scripted {
    /// Connects it; returns when its first report and its birth are at the broker.
    pub(crate) fn start(
        host: Host,
        broker: &Broker,
        operator: &str,
        script: impl FnMut(&Order) -> Vec<Answer> + Send + 'static,
    ) -> Self {
        let trust = format!("fleet = \"{HOME}\"\n[release]\nthreshold = 1\nkeys = [{operator:?}]");
        Self::start_trusting(host, broker, &trust, script)
    }

    /// Connects a host with a trust file of its own.
    pub(crate) fn start_trusting(
        mut host: Host,
        broker: &Broker,
        trust: &str,
        script: impl FnMut(&Order) -> Vec<Answer> + Send + 'static,
    ) -> Self {
        let trust = Trust::from_toml(trust).unwrap();
        host.report.trust = trust.digest();
        let actor = Actor { host, fleet: HOME.parse().unwrap(), trust, script: Box::new(script) };
        let (ready, is_ready) = mpsc::channel();
        let (got, orders) = mpsc::channel();
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let url = broker.url();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                tokio::select! {
                    () = actor.run(&url, ready, got) => {}
                    _ = stopped => {}
                }
            });
        });
        is_ready.recv().expect("the host connects");
        Self { orders, stop: Some(stop), thread: Some(thread) }
    }
}

impl Scripted {
    /// Waits for the next order that it got.
    pub(crate) fn order(&self) -> Order {
        self.orders.recv().unwrap()
    }

    /// Ends it: its connection is cut.
    pub(crate) fn stop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.stop();
    }
}

type Script = Box<dyn FnMut(&Order) -> Vec<Answer> + Send>;

struct Actor {
    host: Host,
    fleet: FleetId,
    trust: Trust,
    script: Script,
}

impl Actor {
    async fn run(mut self, url: &str, ready: mpsc::Sender<()>, got: mpsc::Sender<Order>) {
        let name = self.host.name.clone();
        let settings = Settings {
            broker: url.parse().unwrap(),
            tls: Tls::default(),
            login: Login::None,
            client_id: format!("host-{name}"),
            session: SessionKind::Clean,
            keep_alive: KEEP_ALIVE,
            backoff: Backoff::default(),
            window: NonZeroUsize::MIN,
        };
        let desired = self.topic(Subject::Desired(name.clone(), ProfileName::system()));
        let filters = vec![Filter::Exactly(desired.clone())];
        let (client, mut inbox) = herald_client::start(settings, filters, Box::new(()), 1);
        self.report(&client).await;
        let born = self.sign_presence();
        client.publish(Message::new(self.topic(Subject::Presence(name)), born)).await.unwrap();
        ready.send(()).unwrap();
        while let Some(event) = inbox.next().await {
            let Event::Message { payload, .. } = event else { continue };
            let Ok(order) = signing::verify_any_order(&payload, &self.trust) else { continue };
            let order = order.into_inner();
            let answers = (self.script)(&order);
            // A test may have no interest in the orders.
            let _ = got.send(order.clone());
            for answer in answers {
                self.answer(&client, &desired, &order, answer).await;
            }
        }
    }

    async fn answer(&mut self, client: &Client, desired: &Topic, order: &Order, answer: Answer) {
        let name = |above| OrderName {
            release: order.release.id,
            target: order.hash,
            sequence: herald_proto::id::Sequence::new(order.release.sequence.number() + above),
        };
        let report = &mut self.host.report;
        match answer {
            Answer::Phase(phase, code) => {
                (report.phase, report.code, report.order) = (phase, code, Some(name(0)));
                report.detail = code.map(|_| Prose::lossy("as the test says"));
            }
            Answer::RollbackAlone => {
                (report.phase, report.order) = (PhaseName::RolledBack, Some(name(0)));
                report.number += 1;
                return self.say_rollback(client).await;
            }
            Answer::Refuse(code, above) => {
                let message: MessageDigest = order.message;
                let detail = Prose::lossy("as the test says");
                report.refusal = Some(Refusal { message, code, detail });
                let mut other = name(above);
                other.target = herald_proto::id::TargetHash::of(b"another");
                report.order = Some(other);
            }
            Answer::Displace => {
                let junk = Message::new(desired.clone(), b"junk".to_vec());
                client.publish(junk).await.unwrap();
                return;
            }
        }
        report.number += 1;
        self.report(client).await;
    }

    async fn report(&self, client: &Client) {
        if self.host.report.phase == PhaseName::RolledBack {
            self.say_rollback(client).await;
        }
        self.say(client, Subject::Status(self.host.name.clone(), ProfileName::system())).await;
    }

    async fn say_rollback(&self, client: &Client) {
        self.say(client, Subject::Rollback(self.host.name.clone(), ProfileName::system())).await;
    }

    async fn say(&self, client: &Client, subject: Subject) {
        let payload = signing::sign_as_host(&self.host.report, &self.fleet, &self.host.key);
        client.publish(Message::new(self.topic(subject), payload)).await.unwrap();
    }

    fn sign_presence(&self) -> Vec<u8> {
        let report = &self.host.report;
        let presence = Presence {
            version: WIRE_VERSION,
            host: self.host.name.clone(),
            session: 1,
            liveness: Liveness::Online,
            incarnation: report.incarnation,
            boot: report.boot,
            time: report.time,
            agent: report.agent.clone(),
            beat: 0,
            beacon: None,
            hearing: None,
            taken: vec![],
        };
        signing::sign_as_host(&presence, &self.fleet, &self.host.key)
    }

    fn topic(&self, subject: Subject) -> Topic {
        Topic::new(self.fleet.clone(), subject)
    }
}
