//! One run: a host gets an order, things come in between, and at the end it must stand.

use std::{path::Path, time::Duration};

use herald_core::{Ending, Phase, State};
use herald_proto::{report::PhaseName, store_path::StorePath, target::Action};
use tokio::{
    runtime::Builder,
    task::{LocalSet, spawn_local},
    time::{Instant, sleep},
};

use super::{
    monitor::system_at,
    mutant::Mutant,
    order,
    scenario::{Case, Outcome},
    supervisor,
    systems::{BOOT_DEFAULT, NEWER, OLD, PERSONS, PROFILE, STATE, TARGET},
    world::{Hit, Machine, Order, Services, World},
};

/// How long after its start the host gets the order.
const LEAD: Duration = Duration::from_secs(2);
/// How often the machine is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How many looks in a row must find it at rest.
const AT_REST: u32 = 4;
/// Within which an order must end: all that one attempt may take, for each time that it begins
/// anew, and the time that a person or a full disk takes.
const LIMIT: Duration = Duration::from_secs(3 * 60 * 60);

/// What came of a run.
#[derive(Debug, Clone)]
pub struct Outturn {
    /// What was wrong.
    pub violations: Vec<String>,
    /// How many points there were.
    pub points: u64,
    /// For each point, whether the subscriber was about to act.
    pub subscriber_acts: Vec<bool>,
    /// What came in between.
    pub hits: Vec<Hit>,
    /// How the host's last order ended.
    pub ending: PhaseName,
    /// How long that took, on the machine's clock.
    pub took: Duration,
    /// What happened, if it was asked for.
    pub trace: Vec<String>,
    /// The states that the subscriber stored, one after the other, if the trace was asked for.
    pub stored: Vec<State>,
}

/// Runs a case. The same case leads to the same outturn.
///
/// # Panics
/// When the system gives no runtime.
pub fn run(case: &Case, mutant: Option<Mutant>, traced: bool) -> Outturn {
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime without threads can be made");
    LocalSet::new().block_on(&runtime, live(case, mutant, traced))
}

async fn live(case: &Case, mutant: Option<Mutant>, traced: bool) -> Outturn {
    let (world, orders) = World::new(case, mutant);
    world.machine().trace = traced.then(Vec::new);
    spawn_local(supervisor::run(world.clone(), orders));
    world.machine().order(Order::StartSubscriber(Duration::ZERO));
    sleep(LEAD).await;
    let first = order::first(case.scenario.action);
    if world.machine().published < first.sequence {
        world.machine().publish(first);
    }
    let began = Instant::now();
    come_to_rest(&world).await;
    let took = began.elapsed();
    check(&mut world.machine());
    let (points, ending) = {
        let machine = world.machine();
        (machine.points, machine.monitor.phase)
    };
    // Whatever is said to be done must survive this.
    if world.machine().monitor.violations.is_empty() {
        world.machine().say(format_args!("*** the last power cut"));
        world.machine().events.clear();
        world.machine().cut_power();
        come_to_rest(&world).await;
        check(&mut world.machine());
    }
    let mut machine = world.machine();
    if machine.monitor.phase != ending {
        let phase = machine.monitor.phase;
        machine.monitor.violated(format!("it had ended as {ending}, and is {phase} now"));
    }
    machine.actors.truncate(usize::try_from(points).unwrap_or(0));
    Outturn {
        violations: std::mem::take(&mut machine.monitor.violations),
        points,
        subscriber_acts: std::mem::take(&mut machine.actors),
        hits: std::mem::take(&mut machine.hits),
        ending,
        took,
        trace: machine.trace.take().unwrap_or_default(),
        stored: std::mem::take(&mut machine.stored),
    }
}

/// Waits until nothing moves any more.
async fn come_to_rest(world: &World) {
    let (began, mut looks) = (Instant::now(), 0);
    while looks < AT_REST {
        sleep(LOOK).await;
        let mut machine = world.machine();
        if machine.subscriber.is_some() && machine.room().is_ok() {
            machine.monitor.passed(LOOK);
        }
        looks = if is_at_rest(&machine) { looks + 1 } else { 0 };
        if began.elapsed() > LIMIT || !machine.monitor.violations.is_empty() {
            let (phase, units) = (machine.monitor.phase, machine.units.len());
            let (subscriber, network) = (machine.subscriber.is_some(), machine.has_network());
            if machine.monitor.violations.is_empty() {
                let services = machine.services.clone();
                machine.monitor.violated(format!(
                    "no end within {LIMIT:?}: {phase}, {units} units, subscriber {subscriber}, \
                     network {network}, services {services:?}"
                ));
            }
            return;
        }
    }
}

