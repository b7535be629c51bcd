//! One subscriber: what it asks for, and what it has of each topic.

use std::collections::HashMap;

use super::{fault::Fault, history::History, payload};
use crate::load::{session::Session, swarm::Swarm};

/// How a subscriber's session is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kept {
    /// With its connection: it subscribes on each.
    Clean,
    /// By the broker. Its SUBACK has not come.
    Asked,
    /// By the broker. Its SUBACK has come: it never subscribes again.
    Granted,
    /// A clean connection is to end it.
    Ending,
    /// Not any more.
    Ended,
}

/// Where its connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum At {
    Away,
    Connecting,
    Ready,
}

/// A subscriber.
pub(super) struct Subscriber {
    /// As the swarm counts.
    pub(super) client: usize,
    pub(super) name: String,
    filters: Vec<String>,
    /// Topics that its filters match: places in the history.
    topics: Vec<usize>,
    pub(super) kept: Kept,
    pub(super) at: At,
    /// The version of each topic that it got last; none for a cleared one.
    has: HashMap<usize, Option<u32>>,
    pub(super) received: u64,
}

impl Subscriber {
    /// Makes one that is not connected.
    pub(super) fn new(
        swarm: &mut Swarm,
        name: &str,
        filters: &[&str],
        kept: Kept,
        history: &History,
    ) -> Self {
        let filters: Vec<String> = filters.iter().map(|&filter| filter.to_owned()).collect();
        let topics = (0..history.len())
            .filter(|place| filters.iter().any(|filter| matches(filter, history.name(*place))))
            .collect();
        let client = swarm.add(session(name, true, Vec::new()));
        Self {
            client,
            name: name.to_owned(),
            filters,
            topics,
            kept,
            at: At::Away,
            has: HashMap::new(),
            received: 0,
        }
    }

    /// Begins to connect, and subscribes if it must.
    pub(super) fn open(&mut self, swarm: &mut Swarm) -> std::io::Result<()> {
        let is_clean = self.kept == Kept::Clean;
        let filters = if self.kept == Kept::Granted { Vec::new() } else { self.filters.clone() };
        if self.kept != Kept::Granted {
            // All that is retained comes.
            self.has.clear();
        }
        swarm.set_session(self.client, session(&self.name, is_clean, filters));
        self.at = At::Connecting;
        swarm.open(self.client)
    }

    /// Begins to connect in order to end its session.
    pub(super) fn open_to_end(&mut self, swarm: &mut Swarm) -> std::io::Result<()> {
        swarm.set_session(self.client, session(&self.name, true, Vec::new()));
        self.kept = Kept::Ending;
        self.at = At::Connecting;
        swarm.open(self.client)
    }

    /// Leaves.
    pub(super) fn close(&mut self, swarm: &mut Swarm) {
        swarm.close(self.client);
        self.at = At::Away;
    }

    /// Notes that its connection is gone.
    pub(super) fn lost(&mut self) {
        if self.at == At::Connecting && matches!(self.kept, Kept::Ending | Kept::Ended) {
            self.kept = Kept::Asked;
        }
        self.at = At::Away;
    }

    /// Notes that the broker took it, with its filters; tells whether its session was resumed without
    /// SUBSCRIBE.
    ///
    /// # Errors
    /// When a session was there that should not have been, or was not that should have been.
    pub(super) fn taken(&mut self, was_kept: bool) -> Result<bool, Fault> {
        self.at = At::Ready;
        let client = self.name.clone();
        let before = self.kept;
        self.kept = match before {
            Kept::Clean => Kept::Clean,
            Kept::Ending => Kept::Ended,
            // Nothing more is known of it.
            Kept::Granted if !was_kept => Kept::Asked,
            Kept::Asked | Kept::Ended | Kept::Granted => Kept::Granted,
        };
        match before {
            Kept::Granted if !was_kept => Err(Fault::Forgotten { client }),
            Kept::Clean | Kept::Ending | Kept::Ended if was_kept => {
                Err(Fault::Remembered { client })
            }
            _ => Ok(before == Kept::Granted),
        }
    }

    /// Takes a message.
    pub(super) fn take(
        &mut self,
        topic: &str,
        message: &[u8],
        is_retained: bool,
        history: &mut History,
    ) -> Result<(), Fault> {
        let client = || self.name.clone();
        let corrupt =
            || Fault::Corrupt { client: client(), topic: topic.into(), size: message.len() };
        let place = history.place(topic).ok_or_else(corrupt)?;
        self.received += 1;
        if message.is_empty() {
            self.has.insert(place, None);
            return if is_retained { Err(corrupt()) } else { Ok(()) };
        }
        let found = payload::read(topic, message).ok_or_else(corrupt)?;
        history.seen(place, found)?;
        match self.has.insert(place, Some(found)).flatten() {
            Some(before) if before > found => {
                Err(Fault::OutOfOrder { client: client(), topic: topic.into(), before, found })
            }
            _ => Ok(()),
        }
    }

