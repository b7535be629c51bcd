//! How seeds went.

use std::{collections::BTreeMap, fmt, time::Duration};

/// A deliberate mistake, for the judges to find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// Somebody signs what no operator wanted with an operator's key.
    SignsPoison,
    /// The broker never behaves again.
    HoldsForEver,
    /// Somebody says with a host's key that it runs what it never ran.
    SpeaksForHost,
    /// The hosts are told what is true, while it is looked for signs that they are not.
    HidesNothing,
}

/// How a seed went.
#[derive(Debug, Default)]
pub struct Outturn {
    /// Activations that no operator asked for.
    pub unauthorised: Vec<String>,
    /// Hosts that neither ended nor said why they wait.
    pub stuck: Vec<String>,
    /// Freezes and orders held back that were not noticed in time.
    pub unnoticed: Vec<String>,
    /// Everything else that must not be.
    pub wrong: Vec<String>,
    /// How many systems were activated.
    pub activations: u64,
    /// How the last order of each host ended, or what it waits for.
    pub endings: BTreeMap<String, u64>,
    /// How long until a freeze was seen.
    pub freezes: Spans,
    /// How long until an order held back was seen.
    pub withheld: Spans,
    /// What the broker did.
    pub trace: Vec<String>,
}

/// How many times there were, and the longest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spans {
    /// How many.
    pub count: u64,
    /// The longest.
    pub longest: Duration,
}

/// What all seeds came to.
#[derive(Debug, Default)]
pub struct Sum {
    /// How many seeds ran.
    pub seeds: u64,
    /// What they came to, without their traces; each fault names its seed.
    pub all: Outturn,
}

impl Outturn {
    /// Gives everything that must not be, in words.
    pub fn faults(&self) -> impl Iterator<Item = &String> {
        self.unauthorised.iter().chain(&self.stuck).chain(&self.unnoticed).chain(&self.wrong)
    }

    /// Tells whether nothing was wrong.
    pub fn is_clean(&self) -> bool {
        self.faults().next().is_none()
    }

    /// Adds how another seed went, by its number.
    pub fn add(&mut self, seed: u64, other: Self) {
        let named = |faults: Vec<String>| {
            faults.into_iter().map(move |fault| format!("seed {seed}: {fault}"))
        };
        self.unauthorised.extend(named(other.unauthorised));
        self.stuck.extend(named(other.stuck));
        self.unnoticed.extend(named(other.unnoticed));
        self.wrong.extend(named(other.wrong));
        self.activations += other.activations;
        for (ending, count) in other.endings {
            *self.endings.entry(ending).or_default() += count;
        }
        self.freezes.merge(other.freezes);
        self.withheld.merge(other.withheld);
    }
}

impl Spans {
    /// Adds one.
    pub fn add(&mut self, span: Duration) {
        self.merge(Self { count: 1, longest: span });
    }

    fn merge(&mut self, other: Self) {
        self.count += other.count;
        self.longest = self.longest.max(other.longest);
    }
}

impl fmt::Display for Spans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (the latest after {:.1} s)", self.count, self.longest.as_secs_f64())
    }
}

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = &self.all;
        let endings: Vec<_> =
            all.endings.iter().map(|(ending, count)| format!("{count} {ending}")).collect();
        writeln!(f, "{} activations; orders in the end: {}", all.activations, endings.join(", "))?;
        writeln!(f, "noticed: {} freezes, {} orders held back", all.freezes, all.withheld)?;
        write!(
            f,
            "{} seeds, {} unauthorised activations, {} hosts stuck, {} freezes or orders held back \
             not noticed within two intervals, {} other faults",
            self.seeds,
            all.unauthorised.len(),
            all.stuck.len(),
            all.unnoticed.len(),
            all.wrong.len()
        )
    }
}
