//! Many seeds, on several fleets at once.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use super::world::{Mutant, World};

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
    /// How many fleets run at once.
    #[arg(long, default_value_t = 2)]
    pub lanes: u64,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Sum {
    /// How many seeds ran.
    pub seeds: u64,
    /// Activations that no operator asked for, in words.
    pub unauthorised: Vec<String>,
    /// Hosts that neither ended nor said why they wait.
    pub stuck: Vec<String>,
    /// Everything else that must not be.
    pub wrong: Vec<String>,
    /// How many orders were activated.
    pub activations: u64,
    /// The longest time until a freeze was seen in `herald status`.
    pub freeze: Option<Duration>,
    /// The longest time until an order held back was.
    pub withheld: Option<Duration>,
}

impl Sum {
    /// Tells whether nothing was wrong.
    pub fn is_clean(&self) -> bool {
        self.unauthorised.is_empty() && self.stuck.is_empty() && self.wrong.is_empty()
    }

    /// Gives the last line.
    pub fn line(&self) -> String {
        format!(
            "{} seeds, {} unauthorised activations, {} hosts stuck",
            self.seeds,
            self.unauthorised.len(),
            self.stuck.len()
        )
    }
}

/// Runs seeds; a fleet for each lane.
pub fn campaign(settings: &Settings, mutant: Option<Mutant>) -> Sum {
    let sum = Mutex::new(Sum::default());
    let (first, end) = match settings.seed {
        Some(seed) => (seed, seed + 1),
        None => (settings.first, settings.first + settings.seeds),
    };
    let next = AtomicU64::new(first);
    thread::scope(|scope| {
        for _ in 0..settings.lanes.clamp(1, end - first) {
            scope.spawn(|| {
                let mut world = World::start();
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        break;
                    }
                    let outturn = world.run(seed, mutant);
                    let bad = !outturn.unauthorised.is_empty()
                        || !outturn.stuck.is_empty()
                        || !outturn.wrong.is_empty();
                    if bad || settings.seed.is_some() {
                        eprintln!("seed {seed}:\n  {}", outturn.trace.join("\n  "));
                        for fault in
                            outturn.unauthorised.iter().chain(&outturn.stuck).chain(&outturn.wrong)
                        {
                            eprintln!("  wrong: {fault}");
                        }
                    }
                    let mut sum = sum.lock().unwrap_or_else(PoisonError::into_inner);
                    let named = |faults: Vec<String>| {
                        faults.into_iter().map(move |fault| format!("seed {seed}: {fault}"))
                    };
                    sum.seeds += 1;
                    sum.activations += outturn.activations;
                    sum.unauthorised.extend(named(outturn.unauthorised));
                    sum.stuck.extend(named(outturn.stuck));
                    sum.wrong.extend(named(outturn.wrong));
                    sum.freeze = sum.freeze.max(outturn.freeze);
                    sum.withheld = sum.withheld.max(outturn.withheld);
                    if bad && mutant.is_none() {
                        // What is judged next begins from a fleet that is as it should be.
                        drop(sum);
                        world = World::start();
                    }
                }
            });
        }
    });
    sum.into_inner().unwrap_or_else(PoisonError::into_inner)
}