    /// Gives what it has of all topics.
    pub(super) fn all(&self, history: &History) -> Vec<Option<u32>> {
        (0..history.len()).map(|place| self.has.get(&place).copied().flatten()).collect()
    }

    /// Gives what it should have, as this is retained, and has not.
    pub(super) fn missed(&self, retained: &[Option<u32>], history: &History) -> Vec<Fault> {
        let missed = |&place: &usize| {
            let retained = retained[place]?;
            let has = self.has.get(&place).copied().flatten();
            (has != Some(retained)).then(|| Fault::Missed {
                client: self.name.clone(),
                topic: history.name(place).to_owned(),
                has,
                retained,
            })
        };
        self.topics.iter().filter_map(missed).collect()
    }
}

fn session(name: &str, is_clean: bool, filters: Vec<String>) -> Session {
    Session { name: name.to_owned(), is_clean, keep_alive: 1200, filters }
}

/// Tells whether a filter matches a topic (section 4.7).
fn matches(filter: &str, topic: &str) -> bool {
    let same = |(filter, topic): (&str, &str)| filter == "+" || filter == topic;
    filter.split('/').count() == topic.split('/').count()
        && filter.split('/').zip(topic.split('/')).all(same)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddrV4};

    use super::*;
    use crate::load::stats::Random;

    const TOPIC: &str = "herald/v1/load/presence/host-1";

    /// A subscriber to one topic, of which three versions were sent.
    fn subscriber() -> (Subscriber, History) {
        let mut history = History::default();
        let place = history.add(TOPIC.into());
        (0..3).for_each(|_| _ = history.send(place, false));
        let mut swarm = Swarm::new(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 1)).unwrap();
        let filters = ["herald/v1/load/presence/+"];
        (Subscriber::new(&mut swarm, "s", &filters, Kept::Asked, &history), history)
    }

    fn payload(version: u32) -> Vec<u8> {
        let mut random = Random::new(1);
        payload::Payloads::new(&mut random).write(TOPIC, version, 50, &mut random)
    }

    #[test]
    fn a_message_that_did_not_come_is_missed() {
        let (mut subscriber, mut history) = subscriber();
        let missed = |subscriber: &Subscriber, history: &History| {
            let missed = subscriber.missed(&[Some(2)], history);
            missed
                .into_iter()
                .map(|fault| match fault {
                    Fault::Missed { has, retained: 2, .. } => has,
                    other => panic!("{other}"),
                })
                .collect::<Vec<_>>()
        };
        assert_eq!(missed(&subscriber, &history), [None]);
        subscriber.take(TOPIC, &payload(1), false, &mut history).unwrap();
        assert_eq!(missed(&subscriber, &history), [Some(1)]);
        subscriber.take(TOPIC, &payload(2), false, &mut history).unwrap();
        assert!(missed(&subscriber, &history).is_empty());
        subscriber.take(TOPIC, b"", false, &mut history).unwrap();
        assert_eq!(missed(&subscriber, &history), [None]);
        assert!(subscriber.missed(&[None], &history).is_empty());
    }

    #[test]
    fn what_comes_out_of_order_or_altered_or_from_nowhere_is_noticed() {
        let (mut subscriber, mut history) = subscriber();
        let mut take = |topic: &str, payload: &[u8], is_retained| {
            subscriber.take(topic, payload, is_retained, &mut history).err()
        };
        assert_eq!(take(TOPIC, &payload(2), true), None);
        assert_eq!(take(TOPIC, &payload(2), false), None, "another filter matches too");
        assert!(matches!(take(TOPIC, &payload(1), false), Some(Fault::OutOfOrder { .. })));
        assert!(matches!(take(TOPIC, &payload(4), false), Some(Fault::NeverSent { .. })));
        assert!(matches!(take(TOPIC, &payload(3)[1..], false), Some(Fault::Corrupt { .. })));
        assert!(matches!(take("other", &payload(3), false), Some(Fault::Corrupt { .. })));
        assert!(matches!(take(TOPIC, b"", true), Some(Fault::Corrupt { .. })));
    }

    #[test]
    fn filters_match_level_by_level() {
        assert!(matches("a/+/c", "a/b/c") && matches("a/b", "a/b") && matches("a/+", "a/b"));
        assert!(!matches("a/+", "a/b/c") && !matches("a/b/c", "a/b") && !matches("a/c", "a/b"));
    }
}
