//! A publisher that keeps some messages in flight, and matches each acknowledgement.

use std::{
    borrow::Cow,
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use super::{
    failure::Failure,
    packet,
    session::{Heard, News},
    swarm::{Part, Swarm},
};

/// Gives the `number`-th message's topic and payload.
type Message<'a> = Box<dyn Fn(usize) -> (String, Cow<'a, [u8]>) + 'a>;

/// Retained messages from one client.
pub(crate) struct Publishing<'a> {
    client: usize,
    count: usize,
    window: usize,
    message: Message<'a>,
    next: usize,
    in_flight: VecDeque<u16>,
    /// When the first was handed over.
    began: Option<Instant>,
}

impl<'a> Publishing<'a> {
    /// Plans to publish messages.
    pub(crate) fn new(client: usize, count: usize, window: u16, message: Message<'a>) -> Self {
        let (window, in_flight) = (window.into(), VecDeque::new());
        Self { client, count, window, message, next: 0, in_flight, began: None }
    }

    /// Gives when it began, or now.
    pub(crate) fn began(&self) -> Instant {
        self.began.unwrap_or_else(Instant::now)
    }
}

impl Part for Publishing<'_> {
    fn hear(&mut self, heard: &Heard<'_>) -> Result<(), Failure> {
        if let (News::Acked(id), true) = (&heard.news, heard.client == self.client) {
            let at = self.in_flight.iter().position(|one| one == id);
            if at.and_then(|at| self.in_flight.remove(at)).is_none() {
                let what = format!("PUBACK for {id}, which is not in flight");
                return Err(Failure::Answer { client: "publisher".into(), what });
            }
        }
        Ok(())
    }

    fn act(&mut self, swarm: &mut Swarm) -> Result<bool, Failure> {
        self.began.get_or_insert_with(Instant::now);
        while self.next < self.count && self.in_flight.len() < self.window {
            let id = (self.next % 65_535) as u16 + 1;
            let (topic, payload) = (self.message)(self.next);
            swarm.send(self.client, |out| packet::publish(out, &topic, &payload, true, id));
            self.in_flight.push_back(id);
            self.next += 1;
        }
        Ok(self.next == self.count && self.in_flight.is_empty())
    }

    fn missing(&self) -> String {
        let (sent, waiting) = (self.next, self.in_flight.len());
        format!("{waiting} of {sent} published messages, of {}, have no PUBACK", self.count)
    }
}

/// Clients that each publish one message after the other, until a time is over.
pub(crate) struct Hammer<'a> {
    /// For each client the id that is in flight, and since when.
    clients: HashMap<usize, (u16, Instant)>,
    idle: Vec<(usize, u16)>,
    message: Message<'a>,
    end: Instant,
    /// Milliseconds to each PUBACK that came in time.
    pub(crate) latencies: Vec<f64>,
}

impl<'a> Hammer<'a> {
    /// Plans for clients; each is given its number's message again and again.
    pub(crate) fn new(clients: &[usize], time: Duration, message: Message<'a>) -> Self {
        let idle = clients.iter().map(|&client| (client, 1)).collect();
        let (clients, end) = (HashMap::new(), Instant::now() + time);
        Self { clients, idle, message, end, latencies: Vec::new() }
    }
}

impl Part for Hammer<'_> {
    fn hear(&mut self, heard: &Heard<'_>) -> Result<(), Failure> {
        let News::Acked(id) = heard.news else { return Ok(()) };
        let Some((_, since)) =
            self.clients.remove(&heard.client).filter(|&(in_flight, _)| in_flight == id)
        else {
            let what = format!("PUBACK for {id}, which is not in flight");
            return Err(Failure::Answer { client: format!("client {}", heard.client), what });
        };
        if heard.at < self.end {
            self.latencies.push(heard.at.saturating_duration_since(since).as_secs_f64() * 1000.0);
            self.idle.push((heard.client, id % 65_535 + 1));
        }
        Ok(())
    }

    fn act(&mut self, swarm: &mut Swarm) -> Result<bool, Failure> {
        let now = Instant::now();
        for (client, id) in self.idle.drain(..) {
            if now < self.end {
                let (topic, payload) = (self.message)(client);
                swarm.send(client, |out| packet::publish(out, &topic, &payload, true, id));
                self.clients.insert(client, (id, now));
            }
        }
        Ok(now >= self.end && self.clients.is_empty())
    }

    fn missing(&self) -> String {
        format!("{} clients wait for a PUBACK", self.clients.len())
    }
}
