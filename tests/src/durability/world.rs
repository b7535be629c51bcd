//! All clients of the broker that is killed, what they did, and what they got.

use std::collections::{HashMap, HashSet};

use rustix::process::{Pid, Signal, kill_process};

use super::{
    fault::{Fault, Outcome},
    history::History,
    payload::Payloads,
    publisher::Publisher,
    subscriber::{Kept, Subscriber},
};
use crate::load::{
    failure::Failure,
    session::{Heard, News, Session},
    stats::Random,
    swarm::Swarm,
};

/// What the reader publishes to itself, behind all that is retained.
pub(super) const SENTINEL: &str = "herald/v1/load/event/reader";

/// Topics of each publisher that make the store's file large. Nobody listens to them.
const BULK: usize = 1_200;

/// Every retained topic.
const ALL: [&str; 4] = [
    "herald/v1/load/status/+/+",
    "herald/v1/load/presence/+",
    "herald/v1/load/desired/+/+",
    "herald/v1/load/rollback/+/+",
];

/// Filters of the subscribers: wide and narrow ones, and ones that overlap.
const FILTERS: [&[&str]; 6] = [
    &["herald/v1/load/status/+/+", "herald/v1/load/presence/+", "herald/v1/load/desired/+/+"],
    &["herald/v1/load/status/+/+"],
    &["herald/v1/load/desired/host-00003/system", "herald/v1/load/desired/host-00007/+"],
    &["herald/v1/load/presence/+", "herald/v1/load/presence/host-00001"],
    &[
        "herald/v1/load/status/host-00002/+",
        "herald/v1/load/status/host-00002/system",
        "herald/v1/load/desired/+/+",
    ],
    &["herald/v1/load/presence/host-00005"],
];

#[derive(Debug, Clone, Copy)]
enum Role {
    Publisher(usize),
    Subscriber(usize),
    Reader,
}

/// The clients.
pub(super) struct World {
    pub(super) history: History,
    pub(super) payloads: Payloads,
    pub(super) random: Random,
    pub(super) publishers: Vec<Publisher>,
    pub(super) subscribers: Vec<Subscriber>,
    /// Reads back what is retained.
    pub(super) reader: Subscriber,
    pub(super) has_sentinel: bool,
    roles: HashMap<usize, Role>,
    /// Clients whose connection has not ended.
    pub(super) open: HashSet<usize>,
    /// A broker that is killed as soon as so many messages are acknowledged.
    pub(super) doomed: Option<(u64, Pid)>,
    pub(super) outcome: Outcome,
}

impl World {
    /// Makes clients that are not connected.
    pub(super) fn new(swarm: &mut Swarm, publishers: usize, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let payloads = Payloads::new(&mut random);
        let mut history = History::default();
        let (mut roles, mut all) = (HashMap::new(), Vec::new());
        for number in 0..publishers {
            let host = format!("host-{number:05}");
            let topics = [
                format!("herald/v1/load/status/{host}/system"),
                format!("herald/v1/load/presence/{host}"),
                format!("herald/v1/load/desired/{host}/system"),
            ];
            let topics = topics.into_iter().map(|topic| history.add(topic)).collect();
            let bulk = (number..BULK).step_by(publishers);
            let bulk = bulk.map(|number| format!("herald/v1/load/rollback/bulk-{number}/system"));
            let bulk = bulk.map(|topic| history.add(topic)).collect();
            let client = swarm.add(Session {
                name: format!("publisher-{number}"),
                is_clean: true,
                keep_alive: 1200,
                filters: Vec::new(),
            });
            roles.insert(client, Role::Publisher(number));
            all.push(Publisher::new(client, topics, bulk));
        }
        let mut subscribers = Vec::new();
        for (kept, what) in [(Kept::Asked, "persistent"), (Kept::Clean, "clean")] {
            for (number, filters) in FILTERS.iter().enumerate() {
                let name = format!("{what}-{number}");
                let subscriber = Subscriber::new(swarm, &name, filters, kept, &history);
                roles.insert(subscriber.client, Role::Subscriber(subscribers.len()));
                subscribers.push(subscriber);
            }
        }
        let mut filters = ALL.to_vec();
        filters.push(SENTINEL);
        let reader = Subscriber::new(swarm, "reader", &filters, Kept::Clean, &history);
        roles.insert(reader.client, Role::Reader);
        Self {
            history,
            payloads,
            random,
            publishers: all,
            subscribers,
            reader,
            has_sentinel: false,
            roles,
            open: HashSet::new(),
            doomed: None,
            outcome: Outcome::default(),
        }
    }

    /// Draws a number below another.
    pub(super) fn below(&mut self, limit: usize) -> usize {
        self.random.next() as usize % limit.max(1)
    }

    /// Notes that something is wrong.
    pub(super) fn note(&mut self, fault: Fault) {
        eprintln!("after {} kills: {fault}", self.outcome.kills);
        self.outcome.faults.push(fault);
    }

    /// Takes what a client heard.
    pub(super) fn hear(&mut self, heard: &Heard<'_>) -> Result<(), Failure> {
        if heard.news == News::Closed {
            self.open.remove(&heard.client);
        }
        let checked = match self.roles.get(&heard.client) {
            Some(&Role::Publisher(number)) => self.publisher_heard(number, &heard.news),
            Some(&Role::Subscriber(number)) => {
                let subscriber = &mut self.subscribers[number];
                match subscriber_heard(subscriber, &heard.news, &mut self.history) {
                    Ok(is_resumed) => {
                        self.outcome.resumed += u64::from(is_resumed);
                        Ok(())
                    }
                    Err(fault) => Err(fault),
                }
            }
            Some(Role::Reader) => match heard.news {
                News::Message { topic: SENTINEL, .. } => {
                    self.has_sentinel = true;
                    Ok(())
                }
                ref news => subscriber_heard(&mut self.reader, news, &mut self.history).map(drop),
            },
            None => Ok(()),
        };
        if let Err(fault) = checked {
            self.note(fault);
        }
        Ok(())
    }

    fn publisher_heard(&mut self, number: usize, news: &News<'_>) -> Result<(), Fault> {
        let publisher = &mut self.publishers[number];
        match *news {
            News::Ready { .. } => publisher.is_ready = true,
            News::Closed => publisher.is_ready = false,
            News::Acked(id) => {
                publisher.acked(id, &mut self.history)?;
                self.outcome.acked += 1;
                if let Some((_, process)) = self.doomed.filter(|(at, _)| self.outcome.acked >= *at)
                {
                    // At once: what was acknowledged just now must be there again.
                    let _ = kill_process(process, Signal::KILL);
                }
            }
            _ => {}
        }
        Ok(())
    }
}

fn subscriber_heard(
    subscriber: &mut Subscriber,
    news: &News<'_>,
    history: &mut History,
) -> Result<bool, Fault> {
    match *news {
        News::Ready { was_kept } => return subscriber.taken(was_kept),
        News::Closed => subscriber.lost(),
        News::Message { topic, payload, retain } => {
            subscriber.take(topic, payload, retain, history)?;
        }
        _ => {}
    }
    Ok(false)
}
