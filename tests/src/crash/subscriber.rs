//! The subscriber on the simulated machine: the real driver, core and adapters, with a connection
//! that is simulated.

use std::{cell::Cell, path::Path, rc::Rc, sync::Arc, time::Duration};

use herald_core::{Capabilities, ReportBody, Seen, State};
use herald_proto::{host::ProfileName, trust::Trust};
use herald_subscriber::{
    adapters::{
        activation::Activator, boot_loader::BootLoader, health::Checks, nix::Nix, people::Sessions,
        pruner::Pruner, record::Records, state_store::StateFile, systems::Systems,
        unsynced::Unsynced, windows::Calendar,
    },
    config::{Profile, Restart, Runner},
    driver::Driver,
    os::System,
    permits::Permits,
    ports::{Memory, Pending, Ports, Voice},
    retention::Generations,
    revocations::Revocations,
    room::Room,
    trust_file::TrustFile,
};
use tokio::{
    sync::{mpsc, watch},
    task::LocalSet,
    time::sleep,
};

use super::{
    mutant::Mutant,
    order,
    process::Process,
    programs::BOOT_ONCE_PROGRAM,
    systems::{
        BOOT_DEFAULT, BOOTED, CURRENT, OWN_PROFILE, PROFILE, ROOTS, STATE, STORE, TRUST, UNSYNCED,
    },
    world::World,
};

/// The host's own health checks, of which it has none.
const HEALTH_FOLDER: &str = "/etc/herald/health.d";
/// How long a connection takes to be made.
const CONNECT: Duration = Duration::from_millis(300);

/// Runs until it is killed, or can't go on.
pub(crate) async fn run(process: Process) {
    // What it starts ends with it.
    LocalSet::new().run_until(follow(process)).await;
}

async fn follow(process: Process) {
    let world = process.world.clone();
    let os: System = Arc::new(process.clone());
    let folder = Path::new(STATE);
    let memory = StateFile::on(Arc::clone(&os), folder);
    let boot = world.machine().now().boot;
    let Ok(state) = memory.open(boot) else { return };
    if !world.machine().is_alive(process.pid) {
        return;
    }
    world.machine().monitor.loaded(&state);
    let profile = Profile {
        profile: PROFILE.into(),
        current: CURRENT.into(),
        booted: BOOTED.into(),
        boot_default: Some(BOOT_DEFAULT.into()),
    };
    let trust_file_os = Arc::clone(&os);
    let (name, runner) = (ProfileName::system(), Runner::Systemd);
    let connected = Rc::new(Cell::new(false));
    let (messages, orders) = watch::channel(Vec::new());
    let clock = world.clone();
    let start = world.machine().now();
    let ports = Ports {
        scribe: None,
        clock: Box::new(move || {
            let machine = clock.machine();
            let stands_still = machine.mutant == Some(Mutant::TimeStandsStill);
            if stands_still { start } else { machine.now() }
        }),
        memory: Box::new(Watched { memory, process: process.clone() }),
        machine: Box::new(Systems {
            os: Arc::clone(&os),
            profile: profile.clone(),
            runner,
            connected: Rc::clone(&connected),
        }),
        closures: Box::new(Nix::new(
            Arc::clone(&os),
            STORE,
            ROOTS.into(),
            Unsynced::new(UNSYNCED.into(), boot),
            Room::default(),
        )),
        activation: Box::new(Activator::new(
            &name,
            &profile,
            runner,
            Restart {
                command: ["systemctl", "reboot"].map(str::to_owned).to_vec(),
                loader: BootLoader::Command { program: vec![BOOT_ONCE_PROGRAM.to_owned()] },
                own_profile: OWN_PROFILE.into(),
                is_last_resort: false,
            },
            Room::default(),
            Records::on(Arc::clone(&os), folder),
        )),
        windows: Box::new(None::<Calendar>),
        people: Box::new(Sessions { runner }),
        prune: Box::new(Pruner::new(
            &name,
            &profile,
            runner,
            Generations::All,
            Records::on(Arc::clone(&os), folder),
        )),
        health: Box::new(Checks { os, runner, folder: HEALTH_FOLDER.into() }),
        voice: Box::new(Radio { process: process.clone(), connected: Rc::clone(&connected) }),
    };
    let host = Capabilities {
        store_dir: STORE.into(),
        units: true,
        windows: false,
        consent: None,
        one_shot_boot: true,
        freshness: None,
        forgot_at: None,
        last_resort: false,
        kept_systems: 4,
        prunes: false,
    };
    let permits = Rc::new(Permits::default());
    // The daemon does not start without a trust file that it can use.
    let Ok(trust) = trust_file_os.read(Path::new(TRUST)) else { return };
    let Ok(trust) = Trust::from_toml(&String::from_utf8_lossy(&trust)) else { return };
    let seen = Path::new(STATE).join("trust.seen");
    let Ok(revocations) = Revocations::open(&*trust_file_os, seen) else { return };
    let trust = Arc::new(TrustFile::new(trust_file_os, Path::new(TRUST), trust, revocations));
    let driver = Driver::new(ports, trust, order::reader(), host, permits, state);
    tokio::task::spawn_local(stay_connected(world, connected, messages));
    let (_door, requests) = mpsc::channel(1);
    let (_beacons, silence) = watch::channel(Vec::new());
    driver.run(orders, silence, requests).await;
}

