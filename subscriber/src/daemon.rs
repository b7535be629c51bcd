//! The daemon: one connection, and a driver for each profile.

use std::{
    collections::BTreeMap, future::pending, os::unix::process::CommandExt as _, path::Path,
    process::Command, rc::Rc, sync::Arc, time::Duration,
};

use anyhow::Context as _;
use herald_core::Capabilities;
use herald_proto::{host::ProfileName, order::Addressee, time::Timestamp, trust::Trust};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    task::LocalSet,
};

use crate::{
    adapters::{
        activation::Activator, health::Checks, launcher::Launcher, nix::Nix, own_unit, people,
        printed::Printed, pruner::Pruner, record::Records, state_store::StateFile,
        systems::Systems, unsynced::Unsynced,
    },
    clock::{self, Clock},
    config::{ActivationOutput, Config, Profile, Restart, Runner},
    control::server::Control,
    driver::Driver,
    enrolment::{Enrolment, Which},
    identity::{self, Sessions},
    lasting::{self, Lasting},
    link::{Link, Speaker, chain},
    os::{Linux, System},
    own_update::OwnUpdate,
    permits::Permits,
    ports::{Ports, Scribe},
    retention::Generations,
    revocations::Revocations,
    trust_file::TrustFile,
    watchdog,
};

/// What is there on a machine that systemd runs (sd_booted(3)).
const SYSTEMD: &str = "/run/systemd/system";
/// How many requests of people at the host wait for their turn.
const REQUESTS: usize = 8;
/// How long a stop waits for the last messages to be delivered.
const FAREWELL: Duration = Duration::from_secs(2);

/// Why the daemon stops.
enum Stop {
    /// It was told to.
    Told,
    /// It has another key, with which it has to start anew.
    OtherKey,
}

/// Follows orders until it is told to stop.
///
/// # Errors
/// When the key or a state can't be used; nothing was done then.
pub async fn run(config: Config, trust: Trust) -> anyhow::Result<()> {
    match LocalSet::new().run_until(follow_orders(config, trust)).await? {
        Stop::Told => Ok(()),
        Stop::OtherKey => {
            // The same process, for whoever supervises it; and the program that runs, even if its
            // file is gone.
            let mut arguments = std::env::args_os();
            let mut program = Command::new("/proc/self/exe");
            program.arg0(arguments.next().unwrap_or_default()).args(arguments);
            Err(program.exec()).context("cannot start anew with the key that the fleet knows")
        }
    }
}

