//! The simulated machine: its disk, its units and processes, its clocks and network, and the
//! steps at which something comes in between.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use herald_core::{Monotonic, Now, State};
use herald_proto::{
    id::BootId, report::PhaseName, store_path::StorePath, target::Action, time::Timestamp,
};
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

use super::{
    disk::Disk,
    monitor::{Monitor, system_at},
    mutant::Mutant,
    order,
    rng::Rng,
    scenario::{Case, Disturbance, Event, Outcome, Scenario},
    systems::{
        BOOT_DEFAULT, BOOT_ONCE, BOOTED, CURRENT, OLD, OWN_TRUST, PERSONS, PERSONS_RESULT, PROFILE,
        ROOTS, STATE, STATE_DIR, STORE, TARGET, TRUST, UNSYNCED, closure, content, in_store,
    },
};

/// The unit that watches over a system which was booted once.
pub(crate) const WATCH: &str = "herald-deadman.service";
/// How long a machine has run when its subscriber starts.
const BOOT_TIME: Duration = Duration::from_secs(8);

/// The machine, as its processes share it.
#[derive(Debug, Clone)]
pub(crate) struct World(Arc<Mutex<Machine>>);

/// What is true of the machine.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) disk: Disk,
    pub(crate) rng: Rng,
    /// The paths that Nix's database calls valid; it is durable by itself.
    pub(crate) valid: BTreeSet<StorePath>,
    pub(crate) scenario: Scenario,
    pub(crate) services: Services,
    /// The system whose units systemd would start.
    pub(crate) etc: StorePath,
    pub(crate) failed_units: BTreeSet<String>,
    pub(crate) units: BTreeMap<String, Unit>,
    pub(crate) subscriber: Option<u64>,
    pub(crate) person: Option<u64>,
    pub(crate) locks: BTreeMap<PathBuf, u64>,
    /// What processes of Nix keep that is in no root yet.
    pub(crate) temporary_roots: BTreeMap<u64, StorePath>,
    pub(crate) up: bool,
    pub(crate) outage_until: Option<Instant>,
    /// What the broker retains on the order's topic.
    pub(crate) retained: Vec<u8>,
    /// The highest sequence of a good order that was published.
    pub(crate) published: u64,
    pub(crate) monitor: Monitor,
    pub(crate) mutant: Option<Mutant>,
    pub(crate) points: u64,
    pub(crate) hits: Vec<Hit>,
    pub(crate) trace: Option<Vec<String>>,
    /// What the subscriber stored, while a trace is kept.
    pub(crate) stored: Vec<State>,
    /// How often the power or user space went away.
    pub(crate) era: u64,
    /// How often user space went away.
    pub(crate) user_space: u64,
    /// How many rounds of health checks the new system had.
    pub(crate) rounds: u32,
    /// Which subscriber runs.
    pub(crate) subscriber_version: u8,
    pub(super) full_until: Option<Instant>,
    boots: u8,
    booted_at: Instant,
    began: Instant,
    pub(super) skew: i64,
    pub(super) alive: BTreeMap<u64, String>,
    pids: u64,
    pub(crate) events: Vec<Event>,
    seen: BTreeSet<String>,
    /// When the last point was, if nothing has changed since.
    moved: Option<Instant>,
    /// Whether the process that acts at each point is the subscriber.
    pub(crate) actors: Vec<bool>,
    orders: mpsc::UnboundedSender<Order>,
    changes: watch::Sender<()>,
}

/// What the units in user space are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Services {
    /// Those of one system.
    Whole(StorePath),
    /// Some of one, some of another.
    Mixed,
}

/// A transient unit.
#[derive(Debug, Clone)]
pub(crate) struct Unit {
    /// The process; none while it waits to be started again.
    pub(crate) pid: Option<u64>,
    pub(crate) arguments: Vec<String>,
    pub(crate) restart: bool,
    /// Whether it survives a soft-reboot.
    pub(crate) survives: bool,
}

/// A disturbance that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hit {
    /// Before which point.
    pub point: u64,
    /// What came.
    pub what: Disturbance,
    /// In which phase.
    pub phase: PhaseName,
}

