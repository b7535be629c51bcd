//! What a client tells its application.

use std::{
    io,
    time::{Duration, UNIX_EPOCH},
};

use herald_proto::{
    login::{BrokerName, LoginName},
    time::Timestamp,
    topic::{Filter, Topic},
};
use tokio::sync::mpsc;

/// What happened on a client's connections, in the order in which it did.
///
/// Connections are numbered from 1, each attempt being one; every number ends in one
/// [`Event::Disconnected`], unless the client ends first.
#[derive(Debug)]
pub enum Event {
    /// The connection works, both ways: the broker has answered it, granted every subscription and
    /// acknowledged every birth message.
    Connected {
        /// The number of the connection.
        connection: u64,
    },
    /// A connection ended, or an attempt to connect failed. The client tries again by itself.
    Disconnected {
        /// The number of the connection.
        connection: u64,
        /// Why.
        reason: ConnectionLost,
    },
    /// A message came. Retained ones can come before `Connected`: they follow the subscription.
    Message {
        /// Where it was published.
        topic: Topic,
        /// Its bytes, from a broker that is not trusted: there may be more of them than
        /// [`crate::MAX_PAYLOAD`], but never more than 256 KiB.
        payload: Vec<u8>,
        /// Whether it was published before the subscription.
        retained: bool,
    },
}

/// Why there is no connection any more.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionLost {
    /// Nobody knows the address of its name.
    #[error(
        "cannot find the broker {broker}: check how its name is written, and that this machine has a network and DNS"
    )]
    UnknownName {
        /// The broker's address.
        broker: crate::BrokerUrl,
        /// What looking it up said.
        source: io::Error,
    },
    /// No connection could be made.
    #[error("cannot reach the broker {broker}: check that it runs and that its port is open")]
    Unreachable {
        /// The broker's address.
        broker: crate::BrokerUrl,
        /// What the network said.
        source: io::Error,
    },
    /// What TLS was to use can't be used.
    #[error("cannot make a TLS connection")]
    BadTls(#[from] crate::BadTls),
    /// No TLS connection could be made.
    #[error(
        "cannot make a TLS connection to {broker}: check that it speaks TLS there, and that its certificate is for this name and from an authority that is trusted here"
    )]
    Tls {
        /// The broker's address.
        broker: crate::BrokerUrl,
        /// What failed.
        source: io::Error,
    },
    /// No WebSocket could be opened.
    #[error(
        "cannot open a WebSocket to {broker}: check that it speaks WebSocket there, and the path in its address"
    )]
    WebSocket {
        /// The broker's address.
        broker: crate::BrokerUrl,
        /// What failed.
        source: io::Error,
    },
    /// A password was not sent, as others could have read it.
    #[error(transparent)]
    PasswordInTheOpen(#[from] crate::PasswordInTheOpen),
    /// No token was signed, as the clock is wrong.
    #[error("the clock says {}, but it is after {}: waiting for it to be set", shown(*time), shown(*earliest))]
    ClockBehind {
        /// What the clock says.
        time: Timestamp,
        /// What is known of the time.
        earliest: Timestamp,
    },
    /// The broker refused a password.
    #[error(
        "the broker refused the login of {user} (code {code}): check the user, the password, and that this user may have this client id and will"
    )]
    PasswordRefused {
        /// The user's name.
        user: String,
        /// The return code (MQTT 3.1.1, table 3.1): 4 or 5.
        code: u8,
    },
    /// The broker refused a token.
    #[error("the broker refused the login of {user} (code {code}): check that it knows this login's public key, that it calls itself {broker}, that this login may have this client id and will, and the clock of this machine, which says {}", shown(*time))]
    TokenRefused {
        /// Who was to log in.
        user: LoginName,
        /// The broker that the token was for.
        broker: BrokerName,
        /// The return code (MQTT 3.1.1, table 3.1): 4 or 5.
        code: u8,
        /// What the clock says.
        time: Timestamp,
    },
    /// The broker turned the client away.
    #[error("the broker refused the client: {} (code {code})", refusal(*code))]
    Refused {
        /// The return code (MQTT 3.1.1, table 3.1).
        code: u8,
    },
    /// The broker refused a subscription.
    #[error("the broker refused the subscription to {filter}: check what this client may read")]
    SubscriptionRefused {
        /// The first filter that it refused.
        filter: Filter,
    },
    /// The broker closed the connection instead of acknowledging a birth.
    #[error(
        "the broker closed the connection on the birth message on {topic} ({size} bytes): check that this client may publish there, and that the broker takes messages of this size"
    )]
    BirthRefused {
        /// The first birth that it had not acknowledged.
        topic: Topic,
        /// The bytes of its payload.
        size: usize,
    },
    /// The broker did not answer in time.
    #[error("the broker did not answer within {} s", within.as_secs())]
    Unanswered {
        /// How long it had.
        within: Duration,
    },
    /// The broker closed the connection.
    #[error("the broker closed the connection")]
    Closed,
    /// The network failed.
    #[error("the connection to the broker failed")]
    Network(#[source] io::Error),
    /// The broker broke the protocol, or sent more than this client takes.
    #[error(
        "the broker sent what this client does not take: check that it speaks MQTT there, and not \
         TLS, which is mqtts://"
    )]
    Protocol(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The greeting had a message that is too large to be sent.
    #[error("the birth or will on {topic} has {size} bytes, more than can be sent")]
    GreetingTooLarge {
        /// Where it was to go.
        topic: Topic,
        /// The bytes of its payload.
        size: usize,
    },
    /// The application asked for a new connection.
    #[error("a new connection was asked for")]
    Reconnecting,
}

impl ConnectionLost {
    /// Tells whether the broker ended the connection, and not the network or time.
    pub(crate) fn is_closed(&self) -> bool {
        match self {
            Self::Closed => true,
            Self::Network(error) => matches!(
                error.kind(),
                io::ErrorKind::ConnectionReset
                    | io::ErrorKind::ConnectionAborted
                    | io::ErrorKind::BrokenPipe
                    | io::ErrorKind::UnexpectedEof
            ),
            _ => false,
        }
    }
}

/// Writes a time for people, in UTC.
fn shown(time: Timestamp) -> impl std::fmt::Display {
    // Beyond the year 9999 there is no RFC 3339.
    let millis = time.as_millis().min(253_402_300_799_000);
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_millis(millis))
}

fn refusal(code: u8) -> &'static str {
    match code {
        1 => "it does not speak MQTT 3.1.1",
        2 => "it does not take this client id",
        3 => "it is not available",
        4 => "it wants a user name and a password: set a login",
        5 => {
            "the client is not authorised: check its login, its client id, and where it may publish its will"
        }
        _ => "for a reason that MQTT 3.1.1 does not name",
    }
}

/// Where a client's events arrive.
///
/// It holds at most [`Inbox::CAPACITY`] events that nobody read. Messages beyond these are not
/// acknowledged until there is room, which makes the broker wait. Drop the inbox if nobody is to
/// read it: events are then dropped too, and the client goes on.
#[derive(Debug)]
pub struct Inbox {
    events: mpsc::Receiver<Event>,
}

impl Inbox {
    /// The most events that wait to be read.
    pub const CAPACITY: usize = 256;

    pub(crate) fn new() -> (mpsc::Sender<Event>, Self) {
        let (sender, events) = mpsc::channel(Self::CAPACITY);
        (sender, Self { events })
    }

    /// Waits for the next event, and gives none when the client has ended. Safe to cancel.
    pub async fn next(&mut self) -> Option<Event> {
        self.events.recv().await
    }
}