async fn follow_orders(config: Config, trust: Trust) -> anyhow::Result<Stop> {
    if config.runner == Runner::Systemd && !Path::new(SYSTEMD).exists() {
        anyhow::bail!(
            "systemd does not run this machine (there is no {SYSTEMD}), and activations are its units: \
             to have them as processes, put runner = \"direct\" into the configuration"
        );
    }
    let clock = Clock::open().context("cannot find out which boot this is: is /proc mounted?")?;
    let boot = clock.now().boot;
    let _taken = identity::take_state(&config.state_dir)?;
    if config.state == Lasting::Durable {
        lasting::check(&config.state_dir)?;
    }
    // Before there is a key, as a host that has none yet asks with its first.
    let enrolment = match Enrolment::open(&config) {
        Err(error) if identity::key_file(&config.state_dir).exists() => {
            tracing::error!(error = %chain(&error), "this host can't ask for another key");
            None
        }
        opened => opened?,
    };
    let key = Arc::new(identity::host_key(&config.state_dir, &config.host)?);
    let sessions = Sessions::open(&config.state_dir)?;
    tracing::info!(host = %config.host, fleet = %config.fleet, key = %key.public(), "starting");

    // No profile has a dot in its name.
    let unsynced = config.state_dir.join("store.unsynced");
    identity::make_folder(&unsynced)
        .with_context(|| format!("cannot make the folder {}", unsynced.display()))?;
    let unsynced = Unsynced::new(unsynced, boot);
    for cache in unsynced.outdated_caches(&Linux).context("cannot read the state folder")? {
        if let Err(error) = std::fs::remove_dir_all(&cache) {
            tracing::warn!(cache = %cache.display(), %error, "an earlier boot's cache stays");
        }
    }

    let mut states = Vec::new();
    for (name, profile) in &config.profiles {
        let folder = config.state_dir.join(name.as_str());
        identity::make_folder(&folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
        let memory = StateFile::new(&folder).with_canary(config.canary(name));
        // Who built this program did so before now.
        let memory = memory.with_floor(clock::BUILT_AT);
        let state = memory.open(boot)?;
        states.push((name.clone(), profile.clone(), folder, memory, state));
    }

    let mut seed = [0; 8];
    getrandom::fill(&mut seed)?;
    // No clock may be behind what was signed and seen before.
    let known = states.iter().map(|(.., state)| state.floor).max().unwrap_or_default();
    let access = config.access(&key, known)?;
    let revocations = Revocations::open(&Linux, config.state_dir.join("trust.seen"))?;
    let trust = Arc::new(TrustFile::new(Arc::new(Linux), &config.trust, trust, revocations));
    let speaker = Speaker::new(&config, key, boot, Arc::clone(&trust));
    let (link, inbox) = Link::start(&config, access, speaker, sessions, u64::from_le_bytes(seed));
    let restart = config.restart();
    tracing::debug!(?restart, "how this machine restarts");
    if let Some(update) = own_update(&config) {
        tokio::task::spawn_local(update.follow());
    }
    let permits = Rc::new(Permits::default());
    // Who knocks here is let in by the profile's driver.
    let (mut doors, mut drivers) = (BTreeMap::new(), Vec::new());
    for (name, profile, folder, memory, state) in states {
        let (orders, beacons) = (link.orders(&name), link.beacons());
        let records = Records::new(&folder);
        let roots = folder.join("roots");
        identity::make_folder(&roots)
            .with_context(|| format!("cannot make the folder of roots in {}", folder.display()))?;
        let os: System = Arc::new(Linux);
        let scribe = (config.activation_output == ActivationOutput::Published).then(|| {
            let launcher = Launcher::new(Arc::clone(&os), config.runner, name.clone(), &folder);
            Box::new(Printed::new(launcher, link.log_voice(&name))) as Box<dyn Scribe>
        });
        let ports = Ports {
            scribe,
            clock: Box::new(move || clock.now()),
            memory: Box::new(memory),
            machine: Box::new(systems(Arc::clone(&os), &profile, config.runner, &link)),
            closures: Box::new(
                Nix::new(
                    Arc::clone(&os),
                    &config.store_dir,
                    roots,
                    unsynced.clone(),
                    config.room.clone(),
                )
                .allowing(config.allowed_substituters.clone()),
            ),
            activation: Box::new(Activator::new(
                &name,
                &profile,
                config.runner,
                restart.clone(),
                config.room.clone(),
                records,
            )),
            windows: Box::new(config.window.clone()),
            people: Box::new(people::Sessions { runner: config.runner }),
            prune: Box::new(Pruner::new(
                &name,
                &profile,
                config.runner,
                config.retention.generations,
                Records::new(&folder),
            )),
            health: Box::new(Checks {
                os,
                runner: config.runner,
                folder: config.health_folder.clone(),
            }),
            voice: Box::new(link.voice(&name)),
        };
        let (reader, host) = (reader(&config, &name), capabilities(&config, &name, &restart));
        let driver =
            Driver::new(ports, Arc::clone(&trust), reader, host, Rc::clone(&permits), state)
                .forgetting(config.state == Lasting::Ephemeral);
        let (door, requests) = mpsc::channel(REQUESTS);
        doors.insert(name, door);
        drivers.push(driver.run(orders, beacons, requests));
    }
    // Only now, as each has the permit already that it had when the subscriber stopped.
    for driver in drivers {
        tokio::task::spawn_local(driver);
    }
    match Control::open(&config.control(), doors.clone(), config.runner).await {
        Ok(control) => drop(tokio::task::spawn_local(control.serve())),
        // Orders matter more than people who would ask here.
        Err(error) => tracing::error!(%error, "nobody at the machine can ask for anything"),
    }
    let (mut terminate, mut interrupt) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    // The state is read: that is what others may wait for. A connection may take its time.
    tokio::task::spawn_local(watchdog::feed());

    let stop = tokio::select! {
        () = link.listen(inbox) => anyhow::bail!("the MQTT client ended"),
        _ = terminate.recv() => Stop::Told,
        _ = interrupt.recv() => Stop::Told,
        () = other_key(enrolment, &config, &trust, known, &link) => Stop::OtherKey,
    };
    tracing::info!("stopping");
    link.stop(FAREWELL).await;
    Ok(stop)
}

/// Asks to be enrolled, if there is a token for it. Ends when the host has another key.
async fn other_key(
    enrolment: Option<Enrolment>,
    config: &Config,
    trust: &TrustFile,
    known: Timestamp,
    link: &Link,
) {
    if let Some(enrolment) = enrolment {
        match enrolment.ask(config, trust, known).await {
            Ok(Which::Next) => return,
            Ok(Which::Own) => link.try_again(),
            Err(error) => tracing::error!(error = %chain(&error), "cannot ask to be enrolled"),
        }
    }
    pending().await
}

/// Tells what to watch where the subscriber is part of a system that is switched.
fn own_update(config: &Config) -> Option<OwnUpdate> {
    let unit =
        (config.runner == Runner::Systemd).then(|| own_unit::of_this_process(&Linux)).flatten()?;
    let current = config.profiles.get(&ProfileName::system())?.current.clone();
    let records = |name: &ProfileName| Records::new(&config.state_dir.join(name.as_str()));
    let records = config.profiles.keys().map(records).collect();
    Some(OwnUpdate { os: Arc::new(Linux), unit, current, records })
}

fn systems(os: System, profile: &Profile, runner: Runner, link: &Link) -> Systems {
    Systems { os, profile: profile.clone(), runner, connected: link.connected() }
}

fn reader(config: &Config, profile: &ProfileName) -> Addressee {
    Addressee { host: config.host.clone(), profile: profile.clone(), system: config.system.clone() }
}

fn capabilities(config: &Config, profile: &ProfileName, restart: &Restart) -> Capabilities {
    // Only the system itself is what boots.
    let boots = *profile == ProfileName::system();
    Capabilities {
        store_dir: config.store_dir.clone(),
        units: config.runner == Runner::Systemd,
        windows: config.window.is_some(),
        consent: config.consent.as_ref().map(|consent| consent.deadline),
        // The driver looks that up in the trust that is in force.
        freshness: None,
        // As well as when this boot began.
        forgot_at: None,
        one_shot_boot: boots && restart.loader.has_one_shot(),
        last_resort: boots && restart.is_last_resort,
        kept_systems: config.retention.systems.count(),
        prunes: config.retention.generations != Generations::All,
    }
}
