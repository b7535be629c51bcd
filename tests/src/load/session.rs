//! One client's MQTT session: who it is, what it does with a packet by itself, what is left to hear.

use std::time::Instant;

use super::{
    failure::Failure,
    link::{Link, Phase},
    packet::{self, Incoming},
};

/// The id of the SUBSCRIBE that belongs to a session's start.
const FIRST_SUBSCRIBE: u16 = 1;

/// Who a client is, and what it asks for whenever it connects.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    /// The client id.
    pub(crate) name: String,
    /// The broker is to forget the session with the connection.
    pub(crate) is_clean: bool,
    /// Seconds.
    pub(crate) keep_alive: u16,
    /// The filters; none, and no SUBSCRIBE is sent.
    pub(crate) filters: Vec<String>,
}

/// What a client heard.
#[derive(Debug)]
pub(crate) struct Heard<'a> {
    /// Which client: as [`super::swarm::Swarm::add`] counted.
    pub(crate) client: usize,
    /// When its bytes were read.
    pub(crate) at: Instant,
    /// What.
    pub(crate) news: News<'a>,
}

/// What can be heard.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum News<'a> {
    /// The broker took the client.
    Greeted,
    /// It took the client's filters also.
    Ready {
        /// It had kept the client's session.
        was_kept: bool,
    },
    /// A message; it is acknowledged by the swarm.
    Message { topic: &'a str, payload: &'a [u8], retain: bool },
    /// A message of the client's was acknowledged.
    Acked(u16),
    /// A later SUBSCRIBE was granted.
    Subscribed,
    /// An UNSUBSCRIBE was done.
    Unsubscribed,
    /// The connection ended. Only a tolerant swarm tells; else it is a failure.
    Closed,
}

/// Does what a session does by itself with a packet, and gives what is left to hear.
pub(crate) fn answer<'a>(
    session: &Session,
    link: &mut Link,
    incoming: Incoming<'a>,
) -> Result<Option<News<'a>>, Failure> {
    let wrong = |what: String| Failure::Answer { client: session.name.clone(), what };
    Ok(Some(match (link.phase, incoming) {
        (Phase::Greeting, Incoming::ConnAck { session_present, code: 0 }) => {
            link.was_kept = session_present;
            if session.filters.is_empty() {
                link.phase = Phase::Ready;
                return Ok(Some(News::Ready { was_kept: session_present }));
            }
            link.phase = Phase::Subscribing;
            packet::subscribe(&mut link.out, &session.filters, FIRST_SUBSCRIBE);
            News::Greeted
        }
        (_, Incoming::ConnAck { code, .. }) => {
            return Err(wrong(format!("CONNACK with code {code}, where 0 was expected, once")));
        }
        (Phase::Connecting | Phase::Greeting, other) => {
            return Err(wrong(format!("{other:?} before CONNACK")));
        }
        (_, Incoming::SubAck { codes, .. }) if codes.iter().any(|&code| code != 1) => {
            return Err(wrong(format!(
                "SUBACK with {codes:?}, where QoS 1 was asked for: {:?}",
                session.filters
            )));
        }
        (Phase::Subscribing, Incoming::SubAck { id: FIRST_SUBSCRIBE, codes })
            if codes.len() == session.filters.len() =>
        {
            link.phase = Phase::Ready;
            News::Ready { was_kept: link.was_kept }
        }
        (Phase::Ready, Incoming::SubAck { .. }) => News::Subscribed,
        (_, Incoming::SubAck { .. }) => return Err(wrong("SUBACK that nobody asked for".into())),
        (_, Incoming::Publish { topic, payload, qos: 1, retain, id }) => {
            packet::puback(&mut link.out, id);
            News::Message { topic, payload, retain }
        }
        (_, Incoming::Publish { topic, qos, .. }) => {
            return Err(wrong(format!("{topic} came with QoS {qos}, where 1 was granted")));
        }
        (_, Incoming::PubAck { id }) => News::Acked(id),
        (_, Incoming::UnsubAck { .. }) => News::Unsubscribed,
        (_, Incoming::PingResp) => {
            link.is_pinging = false;
            return Ok(None);
        }
    }))
}
