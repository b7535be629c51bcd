//! Many runs: which cases they are, and what they add up to.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use herald_proto::report::PhaseName;

use super::{
    mutant::Mutant,
    rng::Rng,
    run::{Outturn, run},
    scenario::{Case, Disturbance, Event, Scenario},
};

/// How far behind the first disturbance the second one comes at most.
const NEXT: usize = 120;

/// What to run.
#[derive(Debug, Clone, clap::Parser)]
#[command(about = "Runs the subscriber on a simulated machine, and stops it at every point")]
pub struct Settings {
    /// How many runs.
    #[arg(long, default_value_t = 10_000)]
    pub runs: usize,
    /// What decides about all that is left to chance.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Run this case alone, and print what happens.
    #[arg(long, value_name = "CASE")]
    pub only: Option<Case>,
    /// How many threads.
    #[arg(long, default_value_t = thread::available_parallelism().map_or(1, Into::into))]
    pub threads: usize,
}

/// The cases of a campaign, in an order that its seed decides.
#[derive(Debug)]
pub struct Plan {
    seed: u64,
    points: BTreeMap<Scenario, u64>,
    each: Vec<(Scenario, Event)>,
}

/// What the runs of a campaign add up to.
#[derive(Debug, Default)]
pub struct Sum {
    /// How many runs there were.
    pub runs: usize,
    /// Those that went wrong, and how.
    pub bricked: Vec<(Case, Vec<String>)>,
    /// How the last orders ended.
    pub endings: BTreeMap<PhaseName, usize>,
    hits: BTreeSet<(Scenario, u64, Disturbance)>,
    phases: BTreeMap<Disturbance, BTreeSet<PhaseName>>,
    stops: usize,
    longest: Duration,
}

impl Plan {
    /// Looks at each scenario without a disturbance, and plans each that can come at each point.
    pub fn new(seed: u64) -> Self {
        let (mut points, mut each) = (BTreeMap::new(), Vec::new());
        for scenario in Scenario::all() {
            let undisturbed = run(&Case { scenario, events: Vec::new(), seed }, None, false);
            points.insert(scenario, undisturbed.points);
            for (point, subscriber_acts) in (1..).zip(&undisturbed.subscriber_acts) {
                let others = scenario == Scenario::all()[0];
                let others = Disturbance::OTHERS.iter().filter(|_| others);
                for what in Disturbance::STOPS.iter().chain(others) {
                    // There they are the same.
                    if *what != Disturbance::KillActor || !subscriber_acts {
                        each.push((scenario, Event { point, what: *what }));
                    }
                }
            }
        }
        let mut rng = Rng::new(seed);
        for at in (1..each.len()).rev() {
            each.swap(at, rng.below(at + 1));
        }
        Self { seed, points, each }
    }

    /// Gives how many runs bring each disturbance once to each point.
    pub fn each(&self) -> usize {
        self.each.len()
    }

    /// Gives one run's case: first each disturbance at each point, half of
    /// them with another one after it, and then some by chance.
    pub fn case(&self, number: usize) -> Case {
        let mut rng = Rng::new(Rng::mixed(self.seed, number as u64));
        let what = |rng: &mut Rng| {
            let often = rng.below(3) > 0;
            if often { rng.choose(&Disturbance::STOPS) } else { rng.choose(&Disturbance::OTHERS) }
        };
        let (scenario, first, more) = match self.each.get(number) {
            Some((scenario, event)) => (*scenario, *event, rng.below(2)),
            None => {
                let scenarios: Vec<_> = self.points.iter().collect();
                let (scenario, points) = rng.choose(&scenarios);
                let point = 1 + rng.next() % points;
                (*scenario, Event { point, what: what(&mut rng) }, 1 + rng.below(3))
            }
        };
        let mut events = vec![first];
        for _ in 0..more {
            let point = events[events.len() - 1].point + 1 + rng.below(NEXT) as u64;
            events.push(Event { point, what: what(&mut rng) });
        }
        Case { scenario, events, seed: rng.next() }
    }
}

impl Sum {
    fn add(&mut self, case: &Case, outturn: Outturn) {
        self.runs += 1;
        *self.endings.entry(outturn.ending).or_default() += 1;
        self.longest = self.longest.max(outturn.took);
        for hit in &outturn.hits {
            self.stops += usize::from(Disturbance::STOPS.contains(&hit.what));
            self.hits.insert((case.scenario, hit.point, hit.what));
            self.phases.entry(hit.what).or_default().insert(hit.phase);
        }
        if !outturn.violations.is_empty() {
            self.bricked.push((case.clone(), outturn.violations));
        }
    }

    /// Tells whether a disturbance came in a phase.
    pub fn came_in(&self, what: Disturbance, phase: PhaseName) -> bool {
        self.phases.get(&what).is_some_and(|phases| phases.contains(&phase))
    }

    /// Says what went wrong, and how to see it again.
    pub fn faults(&self) -> String {
        let mut text = String::new();
        for (case, violations) in &self.bricked {
            let _ = writeln!(text, "bricked: --only '{case}'");
            for violation in violations {
                let _ = writeln!(text, "    {violation}");
            }
        }
        text
    }

    /// Says what was seen, in lines.
    pub fn report(&self, plan: &Plan) -> String {
        let mut text = String::new();
        for (scenario, points) in &plan.points {
            let planned = plan.each.iter().filter(|(planned, _)| planned == scenario);
            let (planned, hit) = planned.fold((0, 0), |(planned, hit), (scenario, event)| {
                let was = self.hits.contains(&(*scenario, event.point, event.what));
                (planned + 1, hit + usize::from(was))
            });
            let name = scenario.to_string();
            let _ =
                writeln!(text, "{name:22} {points:4} points, {hit:5} of {planned:5} stops at them");
        }
        for (what, phases) in &self.phases {
            let phases: Vec<_> = phases.iter().map(ToString::to_string).collect();
            let _ = writeln!(text, "{:22} while {}", what.to_string(), phases.join(" "));
        }
        let endings: Vec<_> =
            self.endings.iter().map(|(ending, count)| format!("{ending} {count}")).collect();
        let _ = writeln!(text, "endings: {}", endings.join(", "));
        let _ = writeln!(text, "{} stops; the longest order took {:?}", self.stops, self.longest);
        text
    }
}

/// Runs the kept cases, and then so many of a plan.
pub fn campaign(plan: &Plan, settings: &Settings, mutant: Option<Mutant>) -> Sum {
    let kept = kept();
    let (next, sum) = (AtomicUsize::new(0), Mutex::new(Sum::default()));
    thread::scope(|scope| {
        for _ in 0..settings.threads.max(1) {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= settings.runs {
                        return;
                    }
                    let case = match kept.get(number) {
                        Some(kept) => kept.clone(),
                        None => plan.case(number - kept.len()),
                    };
                    let outturn = run(&case, mutant, false);
                    sum.lock().expect("no run panics").add(&case, outturn);
                }
            });
        }
    });
    let mut sum = sum.into_inner().expect("no run panics");
    sum.bricked.sort_by_key(|(case, _)| (case.events.len(), case.to_string()));
    sum
}

/// Gives the cases that once went wrong.
///
/// # Panics
/// When a line of their file is no case.
pub fn kept() -> Vec<Case> {
    let lines = include_str!("kept.txt").lines().map(str::trim);
    let cases = lines.filter(|line| !line.is_empty() && !line.starts_with("//"));
    cases.map(|line| line.parse().expect("each line is a case")).collect()
}
