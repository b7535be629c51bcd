//! What the clients do together: publish and listen until the broker is killed, and look afterwards.

use std::time::{Duration, Instant};

use super::{
    fault::Fault,
    payload,
    subscriber::{At, Kept},
    world::{SENTINEL, World},
};
use crate::load::{
    failure::Failure,
    packet,
    session::Heard,
    swarm::{Part, Swarm},
};

/// How long something that is missing may still come.
const PATIENCE: Duration = Duration::from_secs(10);

fn open(swarm: &mut Swarm, world: &mut World, client: usize) -> Result<(), Failure> {
    world.open.insert(client);
    let name = swarm.name(client).to_owned();
    swarm.open(client).map_err(Failure::system(format!("connect {name}")))
}

fn open_publishers(swarm: &mut Swarm, world: &mut World) -> Result<(), Failure> {
    for number in 0..world.publishers.len() {
        let client = world.publishers[number].client;
        open(swarm, world, client)?;
    }
    Ok(())
}

fn open_subscriber(swarm: &mut Swarm, world: &mut World, number: usize) -> Result<(), Failure> {
    let subscriber = &mut world.subscribers[number];
    world.open.insert(subscriber.client);
    let opened = subscriber.open(swarm);
    opened.map_err(Failure::system(format!("connect {}", subscriber.name)))
}

fn close_subscriber(swarm: &mut Swarm, world: &mut World, number: usize) {
    let subscriber = &mut world.subscribers[number];
    world.open.remove(&subscriber.client);
    subscriber.close(swarm);
}

/// When a storm is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Until {
    /// After a time, or once the broker was killed at an acknowledgement.
    At(Instant),
    /// When every publisher has sent as much as may be in flight, and nothing else.
    Burst,
}

/// Everyone publishes and listens, and subscribers come and go.
pub(super) struct Storm<'a> {
    pub(super) world: &'a mut World,
    pub(super) until: Until,
    has_begun: bool,
    has_burst: bool,
}

impl<'a> Storm<'a> {
    /// Plans it.
    pub(super) fn new(world: &'a mut World, until: Until) -> Self {
        Self { world, until, has_begun: false, has_burst: false }
    }

    fn come_and_go(&mut self, swarm: &mut Swarm) -> Result<(), Failure> {
        let number = self.world.below(self.world.subscribers.len());
        let at = self.world.subscribers[number].at;
        match at {
            At::Away => open_subscriber(swarm, self.world, number)?,
            At::Ready if self.world.below(8) == 0 => close_subscriber(swarm, self.world, number),
            At::Connecting | At::Ready => {}
        }
        Ok(())
    }
}

impl Part for Storm<'_> {
    fn hear(&mut self, heard: &Heard<'_>) -> Result<(), Failure> {
        self.world.hear(heard)
    }

    fn act(&mut self, swarm: &mut Swarm) -> Result<bool, Failure> {
        if !std::mem::replace(&mut self.has_begun, true) {
            open_publishers(swarm, self.world)?;
        }
        let is_over = match self.until {
            Until::Burst => self.has_burst,
            Until::At(end) => {
                swarm.wake_at(end);
                let is_killed = |&(at, _)| self.world.outcome.acked >= at;
                Instant::now() >= end || self.world.doomed.as_ref().is_some_and(is_killed)
            }
        };
        if is_over {
            return Ok(true);
        }
        self.come_and_go(swarm)?;
        let World { publishers, history, payloads, random, outcome, .. } = &mut *self.world;
        if self.until == Until::Burst && !publishers.iter().all(|one| one.is_ready) {
            return Ok(false);
        }
        for publisher in publishers {
            outcome.published += publisher.fill(swarm, history, payloads, random);
        }
        self.has_burst = true;
        Ok(false)
    }

    fn missing(&self) -> String {
        format!("{:?}", self.until)
    }
}

/// Messages on many topics, each of the largest size and then cleared, all acknowledged.
pub(super) struct Bulk<'a> {
    world: &'a mut World,
    /// For each publisher, how many of its messages are sent.
    sent: Vec<usize>,
    has_begun: bool,
}

impl<'a> Bulk<'a> {
    /// Plans it.
    pub(super) fn new(world: &'a mut World) -> Self {
        let sent = vec![0; world.publishers.len()];
        Self { world, sent, has_begun: false }
    }
}

impl Part for Bulk<'_> {
    fn hear(&mut self, heard: &Heard<'_>) -> Result<(), Failure> {
        self.world.hear(heard)
    }

    fn act(&mut self, swarm: &mut Swarm) -> Result<bool, Failure> {
        if !std::mem::replace(&mut self.has_begun, true) {
            open_publishers(swarm, self.world)?;
        }
        let World { publishers, history, payloads, random, outcome, .. } = &mut *self.world;
        let mut is_over = true;
        // Nobody clears before all have filled: the file is to be as large as it can get.
        let fill = publishers.iter().zip(&self.sent).any(|(one, &sent)| sent < one.bulk.len());
        for (publisher, sent) in publishers.iter_mut().zip(&mut self.sent) {
            let count = publisher.bulk.len();
            let most = if fill { count } else { 2 * count };
            while *sent < most && publisher.has_room() {
                let topic = publisher.bulk[*sent % count];
                let size = (*sent < count).then_some(payload::MOST);
                publisher.send(topic, size, swarm, history, payloads, random);
                outcome.published += 1;
                *sent += 1;
            }
            is_over &= *sent == 2 * count && publisher.is_idle();
        }
        Ok(is_over)
    }

    fn missing(&self) -> String {
        format!("{:?} were sent", self.sent)
    }
}

