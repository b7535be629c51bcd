//! What holds after every step, whatever happens in whatever order.

mod kit;

use std::{sync::LazyLock, time::Duration};

use herald_core::{Claim, Event, Found, Monotonic, RunnerTrace, Seen, Standing, Step, Window};
use herald_proto::{
    id::Incarnation, order::Order, rejection::Code, signing::Verified, store_path::StorePath,
    target::Action, text::Prose, time::Timestamp,
};
use kit::{
    Draft, HOUR, SECOND, boot,
    choice::{Budget, Choice, Part},
    closure, draft,
    explore::{Explored, QUIET, hasty, small_worlds},
    failure,
    machine::{Host, exited},
    monitor::{survives_its_encoding, waiting_leads_to_an_end},
    new, old, other, realised, refusal,
    sim::Sim,
};
use proptest::{prelude::*, test_runner::FileFailurePersistence};

/// Orders of every kind; the later ones have the higher sequences.
static ORDERS: LazyLock<Vec<Verified<Order>>> = LazyLock::new(|| {
    let actions = [
        Action::Switch,
        Action::Test,
        Action::Switch,
        Action::Boot,
        Action::DryActivate,
        Action::Switch,
        Action::Stage,
        Action::None,
        Action::Switch,
        Action::Reboot,
    ];
    let kinds: [fn(Draft) -> Draft; 6] = [
        |draft| draft,
        |draft| draft.with(|release, _| release.not_before = release.issued_at.plus(HOUR)),
        |draft| draft.with(|_, target| target.expect_current = vec![old(), new(1)]),
        |draft| draft.with(|release, _| release.expires_at = release.issued_at.plus(60 * SECOND)),
        |draft| draft.with(|_, target| target.health.stable_for = Duration::ZERO),
        |draft| {
            let incarnation = Some(Incarnation::from_bytes([3; 16]));
            draft.with(|_, target| target.incarnation = incarnation)
        },
    ];
    let drafts = (1..=30u64).map(|number| {
        let action = actions[number as usize % actions.len()];
        let draft = kinds[number as usize % kinds.len()](draft(number)).to(action);
        // Some name what runs, or what another order named.
        draft.with(|release, target| {
            target.toplevel = if number % 7 == 0 { old() } else { new(number % 5) };
            release.issued_at = release.issued_at.plus(Duration::from_secs(number));
            release.not_before = release.not_before.max(release.issued_at);
        })
    });
    drafts.map(Draft::verified).collect()
});

const WILD: Budget = Budget {
    starts: u8::MAX,
    people: u8::MAX,
    dead_man: u8::MAX,
    retries: u8::MAX,
    sick: u8::MAX,
    strange: u8::MAX,
    hands: u8::MAX,
    closed: u8::MAX,
    repeats: true,
    next_order: 0,
};

/// Tells whether a choice is what happens on a good day.
fn is_smooth(choice: &Choice) -> bool {
    match choice {
        Choice::Measured | Choice::Permitted | Choice::Linked | Choice::Resumed => true,
        Choice::Restarted { falls_back } => !falls_back,
        Choice::Window { open: good } | Choice::Answered { agrees: good } => *good,
        Choice::Realised(outcome) => outcome.is_ok(),
        Choice::Creep(part) => *part != Part::Nothing,
        Choice::Armed(good)
        | Choice::Trusted(good)
        | Choice::Checked(good)
        | Choice::Committed(good)
        | Choice::RolledBack(good) => *good,
        Choice::Exited(end) => *end == exited(0),
        _ => false,
    }
}

