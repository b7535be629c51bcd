//! The one path from a message on a host's topic to something that counts as said by that host.

use herald_proto::{
    host::{HostId, ProfileName},
    log::Log,
    presence::Presence,
    rejection::Rejection,
    report::Report,
    signing::{self, HostMessage, Verified},
    topic::{Subject, Topic},
};

use crate::fleet::Fleet;

/// What a host said, signed with the key that the fleet file pins for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// Its latest report.
    Report(Verified<Report>),
    /// Its latest roll back.
    Rollback(Verified<Report>),
    /// Whether it is connected.
    Presence(Verified<Presence>),
    /// What a program of it printed.
    Log(Verified<Log>),
}

/// A message that counts for nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unheard {
    /// Hosts do not speak on this topic, or it is another fleet's.
    #[error("{0} is no topic on which a host of this fleet speaks")]
    OtherTopic(Topic),
    /// The topic was cleared, which anybody at the broker can do.
    #[error("the topic was cleared")]
    Cleared,
    /// No key is pinned for the host.
    #[error("the fleet file has no host {0}")]
    NotPinned(HostId),
    /// The message is signed, but not with the key that is pinned for the host.
    #[error("it is signed with a key that is not pinned for {0}")]
    OtherKey(HostId),
    /// The message is not by the host, or not one that can be read.
    #[error(transparent)]
    Unverified(#[from] Rejection),
    /// The host's message about another profile.
    #[error("it is about the profile {found}, on the topic of {topic}")]
    OtherProfile {
        /// The topic's profile.
        topic: ProfileName,
        /// The message's profile.
        found: ProfileName,
    },
}

impl Fleet {
    /// Verifies a message by the key that is pinned for the topic's host.
    ///
    /// # Errors
    /// When nobody may speak there, or the message is not what that host signed for that topic.
    pub fn hear(&self, topic: &Topic, payload: &[u8]) -> Result<Heard, Unheard> {
        if topic.fleet != *self.id() {
            return Err(Unheard::OtherTopic(topic.clone()));
        }
        match &topic.subject {
            Subject::Status(host, profile) => {
                self.report(host, Some(profile), payload).map(Heard::Report)
            }
            Subject::Rollback(host, profile) => {
                self.report(host, Some(profile), payload).map(Heard::Rollback)
            }
            Subject::Event(host) => self.report(host, None, payload).map(Heard::Report),
            Subject::Presence(host) => self.verify(host, payload).map(Heard::Presence),
            Subject::Log(host) => self.verify(host, payload).map(Heard::Log),
            _ => Err(Unheard::OtherTopic(topic.clone())),
        }
    }

    fn report(
        &self,
        host: &HostId,
        profile: Option<&ProfileName>,
        payload: &[u8],
    ) -> Result<Verified<Report>, Unheard> {
        let report: Verified<Report> = self.verify(host, payload)?;
        match profile {
            Some(topic) if *topic != report.profile => {
                Err(Unheard::OtherProfile { topic: topic.clone(), found: report.profile.clone() })
            }
            _ => Ok(report),
        }
    }

    fn verify<T: HostMessage>(
        &self,
        host: &HostId,
        payload: &[u8],
    ) -> Result<Verified<T>, Unheard> {
        if payload.is_empty() {
            return Err(Unheard::Cleared);
        }
        let pinned = self.host(host).ok_or_else(|| Unheard::NotPinned(host.clone()))?;
        let message = signing::verify_from_host(payload, self.id(), host, pinned.key());
        message.map_err(|refused| match refused {
            Rejection::UnderSigned { .. } => Unheard::OtherKey(host.clone()),
            refused => refused.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{fleet, host_key, report, signed};

    fn status(host: &str, profile: &str) -> Subject {
        Subject::Status(host.parse().unwrap(), profile.parse().unwrap())
    }

    #[test]
    fn only_what_a_host_signed_for_the_topic_with_its_pinned_key_is_heard() {
        let fleet = fleet(&["a", "b"]);
        let report = report("a");
        let by = |key| signed(&report, &host_key(key));
        let hear = |subject, payload: &[u8]| fleet.hear(&fleet.topic(subject), payload);

        assert!(matches!(
            hear(status("a", "system"), &by(1)),
            Ok(Heard::Report(heard)) if *heard == report
        ));
        let cases = [
            (status("a", "system"), by(2), "not pinned for a"),
            (status("b", "system"), by(1), "not pinned for b"),
            (status("b", "system"), by(2), "host a"),
            (status("c", "system"), by(1), "no host c"),
            (status("a", "home"), by(1), "profile system"),
            (status("a", "system"), vec![], "cleared"),
            (status("a", "system"), vec![1, 2, 3], "CBOR"),
            (Subject::Presence("a".parse().unwrap()), by(1), "is wrong"),
            (Subject::Log("a".parse().unwrap()), by(1), "is wrong"),
            (Subject::Log("a".parse().unwrap()), vec![], "cleared"),
            (Subject::Beacon, by(1), "no topic"),
        ];
        for (subject, payload, expected) in cases {
            let unheard = hear(subject, &payload).unwrap_err().to_string();
            assert!(unheard.contains(expected), "{unheard}, not {expected}");
        }
    }

    #[test]
    fn another_fleet_is_not_heard() {
        let topic = Topic::new("other".parse().unwrap(), status("a", "system"));
        let unheard = fleet(&["a"]).hear(&topic, &signed(&report("a"), &host_key(1)));
        assert!(matches!(unheard, Err(Unheard::OtherTopic(_))));
    }
}
