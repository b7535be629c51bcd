//! The first process of the simulated machine: it starts what is to run, and forgets what is
//! dead.

use std::{collections::BTreeMap, ffi::OsString, io, path::Path, time::Duration};

use herald_subscriber::{commit, os::System, prepare_reboot, roll_back, runner};
use std::sync::Arc;
use tokio::{
    sync::mpsc,
    task::{AbortHandle, spawn_local},
    time::sleep,
};

use super::{
    monitor::system_at,
    mutant::Mutant,
    order,
    process::Process,
    programs,
    scenario::Disturbance,
    subscriber,
    systems::{CURRENT, PERSONS, PROFILE, STATE_DIR},
    world::{Order, WATCH, World},
};

/// How long after its end systemd starts a unit again.
const RESTART: Duration = Duration::from_secs(1);
/// How long after a start that failed the subscriber is started again.
const START_AGAIN: Duration = Duration::from_secs(5);
/// How long booting takes.
const BOOT: Duration = Duration::from_secs(8);
/// How long it takes until somebody starts a machine again that did not come up.
const POWER_CYCLE: Duration = Duration::from_secs(300);
/// How long after it was asked for a machine is down, in order.
const SHUTDOWN: Duration = Duration::from_secs(2);
/// How long starting user space again takes.
const SOFT_REBOOT: Duration = Duration::from_secs(2);

/// Does as it is told, for as long as the machine is there.
pub(crate) async fn run(world: World, mut orders: mpsc::UnboundedReceiver<Order>) {
    let mut processes: BTreeMap<u64, AbortHandle> = BTreeMap::new();
    let mut era = 0;
    while let Some(order) = orders.recv().await {
        match order {
            Order::Reap(pid) => {
                if let Some(handle) = processes.remove(&pid) {
                    handle.abort();
                }
            }
            Order::Start(unit) => {
                let started = start_unit(&world, &unit);
                processes.extend(started);
            }
            Order::Restart(unit) => {
                let world = world.clone();
                spawn_local(async move {
                    sleep(RESTART).await;
                    restart_unit(&world, &unit);
                });
            }
            Order::StartSubscriber(delay) => {
                if delay.is_zero() {
                    processes.extend(start_subscriber(&world));
                } else {
                    later(&world, delay, era, Order::StartSubscriber(Duration::ZERO));
                }
            }
            Order::Shutdown => later(&world, SHUTDOWN, era, Order::GoDown),
            Order::GoDown => world.machine().disturb(Disturbance::Reboot, 0),
            Order::Boot | Order::BootAgain | Order::SoftReboot => {
                era += 1;
                world.machine().era = era;
                let (boots, span) = match order {
                    Order::Boot => (true, BOOT),
                    Order::BootAgain => (true, POWER_CYCLE),
                    _ => (false, SOFT_REBOOT),
                };
                let world = world.clone();
                spawn_local(async move {
                    sleep(span).await;
                    if world.machine().era == era {
                        world.machine().come_up(boots);
                    }
                });
            }
            Order::Person(_) if !world.machine().up => {}
            Order::Person(what) => {
                let pid = world.machine().spawn("a person");
                world.machine().person = Some(pid);
                let process = Process { world: world.clone(), pid };
                let handle = spawn_local(async move {
                    be_a_person(&process, what).await;
                    let mut machine = process.world.machine();
                    if machine.person == Some(pid) {
                        machine.person = None;
                    }
                    machine.end(pid);
                });
                processes.insert(pid, handle.abort_handle());
            }
            Order::Network(delay) => {
                let world = world.clone();
                spawn_local(async move {
                    sleep(delay).await;
                    world.machine().change_network();
                });
            }
            Order::Republish(delay) => {
                let world = world.clone();
                spawn_local(async move {
                    sleep(delay).await;
                    let mut machine = world.machine();
                    let first = order::first(machine.scenario.action);
                    let newest = order::newer();
                    let good = if machine.published >= newest.sequence { newest } else { first };
                    machine.publish(good);
                });
            }
        }
    }
}

/// Orders something after a while, unless the machine goes down meanwhile.
fn later(world: &World, delay: Duration, era: u64, order: Order) {
    let world = world.clone();
    spawn_local(async move {
        sleep(delay).await;
        let machine = world.machine();
        if machine.era == era {
            machine.order(order);
        }
    });
}

fn start_subscriber(world: &World) -> Option<(u64, AbortHandle)> {
    let mut machine = world.machine();
    if machine.subscriber.is_some() || !machine.up {
        return None;
    }
    if !machine.has_subscriber() {
        machine.order(Order::StartSubscriber(START_AGAIN));
        return None;
    }
    let pid = machine.spawn("subscriber");
    machine.subscriber = Some(pid);
    machine.subscriber_version = machine.version();
    let process = Process { world: world.clone(), pid };
    let handle = spawn_local(async move {
        subscriber::run(process.clone()).await;
        process.world.machine().kill_process(pid);
    });
    Some((pid, handle.abort_handle()))
}