/// Picks what happens next: mostly what the core asked for, and of that mostly what goes well.
fn pick(sim: &Sim, kind: u8, pick: u16) -> Choice {
    let (asked, outside) = sim.choices();
    let smooth: Vec<_> = asked.iter().filter(|choice| is_smooth(choice)).cloned().collect();
    let number = usize::from(pick);
    let of = |choices: &[Choice]| choices.get(number.checked_rem(choices.len())?).cloned();
    let order = Choice::Order(number % ORDERS.len());
    match kind % 20 {
        0..=9 => of(&smooth).unwrap_or(order),
        10..=12 => of(&asked).unwrap_or(order),
        13 | 14 => of(&outside).unwrap_or(order),
        15 => Choice::Refused(kind),
        16 if pick.is_multiple_of(8) => Choice::Clock { hours: (pick >> 8) as i8 },
        16 | 17 if sim.host.state.wake().is_some() => {
            Choice::Soon(Duration::from_millis(u64::from(pick)))
        }
        _ => order,
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/invariants.proptest-regressions"
        )))),
        cases: 4 * ProptestConfig::default().cases,
        ..ProptestConfig::default()
    })]

    #[test]
    fn every_step_of_a_random_walk_is_sound(
        lost in proptest::bool::weighted(0.2),
        units in any::<bool>(),
        connected in any::<bool>(),
        windows in any::<bool>(),
        consent in prop::option::of(Just(HOUR)),
        (one_shot, last_resort) in any::<(bool, bool)>(),
        walk in prop::collection::vec((any::<u8>(), any::<u16>()), 1..60),
    ) {
        let mut sim = Sim::new(&ORDERS, WILD);
        sim.monitor.thorough = true;
        (sim.host.can.units, sim.host.can.windows) = (units, windows);
        sim.host.can.consent = consent;
        (sim.host.can.one_shot_boot, sim.host.can.last_resort) = (one_shot, last_resort);
        sim.host.seen.connected = connected;
        if lost {
            sim.host.state.standing = Standing::Lost;
        }
        for (kind, number) in walk {
            sim.apply(&pick(&sim, kind, number));
        }
    }

    #[test]
    fn events_that_nobody_expects_change_nothing_or_keep_the_order(
        events in prop::collection::vec(any_event(), 1..40),
    ) {
        let mut host = Host::new();
        for (late, reboot, event) in events {
            host.now.monotonic = Monotonic::from_millis(late);
            host.now.wall = Timestamp::from_millis(late);
            host.now.boot = boot(reboot);
            let Ok(Step { state, effects }) = host.try_take(with_attempt(&host, event)) else {
                continue;
            };
            prop_assert!(state.reports >= host.state.reports && state.floor >= host.state.floor);
            prop_assert!(state.taken.map(|taken| taken.sequence)
                >= host.state.taken.map(|taken| taken.sequence));
            prop_assert!(effects.len() < 12, "{:?}", effects);
            survives_its_encoding(&state);
            host.state = state;
        }
        host.now.wall = kit::EPOCH;
        host.now.boot = host.state.boot;
        waiting_leads_to_an_end(host);
    }
}

