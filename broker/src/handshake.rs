//! From a fresh connection to a session, or to a refusal with the code that MQTT has for it.

use std::{sync::Arc, time::Duration};

use bytes::BytesMut;
use herald_proto::{
    login::{host_client_id, is_host_client_id},
    topic::{Subject, Topic},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    time::timeout_at,
};

use crate::{
    acl,
    auth::Credentials,
    broker::{Authenticated, Broker},
    limits::Permit,
    listener::{Accepted, Peer},
    mailbox::{Mailbox, Patience},
    packet::{self, Connect, ConnectReturn, Packet},
    principal::Principal,
    refusal::Refusal,
    session::{End, Session, Will, first_packet, say_goodbye},
    subscription::Subscriptions,
};

/// The longest client id.
const LONGEST_ID: usize = 128;
/// How long a client may be silent that asks for no limit.
const LONGEST_SILENCE: Duration = Duration::from_secs(45 * 60);

/// Most bytes that wait for a host, and for others, who listen to whole fleets.
const HOST_BYTES: usize = 1024 * 1024;
const OTHER_BYTES: usize = 32 * 1024 * 1024;
/// Most filters of a persistent session, and of others, who name each host of a fleet.
const PERSISTENT_FILTERS: usize = 256;
const OTHER_FILTERS: usize = 100_000;

/// Serves a connection from its first byte to its end.
pub async fn serve<S>(broker: Arc<Broker>, accepted: Accepted<S>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let Accepted { mut stream, peer, permit, deadline, full } = accepted;
    let mut received = BytesMut::new();
    // On the heap, as its space is needed for an instant and this task may live for weeks.
    let greeting = Box::pin(async {
        let connect = connect(&broker, &mut stream, &mut received).await?;
        if full {
            return Err(Some(Refused::counted(ConnectReturn::Unavailable)));
        }
        let asked = Asked::of(connect)?;
        let authenticated = authenticate(&broker, &peer, &asked).await?;
        let (session, present) = asked.accept(&broker, authenticated, permit).await?;
        let answer = packet::connack(present, ConnectReturn::Accepted);
        stream.write_all(&answer).await.map_err(|_| None::<Refused>)?;
        stream.flush().await.map_err(|_| None)?;
        Ok(session)
    });
    let refused = match timeout_at(deadline, greeting).await {
        Ok(Ok(session)) => return Box::pin(session.run(stream, received)).await,
        Ok(Err(None)) => return,
        Ok(Err(Some(refused))) => refused,
        Err(_) => Refused::silently(Refusal::HandshakeTimeout),
    };
    if let Some(reason) = refused.reason {
        broker.refused_connection(reason, &peer);
    }
    if let Some(code) = refused.code {
        let answer = packet::connack(false, code);
        let _ = timeout_at(deadline, say_goodbye(&mut stream, &answer)).await;
    }
}

/// A connection that gets no session, and the code that it is told, if any.
#[derive(Debug)]
struct Refused {
    /// None if it is counted already.
    reason: Option<Refusal>,
    code: Option<ConnectReturn>,
}

impl Refused {
    fn with(reason: Refusal, code: ConnectReturn) -> Self {
        Self { reason: Some(reason), code: Some(code) }
    }

    fn counted(code: ConnectReturn) -> Self {
        Self { reason: None, code: Some(code) }
    }

    fn silently(reason: Refusal) -> Self {
        Self { reason: Some(reason), code: None }
    }
}

async fn connect(
    broker: &Broker,
    stream: &mut (impl AsyncRead + Unpin),
    received: &mut BytesMut,
) -> Result<Connect, Option<Refused>> {
    match first_packet(stream, received, broker.settings.max_packet).await {
        Ok(Packet::Connect(connect)) => Ok(*connect),
        Ok(_) => Err(Some(Refused::silently(Refusal::Unexpected))),
        Err(Some(reason @ Refusal::ProtocolVersion)) => {
            Err(Some(Refused::with(reason, ConnectReturn::ProtocolVersion)))
        }
        Err(reason) => Err(reason.map(Refused::silently)),
    }
}

/// What a client asks for, as far as it makes sense.
struct Asked {
    connect: Connect,
    client: Arc<str>,
    will: Option<Will>,
}

impl Asked {
    fn of(mut connect: Connect) -> Result<Self, Refused> {
        let id = std::mem::take(&mut connect.client_id);
        let usable = id.len() <= LONGEST_ID && id.bytes().all(|byte| byte.is_ascii_graphic());
        // Only a session that ends with its connection may go without a name (section 3.1.3.1).
        if !usable || (id.is_empty() && !connect.clean_session) {
            return Err(Refused::with(Refusal::ClientId, ConnectReturn::ClientId));
        }
        let will = connect.will.take().map(|publish| {
            let topic = publish.topic.parse::<Topic>();
            let refused = |_| Refused::with(Refusal::Will, ConnectReturn::NotAuthorized);
            topic.map_err(refused).map(|topic| Will { topic, publish })
        });
        Ok(Self { connect, client: id.into(), will: will.transpose()? })
    }

