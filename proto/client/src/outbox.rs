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

/// Why a message was not delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
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
        self.put(number, Entry { message, ticket });
        sealed
    }

    /// Gives the next message to send, if the window has room, and takes it to be in flight.
    pub(crate) fn send(&mut self) -> Option<&Message> {
        if self.in_flight.len() >= self.window.get() {
            return None;
        }
        let number = *self.waiting.first_key_value()?.0;
        let entry = self.take(number)?;
        self.in_flight.push_back(Flight { number, entry, packet: None });
        self.in_flight.back().map(|flight| &flight.entry.message)
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
    pub(crate) fn connection_lost(&mut self) -> Vec<Fate<T>> {
        let mut replaced = Vec::new();
        while let Some(Flight { number, entry, .. }) = self.in_flight.pop_back() {
            if self.retained.contains_key(&entry.message.topic) {
                replaced.push((entry.ticket, Err(Undelivered::Replaced)));
            } else {
                self.put(number, entry);
            }
        }
        replaced
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