/// What the machine's first process is to do.
#[derive(Debug)]
pub(crate) enum Order {
    /// Start a transient unit.
    Start(String),
    /// Start a transient unit again, after a while.
    Restart(String),
    /// Start the subscriber, after a while.
    StartSubscriber(Duration),
    /// Forget a process that is dead.
    Reap(u64),
    /// Boot.
    Boot,
    /// Shut down in order, after a while, and boot.
    Shutdown,
    /// Shut down now.
    GoDown,
    /// Boot, as a system did not come up.
    BootAgain,
    /// Start user space again.
    SoftReboot,
    /// Let a person do something.
    Person(Disturbance),
    /// Say that the network changed, after a while.
    Network(Duration),
    /// Publish the good order again, after a while.
    Republish(Duration),
}

impl World {
    pub(crate) fn new(
        case: &Case,
        mutant: Option<Mutant>,
    ) -> (Self, mpsc::UnboundedReceiver<Order>) {
        let (orders, inbox) = mpsc::unbounded_channel();
        let mut machine = Machine {
            disk: Disk::default(),
            rng: Rng::new(case.seed),
            valid: BTreeSet::new(),
            scenario: case.scenario,
            services: Services::Whole(OLD.clone()),
            etc: OLD.clone(),
            failed_units: ["was-failed-before.service".to_owned()].into(),
            units: BTreeMap::new(),
            subscriber: None,
            person: None,
            locks: BTreeMap::new(),
            temporary_roots: BTreeMap::new(),
            up: true,
            outage_until: None,
            retained: Vec::new(),
            published: 0,
            monitor: Monitor::new(),
            mutant,
            points: 0,
            hits: Vec::new(),
            trace: None,
            stored: Vec::new(),
            era: 0,
            user_space: 0,
            rounds: 0,
            subscriber_version: 0,
            full_until: None,
            boots: 1,
            booted_at: Instant::now(),
            began: Instant::now(),
            skew: 0,
            alive: BTreeMap::new(),
            pids: 1,
            events: case.events.clone(),
            seen: BTreeSet::new(),
            moved: None,
            actors: Vec::new(),
            orders,
            changes: watch::channel(()).0,
        };
        machine.monitor.boots_unproved = case.scenario.action == Action::Boot;
        machine.install();
        (Self(Arc::new(Mutex::new(machine))), inbox)
    }

    pub(crate) fn machine(&self) -> MutexGuard<'_, Machine> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Machine {
    /// Installs the old system, and what a person has built.
    fn install(&mut self) {
        let folders = [STORE, "/nix/var/nix/profiles", "/nix/var/nix/gcroots", "/boot"];
        let more = ["/run", "/run/nixos", STATE_DIR, STATE, ROOTS, UNSYNCED];
        for folder in folders.into_iter().chain(more) {
            self.disk.make_folder(folder);
        }
        for system in [&*OLD, &*PERSONS] {
            for path in closure(system) {
                let file = Path::new(STORE).join(path.base_name());
                let _ = self.disk.write(&file, content(&path));
                self.valid.insert(path);
            }
        }
        for (link, to) in [
            ("/nix/var/nix/profiles/system-1-link", OLD.as_str()),
            (PROFILE, "system-1-link"),
            (BOOT_DEFAULT, OLD.as_str()),
            (PERSONS_RESULT, PERSONS.as_str()),
            (CURRENT, OLD.as_str()),
            (BOOTED, OLD.as_str()),
        ] {
            let _ = self.disk.symlink(Path::new(to), Path::new(link));
        }
        self.disk.sync_below(Path::new("/"));
    }

    /// Makes a new process, which is alive until it ends or is killed.
    pub(crate) fn spawn(&mut self, name: &str) -> u64 {
        self.pids += 1;
        self.alive.insert(self.pids, name.to_owned());
        self.pids
    }

    pub(crate) fn is_alive(&self, pid: u64) -> bool {
        self.alive.contains_key(&pid)
    }

    /// Ends a process, wherever it is.
    pub(crate) fn end(&mut self, pid: u64) {
        self.alive.remove(&pid);
        self.locks.retain(|_, holder| *holder != pid);
        self.order(Order::Reap(pid));
    }

