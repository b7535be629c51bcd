//! Whether a host is connected: its birth, and its death as a last will that it signs in advance.

use crate::{
    host::{HostId, ProfileName},
    id::{BootId, Incarnation, Sequence},
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

codes! {
    /// Whether the host hears beacons, where its trust asks for them.
    pub enum Hearing {
        /// The last one is not older than two intervals.
        Fresh = 0 => "fresh",
        /// It has missed two; somebody may hold messages back. It takes no new orders.
        Stale = 1 => "stale",
    }
}

/// A host's signed presence.
///
/// Sessions are numbered in ascending order, durably: a death of an older session than the last
/// birth is stale, whenever it arrives. Within a session the heartbeats are numbered, and nothing
/// follows its death.
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
    /// The number of the heartbeat in its session: 0 for the birth and for the death.
    pub beat: u64,
    /// When the last beacon was signed that the host has heard.
    pub beacon: Option<Timestamp>,
    /// Whether it hears beacons; absent where it needs none.
    pub hearing: Option<Hearing>,
    /// The highest order of each profile that the host took or rejected.
    pub taken: Vec<TakenOrder>,
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
    9 => beat required,
    10 => beacon optional,
    11 => hearing optional,
    12 => taken list,
);

/// The highest order of a profile that a host took or rejected.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TakenOrder {
    /// The profile.
    pub profile: ProfileName,
    /// The order's sequence.
    pub sequence: Sequence,
}

wire_map!(TakenOrder, unknown keys Ignore:
    1 => profile required,
    2 => sequence required,
);
