//! Idling: hosts with a keep-alive of a minute, whose pings are spread evenly.

use std::time::{Duration, Instant};

use super::{
    failure::Failure,
    settings::{Settings, Side},
    stage::Stage,
    table::Ledger,
};

const KEEP_ALIVE: u16 = 60;

/// Measures the processor time of a broker whose hosts have nothing to say.
pub(crate) fn run(settings: &Settings, side: Side, ledger: &mut Ledger) -> Result<(), Failure> {
    let mut stage = Stage::start(settings, side, KEEP_ALIVE)?;
    stage.connect_hosts()?;
    stage.rest(&mut |_| Ok(()))?;
    stage.swarm.ping(stage.hosts, Duration::from_secs(KEEP_ALIVE.into()));
    let (before, began) = (stage.broker.processor_time()?, Instant::now());
    let time = Duration::from_secs_f64(settings.idle_seconds.clamp(0.1, 600.0));
    stage.idle(time, &mut |_| Ok(()))?;
    let used = stage.broker.processor_time()?.saturating_sub(before);
    let percent = 100.0 * used.as_secs_f64() / began.elapsed().as_secs_f64();
    ledger.add(side, "idle_cpu_percent", percent);
    stage.say(format_args!("idle: {percent:.2} % of a core"));
    Ok(())
}
