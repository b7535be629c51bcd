//! Every point that a small world can come to, breadth first.

use std::{
    collections::{BTreeSet, HashSet, VecDeque, hash_map::DefaultHasher},
    hash::{Hash as _, Hasher as _},
};

use herald_proto::target::{Action, IfRebootNeeded, Mark};

use super::{
    Draft, HOUR, SECOND,
    choice::Budget,
    draft,
    monitor::{Edge, waiting_leads_to_an_end},
    old,
    sim::Sim,
};

/// What an exploration came across.
#[derive(Default)]
pub(crate) struct Explored {
    pub(crate) edges: BTreeSet<Edge>,
    pub(crate) points: usize,
    pub(crate) steps: usize,
    /// The most steps that it takes to come somewhere.
    pub(crate) depth: usize,
}

impl Explored {
    /// Takes every choice at every point, until nothing new comes.
    pub(crate) fn explore(&mut self, begin: Sim) {
        let mut known = HashSet::from([key(&begin)]);
        let mut queue = VecDeque::from([(begin, 0)]);
        while let Some((sim, depth)) = queue.pop_front() {
            self.points += 1;
            self.depth = self.depth.max(depth);
            waiting_leads_to_an_end(sim.host.clone());
            let (asked, outside) = sim.choices();
            for choice in asked.into_iter().chain(outside) {
                let mut next = sim.clone();
                self.edges.extend(next.apply(&choice));
                self.steps += 1;
                if known.insert(key(&next)) {
                    queue.push_back((next, depth + 1));
                }
            }
        }
    }
}

fn key(sim: &Sim) -> u64 {
    let mut hasher = DefaultHasher::new();
    sim.key().hash(&mut hasher);
    hasher.finish()
}

/// Nothing but orders, and answers to what is asked for.
pub(crate) const QUIET: Budget = Budget {
    starts: 0,
    people: 0,
    dead_man: 0,
    retries: 0,
    sick: 0,
    strange: 0,
    hands: 0,
    closed: 0,
    repeats: false,
    next_order: 0,
};

/// A switch that is stable after one more round of checks.
pub(crate) fn hasty(number: u64) -> Draft {
    draft(number).with(|_, target| target.health.stable_for = SECOND / 2)
}

/// Explores worlds that are small in one way or another: two orders, or one and a crash, or one
/// and somebody who meddles.
pub(crate) fn small_worlds() -> Explored {
    let early = |release: &mut herald_proto::release::Release, _: &mut _| {
        release.not_before = release.issued_at.plus(HOUR);
    };
    let careful = |draft: Draft| draft.with(|_, target| target.expect_current = vec![old()]);
    let brief = |draft: Draft| {
        draft.with(|release, _| release.expires_at = release.issued_at.plus(5 * SECOND))
    };
    let at_a_reboot =
        |draft: Draft, decision| draft.with(|_, target| target.if_reboot_needed = Some(decision));
    let switch = || hasty(1);
    let starts = Budget { starts: 1, ..QUIET };
    let meddled = Budget { starts: 1, people: 1, ..QUIET };
    let worlds = [
        (vec![switch()], Budget { starts: 2, dead_man: 1, retries: 1, sick: 1, ..QUIET }),
        (vec![switch()], Budget { dead_man: 1, ..meddled }),
        (vec![switch(), hasty(2)], Budget { sick: 1, ..starts }),
        (vec![switch()], Budget { strange: 1, dead_man: 1, ..meddled }),
        (vec![careful(switch()), careful(hasty(2))], Budget { people: 1, ..QUIET }),
        (vec![switch(), brief(hasty(2))], QUIET),
        (vec![switch().with(early), hasty(2).to(Action::None)], starts),
        (vec![switch(), hasty(2).to(Action::Reboot)], QUIET),
        (vec![hasty(1).to(Action::Test)], meddled),
        (vec![at_a_reboot(switch(), IfRebootNeeded::Boot)], meddled),
        (vec![at_a_reboot(switch(), IfRebootNeeded::Refuse), hasty(2)], QUIET),
        (vec![hasty(1).to(Action::Boot), hasty(2).to(Action::Stage)], meddled),
        (vec![hasty(1).to(Action::DryActivate), hasty(2).to(Action::Switch)], starts),
        (vec![hasty(1).to(Action::None), hasty(2).to(Action::Reboot)], QUIET),
        (vec![hasty(1).to(Action::Reboot), hasty(2).to(Action::None)], QUIET),
    ];
    let patient = |draft: Draft| draft.with(|_, target| target.limits.wait = Some(HOUR / 2));
    let at_hand = Budget { hands: 2, closed: 1, ..starts };
    let attended = [
        (vec![patient(switch()), hasty(2).to(Action::None)], at_hand),
        (
            vec![
                hasty(1),
                hasty(1).with(|release, _| release.sequence = draft(2).release.sequence),
            ],
            Budget { hands: 1, ..QUIET },
        ),
    ];
    let mut explored = Explored::default();
    let forever = |draft: Draft| draft.with(|_, target| target.marks = vec![Mark::Irreversible]);
    let crash = Budget { dead_man: 1, sick: 1, ..starts };
    let rebooting = [
        (vec![hasty(1).to(Action::Reboot)], Budget { starts: 2, dead_man: 1, ..QUIET }),
        (vec![hasty(1).to(Action::Reboot), hasty(2)], crash),
        (vec![hasty(1).to(Action::Reboot)], meddled),
        (vec![switch(), hasty(2).to(Action::None)], crash),
        (vec![forever(switch()), hasty(2)], Budget { people: 1, ..starts }),
    ];
    for (drafts, budget) in rebooting {
        let orders: Vec<_> = drafts.into_iter().map(Draft::verified).collect();
        let mut sim = Sim::new(&orders, budget);
        (sim.host.can.one_shot_boot, sim.host.can.last_resort) = (true, true);
        explored.explore(sim);
    }
    for (drafts, budget) in attended {
        let orders: Vec<_> = drafts.into_iter().map(Draft::verified).collect();
        let mut sim = Sim::new(&orders, budget);
        (sim.host.can.windows, sim.host.can.consent) = (true, Some(HOUR));
        explored.explore(sim);
    }
    for (drafts, budget) in worlds {
        let orders: Vec<_> = drafts.into_iter().map(Draft::verified).collect();
        explored.explore(Sim::new(&orders, budget));
    }
    explored
}
