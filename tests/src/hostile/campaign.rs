//! Many seeds, on several fleets at once.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use super::world::{Mutant, Outturn, World};

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
    /// What they came to, without their traces; each fault names its seed.
    pub all: Outturn,
}

impl Sum {
    /// Gives the last line.
    pub fn line(&self) -> String {
        format!(
            "{} seeds, {} unauthorised activations, {} hosts stuck",
            self.seeds,
            self.all.unauthorised.len(),
            self.all.stuck.len()
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
                    let bad = !outturn.is_clean();
                    if bad || settings.seed.is_some() {
                        eprintln!("seed {seed}:\n  {}", outturn.trace.join("\n  "));
                        for fault in outturn.faults() {
                            eprintln!("  wrong: {fault}");
                        }
                    }
                    let mut sum = sum.lock().unwrap_or_else(PoisonError::into_inner);
                    sum.seeds += 1;
                    sum.all.add(seed, outturn);
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
