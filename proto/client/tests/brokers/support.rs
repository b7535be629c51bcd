//! What every test needs: topics, settings, and events with a bound on the wait for them.

use std::{
    num::NonZeroUsize,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use herald_client::{
    Backoff, BrokerUrl, Client, ConnectionLost, Event, Greeter, Inbox, KEEP_ALIVE, Login, Message,
    SessionKind, Settings, Tls, start,
};
use herald_proto::topic::{Filter, Subject, Topic};

/// How long anything may take.
pub(crate) const BOUND: Duration = Duration::from_secs(10);

pub(crate) async fn bounded<F: Future>(what: F) -> F::Output {
    tokio::time::timeout(BOUND, what).await.expect("it happens within the bound")
}

/// A retained topic.
pub(crate) fn presence(host: &str) -> Topic {
    Topic::new("home".parse().unwrap(), Subject::Presence(host.parse().unwrap()))
}

/// A topic that is not retained.
pub(crate) fn event(host: &str) -> Topic {
    Topic::new("home".parse().unwrap(), Subject::Event(host.parse().unwrap()))
}

pub(crate) fn says(topic: Topic, text: &str) -> Message {
    Message::new(topic, text)
}

pub(crate) fn settings(port: u16, client_id: &str) -> Settings {
    Settings {
        broker: format!("mqtt://127.0.0.1:{port}").parse::<BrokerUrl>().unwrap(),
        tls: Tls::default(),
        login: Login::None,
        client_id: client_id.to_owned(),
        session: SessionKind::Clean,
        keep_alive: KEEP_ALIVE,
        backoff: Backoff { first: Duration::from_millis(50), longest: Duration::from_millis(400) },
        window: NonZeroUsize::MIN,
    }
}

/// A client with its inbox.
pub(crate) struct Peer {
    pub(crate) client: Client,
    pub(crate) inbox: Inbox,
}

impl Peer {
    pub(crate) fn start(
        settings: Settings,
        topics: &[Topic],
        greeter: impl Greeter + 'static,
    ) -> Self {
        let filters = topics.iter().cloned().map(Filter::Exactly).collect();
        let (client, inbox) = start(settings, filters, Box::new(greeter), 1);
        Self { client, inbox }
    }

    /// Starts a client with a name of its own that reads topics, and waits until it does.
    pub(crate) async fn reader(port: u16, topics: &[Topic]) -> Self {
        static READERS: AtomicU64 = AtomicU64::new(0);
        let name = format!("reader-{}", READERS.fetch_add(1, Ordering::Relaxed));
        let mut peer = Self::start(settings(port, &name), topics, ());
        assert_eq!(peer.connected().await, 1);
        peer
    }

    pub(crate) async fn next(&mut self) -> Event {
        bounded(self.inbox.next()).await.expect("the client goes on")
    }

    /// Reads on until there is a connection, and gives its number.
    pub(crate) async fn connected(&mut self) -> u64 {
        loop {
            if let Event::Connected { connection } = self.next().await {
                return connection;
            }
        }
    }

    /// Reads on until a connection is lost, and gives its number and why.
    pub(crate) async fn disconnected(&mut self) -> (u64, ConnectionLost) {
        loop {
            if let Event::Disconnected { connection, reason } = self.next().await {
                return (connection, reason);
            }
        }
    }

    /// Reads on until a message comes: its topic, its text, and whether it was retained.
    pub(crate) async fn message(&mut self) -> (Topic, String, bool) {
        loop {
            if let Event::Message { topic, payload, retained } = self.next().await {
                return (topic, String::from_utf8(payload).unwrap(), retained);
            }
        }
    }

    /// Reads on until a message comes, and gives its text.
    pub(crate) async fn text(&mut self) -> String {
        self.message().await.1
    }

    pub(crate) async fn publish(&self, message: Message) {
        bounded(self.client.publish(message)).await.expect("it is delivered");
    }
}
