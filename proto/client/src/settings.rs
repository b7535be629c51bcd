//! How a client connects.

use std::{num::NonZeroUsize, time::Duration};

use crate::{Backoff, BrokerUrl, Login, Tls};

/// The time between signs of life on a connection that is otherwise silent. A broker that died
/// without a word is noticed after at most twice as long.
pub const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// Whether the broker remembers the client between its connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SessionKind {
    /// It forgets.
    #[default]
    Clean,
    /// It keeps the subscriptions and what comes for them meanwhile. An optimisation only: the
    /// client subscribes again on every connection all the same.
    Persistent,
}

/// How a client connects.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where to.
    pub broker: BrokerUrl,
    /// What its TLS connections use, if the broker's address asks for TLS.
    pub tls: Tls,
    /// How it says who it is.
    pub login: Login,
    /// The name under which the broker knows the client, of which it has one connection at a time.
    /// Without one the session is clean, whatever `session` says: the protocol has no other.
    pub client_id: String,
    /// Whether the broker remembers the client.
    pub session: SessionKind,
    /// The time between signs of life, in whole seconds and at least one: see [`KEEP_ALIVE`].
    pub keep_alive: Duration,
    /// How long to wait between attempts to connect.
    pub backoff: Backoff,
    /// How many messages are on their way at once: 1 for a host. At most 4,095 are.
    pub window: NonZeroUsize,
}
