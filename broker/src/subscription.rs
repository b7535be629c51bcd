//! A session's subscriptions, and how far a persistent one has come.

use std::sync::Arc;

use crate::{
    message::{Message, Revision},
    packet::QoS,
    retained,
};

/// Names a subscription within its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Serial(u32);

/// A session's subscriptions.
#[derive(Debug, Default)]
pub struct Subscriptions {
    /// In the order of their serials.
    all: Vec<Subscription>,
    next: u32,
    /// Whether what was acknowledged is kept for later connections.
    persistent: bool,
    /// Whether something was acknowledged that is not stored yet.
    dirty: bool,
}

/// One of them.
#[derive(Debug, Clone)]
pub struct Subscription {
    /// Its name.
    pub serial: Serial,
    /// The filter's text.
    pub filter: Arc<str>,
    /// The highest QoS that it gets.
    pub qos: QoS,
    /// Every retained message up to this one was acknowledged.
    pub acked: Revision,
    /// How many retained messages are still to be sent or acknowledged.
    behind: u32,
}

impl Subscription {
    /// Tells whether a topic matches the filter (section 4.7).
    fn covers(&self, topic: &[u8]) -> bool {
        let mut levels = topic.split(|byte| *byte == b'/');
        let mut wanted = self.filter.split('/');
        loop {
            match (wanted.next(), levels.next()) {
                (None, None) => return true,
                (Some("+"), Some(_)) => {}
                (Some(wanted), Some(level)) if wanted.as_bytes() == level => {}
                _ => return false,
            }
        }
    }
}

impl Subscriptions {
    /// Makes those of a session that is persistent, or not.
    pub fn new(persistent: bool) -> Self {
        Self { persistent, ..Self::default() }
    }

    /// Tells whether the session is persistent.
    pub fn is_persistent(&self) -> bool {
        self.persistent
    }

    /// Tells how many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Tells whether there are none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Gives all filters.
    pub fn filters(&self) -> Vec<Arc<str>> {
        self.all.iter().map(|known| Arc::clone(&known.filter)).collect()
    }

    /// Notes how far one has come on earlier connections.
    pub fn resume(&mut self, serial: Serial, acked: Revision) {
        self.with(serial, |known| known.acked = acked);
    }

    /// Adds one that was not there.
    pub fn add(&mut self, filter: Arc<str>, qos: QoS, acked: Revision) -> Serial {
        let serial = Serial(self.next);
        self.next = self.next.wrapping_add(1);
        self.all.push(Subscription { serial, filter, qos, acked, behind: 0 });
        serial
    }

    /// Changes the QoS of one that is there. Tells whether it was another.
    pub fn renew(&mut self, filter: &str, qos: QoS) -> Option<(Serial, bool)> {
        let known = self.all.iter_mut().find(|known| &*known.filter == filter)?;
        let before = std::mem::replace(&mut known.qos, qos);
        Some((known.serial, before != qos))
    }

    /// Takes one away.
    pub fn remove(&mut self, filter: &str) -> Option<Subscription> {
        let position = self.all.iter().position(|known| &*known.filter == filter)?;
        Some(self.all.remove(position))
    }

    /// Tells whether one is still there.
    pub fn has(&self, serial: Serial) -> bool {
        self.position(serial).is_some()
    }

    /// Gives the QoS with which one gets a message, if it is still there and the message is for it.
    pub fn qos(&self, serial: Serial, message: &Message) -> Option<QoS> {
        let known = &self.all[self.position(serial)?];
        known.covers(&message.topic).then_some(known.qos)
    }

    /// Notes that there is one more retained message to be sent.
    pub fn behind(&mut self, serial: Serial) {
        self.with(serial, |subscription| subscription.behind += 1);
    }

    /// Notes that a retained message need not be sent, or not be acknowledged.
    pub fn passed_over(&mut self, serial: Serial) {
        self.with(serial, |known| known.behind = known.behind.saturating_sub(1));
    }

    /// Notes that one has every retained message up to this. Tells whether that is to be stored.
    pub fn caught_up(&mut self, serial: Serial, revision: Revision) -> bool {
        self.with(serial, |known| {
            known.behind = known.behind.saturating_sub(1);
            known.acked = known.acked.max(revision);
        });
        self.soil()
    }

    /// Notes that all that have caught up have every message up to this. Tells whether that is to be
    /// stored.
    pub fn caught_up_all(&mut self, revision: Revision) -> bool {
        if !self.persistent {
            return false;
        }
        for known in self.all.iter_mut().filter(|known| known.behind == 0) {
            known.acked = known.acked.max(revision);
        }
        self.soil()
    }

    /// Notes that all is stored now. Tells whether anything was not.
    pub fn clean(&mut self) -> bool {
        std::mem::take(&mut self.dirty)
    }

    /// Gives them as they are stored.
    pub fn to_store(&self) -> Vec<retained::Subscription> {
        let stored = |known: &Subscription| retained::Subscription {
            filter: known.filter.to_string(),
            qos: known.qos as u8,
            acked: known.acked,
        };
        self.all.iter().map(stored).collect()
    }

    /// Tells whether this is the first change since all was stored.
    fn soil(&mut self) -> bool {
        self.persistent && !std::mem::replace(&mut self.dirty, true)
    }

    fn with(&mut self, serial: Serial, change: impl FnOnce(&mut Subscription)) {
        if let Some(position) = self.position(serial) {
            change(&mut self.all[position]);
        }
    }

    fn position(&self, serial: Serial) -> Option<usize> {
        self.all.binary_search_by_key(&serial, |known| known.serial).ok()
    }
}
