//! One publisher: topics of its own, and some messages in flight.

use std::collections::VecDeque;

use super::{
    fault::Fault,
    history::History,
    payload::{self, Payloads},
};
use crate::load::{packet, stats::Random, swarm::Swarm};

/// Of so many messages, one has no payload.
const CLEARS: u64 = 16;

/// A publisher.
pub(super) struct Publisher {
    /// As the swarm counts.
    pub(super) client: usize,
    /// Its topics: places in the history.
    topics: Vec<usize>,
    /// Topics of its own that are filled and cleared, to make the store's file large.
    pub(super) bulk: Vec<usize>,
    window: usize,
    last_id: u16,
    in_flight: VecDeque<(u16, usize, u32)>,
    /// Whether its connection takes messages.
    pub(super) is_ready: bool,
}

impl Publisher {
    /// Makes one that is not connected.
    pub(super) fn new(client: usize, topics: Vec<usize>, bulk: Vec<usize>) -> Self {
        let in_flight = VecDeque::new();
        Self { client, topics, bulk, window: 1, last_id: 0, in_flight, is_ready: false }
    }

    /// Forgets what was in flight, and draws how much may be from now on.
    pub(super) fn restart(&mut self, random: &mut Random) {
        self.in_flight.clear();
        self.is_ready = false;
        self.window = 1 + random.next() as usize % 16;
    }

    /// Tells whether nothing is in flight.
    pub(super) fn is_idle(&self) -> bool {
        self.in_flight.is_empty()
    }

    /// Tells whether it may send one more.
    pub(super) fn has_room(&self) -> bool {
        self.is_ready && self.in_flight.len() < self.window
    }

    /// Sends as many messages on its topics as may be in flight; tells how many.
    pub(super) fn fill(
        &mut self,
        swarm: &mut Swarm,
        history: &mut History,
        payloads: &Payloads,
        random: &mut Random,
    ) -> u64 {
        let mut sent = 0;
        while self.has_room() {
            let topic = self.topics[random.next() as usize % self.topics.len()];
            let is_clear = random.next().is_multiple_of(CLEARS);
            let size = (!is_clear).then(|| payload::draw_size(random));
            self.send(topic, size, swarm, history, payloads, random);
            sent += 1;
        }
        sent
    }

    /// Sends a message of so many bytes, or one without a payload.
    pub(super) fn send(
        &mut self,
        topic: usize,
        size: Option<usize>,
        swarm: &mut Swarm,
        history: &mut History,
        payloads: &Payloads,
        random: &mut Random,
    ) {
        let version = history.send(topic, size.is_none());
        let name = history.name(topic);
        let payload = size.map(|size| payloads.write(name, version, size, random));
        self.last_id = self.last_id.checked_add(1).unwrap_or(1);
        let (id, payload) = (self.last_id, payload.unwrap_or_default());
        swarm.send(self.client, |out| packet::publish(out, name, &payload, true, id));
        self.in_flight.push_back((id, topic, version));
    }

    /// Takes an acknowledgement.
    pub(super) fn acked(&mut self, id: u16, history: &mut History) -> Result<(), Fault> {
        match self.in_flight.pop_front() {
            Some((due, topic, version)) if due == id => {
                history.acked(topic, version);
                Ok(())
            }
            _ => Err(Fault::AckOrder { client: format!("client {}", self.client), id }),
        }
    }
}