    /// Gives the client its session, and tells whether it is one that was kept.
    async fn accept(
        mut self,
        broker: &Arc<Broker>,
        authenticated: Authenticated,
        permit: Permit,
    ) -> Result<(Session, bool), Refused> {
        let principal = &authenticated.principal;
        let bad_id = || Refused::with(Refusal::ClientId, ConnectReturn::ClientId);
        let unavailable = |reason| Refused::with(reason, ConnectReturn::Unavailable);
        if let Some(will) = &self.will
            && (!acl::may_publish(principal, &will.topic, will.publish.retain)
                // It would be published when nobody is there to be told that it is refused.
                || matches!(will.topic.subject, Subject::Roster(_)))
        {
            return Err(Refused::with(Refusal::Will, ConnectReturn::NotAuthorized));
        }
        if self.client.is_empty() {
            self.client = broker.new_client_id().into();
        }
        let owner: Arc<str> = principal.to_string().into();
        let persistent = !self.connect.clean_session;
        if !may_have(principal, &self.client, persistent) {
            return Err(bad_id());
        }
        let is_its_own = own_id(principal).is_some_and(|own| *self.client == *own);
        let is_host = matches!(principal, Principal::Host { .. } | Principal::Candidate { .. });
        let patience = Patience {
            bytes: if is_host { HOST_BYTES } else { OTHER_BYTES },
            time: broker.settings.slow_after,
        };
        let most_filters = match (is_host, persistent) {
            (false, true) => PERSISTENT_FILTERS,
            _ => broker.settings.limits.filters_of(principal).min(OTHER_FILTERS),
        };
        let mailbox = Arc::new(Mailbox::new(patience, Subscriptions::new(persistent)));
        let place = broker.registry.take(&self.client, &owner, is_its_own, &mailbox).await;
        let place = place.map_err(|reason| match reason {
            Refusal::ClientId => bad_id(),
            reason => unavailable(reason),
        })?;
        if !broker.is_still(&authenticated) {
            return Err(unavailable(Refusal::LoginChanged));
        }
        if persistent {
            // What the connection before had acknowledged may still be on its way.
            broker.journal.settle().await;
        }
        let kept = broker.store.session(&self.client);
        let kept = kept.map_err(|error| unavailable(broker.unreadable(&error)))?;
        let is_anothers = kept.as_ref().is_some_and(|kept| kept.owner != *owner);
        if is_anothers && !is_its_own {
            return Err(bad_id());
        }
        let mut session = Session {
            broker: Arc::clone(broker),
            principal: authenticated.principal,
            client: self.client,
            owner,
            mailbox,
            silence: longest_silence(self.connect.keep_alive),
            will: None,
            most_filters,
            kept: None,
            end: End::Gone,
            _place: place,
            _permit: permit,
            _counted: broker.metrics.session(),
        };
        let present = match kept {
            Some(kept) if persistent && !is_anothers => {
                session.kept = Some(Box::new(kept));
                true
            }
            kept => {
                // What another had there goes too.
                let had = kept.map(|kept| Arc::from(kept.owner));
                session.begin(had).await.map_err(unavailable)?;
                false
            }
        };
        // Only a client that is accepted has one (section 3.1.2.5).
        session.will = self.will.map(Box::new);
        Ok((session, present))
    }
}

/// Tells whether a client id is one that the principal may have.
///
/// Those of the form `<fleet>:<host>` are the hosts', so that nobody keeps a host away by its name;
/// and what is kept of a host is one session, whatever names it gives itself.
pub(crate) fn may_have(principal: &Principal, client: &str, persistent: bool) -> bool {
    let is_a_hosts = is_host_client_id(client);
    match principal {
        Principal::Anonymous => true,
        Principal::Member { .. } => !is_a_hosts,
        Principal::Candidate { .. } => !is_a_hosts && !persistent,
        Principal::Host { .. } => {
            let is_its_own = own_id(principal).is_some_and(|own| own == client);
            is_its_own || !is_a_hosts && !persistent
        }
    }
}

/// Gives the client id that belongs to a host, whoever had it before: nobody was anonymous who could
/// have known that there would be logins.
fn own_id(principal: &Principal) -> Option<String> {
    match principal {
        Principal::Host { fleet, host } => Some(host_client_id(fleet, host)),
        Principal::Anonymous | Principal::Candidate { .. } | Principal::Member { .. } => None,
    }
}

async fn authenticate(
    broker: &Broker,
    peer: &Peer,
    asked: &Asked,
) -> Result<Authenticated, Refused> {
    let credentials = Credentials {
        client_id: &asked.client,
        username: asked.connect.username.as_deref(),
        password: asked.connect.password.as_deref(),
        certificate: peer.certificate.as_deref(),
        anonymous_allowed: peer.anonymous,
    };
    broker.authenticate(&credentials, peer).await.map_err(Refused::counted)
}

/// Gives how long nothing may come from a client: one and a half times its keep-alive (section
/// 3.1.2.10).
fn longest_silence(keep_alive: u16) -> Duration {
    match keep_alive {
        0 => LONGEST_SILENCE,
        seconds => Duration::from_millis(u64::from(seconds) * 1_500),
    }
}

#[cfg(test)]
mod tests;
