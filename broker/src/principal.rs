//! Who a client is, once that is known.

use std::fmt;

use herald_proto::host::{FleetId, HostId};

/// Whoever logged in, or nobody in particular.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Principal {
    /// Anyone on this machine: a loopback listener whose configuration says so.
    Anonymous,
    /// A host of a fleet.
    Host {
        /// Its fleet.
        fleet: FleetId,
        /// Its name, which is its login's too.
        host: HostId,
    },
    /// A person or a program with a part in a fleet.
    Member {
        /// The fleet.
        fleet: FleetId,
        /// The login's name.
        name: Box<str>,
        /// The part.
        role: Role,
    },
}

/// What a member of a fleet is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Signs and publishes orders.
    Operator,
    /// Conducts roll-outs: advances, pauses and aborts them.
    Rollout,
    /// Reads what the fleet says.
    Monitor,
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anonymous => f.write_str("anonymous"),
            Self::Host { fleet, host } => write!(f, "{fleet}/{host}"),
            Self::Member { fleet, name, .. } => write!(f, "{fleet}/{name}"),
        }
    }
}
