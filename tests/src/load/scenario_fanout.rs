//! Fan-out: one message of a KiB, retained, to all hosts.

use std::time::{Duration, Instant};

use super::{
    failure::Failure,
    names, packet,
    session::{Heard, News},
    stage::Stage,
    stats::{Random, median, millis, percentile},
    swarm::{Part, Swarm},
    table::Ledger,
    vitals,
};

const SIZE: usize = 1024;

/// One message on its way to all hosts.
struct FanOut {
    payload: Vec<u8>,
    id: u16,
    publisher: usize,
    published: Option<Instant>,
    is_acked: bool,
    /// Milliseconds to each host.
    latencies: Vec<Option<f64>>,
    arrived: usize,
}

impl FanOut {
    fn new(payload: Vec<u8>, id: u16, publisher: usize, hosts: usize) -> Self {
        let latencies = vec![None; hosts];
        Self { payload, id, publisher, published: None, is_acked: false, latencies, arrived: 0 }
    }
}

impl Part for FanOut {
    fn hear(&mut self, heard: &Heard<'_>) -> Result<(), Failure> {
        let wrong = |what: String| {
            Err(Failure::Answer { client: format!("client {}", heard.client), what })
        };
        match heard.news {
            News::Message { topic, payload, retain } => {
                if topic != names::BEACON || payload != self.payload || retain {
                    let size = payload.len();
                    return wrong(format!(
                        "{size} bytes on {topic}, retain {retain}, are not the live message"
                    ));
                }
                let published = self.published.unwrap_or(heard.at);
                let latency = millis(heard.at.saturating_duration_since(published));
                match self.latencies.get_mut(heard.client).map(|one| one.replace(latency)) {
                    Some(None) => self.arrived += 1,
                    Some(Some(_)) => return wrong("the message came twice".into()),
                    None => return wrong("no host, and heard a message".into()),
                }
            }
            News::Acked(id) => self.is_acked |= id == self.id,
            _ => {}
        }
        Ok(())
    }

    fn act(&mut self, swarm: &mut Swarm) -> Result<bool, Failure> {
        if self.published.is_none() {
            swarm.send(self.publisher, |out| {
                packet::publish(out, names::BEACON, &self.payload, true, self.id);
            });
            self.published = Some(Instant::now());
        }
        Ok(self.is_acked && self.arrived == self.latencies.len())
    }

    fn missing(&self) -> String {
        let left = self.latencies.len() - self.arrived;
        format!("the message did not come to {left} hosts; publisher acked: {}", self.is_acked)
    }
}

/// Publishes once to all hosts; gives the latencies and the broker's processor time.
pub(crate) fn once(
    stage: &mut Stage<'_>,
    random: &mut Random,
) -> Result<(Vec<f64>, Duration), Failure> {
    let id = 1 + (random.next() % 65_535) as u16;
    let mut fanout = FanOut::new(random.bytes(SIZE), id, stage.publisher, stage.hosts);
    let before = stage.broker.processor_time()?;
    stage.play(&mut fanout, "a message to all hosts")?;
    stage.rest(&mut |heard| fanout.hear(heard))?;
    let processor = stage.broker.processor_time()?.saturating_sub(before);
    Ok((fanout.latencies.into_iter().flatten().collect(), processor))
}

/// Measures some fan-outs, after one that is not counted.
pub(crate) fn run(stage: &mut Stage<'_>, ledger: &mut Ledger, seed: u64) -> Result<(), Failure> {
    let mut random = Random::new(seed);
    once(stage, &mut random)?;
    let (own, queued) = (vitals::own_processor_time(), stage.broker.queued_time()?);
    let (mut middle, mut high, mut most, mut processor) = (vec![], vec![], vec![], vec![]);
    for _ in 0..stage.settings.fanouts {
        let (mut latencies, time) = once(stage, &mut random)?;
        middle.push(percentile(&mut latencies, 50.0));
        high.push(percentile(&mut latencies, 99.0));
        most.push(percentile(&mut latencies, 100.0));
        processor.push(millis(time));
    }
    let each = |time: Duration| millis(time) / f64::from(stage.settings.fanouts.max(1));
    let own = each(vitals::own_processor_time().saturating_sub(own));
    let queued = each(stage.broker.queued_time()?.saturating_sub(queued));
    let side = stage.side;
    let (p99, cpu) = (median(&high), median(&processor));
    ledger.add(side, "fanout_p50_ms", median(&middle));
    ledger.add(side, "fanout_p99_ms", p99);
    ledger.add(side, "fanout_max_ms", most.into_iter().fold(0.0, f64::max));
    ledger.add(side, "fanout_cpu_ms", cpu);
    ledger.add(side, "fanout_generator_cpu_ms", own);
    ledger.add(side, "fanout_queued_ms", queued);
    stage.say(format_args!(
        "fan-out: p50 {:.0} ms, p99 {p99:.0} ms, broker's CPU {cpu:.0} ms, the generator's {own:.0} ms",
        median(&middle)
    ));
    Ok(())
}
