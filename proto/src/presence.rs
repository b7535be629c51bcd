//! Whether a host is connected: its birth, and its death as a last will that it signs in advance.

use crate::{
    host::HostId,
    id::{BootId, Incarnation},
    text::Prose,
    time::Timestamp,
};

codes! {
    /// Whether the host is there.
    pub enum Liveness {
        /// Published by the host when it has connected.
        Online = 0 => "online",
        /// Published by the broker when the connection was lost, or by the host when it stops.
        Offline = 1 => "offline",
    }
}

/// A host's signed presence.
///
/// Sessions are numbered in ascending order, durably: a death of an older session than the last
/// birth is stale, whenever it arrives.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Presence {
    /// The wire version.
    pub version: u16,
    /// The host.
    pub host: HostId,
    /// The connection's number.
    pub session: u64,
    /// Whether this is its birth or its death.
    pub liveness: Liveness,
    /// The life of the counter of sessions: in a new one the numbers begin anew.
    pub incarnation: Incarnation,
    /// The boot.
    pub boot: BootId,
    /// The host's clock when it was signed; a death is signed at its birth.
    pub time: Timestamp,
    /// The version of the subscriber.
    pub agent: Prose,
}

wire_map!(Presence, unknown keys Ignore:
    1 => version required,
    2 => host required,
    3 => session required,
    4 => liveness required,
    5 => incarnation required,
    6 => boot required,
    7 => time required,
    8 => agent required,
);
