//! What waits to be sent: a queue with a window, and the fate of every message in it.
//!
//! It promises that messages on one topic are sent in the order in which they came, that at most a
//! window of them is in flight, and that each gets exactly one fate. It knows neither the network
//! nor time, and names a message's packet id only while it is in flight.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    num::NonZeroUsize,
};

use herald_proto::topic::Topic;

use crate::{MAX_PAYLOAD, Message};

/// On how many connections in a row the broker must have closed on a message before that is set
/// aside.
pub(crate) const MOST_REFUSALS: u32 = 5;

/// Why a message was not delivered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Undelivered {
    /// Its payload is too large; nothing was sent.
    #[error("the message has {size} bytes, and at most {MAX_PAYLOAD} can be sent")]
    TooLarge {
        /// The bytes of its payload.
        size: usize,
    },
    /// Too many messages waited, and this was the oldest of those on topics that are not retained.
    #[error("too many messages waited to be sent, and this was the oldest")]
    Overflow,
    /// A newer message on the same retained topic took its place before it was acknowledged.
    #[error("a newer message on the same topic took its place")]
    Replaced,
    /// The broker closed the connection on this message, and on nothing else, again and again.
    #[error(
        "the broker closed {connections} connections in a row on the message on {topic} ({size} bytes): check that this client may publish there, and that the broker takes messages of this size"
    )]
    Refused {
        /// Where it was to go.
        topic: Topic,
        /// The bytes of its payload.
        size: usize,
        /// On how many connections.
        connections: u32,
    },
    /// The client ended first. The message may have arrived all the same.
    #[error("the client ended before the message was acknowledged")]
    Stopped,
}

/// A message's ticket, and what became of the message.
pub(crate) type Fate<T> = (T, Result<(), Undelivered>);

/// Messages that wait, and those that were sent and not acknowledged yet. A ticket `T` comes back
/// once, when its message is done with.
#[derive(Debug)]
pub(crate) struct Outbox<T> {
    window: NonZeroUsize,
    /// The most messages on topics that are not retained that wait before the oldest is dropped.
    capacity: usize,
    next_number: u64,
    waiting: BTreeMap<u64, Entry<T>>,
    /// The numbers of waiting messages on retained topics: one for each topic.
    retained: HashMap<Topic, u64>,
    /// The numbers of the other waiting messages.
    transient: BTreeSet<u64>,
    in_flight: VecDeque<Flight<T>>,
}

#[derive(Debug)]
struct Entry<T> {
    message: Message,
    ticket: T,
    /// Whether the broker closed a connection with this in flight: it is sent with nothing else in
    /// flight then, to see which message it is that the broker refuses.
    suspect: bool,
    /// How many connections in a row the broker closed with only this in flight.
    refusals: u32,
}

#[derive(Debug)]
struct Flight<T> {
    number: u64,
    entry: Entry<T>,
    packet: Option<u16>,
}

impl<T> Outbox<T> {
    pub(crate) fn new(window: NonZeroUsize, capacity: usize) -> Self {
        Self {
            window,
            capacity,
            next_number: 0,
            waiting: BTreeMap::new(),
            retained: HashMap::new(),
            transient: BTreeSet::new(),
            in_flight: VecDeque::new(),
        }
    }