fn is_at_rest(machine: &Machine) -> bool {
    let taken = machine.monitor.state.as_ref().and_then(|state| state.taken);
    machine.up
        && machine.subscriber.is_some()
        && machine.units.is_empty()
        && machine.has_network()
        && !machine.awaits_events()
        && machine.monitor.phase.is_terminal()
        && taken.is_some_and(|taken| taken.sequence.number() == machine.published)
}

/// Checks what stands at the end.
fn check(machine: &mut Machine) {
    let booted = machine.monitor.booted_since;
    let Some(state) = machine.monitor.state.clone() else { return };
    let Phase::Ended { order, ending } = &state.phase else { return };
    let running = machine.running();
    // What a person's own activation leaves that was cut off is theirs.
    let persons = machine.monitor.person_cut_off
        || machine.monitor.person && running.as_ref() == Some(&*PERSONS);
    if !persons && running.clone().map(Services::Whole).as_ref() != Some(&machine.services) {
        let services = &machine.services;
        let what = format!("{running:?} runs, and the services are {services:?}");
        machine.monitor.violated(what);
    }
    let found = [
        running,
        system_at(&machine.disk, BOOT_DEFAULT, false),
        system_at(&machine.disk, PROFILE, false),
    ];
    let newer = order.sequence.number() == order::newer().sequence;
    let scenario = machine.scenario;
    let action = if newer { Action::Switch } else { scenario.action };
    let target = if newer { &*NEWER } else { &*TARGET };
    let succeeded = *ending == Ending::Succeeded;
    if succeeded && !newer && is_bad(scenario.outcome) {
        machine.monitor.violated("a bad system was confirmed".into());
    }
    if machine.monitor.person {
        let fine = found.iter().all(|system| {
            system.as_ref().is_some_and(|system| {
                machine.monitor.is_allowed(system) || (action == Action::Test && system == target)
            })
        });
        // What a person only tried is gone after a boot, and the old system is a third one then.
        let persons = booted || [Some(&*PERSONS), Some(&*OLD)].contains(&found[0].as_ref());
        if !fine || (matches!(ending, Ending::Overridden(_)) && !persons) {
            machine.monitor.violated(format!("after {ending:?} there is {found:?}"));
        }
    } else {
        let fine = expected(machine, action, target, succeeded, booted, &found);
        if !fine {
            let names = found.map(|path| path.map_or("nothing".into(), |p| p.name().to_owned()));
            let what = format!("after {} (booted {booted}) there is {names:?}", ending.name());
            machine.monitor.violated(what);
        }
    }
    let left = machine.disk.list(Path::new(STATE)).unwrap_or_default();
    let of_attempt = |name: &&String| {
        name.rsplit_once('-').is_some_and(|(_, number)| number.parse::<u64>().is_ok())
    };
    let left: Vec<_> = left.iter().filter(of_attempt).collect();
    if !left.is_empty() {
        let what = format!("files are left over: {left:?}");
        machine.monitor.violated(what);
    }
}

fn is_bad(outcome: Outcome) -> bool {
    !matches!(outcome, Outcome::Good | Outcome::SelfUpdate)
}

/// Tells whether what runs, boots next and is the profile fits how an order ended.
fn expected(
    machine: &Machine,
    action: Action,
    target: &StorePath,
    succeeded: bool,
    booted: bool,
    found: &[Option<StorePath>; 3],
) -> bool {
    let all = |systems: [&StorePath; 3]| {
        found.iter().zip(systems).all(|(found, system)| found.as_ref() == Some(system))
    };
    let degraded = machine.monitor.phase == PhaseName::Degraded;
    let bases = [&*OLD, &*TARGET].into_iter().filter(|base| machine.monitor.is_allowed(base));
    match (succeeded, action) {
        (true, Action::Switch | Action::Reboot) => all([target; 3]),
        (true, Action::Boot) if booted => all([target; 3]),
        // A cut may have come between the boot default and the order's end.
        (true, Action::Boot) => all([&*OLD, target, target]) || all([target; 3]),
        (true, Action::Test) if !booted => all([target, &*OLD, &*OLD]),
        // It was booted before it was undone: what runs is left to the next boot.
        (false, Action::Boot) if degraded && !booted => all([target, &*OLD, &*OLD]),
        // As it was before a newer order: the earlier one had only set the next boot.
        (false, Action::Switch)
            if !booted
                && machine.scenario.action == Action::Boot
                && machine.monitor.is_allowed(&TARGET)
                && all([&*OLD, &*TARGET, &*TARGET]) =>
        {
            true
        }
        // The same where the earlier one had only tried it.
        (false, Action::Switch)
            if !booted
                && machine.scenario.action == Action::Test
                && machine.monitor.is_allowed(&TARGET)
                && all([&*TARGET, &*OLD, &*OLD]) =>
        {
            true
        }
        // Nothing was changed, or all was undone.
        _ => bases.into_iter().any(|base| all([base; 3])),
    }
}