    pub(crate) fn order(&self, order: Order) {
        let _ = self.orders.send(order);
    }

    /// Comes before every step of a process: whatever is to come in between comes now.
    ///
    /// # Errors
    /// When the process is dead, by this or by something before.
    pub(crate) fn step(&mut self, pid: u64, effect: bool, what: &str) -> io::Result<()> {
        let gone = || io::Error::other("this process is dead");
        let Some(name) = self.alive.get(&pid).cloned() else { return Err(gone()) };
        self.monitor.look(&self.disk);
        let phase = self.monitor.phase;
        // A look changes nothing: it is a point only where something changed before, or time passed.
        let moved = effect || self.moved != Some(Instant::now());
        if effect || (moved && self.seen.insert(format!("{phase} {name} {what}"))) {
            self.moved = (!effect).then(Instant::now);
            self.points += 1;
            self.actors.push(self.subscriber == Some(pid));
            let point = self.points;
            self.say(format_args!("{point} {name}: {what}"));
            while let Some(at) = self.events.iter().position(|event| event.point == self.points) {
                let event = self.events.remove(at);
                self.hits.push(Hit { point: event.point, what: event.what, phase });
                self.say(format_args!("*** {}", event.what));
                self.disturb(event.what, pid);
                self.monitor.look(&self.disk);
            }
        }
        if self.is_alive(pid) { Ok(()) } else { Err(gone()) }
    }

    /// Tells whether a disturbance is still to come.
    pub(crate) fn awaits_events(&self) -> bool {
        self.full_until.is_some_and(|until| Instant::now() < until)
            || self.outage_until.is_some_and(|until| Instant::now() < until)
            || self.person.is_some()
    }

