//! Many seeds, on several fleets at once.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use super::{
    outturn::{Mutant, Outturn, Sum},
    world::World,
};

/// What is run.
#[derive(Debug, Clone, clap::Parser)]
pub struct Settings {
    /// How many seeds.
    #[arg(long, default_value_t = 1000)]
    pub seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    pub first: u64,
    /// Runs this seed alone, and shows what the broker did.
    #[arg(long)]
    pub seed: Option<u64>,
    /// How many fleets run at once. Most of the time they wait.
    #[arg(long, default_value_t = 6)]
    pub lanes: u64,
    /// How many seconds hosts may take once the broker behaves. Who was cut off often waits up to a
    /// minute before it connects again, and then an attempt may go its whole way and back.
    #[arg(long, default_value_t = 100)]
    pub patience: u64,
}

/// Runs seeds; a fleet for each lane.
pub fn campaign(settings: &Settings, mutant: Option<Mutant>) -> Sum {
    let sum = Mutex::new(Sum::default());
    let (first, end) = match settings.seed {
        Some(seed) => (seed, seed + 1),
        None => (settings.first, settings.first + settings.seeds),
    };
    let next = AtomicU64::new(first);
    let patience = Duration::from_secs(settings.patience);
    let lane = || {
        let mut fleet = None;
        let mut last = None;
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= end {
                break;
            }
            let outturn =
                guarded(|| fleet.get_or_insert_with(|| World::start(patience)).run(seed, mutant));
            if !outturn.is_clean() || settings.seed.is_some() {
                show(seed, &outturn);
            }
            if !outturn.is_clean() {
                // What is judged next begins from a fleet that is as it should be.
                fleet = None;
            }
            let mut sum = sum.lock().unwrap_or_else(PoisonError::into_inner);
            sum.seeds += 1;
            sum.all.add(seed, outturn);
            last = Some(seed);
            if sum.seeds.is_multiple_of(50) {
                eprintln!("{sum}");
            }
        }
        if let (Some(world), Some(seed)) = (&mut fleet, last) {
            let outturn = guarded(|| world.farewell());
            if !outturn.is_clean() {
                show(seed, &outturn);
            }
            sum.lock().unwrap_or_else(PoisonError::into_inner).all.add(seed, outturn);
        }
    };
    thread::scope(|scope| {
        for _ in 0..settings.lanes.clamp(1, end.saturating_sub(first).max(1)) {
            scope.spawn(lane);
        }
    });
    sum.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// Runs something, and makes a fault of its panic: what was waited for and did not come.
fn guarded(run: impl FnOnce() -> Outturn) -> Outturn {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let words = panic.downcast_ref::<String>().map(String::as_str);
        let words = words.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic");
        Outturn { wrong: vec![words.to_owned()], ..Outturn::default() }
    })
}

fn show(seed: u64, outturn: &Outturn) {
    let trace = outturn.trace.join("\n  ");
    let faults: Vec<_> = outturn.faults().map(|fault| format!("\n  wrong: {fault}")).collect();
    eprintln!("seed {seed}:\n  {trace}{}", faults.concat());
}