/// Connects whenever there is a network, and takes what the broker retains.
async fn stay_connected(world: World, connected: Rc<Cell<bool>>, messages: watch::Sender<Vec<u8>>) {
    let mut changes = world.machine().changes();
    loop {
        let network = world.machine().has_network();
        if network && !connected.get() {
            sleep(CONNECT).await;
        }
        connected.set(network && world.machine().has_network());
        if connected.get() {
            let retained = world.machine().retained.clone();
            if !retained.is_empty() && *messages.borrow() != retained {
                messages.send_replace(retained);
            }
        }
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// The state file, watched.
struct Watched {
    memory: StateFile,
    process: Process,
}

impl Memory for Watched {
    fn save(&self, state: &State) -> std::io::Result<()> {
        self.memory.save(state)?;
        let mut machine = self.process.world.machine();
        if machine.is_alive(self.process.pid) {
            machine.monitor.saved(state);
            let phase = machine.monitor.phase;
            machine.say(format_args!("        stored: {phase}"));
            if machine.trace.is_some() {
                machine.stored.push(state.clone());
            }
        }
        Ok(())
    }
}

/// The connection, as the driver speaks through it.
struct Radio {
    process: Process,
    connected: Rc<Cell<bool>>,
}

impl Voice for Radio {
    fn report(&self, state: &State, body: ReportBody, _seen: &Seen) {
        if self.process.step(true, "report").is_ok() {
            let mut machine = self.process.world.machine();
            machine.monitor.heard(state, &body);
            let (number, phase, detail) = (body.number, body.phase, body.detail);
            let detail = detail.as_ref().map_or("", |detail| detail.as_str());
            machine.say(format_args!("        report {number}: {phase} {detail}"));
        }
    }

    // There are no heartbeats in this world.
    fn keep_in_mind(&self, _state: &State) {}

    fn prove_link(&self) -> Pending<'_, ()> {
        Box::pin(async {
            let world = &self.process.world;
            if world.machine().mutant == Some(Mutant::ProofsAreMadeUp) {
                return;
            }
            self.connected.set(false);
            let mut changes = world.machine().changes();
            loop {
                while !world.machine().has_network() {
                    if changes.changed().await.is_err() {
                        return;
                    }
                }
                sleep(CONNECT).await;
                if world.machine().has_network() {
                    break;
                }
            }
            if self.process.step(true, "prove the link").is_ok() {
                self.connected.set(true);
                world.machine().monitor.linked();
            }
        })
    }
}