    pub(crate) fn say(&mut self, what: std::fmt::Arguments<'_>) {
        let now = self.began.elapsed().as_secs_f64();
        let phase = self.monitor.phase;
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{now:9.3} {phase:12} {what}"));
        }
    }

    /// Comes up again: with what the disk says, or with what is in memory still.
    pub(crate) fn come_up(&mut self, boots: bool) {
        self.up = true;
        if boots {
            self.boots += 1;
            self.booted_at = Instant::now();
            self.failed_units.clear();
            self.monitor.replaced();
            (self.monitor.booted_since, self.monitor.fresh_boot) = (true, true);
            let once = system_at(&self.disk, BOOT_ONCE, false);
            if once.is_some() && self.mutant != Some(Mutant::EntryIsNotForgotten) {
                let _ = self.disk.remove(Path::new(BOOT_ONCE));
                self.disk.sync_below(Path::new("/boot"));
            }
            let default = || system_at(&self.disk, BOOT_DEFAULT, false);
            let Some(system) = once.or_else(default) else {
                return self.monitor.violated("there is nothing to boot".into());
            };
            if self.scenario.outcome == Outcome::NoBoot && system == *TARGET {
                self.say(format_args!("{} does not come up", system.name()));
                self.up = false;
                return self.order(Order::BootAgain);
            }
            let whole = closure(&system).iter().all(|path| self.is_whole(path));
            if !whole {
                self.monitor.violated(format!("{} boots, and is damaged", system.name()));
            }
            for link in [CURRENT, BOOTED] {
                let _ = self.disk.symlink(system.as_path(), Path::new(link));
            }
            self.say(format_args!("boots {}", system.name()));
            self.etc = system.clone();
            self.services = Services::Whole(system);
        }
        self.change_network();
        self.watch_over_the_boot();
        self.order(Order::StartSubscriber(Duration::ZERO));
    }

    /// Starts the unit that watches over a system which was booted once, if its condition holds.
    fn watch_over_the_boot(&mut self) {
        if self.awaits_watch() {
            let unit = WATCH.to_owned();
            let pid = Some(self.spawn(&unit));
            let arguments = vec!["dead-man".to_owned()];
            let unit_of_it = Unit { pid, arguments, restart: true, survives: false };
            self.units.insert(unit.clone(), unit_of_it);
            self.order(Order::Start(unit));
        }
    }

    /// Tells whether the condition of that unit holds.
    pub(crate) fn awaits_watch(&self) -> bool {
        let names = self.disk.list(Path::new(STATE)).unwrap_or_default();
        names.iter().any(|name| name.starts_with("armed-") || name.starts_with("rollback-"))
    }

    /// Lists the store paths to which no root leads.
    pub(crate) fn garbage(&self) -> Vec<StorePath> {
        let folders = ["/nix/var/nix/profiles", "/nix/var/nix/profiles/system-profiles", ROOTS];
        let names = folders.into_iter().flat_map(|folder| {
            let names = self.disk.list(Path::new(folder)).unwrap_or_default();
            names.into_iter().map(move |name| format!("{folder}/{name}"))
        });
        let links = names.chain([CURRENT, BOOTED, PERSONS_RESULT].map(str::to_owned));
        let roots = links.filter_map(|link| system_at(&self.disk, &link, false));
        let roots = roots.chain(self.temporary_roots.values().cloned());
        let alive: BTreeSet<_> = roots.flat_map(|system| closure(&system)).collect();
        self.valid.difference(&alive).cloned().collect()
    }

    /// Tells whether the content of a store path is there.
    pub(crate) fn is_whole(&self, path: &StorePath) -> bool {
        let file = self.disk.read(&Path::new(STORE).join(path.base_name()));
        file.is_ok_and(|found| found == content(path))
    }

    /// Gives the name of a process.
    pub(crate) fn name(&self, pid: u64) -> &str {
        self.alive.get(&pid).map_or("", String::as_str)
    }

    /// Tells whether it is a person who acts, and no process of Herald's.
    pub(crate) fn is_person(&self, pid: u64) -> bool {
        self.person == Some(pid)
    }

    /// Gives the version of the installed subscriber.
    pub(crate) fn version(&self) -> u8 {
        let replaced = matches!(self.scenario.outcome, Outcome::SelfUpdate | Outcome::Deaf);
        u8::from(replaced && self.etc == *TARGET)
    }

    /// Tells whether the installed subscriber is not the one that runs.
    pub(crate) fn subscriber_is_another(&self) -> bool {
        self.subscriber.is_none() || self.subscriber_version != self.version()
    }

    /// Gives the trust file of the installed system, or of one in the store, by its path.
    pub(crate) fn trust_file(&self, path: &Path) -> Option<String> {
        let system = match in_store(path) {
            Some((system, below)) if below == Path::new(OWN_TRUST) => system,
            None if path == Path::new(TRUST) => self.etc.clone(),
            _ => return None,
        };
        let locks_out = self.scenario.outcome == Outcome::LocksOut && system == *TARGET;
        Some(order::trust_file(locks_out))
    }

    /// Tells whether the subscriber of the installed units works.
    pub(crate) fn has_subscriber(&self) -> bool {
        !(self.scenario.outcome == Outcome::Deaf && self.etc == *TARGET)
    }

    pub(crate) fn has_network(&self) -> bool {
        let cut = self.scenario.outcome == Outcome::CutOff
            && self.services == Services::Whole(TARGET.clone());
        let outage = self.outage_until.is_some_and(|until| Instant::now() < until);
        self.up && !cut && !outage
    }

    pub(crate) fn change_network(&self) {
        self.changes.send_replace(());
    }

    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    pub(crate) fn room(&self) -> io::Result<()> {
        match self.full_until {
            Some(until) if Instant::now() < until => Err(io::ErrorKind::StorageFull.into()),
            _ => Ok(()),
        }
    }

    pub(crate) fn running(&self) -> Option<StorePath> {
        system_at(&self.disk, CURRENT, false)
    }

    pub(crate) fn now(&self) -> Now {
        let passed = i64::try_from(self.began.elapsed().as_millis()).unwrap_or(i64::MAX);
        let wall = order::BEGAN.as_millis().saturating_add_signed(passed + self.skew);
        let boot = BootId::from_bytes([self.boots; 16]);
        Now { wall: Timestamp::from_millis(wall), monotonic: self.monotonic(), boot }
    }

    pub(crate) fn monotonic(&self) -> Monotonic {
        let up = (Instant::now() - self.booted_at) + BOOT_TIME;
        Monotonic::default().plus(up)
    }
}
