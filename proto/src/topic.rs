//! The topics of a fleet: `herald/v1/<fleet>/…`, parsed and written in one place.
//!
//! Each topic has at most 7 slashes and 256 bytes, and only characters that every broker admits.

mod filter;

use std::fmt;

use crate::{
    host::{FleetId, HostId, ProfileName},
    id::ReleaseId,
    key::KeyId,
    text::Unparsable,
};

pub use filter::{Filter, Kind};

/// A topic of one fleet.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Topic {
    /// The fleet.
    pub fleet: FleetId,
    /// What is said there.
    pub subject: Subject,
}

/// What is said on a topic.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Subject {
    /// The order for a host's profile. Retained; written by operators.
    Desired(HostId, ProfileName),
    /// The latest report about a host's profile. Retained; written by the host.
    Status(HostId, ProfileName),
    /// The latest roll back of a host's profile. Retained; written by the host.
    Rollback(HostId, ProfileName),
    /// Whether a host is connected. Retained; written by the host, and by its last will.
    Presence(HostId),
    /// Every report of a host. Not retained; written by the host.
    Event(HostId),
    /// What an activation printed, bounded. Not retained; written by the host.
    Log(HostId),
    /// A release's plan. Retained; written by operators.
    Release(ReleaseId),
    /// The latest decision about a release. Retained; written by the rollout role.
    Decision(ReleaseId),
    /// A sign of life of the rollout role. Retained.
    Beacon,
    /// A new host's request to join, named by its one-time token's key. Retained.
    Enrol(KeyId),
    /// A host's key, as operators pinned it. Retained; written by operators.
    Roster(HostId),
}

impl Topic {
    /// Names a topic.
    pub fn new(fleet: FleetId, subject: Subject) -> Self {
        Self { fleet, subject }
    }

    /// Tells whether the latest message on the topic is kept for those who come later.
    pub fn is_retained(&self) -> bool {
        !matches!(self.subject, Subject::Event(_) | Subject::Log(_))
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "herald/v1/{}/", self.fleet)?;
        match &self.subject {
            Subject::Desired(host, profile) => write!(f, "desired/{host}/{profile}"),
            Subject::Status(host, profile) => write!(f, "status/{host}/{profile}"),
            Subject::Rollback(host, profile) => write!(f, "rollback/{host}/{profile}"),
            Subject::Presence(host) => write!(f, "presence/{host}"),
            Subject::Event(host) => write!(f, "event/{host}"),
            Subject::Log(host) => write!(f, "log/{host}"),
            Subject::Release(id) => write!(f, "release/{id}"),
            Subject::Decision(id) => write!(f, "release/{id}/decision"),
            Subject::Beacon => f.write_str("beacon"),
            Subject::Enrol(token) => write!(f, "enrol/{token}"),
            Subject::Roster(host) => write!(f, "roster/{host}"),
        }
    }
}

impl std::str::FromStr for Topic {
    type Err = Unparsable;

    fn from_str(text: &str) -> Result<Self, Unparsable> {
        let unparsable = || Unparsable::new("topic", text, "herald/v1/<fleet>/<kind>/…");
        let mut levels = text.strip_prefix("herald/v1/").ok_or_else(unparsable)?.split('/');
        let fleet = levels.next().unwrap_or_default().parse()?;
        let rest: Vec<&str> = levels.collect();
        let subject = match *rest {
            ["desired", host, profile] => Subject::Desired(host.parse()?, profile.parse()?),
            ["status", host, profile] => Subject::Status(host.parse()?, profile.parse()?),
            ["rollback", host, profile] => Subject::Rollback(host.parse()?, profile.parse()?),
            ["presence", host] => Subject::Presence(host.parse()?),
            ["event", host] => Subject::Event(host.parse()?),
            ["log", host] => Subject::Log(host.parse()?),
            ["release", id] => Subject::Release(id.parse()?),
            ["release", id, "decision"] => Subject::Decision(id.parse()?),
            ["beacon"] => Subject::Beacon,
            ["enrol", token] => Subject::Enrol(token.parse()?),
            ["roster", host] => Subject::Roster(host.parse()?),
            _ => return Err(unparsable()),
        };
        Ok(Self { fleet, subject })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every_subject() -> Vec<Subject> {
        let (host, profile): (HostId, ProfileName) =
            ("a-1".parse().unwrap(), ProfileName::system());
        let id = ReleaseId::new(crate::time::Timestamp::from_millis(1), &[1; 10]);
        vec![
            Subject::Desired(host.clone(), profile.clone()),
            Subject::Status(host.clone(), profile.clone()),
            Subject::Rollback(host.clone(), profile),
            Subject::Presence(host.clone()),
            Subject::Event(host.clone()),
            Subject::Log(host.clone()),
            Subject::Release(id),
            Subject::Decision(id),
            Subject::Beacon,
            Subject::Enrol(KeyId::from_bytes([9; 32])),
            Subject::Roster(host),
        ]
    }

    #[test]
    fn every_topic_is_read_as_it_is_written_and_fits_every_broker() {
        for subject in every_subject() {
            let topic = Topic::new("home".parse().unwrap(), subject);
            let text = topic.to_string();
            assert_eq!(text.parse::<Topic>().unwrap(), topic);
            assert!(text.matches('/').count() <= 7 && text.len() <= 256, "{text}");
            assert!(
                text.bytes()
                    .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || b"/_-".contains(&c))
            );
        }
    }

    #[test]
    fn what_is_no_topic_of_ours_is_refused() {
        for bad in [
            "",
            "herald/v1",
            "herald/v1/",
            "herald/v1/home",
            "herald/v1/home/",
            "herald/v1/home/status/+/system",
            "herald/v1/home/status/#",
            "herald/v1/home/status/a/system/",
            "herald/v1/home//status/a/system",
            "/herald/v1/home/beacon",
            "herald/v2/home/beacon",
            "herald/v1/Home/beacon",
            "herald/v1/höme/beacon",
            "$SYS/broker",
            "herald/v1/home/beacon\0",
        ] {
            assert!(bad.parse::<Topic>().is_err(), "{bad:?}");
        }
    }
}
