//! What a run is about: how the new system turns out, what comes in between and where, and a
//! number for all that is left to chance. A case is written as one line, which replays it.

use std::{fmt, str::FromStr};

use herald_proto::{report::PhaseName, target::Action};

/// How the new system turns out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// It is good.
    Good,
    /// It is good, and replaces the subscriber in the middle.
    SelfUpdate,
    /// Its activation fails before anything is replaced.
    FailsEarly,
    /// Its activation fails after it has become what runs.
    FailsLate,
    /// Its activation never ends.
    Hangs,
    /// A unit fails, and its activation says so.
    UnitFails,
    /// Its health check fails.
    Sick,
    /// Its health check fails after it held for a moment.
    FallsIll,
    /// It has no network.
    CutOff,
    /// Its subscriber never comes up.
    Deaf,
    /// It does not trust whoever signed the order for it.
    LocksOut,
    /// Its kernel does not come up.
    NoBoot,
}

/// What an order asks for, and how it turns out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Scenario {
    /// What is asked for.
    pub action: Action,
    /// How the new system turns out.
    pub outcome: Outcome,
}

/// What comes in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Disturbance {
    /// The subscriber is killed.
    KillSubscriber,
    /// The process that is about to do something is killed.
    KillActor,
    /// All of Herald's processes are killed.
    KillAll,
    /// User space is started again, in the same boot.
    SoftReboot,
    /// The power fails.
    PowerCut,
    /// Somebody restarts the machine.
    Reboot,
    /// The disk is full for some seconds.
    DiskFull,
    /// The disk is full for two minutes.
    DiskFullLong,
    /// Somebody runs `nixos-rebuild switch`.
    PersonSwitches,
    /// Somebody runs `nixos-rebuild test`.
    PersonTests,
    /// Somebody runs `nixos-rebuild boot`.
    PersonBoots,
    /// Somebody runs `nix-collect-garbage -d`.
    PersonCollects,
    /// The machine sleeps for some hours.
    Suspend,
    /// The wall clock jumps forward by an hour.
    ClockForward,
    /// The wall clock jumps back by most of a day.
    ClockBack,
    /// The broker can't be reached for some seconds.
    Outage,
    /// A newer order comes, for a good system.
    NewOrder,
    /// A damaged message comes.
    CorruptMessage,
    /// An older order comes again.
    ReplayedMessage,
}

impl Disturbance {
    /// Those that stop something, which every point of every scenario is to see.
    pub const STOPS: [Self; 5] =
        [Self::KillSubscriber, Self::KillActor, Self::KillAll, Self::SoftReboot, Self::PowerCut];

    /// The others, which every point of a good switch is to see.
    pub const OTHERS: [Self; 14] = [
        Self::Reboot,
        Self::DiskFull,
        Self::DiskFullLong,
        Self::PersonSwitches,
        Self::PersonTests,
        Self::PersonBoots,
        Self::PersonCollects,
        Self::Suspend,
        Self::ClockForward,
        Self::ClockBack,
        Self::Outage,
        Self::NewOrder,
        Self::CorruptMessage,
        Self::ReplayedMessage,
    ];

    /// Tells whether it is a person who activates another system, or makes it the boot default.
    pub fn is_person(self) -> bool {
        matches!(self, Self::PersonSwitches | Self::PersonTests | Self::PersonBoots)
    }
}

/// What comes at which point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// Before the step with this number, from 1.
    pub point: u64,
    /// What.
    pub what: Disturbance,
}

/// One run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// What the order asks for, and how it turns out.
    pub scenario: Scenario,
    /// What comes in between.
    pub events: Vec<Event>,
    /// What is left to chance.
    pub seed: u64,
}

/// A line that is no case.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no case: expected one like switch:good@57:power-cut#1f")]
pub struct NoCase(String);

impl Scenario {
    /// All of them.
    pub fn all() -> Vec<Self> {
        use Outcome::{
            CutOff, Deaf, FailsEarly, FailsLate, FallsIll, Good, Hangs, LocksOut, NoBoot,
            SelfUpdate, Sick, UnitFails,
        };
        let switch = [
            Good, SelfUpdate, FailsEarly, FailsLate, Hangs, UnitFails, Sick, FallsIll, CutOff,
            Deaf, LocksOut,
        ];
        let of = |action| move |outcome| Self { action, outcome };
        switch
            .map(of(Action::Switch))
            .into_iter()
            .chain([Good, Sick].map(of(Action::Test)))
            .chain([Good, LocksOut].map(of(Action::Boot)))
            .chain([of(Action::DryActivate)(Good)])
            .chain([Good, SelfUpdate, NoBoot, Sick, CutOff, Deaf].map(of(Action::Reboot)))
            .collect()
    }

