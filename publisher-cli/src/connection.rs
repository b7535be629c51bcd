//! One connection to the broker: made within a bounded time, then a stream of what arrives.

use std::{collections::VecDeque, num::NonZeroUsize, time::Duration};

use anyhow::{anyhow, bail};
use herald_client::{
    Backoff, Client, ConnectionLost, Event, Inbox, KEEP_ALIVE, SessionKind, Settings,
};
use herald_proto::topic::{Filter, Topic};
use tokio::time::{Instant, timeout_at};

use crate::{access::Access, clock, output, random};

/// How many orders are on their way at once.
const WINDOW: NonZeroUsize = NonZeroUsize::new(64).expect("64 is not 0");

/// How soon, and at most how seldom, an operator's command tries again to connect.
const BACKOFF: Backoff =
    Backoff { first: Duration::from_millis(100), longest: Duration::from_secs(5) };

/// How long an orderly end may take.
const FAREWELL: Duration = Duration::from_millis(500);

/// An operator's connection.
pub(crate) struct Connection {
    pub(crate) client: Client,
    inbox: Inbox,
    /// What arrived before the connection was complete.
    early: VecDeque<Arrival>,
}

/// What arrives.
#[derive(Debug)]
pub(crate) enum Arrival {
    /// A message, of which nothing is verified.
    Message {
        /// Its topic.
        topic: Topic,
        /// Its bytes.
        payload: Vec<u8>,
        /// Whether the broker says that it was there before we subscribed.
        retained: bool,
    },
    /// The connection was lost, and is being made again.
    Lost(String),
    /// It is there again.
    Back,
}

impl Connection {
    /// Connects and subscribes.
    ///
    /// # Errors
    /// When that was not done within the given time, or can't be done at all.
    pub(crate) async fn open(
        access: Access,
        filters: Vec<Filter>,
        within: Duration,
    ) -> anyhow::Result<Self> {
        let id = u64::from_le_bytes(random::bytes()?);
        let Access { broker, tls, login } = access;
        let settings = Settings {
            broker: broker.clone(),
            tls,
            login,
            client_id: format!("herald-{id:016x}"),
            session: SessionKind::Clean,
            keep_alive: KEEP_ALIVE,
            backoff: BACKOFF,
            window: WINDOW,
        };
        let seed = u64::from_le_bytes(random::bytes()?);
        let (client, inbox) = herald_client::start(settings, filters, Box::new(()), seed);
        let mut connection = Self { client, inbox, early: VecDeque::new() };
        let mut last = None;
        let deadline = Instant::now() + within;
        loop {
            match timeout_at(deadline, connection.inbox.next()).await {
                Ok(Some(Event::Connected { .. })) => return Ok(connection),
                Ok(Some(Event::Message { topic, payload, retained })) => {
                    connection.early.push_back(Arrival::Message { topic, payload, retained });
                }
                Ok(Some(Event::Disconnected { reason, .. })) if is_final(&reason) => {
                    return Err(anyhow!(reason).context(format!("cannot use the broker {broker}")));
                }
                Ok(Some(Event::Disconnected { reason, .. })) => {
                    let first = last.is_none();
                    let reason = describe(&reason);
                    if first {
                        output::note(&format!("{reason}; trying for {}", clock::span(within)));
                    }
                    last = Some(reason);
                }
                Ok(None) => bail!("the connection to the broker {broker} ended by itself"),
                Err(_) => {
                    let within = clock::span(within);
                    let why = last.unwrap_or_else(|| "it does not answer".to_owned());
                    bail!("no connection to the broker {broker} within {within}: {why}");
                }
            }
        }
    }

    /// Waits for what arrives next. Safe to cancel.
    ///
    /// # Errors
    /// When the connection can't be made again.
    pub(crate) async fn next(&mut self) -> anyhow::Result<Arrival> {
        if let Some(arrival) = self.early.pop_front() {
            return Ok(arrival);
        }
        match self.inbox.next().await {
            Some(Event::Message { topic, payload, retained }) => {
                Ok(Arrival::Message { topic, payload, retained })
            }
            Some(Event::Connected { .. }) => Ok(Arrival::Back),
            Some(Event::Disconnected { reason, .. }) if is_final(&reason) => Err(anyhow!(reason)),
            Some(Event::Disconnected { reason, .. }) => Ok(Arrival::Lost(describe(&reason))),
            None => bail!("the connection to the broker ended by itself"),
        }
    }

    /// Gives what has arrived already, without waiting.
    pub(crate) fn arrived(&mut self) -> impl Iterator<Item = Arrival> {
        self.early.drain(..)
    }

    /// Ends the connection at once: what waits is not sent.
    pub(crate) async fn cut(self) {
        self.client.stop(Vec::new(), Duration::ZERO).await;
    }

    /// Disconnects, and sends before what waits.
    pub(crate) async fn close(self) {
        self.client.stop(Vec::new(), FAREWELL).await;
    }
}

/// Tells whether trying again would end in the same way. A refused subscription may not: a NATS
/// cluster refuses them while it has lost a server and not yet elected who takes its place.
fn is_final(reason: &ConnectionLost) -> bool {
    match reason {
        ConnectionLost::Refused { code: 1 | 2 | 4 | 5 }
        | ConnectionLost::PasswordRefused { .. }
        | ConnectionLost::TokenRefused { .. }
        | ConnectionLost::PasswordInTheOpen(_)
        | ConnectionLost::BadTls(_) => true,
        // What is wrong with a certificate is so the next time too; a network may recover.
        ConnectionLost::Tls { source, .. } => source.kind() == std::io::ErrorKind::InvalidData,
        _ => false,
    }
}

fn describe(reason: &ConnectionLost) -> String {
    let mut text = reason.to_string();
    let mut cause = std::error::Error::source(reason);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