    /// Tells whether nothing waits and nothing is in flight.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.in_flight.is_empty()
    }

    /// Tells whether something was sent that is not acknowledged yet.
    pub(crate) fn awaits_answer(&self) -> bool {
        !self.in_flight.is_empty()
    }

    /// Adds a message behind all others, and gives the fate that this seals for it or another.
    pub(crate) fn push(&mut self, message: Message, ticket: T) -> Option<Fate<T>> {
        let size = message.payload.len();
        if size > MAX_PAYLOAD {
            return Some((ticket, Err(Undelivered::TooLarge { size })));
        }
        let number = self.next_number;
        self.next_number += 1;
        let sealed = if message.topic.is_retained() {
            let older = self.retained.get(&message.topic).copied();
            older.map(|older| (older, Undelivered::Replaced))
        } else if self.transient.len() >= self.capacity {
            let oldest = self.transient.first().copied();
            oldest.map(|oldest| (oldest, Undelivered::Overflow))
        } else {
            None
        };
        let sealed = sealed.and_then(|(other, why)| Some((self.take(other)?.ticket, Err(why))));
        self.put(number, Entry { message, ticket, suspect: false, refusals: 0 });
        sealed
    }

    /// Gives the next message to send, if the window has room, and takes it to be in flight.
    pub(crate) fn send(&mut self) -> Option<&Message> {
        if self.in_flight.len() >= self.window.get() {
            return None;
        }
        let (number, next) = self.waiting.first_key_value()?;
        let number = *number;
        // Where the first is a suspect, it is the only one.
        let first = self.in_flight.front();
        if first.is_some_and(|first| first.entry.suspect || next.suspect) {
            return None;
        }
        let entry = self.take(number)?;
        self.in_flight.push_back(Flight { number, entry, packet: None });
        self.in_flight.back().map(|flight| &flight.entry.message)
    }

    /// Gives the message in flight that was sent first.
    pub(crate) fn oldest_in_flight(&self) -> Option<&Message> {
        self.in_flight.front().map(|flight| &flight.entry.message)
    }

    /// Notes the packet id of the first message in flight that has none yet.
    pub(crate) fn sent(&mut self, packet: u16) {
        let unnamed = self.in_flight.iter_mut().find(|f| f.packet.is_none());
        if let Some(flight) = unnamed {
            flight.packet = Some(packet);
        }
    }

    /// Takes out the message in flight with this packet id: it is delivered.
    pub(crate) fn acknowledged(&mut self, packet: u16) -> Option<Fate<T>> {
        let named = |flight: &Flight<T>| flight.packet == Some(packet);
        let index = self.in_flight.iter().position(named)?;
        let flight = self.in_flight.remove(index)?;
        Some((flight.entry.ticket, Ok(())))
    }

    /// Puts everything in flight back in its place, before what waits, as the connection is lost.
    /// A message that a newer one on its retained topic has overtaken is not sent again: that
    /// would bring back an older state for a moment.
    ///
    /// If it was the broker that `closed` the connection, it may have refused a message. Of several
    /// in flight nobody knows which: each is sent alone from then on. A single one goes behind all
    /// that waits, but for messages on its own topic, and is given up after [`MOST_REFUSALS`].
    /// Connections that ended otherwise meanwhile start the count again.
    pub(crate) fn connection_lost(&mut self, closed: bool) -> Vec<Fate<T>> {
        let refused = closed && self.in_flight.len() == 1;
        let mut fates = Vec::new();
        while let Some(Flight { number, mut entry, .. }) = self.in_flight.pop_back() {
            entry.suspect = closed;
            entry.refusals = if closed { entry.refusals + u32::from(refused) } else { 0 };
            let Entry { message: Message { topic, payload }, refusals, .. } = &entry;
            if self.retained.contains_key(topic) {
                fates.push((entry.ticket, Err(Undelivered::Replaced)));
            } else if *refusals >= MOST_REFUSALS {
                let (topic, size, connections) = (topic.clone(), payload.len(), *refusals);
                let refused = Undelivered::Refused { topic, size, connections };
                fates.push((entry.ticket, Err(refused)));
            } else if refused {
                self.put_last(number, entry);
            } else {
                self.put(number, entry);
            }
        }
        fates
    }

    /// Puts a message behind all others, and the later ones on its topic behind it.
    fn put_last(&mut self, number: u64, entry: Entry<T>) {
        // A retained topic has no others.
        let later = self.transient.range(number..).copied();
        let same = |number: &u64| {
            self.waiting.get(number).is_some_and(|e| e.message.topic == entry.message.topic)
        };
        let later: Vec<u64> = later.filter(same).collect();
        let later: Vec<_> = later.into_iter().filter_map(|number| self.take(number)).collect();
        for entry in std::iter::once(entry).chain(later) {
            let number = self.next_number;
            self.next_number += 1;
            self.put(number, entry);
        }
    }

    fn put(&mut self, number: u64, entry: Entry<T>) {
        if entry.message.topic.is_retained() {
            self.retained.insert(entry.message.topic.clone(), number);
        } else {
            self.transient.insert(number);
        }
        self.waiting.insert(number, entry);
    }

    fn take(&mut self, number: u64) -> Option<Entry<T>> {
        let entry = self.waiting.remove(&number)?;
        if !self.transient.remove(&number) {
            self.retained.remove(&entry.message.topic);
        }
        Some(entry)
    }
}

#[cfg(test)]
#[path = "outbox_tests.rs"]
mod tests;