fn start_unit(world: &World, name: &str) -> Option<(u64, AbortHandle)> {
    let machine = world.machine();
    let unit = machine.units.get(name)?.clone();
    let pid = unit.pid.filter(|pid| machine.is_alive(*pid))?;
    let sleeps = match machine.mutant {
        Some(Mutant::DeadManSleeps) => name.contains("dead-man"),
        Some(Mutant::NobodyWatchesTheBoot) => name == WATCH,
        _ => false,
    };
    let process = Process { world: world.clone(), pid };
    let name = name.to_owned();
    let handle = spawn_local(async move {
        if sleeps {
            std::future::pending::<()>().await;
        }
        let ended_well = run_unit(&process, &unit.arguments).await;
        let mut machine = process.world.machine();
        if !machine.is_alive(pid) {
            return;
        }
        if ended_well {
            machine.units.remove(&name);
            machine.end(pid);
        } else {
            machine.kill_process(pid);
        }
    });
    Some((pid, handle.abort_handle()))
}

fn restart_unit(world: &World, name: &str) {
    let mut machine = world.machine();
    if machine.units.get(name).is_none_or(|unit| unit.pid.is_some()) {
        return;
    }
    if name == WATCH && !machine.awaits_watch() {
        machine.units.remove(name);
        return;
    }
    let pid = machine.spawn(name);
    if let Some(unit) = machine.units.get_mut(name) {
        unit.pid = Some(pid);
    }
    machine.order(Order::Start(name.to_owned()));
}

/// Runs the program of a unit: this one, with other arguments.
async fn run_unit(process: &Process, arguments: &[String]) -> bool {
    let os: System = Arc::new(process.clone());
    let Some((subcommand, rest)) = arguments.split_first() else { return false };
    let ended = match subcommand.as_str() {
        "prepare-reboot" => match parsed::<commit::Which>(rest) {
            Some(arguments) => prepare_reboot::run(os, arguments).await.is_ok(),
            None => false,
        },
        "activate" => match parsed::<runner::Args>(rest) {
            Some(arguments) => runner::run(os, arguments).await.is_ok(),
            None => false,
        },
        "commit" => match parsed::<commit::Which>(rest) {
            Some(arguments) => commit::run(os, arguments).await.is_ok(),
            None => false,
        },
        "dead-man" => match watch(process, &os) {
            Ok(Some(arguments)) => Box::pin(run_unit(process, &arguments)).await,
            Ok(None) => true,
            Err(_) => false,
        },
        "roll-back" => match parsed::<roll_back::Args>(rest) {
            Some(arguments) => roll_back::run(os, arguments).await.is_ok(),
            None => false,
        },
        _ => false,
    };
    if !process.world.machine().is_alive(process.pid) {
        return false;
    }
    ended
}

/// Becomes the dead-man of a boot, as the program that armed it.
fn watch(process: &Process, os: &System) -> io::Result<Option<Vec<String>>> {
    let boot = process.world.machine().now().boot;
    let watch = roll_back::watch_of(os, boot, Path::new(STATE_DIR))?;
    let text = |argument: OsString| argument.into_string().ok();
    Ok(watch.map(|watch| watch.args.into_iter().filter_map(text).collect()))
}

fn parsed<T: clap::Args>(arguments: &[String]) -> Option<T> {
    let command = T::augment_args(clap::Command::new("herald-subscriber").no_binary_name(true));
    T::from_arg_matches(&command.try_get_matches_from(arguments).ok()?).ok()
}

/// `nixos-rebuild`: the profile, the boot default, and what runs. It is tried again while another
/// switch has the lock.
async fn be_a_person(process: &Process, what: Disturbance) {
    if what == Disturbance::PersonCollects {
        return programs::collect_garbage(process).await;
    }
    if what != Disturbance::PersonTests {
        programs::set_profile(process, Path::new(PROFILE), PERSONS.as_path()).await;
    }
    let verbs: &[&str] = match what {
        Disturbance::PersonSwitches => &["boot", "test"],
        Disturbance::PersonBoots => &["boot"],
        _ => &["test"],
    };
    for verb in verbs {
        for _ in 0..40 {
            if programs::switch(process, &PERSONS, verb).await.status == 0 {
                break;
            }
            sleep(Duration::from_secs(5)).await;
        }
    }
    let mut machine = process.world.machine();
    let running = system_at(&machine.disk, CURRENT, false);
    machine.say(format_args!("the person is done; {running:?} runs"));
}
