//! Durable publishes: 100 clients, each with one message in flight, on topics of their own.

use std::{borrow::Cow, time::Duration};

use super::{
    failure::Failure,
    publishing::Hammer,
    stage::{Stage, clean_session},
    stats::{Random, percentile},
    table::Ledger,
};

const CLIENTS: usize = 100;
const SIZE: usize = 1024;

/// Measures PUBACKs a second.
pub(crate) fn run(stage: &mut Stage<'_>, ledger: &mut Ledger, seed: u64) -> Result<(), Failure> {
    let first = stage.swarm.add(clean_session("durable-0", &[]));
    for number in 1..CLIENTS {
        stage.swarm.add(clean_session(&format!("durable-{number}"), &[]));
    }
    let clients: Vec<usize> = (first..first + CLIENTS).collect();
    stage.connect(clients.clone(), "the durable publishers to connect")?;
    stage.rest(&mut |_| Ok(()))?;
    let payload = Random::new(seed).bytes(SIZE);
    let message = |client: usize| {
        (format!("herald/v1/load/rollback/durable-{client}/system"), Cow::Borrowed(&payload[..]))
    };
    let time = Duration::from_secs_f64(stage.settings.durable_seconds.clamp(0.1, 60.0));
    let before = stage.broker.processor_time()?;
    let mut hammer = Hammer::new(&clients, time, Box::new(message));
    stage.play(&mut hammer, "durable publishes")?;
    let processor = stage.broker.processor_time()?.saturating_sub(before);
    let count = hammer.latencies.len() as f64;
    let rate = count / time.as_secs_f64();
    let (p50, p99) =
        (percentile(&mut hammer.latencies, 50.0), percentile(&mut hammer.latencies, 99.0));
    let side = stage.side;
    ledger.add(side, "durable_publishes_per_second", rate);
    ledger.add(side, "durable_p50_ms", p50);
    ledger.add(side, "durable_p99_ms", p99);
    ledger.add(side, "durable_cpu_us_each", processor.as_secs_f64() * 1e6 / count.max(1.0));
    stage.say(format_args!(
        "one in flight from each of {CLIENTS}: {rate:.0} a second, p99 {p99:.1} ms"
    ));
    clients.into_iter().for_each(|client| stage.swarm.close(client));
    Ok(())
}