/// The broker is dead: everyone reads what it still sent, up to the end of the connection.
pub(super) struct Drain<'a>(pub(super) &'a mut World);

impl Part for Drain<'_> {
    fn hear(&mut self, heard: &Heard<'_>) -> Result<(), Failure> {
        self.0.hear(heard)
    }

    fn act(&mut self, _: &mut Swarm) -> Result<bool, Failure> {
        Ok(self.0.open.is_empty())
    }

    fn missing(&self) -> String {
        format!("{} connections have not ended", self.0.open.len())
    }
}

/// All that is retained is read back, and compared with what was published.
pub(super) struct ReadBack<'a> {
    world: &'a mut World,
    has_begun: bool,
    has_asked: bool,
    due: Instant,
    /// What is retained.
    pub(super) found: Vec<Option<u32>>,
}

impl<'a> ReadBack<'a> {
    /// Plans it.
    pub(super) fn new(world: &'a mut World) -> Self {
        world.has_sentinel = false;
        let due = Instant::now() + PATIENCE;
        Self { world, has_begun: false, has_asked: false, due, found: Vec::new() }
    }
}

impl Part for ReadBack<'_> {
    fn hear(&mut self, heard: &Heard<'_>) -> Result<(), Failure> {
        self.world.hear(heard)
    }

    fn act(&mut self, swarm: &mut Swarm) -> Result<bool, Failure> {
        let World { reader, history, has_sentinel, .. } = &mut *self.world;
        if !std::mem::replace(&mut self.has_begun, true) {
            reader.open(swarm).map_err(Failure::system("connect the reader"))?;
        }
        if reader.at == At::Ready && !std::mem::replace(&mut self.has_asked, true) {
            swarm.send(reader.client, |out| packet::publish(out, SENTINEL, b"all", false, 1));
        }
        if !*has_sentinel {
            return Ok(false);
        }
        self.found = reader.all(history);
        let faults = history.faults(&self.found);
        if !faults.is_empty() && Instant::now() < self.due {
            return Ok(false);
        }
        history.resume(&self.found);
        reader.close(swarm);
        faults.into_iter().for_each(|fault| self.world.note(fault));
        Ok(true)
    }

    fn missing(&self) -> String {
        "the reader's own message".to_owned()
    }
}

/// Subscribers come back, and each must end with all that is retained.
pub(super) struct Resume<'a> {
    world: &'a mut World,
    found: &'a [Option<u32>],
    who: Vec<usize>,
    has_begun: bool,
    due: Instant,
}

impl<'a> Resume<'a> {
    /// Plans the return of some subscribers; the others stay away.
    pub(super) fn new(world: &'a mut World, found: &'a [Option<u32>]) -> Self {
        let all = 0..world.subscribers.len();
        let who = all.filter(|_| world.below(4) > 0).collect();
        Self { world, found, who, has_begun: false, due: Instant::now() + PATIENCE }
    }

    fn missed(&self) -> Vec<Fault> {
        let subscribers = self.who.iter().map(|&number| &self.world.subscribers[number]);
        subscribers.flat_map(|one| one.missed(self.found, &self.world.history)).collect()
    }
}

impl Part for Resume<'_> {
    fn hear(&mut self, heard: &Heard<'_>) -> Result<(), Failure> {
        self.world.hear(heard)
    }

    fn act(&mut self, swarm: &mut Swarm) -> Result<bool, Failure> {
        if !std::mem::replace(&mut self.has_begun, true) {
            for number in self.who.clone() {
                open_subscriber(swarm, self.world, number)?;
            }
        }
        let is_ready = |&number: &usize| self.world.subscribers[number].at == At::Ready;
        if !self.who.iter().all(is_ready) {
            return Ok(false);
        }
        let missed = self.missed();
        if !missed.is_empty() && Instant::now() < self.due {
            return Ok(false);
        }
        missed.into_iter().for_each(|fault| self.world.note(fault));
        Ok(true)
    }

    fn missing(&self) -> String {
        "not all subscribers have come back".to_owned()
    }
}

/// A subscriber ends its session, so that its next one is new.
pub(super) struct EndSession<'a> {
    world: &'a mut World,
    number: usize,
    has_begun: bool,
}

impl<'a> EndSession<'a> {
    /// Plans it for a subscriber that is connected.
    pub(super) fn new(world: &'a mut World, number: usize) -> Self {
        Self { world, number, has_begun: false }
    }
}

impl Part for EndSession<'_> {
    fn hear(&mut self, heard: &Heard<'_>) -> Result<(), Failure> {
        self.world.hear(heard)
    }

    fn act(&mut self, swarm: &mut Swarm) -> Result<bool, Failure> {
        if !std::mem::replace(&mut self.has_begun, true) {
            close_subscriber(swarm, self.world, self.number);
            let subscriber = &mut self.world.subscribers[self.number];
            self.world.open.insert(subscriber.client);
            let opened = subscriber.open_to_end(swarm);
            opened.map_err(Failure::system(format!("connect {}", subscriber.name)))?;
        }
        let is_ended = self.world.subscribers[self.number].kept == Kept::Ended;
        if is_ended {
            close_subscriber(swarm, self.world, self.number);
        }
        Ok(is_ended)
    }

    fn missing(&self) -> String {
        format!("{} is not connected", self.world.subscribers[self.number].name)
    }
}
