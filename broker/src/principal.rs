//! Who a client is, once that is known.

use std::fmt;

use herald_proto::host::{FleetId, HostId};
use herald_proto::key::KeyId;
use herald_proto::login::LoginName;

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
    /// A host that may ask to be let into a fleet, and nothing else.
    Candidate {
        /// The fleet.
        fleet: FleetId,
        /// The name that it may ask for.
        host: HostId,
        /// The token with which it has come.
        token: KeyId,
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

impl Principal {
    /// Gives the name of whoever may ask to be this host. It is no login's.
    pub fn candidate_name(host: &LoginName) -> String {
        format!("{host}{CANDIDATE}")
    }

    /// Gives the host that whoever is called so may ask to be.
    pub fn candidate_of(name: &str) -> Option<LoginName> {
        name.strip_suffix(CANDIDATE)?.parse().ok()
    }
}

/// What no name of a login ends with.
const CANDIDATE: char = '?';

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anonymous => f.write_str("anonymous"),
            Self::Host { fleet, host } => write!(f, "{fleet}/{host}"),
            Self::Candidate { fleet, host, .. } => {
                let host = LoginName { fleet: fleet.clone(), name: host.clone() };
                f.write_str(&Self::candidate_name(&host))
            }
            Self::Member { fleet, name, .. } => write!(f, "{fleet}/{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_candidate_has_the_name_of_no_login() {
        let web: LoginName = "home/web-1".parse().unwrap();
        let (fleet, host) = (web.fleet.clone(), web.name.clone());
        let candidate = Principal::Candidate { fleet, host, token: KeyId::from_bytes([1; 32]) };
        let name = candidate.to_string();
        assert_eq!(name, Principal::candidate_name(&web));
        assert!(name.parse::<LoginName>().is_err(), "{name}");
        assert_eq!(Principal::candidate_of(&name), Some(web));
        for other in ["home/web-1", "anonymous", "?", "web-1?"] {
            assert_eq!(Principal::candidate_of(other), None, "{other}");
        }
    }
}
