//! The connection on which a host asks, beside the one that it may have already.
//!
//! A token that was used opens nothing any more, and the word that it was may come too late for the
//! one who used it. So a host whose token is refused tries the key itself: where that is let in, the
//! fleet knows it.

use std::{num::NonZeroUsize, sync::Arc, time::Duration};

use herald_client::{
    Backoff, ConnectionLost, Event, Greeting, KEEP_ALIVE, Login, Message, SessionKind, Settings,
    Signed,
};
use herald_proto::{
    WIRE_VERSION,
    enrol::{EnrolRequest, RosterEntry},
    key::SecretKey,
    signing::{self, Verified},
    text::Prose,
    time::Timestamp,
    topic::{Filter, Subject, Topic},
};
use tokio::time::sleep;

use super::{Enrolment, Which};
use crate::{
    clock,
    config::{BadConfig, Config},
    identity::NoIdentity,
    trust_file::TrustFile,
};

/// How long the client waits before it tries again to connect, at first and at the most.
const BACKOFF: Backoff =
    Backoff { first: Duration::from_millis(500), longest: Duration::from_secs(60) };
/// How long to wait at the most after neither token nor key were let in.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How long an orderly end may take.
const FAREWELL: Duration = Duration::from_millis(500);

/// What keeps a host from asking.
#[derive(Debug, thiserror::Error)]
pub enum CannotAsk {
    /// How it gets to the broker.
    #[error(transparent)]
    Access(#[from] BadConfig),
    /// The key that the fleet knows by now can't be taken into use.
    #[error(transparent)]
    Key(#[from] NoIdentity),
    /// The system has no randomness to give.
    #[error("the system gives no random numbers")]
    NoRandomness(#[from] getrandom::Error),
}

/// As whom a host asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum As {
    /// As whoever has the token.
    Token,
    /// As the host that it wants to be.
    Host,
}

impl Enrolment {
    /// Asks until the fleet knows the key, and takes it into use. Gives which of the host's keys it is:
    /// with the next one the host has to start anew.
    ///
    /// # Errors
    /// When it can't ask at all, or the key not be taken into use.
    pub async fn ask(
        self,
        config: &Config,
        trust: &TrustFile,
        known: Timestamp,
    ) -> Result<Which, CannotAsk> {
        let fingerprint = self.key.public().id().fingerprint();
        tracing::info!(
            %fingerprint,
            "asking to be enrolled: an operator runs `herald host enrol {}`, and compares the \
             fingerprint",
            config.host
        );
        let mut pause = BACKOFF.first;
        loop {
            for who in [As::Token, As::Host] {
                if self.ask_as(who, config, trust, known).await? {
                    tracing::info!(%fingerprint, "the fleet knows this host by its key");
                    return Ok(self.finish()?);
                }
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Asks on one client, until the fleet knows the key or the login is refused.
    async fn ask_as(
        &self,
        who: As,
        config: &Config,
        trust: &TrustFile,
        known: Timestamp,
    ) -> Result<bool, CannotAsk> {
        let topic = |subject| Topic::new(config.fleet.clone(), subject);
        let mut random = [0; 16];
        getrandom::fill(&mut random)?;
        let [id, seed] = [0, 8].map(|at| {
            u64::from_le_bytes(random[at..at + 8].try_into().expect("half of 16 bytes are 8"))
        });
        let (tls, login) = config.access(&self.key, known)?;
        let login = match (login, who) {
            (Login::Signed(signed), As::Token) => {
                Login::Signed(Signed { key: Arc::clone(&self.token), ..signed })
            }
            (login @ Login::Signed(_), As::Host) | (login, As::Token) => login,
            // It says nothing of a key, and was not refused for one.
            (_, As::Host) => return Ok(false),
        };
        let settings = Settings {
            broker: config.broker.clone(),
            tls,
            login,
            client_id: format!("enrol-{id:016x}"),
            session: SessionKind::Clean,
            keep_alive: KEEP_ALIVE,
            backoff: BACKOFF,
            window: NonZeroUsize::MIN,
        };
        let request = (who == As::Token).then(|| Request {
            topic: topic(Subject::Enrol(self.token.public().id())),
            config: config.clone(),
            token: Arc::clone(&self.token),
            key: Arc::clone(&self.key),
        });
        let greeter =
            move || Greeting { will: None, birth: request.iter().map(Request::message).collect() };
        let roster = Filter::Exactly(topic(Subject::Roster(config.host.clone())));
        let (client, mut inbox) =
            herald_client::start(settings, vec![roster], Box::new(greeter), seed);
        let known = loop {
            match inbox.next().await {
                Some(Event::Message { payload, .. }) => {
                    if self.is_known(&payload, config, trust) {
                        break true;
                    }
                }
                Some(Event::Disconnected { reason, .. }) => {
                    tracing::debug!(?who, %reason, "cannot ask to be enrolled");
                    if matches!(reason, ConnectionLost::TokenRefused { .. }) {
                        break false;
                    }
                }
                Some(Event::Connected { .. }) => tracing::debug!(?who, "connected"),
                None => break false,
            }
        };
        client.stop(Vec::new(), FAREWELL).await;
        Ok(known)
    }

    /// Tells whether operators have said that the fleet knows the key.
    fn is_known(&self, payload: &[u8], config: &Config, trust: &TrustFile) -> bool {
        if payload.is_empty() {
            return false;
        }
        let entry: Verified<RosterEntry> =
            match signing::verify_roster_entry(payload, &trust.in_force()) {
                Ok(entry) if entry.host == config.host => entry,
                Ok(entry) => {
                    tracing::warn!(host = %entry.host, "the broker passed on another host's entry");
                    return false;
                }
                Err(rejection) => {
                    tracing::warn!(%rejection, "this host's entry in the roster is refused");
                    return false;
                }
            };
        if entry.key.is_some_and(|key| key.id() == self.key.public().id()) {
            return true;
        }
        let token = entry.token.as_ref();
        if token.is_none_or(|token| token.key.id() != self.token.public().id()) {
            tracing::warn!(
                "the roster has no use for this host's token any more: have a new one made, with \
                 `herald host token` or `herald host rotate`"
            );
        }
        false
    }
}

/// What is asked, signed anew on each connection.
struct Request {
    topic: Topic,
    config: Config,
    token: Arc<SecretKey>,
    key: Arc<SecretKey>,
}

impl Request {
    fn message(&self) -> Message {
        let request = EnrolRequest {
            version: WIRE_VERSION,
            fleet: self.config.fleet.clone(),
            host: self.config.host.clone(),
            key: self.key.public().into(),
            time: clock::wall(),
            agent: Prose::lossy(env!("CARGO_PKG_VERSION")),
            system: self.config.system.clone(),
        };
        let payload = signing::sign_enrol_request(&request, &self.token, &self.key);
        Message::new(self.topic.clone(), payload)
    }
}