    /// Tells how the order ends when nothing comes in between.
    pub fn undisturbed(self) -> PhaseName {
        match self.outcome {
            Outcome::Good | Outcome::SelfUpdate => PhaseName::Succeeded,
            _ => PhaseName::RolledBack,
        }
    }
}

const OUTCOMES: [(Outcome, &str); 12] = [
    (Outcome::Good, "good"),
    (Outcome::SelfUpdate, "self-update"),
    (Outcome::FailsEarly, "fails-early"),
    (Outcome::FailsLate, "fails-late"),
    (Outcome::Hangs, "hangs"),
    (Outcome::UnitFails, "unit-fails"),
    (Outcome::Sick, "sick"),
    (Outcome::FallsIll, "falls-ill"),
    (Outcome::CutOff, "cut-off"),
    (Outcome::Deaf, "deaf"),
    (Outcome::LocksOut, "locks-out"),
    (Outcome::NoBoot, "no-boot"),
];

const DISTURBANCES: [(Disturbance, &str); 19] = [
    (Disturbance::KillSubscriber, "kill-subscriber"),
    (Disturbance::KillActor, "kill-actor"),
    (Disturbance::KillAll, "kill-all"),
    (Disturbance::SoftReboot, "soft-reboot"),
    (Disturbance::PowerCut, "power-cut"),
    (Disturbance::Reboot, "reboot"),
    (Disturbance::DiskFull, "disk-full"),
    (Disturbance::DiskFullLong, "disk-full-long"),
    (Disturbance::PersonSwitches, "person-switches"),
    (Disturbance::PersonTests, "person-tests"),
    (Disturbance::PersonBoots, "person-boots"),
    (Disturbance::PersonCollects, "person-collects"),
    (Disturbance::Suspend, "suspend"),
    (Disturbance::ClockForward, "clock-forward"),
    (Disturbance::ClockBack, "clock-back"),
    (Disturbance::Outage, "outage"),
    (Disturbance::NewOrder, "new-order"),
    (Disturbance::CorruptMessage, "corrupt-message"),
    (Disturbance::ReplayedMessage, "replayed-message"),
];

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = OUTCOMES.iter().find(|(outcome, _)| outcome == self);
        f.write_str(name.map_or("?", |(_, name)| name))
    }
}

impl fmt::Display for Disturbance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = DISTURBANCES.iter().find(|(what, _)| what == self);
        f.write_str(name.map_or("?", |(_, name)| name))
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.action, self.outcome)
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.scenario)?;
        for Event { point, what } in &self.events {
            write!(f, "@{point}:{what}")?;
        }
        write!(f, "#{:x}", self.seed)
    }
}

impl FromStr for Case {
    type Err = NoCase;

    fn from_str(line: &str) -> Result<Self, NoCase> {
        parse(line).ok_or_else(|| NoCase(line.to_owned()))
    }
}

fn parse(line: &str) -> Option<Case> {
    let (rest, seed) = line.trim().split_once('#')?;
    let mut parts = rest.split('@');
    let scenario = parts.next()?;
    let scenario = Scenario::all().into_iter().find(|known| known.to_string() == scenario)?;
    let event = |part: &str| {
        let (point, what) = part.split_once(':')?;
        let (what, _) = DISTURBANCES.iter().find(|(_, name)| *name == what)?;
        Some(Event { point: point.parse().ok()?, what: *what })
    };
    let events = parts.map(event).collect::<Option<_>>()?;
    Some(Case { scenario, events, seed: u64::from_str_radix(seed, 16).ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_is_read_as_it_was_written() {
        for scenario in Scenario::all() {
            for (what, _) in DISTURBANCES {
                let events = vec![Event { point: 7, what }, Event { point: 90, what }];
                let case = Case { scenario, events, seed: 0xbeef };
                assert_eq!(case.to_string().parse::<Case>().unwrap(), case);
            }
        }
        assert!("switch:good@7:nothing#1".parse::<Case>().is_err());
    }
}