/// Makes any event; of the attempt's number only the distance to the right one is known yet.
fn any_event() -> impl Strategy<Value = (u64, u8, Event)> {
    let system = || prop::option::of(prop::sample::select(vec![old(), new(1), new(2), other()]));
    let seen = || {
        (system(), system(), system(), any::<bool>(), any::<bool>()).prop_map(
            |(running, profile, boot_default, connected, units)| Seen {
                booted: running.clone(),
                running,
                boot_default,
                profile,
                failed_units: units.then(Vec::new),
                connected,
            },
        )
    };
    let attempt = || prop::sample::select(vec![0u64, 0, 0, 0, 1, u64::MAX]);
    let outcome = || {
        let code = prop::sample::select(vec![
            Code::LimitReached,
            Code::RollbackFailed,
            Code::RebootNeeded,
        ]);
        prop::option::of((code, any::<bool>()))
            .prop_map(|failed| failed.map_or(Ok(()), |(code, retry)| Err(failure(code, retry))))
    };
    let claim =
        prop::sample::select(vec![Claim::None, Claim::Armed, Claim::Commit, Claim::Rollback]);
    let end = || prop::sample::select(vec![exited(0), exited(4), exited(-1)]);
    let runner = prop_oneof![
        Just(RunnerTrace::None),
        Just(RunnerTrace::Running),
        end().prop_map(RunnerTrace::Ended)
    ];
    let any_order = prop::sample::select(ORDERS.clone());
    let event = prop_oneof![
        4 => (any_order, seen()).prop_map(|(order, seen)| Event::OrderArrived { order: Box::new(order), seen }),
        1 => (seen(), claim, runner)
            .prop_map(|(seen, claim, runner)| Event::Started { seen, found: Found { claim, runner } }),
        1 => any::<u8>().prop_map(|which| Event::MessageRefused(refusal(&which.to_string()))),
        1 => system().prop_map(|path| measured(path.unwrap_or_else(old))),
        2 => (attempt(), outcome()).prop_map(|(attempt, outcome)| Event::RealiseEnded {
            attempt,
            outcome: outcome.map(|()| realised(&new(1))),
        }),
        2 => (attempt(), seen()).prop_map(|(attempt, seen)| Event::Permitted { attempt, seen }),
        2 => (attempt(), outcome(), seen())
            .prop_map(|(attempt, outcome, seen)| Event::ArmEnded { attempt, outcome, seen }),
        2 => (attempt(), end(), seen())
            .prop_map(|(attempt, end, seen)| Event::ActivationEnded { attempt, end, seen }),
        1 => (attempt(), seen()).prop_map(|(attempt, seen)| Event::LinkProved { attempt, seen }),
        1 => (attempt(), any::<bool>())
            .prop_map(|(attempt, agrees)| Event::Answered { attempt, agrees }),
        1 => (attempt(), any::<bool>(), 0..100_000u64).prop_map(|(attempt, open, later)| {
            let time = Timestamp::from_millis(kit::EPOCH.as_millis() + later);
            let window = if open { Window::Open { closes: time } } else { Window::Closed { opens: time } };
            Event::WindowSeen { attempt, window: Ok(window) }
        }),
        1 => Just(Event::Held { reason: Prose::lossy("a backup") }),
        2 => Just(Event::Resumed),
        1 => (any::<bool>(), seen()).prop_map(|(named, seen)| Event::WantedBack {
            target: named.then(|| Box::new(draft(3).target)),
            seen,
        }),
        2 => (attempt(), any::<u64>(), any::<bool>(), seen()).prop_map(
            |(attempt, began, good, seen)| Event::HealthChecked {
                attempt,
                began: Monotonic::from_millis(began),
                verdict: if good { Ok(()) } else { Err(Prose::lossy("sick")) },
                seen,
            }
        ),
        1 => (attempt(), outcome(), seen())
            .prop_map(|(attempt, outcome, seen)| Event::CommitEnded { attempt, outcome, seen }),
        1 => (attempt(), outcome(), seen())
            .prop_map(|(attempt, outcome, seen)| Event::RollbackEnded { attempt, outcome, seen }),
        1 => seen().prop_map(|seen| Event::Tick { seen }),
    ];
    let clock = prop_oneof![
        1 => any::<u64>(),
        1 => Just(u64::MAX),
        8 => (0..100_000u64).prop_map(|later| kit::EPOCH.as_millis() + later),
    ];
    (clock, 1..3u8, event)
}

fn measured(toplevel: StorePath) -> Event {
    let closure = closure(&toplevel);
    Event::Measured { toplevel, closure }
}

fn with_attempt(host: &Host, mut event: Event) -> Event {
    if let Some(attempt) = kit::attempt_of(&mut event) {
        *attempt = attempt.wrapping_add(host.attempt());
    }
    event
}

#[test]
fn every_point_of_a_small_world_is_sound() {
    let Explored { points, steps, depth, edges } = small_worlds();
    println!("{points} points, {steps} steps, {} edges, at most {depth} deep", edges.len());
    assert!(points > 10_000, "the worlds have become too small to say much: {points}");
}

/// The model of the phases: two releases of every kind that changes a host, and a crash, which may
/// be a power cut, at any point.
#[test]
fn two_releases_with_a_crash_anywhere_are_sound_at_every_point() {
    let actions = [Action::Switch, Action::Test, Action::Boot, Action::Reboot];
    let mut explored = Explored::default();
    for first in actions {
        for second in actions {
            let orders = [hasty(1).to(first), hasty(2).to(second)].map(Draft::verified);
            let mut sim = Sim::new(&orders, Budget { starts: 1, ..QUIET });
            (sim.host.can.one_shot_boot, sim.host.can.last_resort) = (true, true);
            explored.explore(sim);
        }
    }
    let Explored { points, steps, depth, .. } = explored;
    println!("{points} states, {steps} steps, at most {depth} deep");
    assert!(points > 20_000, "the model has become too small to say much: {points}");
}

/// Half a million points: some 20 seconds.
#[test]
fn every_point_of_a_larger_world_is_sound() {
    let budget = Budget { starts: 1, people: 1, dead_man: 1, retries: 1, sick: 1, ..QUIET };
    let mut explored = Explored::default();
    explored.explore(Sim::new(&[hasty(1), hasty(2)].map(Draft::verified), budget));
    let budget = Budget { starts: 7, people: 1, dead_man: 1, ..QUIET };
    explored.explore(Sim::new(&[hasty(1)].map(Draft::verified), budget));
    println!("{} points, {} steps", explored.points, explored.steps);
}
