//! Retained messages: three statuses of each host, and all of them to one wildcard subscription.

use std::{
    borrow::Cow,
    collections::HashMap,
    time::{Duration, Instant},
};

use super::{
    failure::Failure,
    names, packet,
    publishing::Publishing,
    session::{Heard, News},
    stage::{Stage, clean_session},
    stats::{Random, millis},
    swarm::{Part, Swarm},
    table::Ledger,
};

const SIZE: usize = 1024;

/// The size of the collection that has a figure of its own.
const NAMED: usize = 30_000;

/// The statuses of a fleet: for each a topic and a KiB that can be told from all others.
pub(crate) struct Statuses {
    /// How many there are.
    pub(crate) count: usize,
    filling: Vec<u8>,
}

impl Statuses {
    /// Makes `count` statuses.
    pub(crate) fn new(count: usize, seed: u64) -> Self {
        Self { count, filling: Random::new(seed).bytes(SIZE - 8) }
    }

    fn payload(&self, number: usize) -> Vec<u8> {
        [&(number as u64).to_be_bytes(), &self.filling[..]].concat()
    }

    /// Tells whether a payload is the `number`-th's, without making that.
    fn is(&self, number: usize, payload: &[u8]) -> bool {
        payload.split_first_chunk().is_some_and(|(head, rest)| {
            *head == (number as u64).to_be_bytes() && rest == self.filling
        })
    }

    /// Publishes them all, retained, from the stage's publisher.
    pub(crate) fn publish(&self, stage: &mut Stage<'_>) -> Result<(), Failure> {
        let message = |number: usize| (names::status(number), Cow::Owned(self.payload(number)));
        let (client, window) = (stage.publisher, stage.settings.window);
        let mut publishing = Publishing::new(client, self.count, window, Box::new(message));
        stage.play(&mut publishing, "statuses to be published")
    }

    /// Collects them all with one subscription of a new client; gives the time to the last.
    pub(crate) fn collect(&self, stage: &mut Stage<'_>) -> Result<Duration, Failure> {
        let reader = stage.swarm.add(clean_session("reader", &[]));
        stage.connect(vec![reader], "a reader to connect")?;
        stage.rest(&mut |_| Ok(()))?;
        let missing = (0..self.count).map(|number| (names::status(number), number)).collect();
        let mut collecting =
            Collecting { statuses: self, reader, missing, began: None, last: Instant::now() };
        stage.play(&mut collecting, "all retained statuses")?;
        let took = collecting.last.duration_since(collecting.began.unwrap_or(collecting.last));
        stage.rest(&mut |heard| collecting.hear(heard))?;
        stage.swarm.close(reader);
        Ok(took)
    }
}

struct Collecting<'a> {
    statuses: &'a Statuses,
    reader: usize,
    missing: HashMap<String, usize>,
    began: Option<Instant>,
    last: Instant,
}

impl Part for Collecting<'_> {
    fn hear(&mut self, heard: &Heard<'_>) -> Result<(), Failure> {
        let News::Message { topic, payload, retain } = heard.news else { return Ok(()) };
        if heard.client != self.reader {
            return Ok(());
        }
        let expected = self.missing.remove(topic);
        if !retain || expected.is_none_or(|number| !self.statuses.is(number, payload)) {
            let what = match expected {
                None => format!("{topic} came twice, or is no status that was published"),
                Some(_) => format!("{topic} came with retain {retain} or with another payload"),
            };
            return Err(Failure::Answer { client: "reader".into(), what });
        }
        self.last = heard.at;
        Ok(())
    }

    fn act(&mut self, swarm: &mut Swarm) -> Result<bool, Failure> {
        if self.began.is_none() {
            let filters = [names::EVERY_STATUS];
            swarm.send(self.reader, |out| packet::subscribe(out, &filters, 2));
            self.began = Some(Instant::now());
        }
        Ok(self.missing.is_empty())
    }

    fn missing(&self) -> String {
        let example = self.missing.keys().min().cloned().unwrap_or_default();
        let left = self.missing.len();
        format!("{left} of {} retained statuses, such as {example}", self.statuses.count)
    }
}

/// Measures how fast statuses are taken, and how fast they are given to one who asks for all.
pub(crate) fn run(stage: &mut Stage<'_>, ledger: &mut Ledger, seed: u64) -> Result<(), Failure> {
    let statuses = Statuses::new(stage.hosts * names::PROFILES.len(), seed);
    let count = statuses.count as f64;
    let began = Instant::now();
    statuses.publish(stage)?;
    let rate = count / began.elapsed().as_secs_f64();
    stage.rest(&mut |_| Ok(()))?;
    let before = stage.broker.processor_time()?;
    let took = statuses.collect(stage)?;
    let processor = stage.broker.processor_time()?.saturating_sub(before);
    let side = stage.side;
    ledger.add(side, "window_publishes_per_second", rate);
    ledger.add(side, "retained_count", count);
    ledger.time(side, "retained_ms", took);
    ledger.time(side, "retained_cpu_ms", processor);
    if statuses.count == NAMED {
        ledger.time(side, "retained_30000_ms", took);
    }
    ledger.add(side, "stored_kib", stage.broker.stored_kib());
    stage.say(format_args!(
        "retained: {count} taken at {rate:.0} a second, given to one subscription in {:.0} ms",
        millis(took)
    ));
    Ok(())
}
