//! A fleet of simulated hosts, to measure our broker beside another in one run.
//!
//! The hosts are real MQTT sessions over real TCP connections, all on one thread of this process;
//! the broker is a process of its own, and only its own processor time is counted as its. In each
//! round both brokers are started afresh, one after the other, so that what else the machine does
//! meets both. Every wait is bounded, and what did not come is named.

pub(crate) mod broker;
pub(crate) mod failure;
pub(crate) mod interrupt;
mod link;
pub(crate) mod names;
mod orders;
pub(crate) mod packet;
mod publishing;
mod scenario_connect;
mod scenario_durable;
mod scenario_fanout;
mod scenario_idle;
mod scenario_orders;
mod scenario_restart;
mod scenario_retained;
mod scenario_soak;
mod scenario_tls;
pub(crate) mod session;
mod settings;
mod stage;
pub(crate) mod stats;
pub(crate) mod swarm;
mod table;
mod vitals;

use crate::built::built;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

pub use failure::Failure;
pub use settings::Settings;

use orders::Orders;
use settings::{Scenario, Side};
use stage::Stage;
use table::Ledger;

/// Files that are open beside one for each host.
const OTHER_FILES: u64 = 300;

/// A round is shorter than this, so that its hosts need not ping.
const ROUND_KEEP_ALIVE: u16 = 1200;

/// Measures what the settings ask for; gives the figures as one line of JSON.
///
/// # Errors
/// When a broker does not do what it must, in time.
pub fn run(settings: &Settings) -> Result<String, Failure> {
    interrupt::watch()?;
    allow_files(u64::from(settings.hosts) + OTHER_FILES)?;
    let sides = settings.sides();
    let mut settings = settings.clone();
    // Before anything is measured, and once: it must not change between rounds.
    if sides.contains(&Side::Ours) && settings.broker_bin.is_none() {
        settings.broker_bin = Some(built("herald-broker")?);
    }
    let settings = &settings;
    let mut ledger = Ledger::default();
    let orders = settings
        .has(Scenario::Orders)
        .then(|| Orders::sign(settings.hosts as usize, settings.seed));
    for number in 0..settings.rounds {
        settings.say(format_args!("round {} of {}", number + 1, settings.rounds));
        let mut sides = sides.clone();
        // Whoever is first in one round is second in the next.
        if number % 2 == 1 {
            sides.reverse();
        }
        for side in sides {
            round(settings, side, number, orders.as_ref(), &mut ledger)?;
        }
    }
    for &side in sides.iter().filter(|_| settings.has(Scenario::Idle)) {
        scenario_idle::run(settings, side, &mut ledger)?;
    }
    for &side in sides.iter().filter(|_| settings.has(Scenario::Tls)) {
        scenario_tls::run(settings, side, &mut ledger)?;
    }
    if sides.contains(&Side::Ours) && settings.has(Scenario::Restart) {
        scenario_restart::run(settings, &mut ledger)?;
    }
    for &side in sides.iter().filter(|_| settings.soak) {
        scenario_soak::run(settings, side, &mut ledger)?;
    }
    settings.say(ledger.table());
    Ok(ledger.json(settings))
}

/// Measures one broker from its start.
fn round(
    settings: &Settings,
    side: Side,
    number: u32,
    orders: Option<&Orders>,
    ledger: &mut Ledger,
) -> Result<(), Failure> {
    let seed = settings.seed.wrapping_add(u64::from(number));
    let mut stage = Stage::start(settings, side, ROUND_KEEP_ALIVE)?;
    scenario_connect::run(&mut stage, ledger)?;
    if settings.has(Scenario::Fanout) {
        scenario_fanout::run(&mut stage, ledger, seed)?;
    }
    if let Some(orders) = orders {
        scenario_orders::run(&mut stage, ledger, orders)?;
    }
    if settings.has(Scenario::Retained) {
        scenario_retained::run(&mut stage, ledger, seed)?;
    }
    if settings.has(Scenario::Durable) {
        scenario_durable::run(&mut stage, ledger, seed)?;
    }
    Ok(())
}

/// Raises the limit on open files, which the brokers inherit, as far as it goes.
pub(crate) fn allow_files(needed: u64) -> Result<(), Failure> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    setrlimit(Resource::Nofile, raised)
        .map_err(|error| Failure::system("raise the limit on open files")(error.into()))?;
    match limit.maximum {
        Some(limit) if limit < needed => Err(Failure::Files { needed, limit }),
        _ => Ok(()),
    }
}
