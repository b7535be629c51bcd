//! The programs of the simulated machine, step by step: Nix, the switch program, systemd's
//! commands, and a health check.

use std::{path::Path, time::Duration};

use herald_proto::store_path::StorePath;
use tokio::{process::Command, time::sleep};

use super::{
    monitor::system_at,
    mutant::Mutant,
    order::HEALTH_CHECK,
    process::{Held, Process},
    scenario::Outcome,
    systems::{
        BOOT_DEFAULT, BOOT_ONCE, CURRENT, OWN_PROFILE, PROFILE, STORE, TARGET, closure, content,
        dump, in_store,
    },
    world::{Order, Services, Unit},
};

/// The status that stands for a program that could not be started.
pub(crate) const NOT_STARTED: i32 = -1;
/// What the subscriber is told to tell the boot loader by.
pub(crate) const BOOT_ONCE_PROGRAM: &str = "boot-once";
/// The subscriber's unit.
const SUBSCRIBER: &str = "herald-subscriber.service";

/// How a program ended.
#[derive(Debug, Default)]
pub(crate) struct Exit {
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Exit {
    pub(crate) fn good(stdout: String) -> Self {
        Self { stdout, ..Self::default() }
    }

    pub(crate) fn bad(status: i32, stderr: &str) -> Self {
        Self { status, stderr: stderr.into(), ..Self::default() }
    }
}

/// Runs a program as a child of a process, with which it ends.
pub(crate) async fn run(process: &Process, command: &Command, line: &mut dyn FnMut(&[u8])) -> Exit {
    let std = command.as_std();
    let program = Path::new(std.get_program());
    let arguments: Vec<&str> = std.get_args().filter_map(|argument| argument.to_str()).collect();
    if let Some((system, below)) = in_store(program)
        && below == Path::new("bin/switch-to-configuration")
        && let [verb] = arguments[..]
    {
        return switch(process, &system, verb).await;
    }
    match (std.get_program().to_str().unwrap_or_default(), &arguments[..]) {
        ("nix-env", ["--profile", profile @ (PROFILE | OWN_PROFILE), "--set", system]) => {
            set_profile(process, Path::new(profile), system.as_ref()).await
        }
        (BOOT_ONCE_PROGRAM, arguments) => boot_once(process, arguments).await,
        (
            "nix-store",
            ["--realise", system, "--log-format", "internal-json", "--add-root", root],
        ) => realise(process, system, Path::new(root), line).await,
        // A manifest, which no cache has here.
        ("nix-store", ["--realise", _, "--log-format", "internal-json", "--option", _, "0"]) => {
            Exit::bad(1, "don't know how to build")
        }
        ("nix-store", ["--query", "--requisites", system]) => requisites(process, system),
        ("nix-store", ["--verify-path", paths @ ..]) => verify(process, paths),
        ("nix-store", ["--repair-path", path]) => repair(process, path).await,
        ("nix-store", ["--dump-db", paths @ ..]) => {
            let paths: Vec<StorePath> = paths.iter().filter_map(|path| path.parse().ok()).collect();
            Exit::good(dump(&paths))
        }
        ("systemd-run", arguments) => systemd_run(process, arguments).await,
        ("systemctl", arguments) => systemctl(process, arguments).await,
        ("journalctl", _) => Exit::default(),
        (HEALTH_CHECK, []) => check_health(process).await,
        (program, arguments) => {
            let what = format!("the simulation does not know {program} {arguments:?}");
            process.world.machine().monitor.violated(what);
            Exit::bad(NOT_STARTED, "")
        }
    }
}

/// Begins a step; a program whose process is dead does not go on.
async fn act(process: &Process, what: &str) {
    if process.step(true, what).is_err() {
        std::future::pending::<()>().await;
    }
}

async fn pause(millis: u64) {
    sleep(Duration::from_millis(millis)).await;
}

fn no_room(error: &std::io::Error) -> Exit {
    Exit::bad(1, &format!("error: {error}: No space left on device"))
}

/// A system's switch program, in the order of the real one.
pub(crate) async fn switch(process: &Process, system: &StorePath, verb: &str) -> Exit {
    if !closure(system).iter().all(|path| process.world.machine().is_whole(path)) {
        return Exit::bad(NOT_STARTED, "");
    }
    act(process, &format!("{} {verb}: lock", system.name())).await;
    let Some(_lock) = Held::take(process, Path::new("/run/nixos/switch-to-configuration.lock"))
    else {
        return Exit::bad(1, "Could not acquire lock");
    };
    pause(200).await;
    match verb {
        "boot" => install_boot_loader(process, system).await,
        "test" => tokio::select! {
            biased;
            () = user_space_goes(process) => Exit::bad(1, "Failed to talk to systemd"),
            exit = activate(process, system) => exit,
        },
        "dry-activate" => Exit::default(),
        _ => Exit::bad(1, "unknown action"),
    }
}

/// Waits until systemd, which an activation has to talk to, is gone.
async fn user_space_goes(process: &Process) {
    let (mut changes, was) = {
        let machine = process.world.machine();
        (machine.changes(), machine.user_space)
    };
    while process.world.machine().up && process.world.machine().user_space == was {
        if changes.changed().await.is_err() {
            break;
        }
    }
}

async fn install_boot_loader(process: &Process, system: &StorePath) -> Exit {
    let kernel = Path::new("/boot").join(format!("kernel-{}", system.name()));
    act(process, "boot: write the kernel").await;
    if let Err(error) = process.world.machine().room() {
        return no_room(&error);
    }
    let _ = process.world.machine().disk.write(&kernel, b"kernel");
    pause(100).await;
    act(process, "boot: sync the kernel").await;
    let _ = process.world.machine().disk.sync_file(&kernel);
    let prepares = process.world.machine().name(process.pid).contains("prepare-reboot");
    let hurries = process.world.machine().mutant == Some(Mutant::CommitsFirst) && prepares;
    let default = if hurries { &*TARGET } else { system };
    if let Err(error) = process.replace_link(default.as_path(), Path::new(BOOT_DEFAULT)) {
        return no_room(&error);
    }
    pause(50).await;
    act(process, "boot: sync /boot").await;
    process.world.machine().disk.sync_below(Path::new("/boot"));
    Exit::default()
}

async fn activate(process: &Process, system: &StorePath) -> Exit {
    let outcome = match process.world.machine().scenario.outcome {
        outcome if *system == *TARGET => outcome,
        _ => Outcome::Good,
    };
    let rolls_back = process.world.machine().name(process.pid).contains("roll-back");
    if rolls_back && process.world.machine().mutant == Some(Mutant::RollBackOnlySaysSo) {
        return Exit::default();
    }
    if outcome == Outcome::FailsEarly {
        return Exit::bad(1, "activation script failed");
    }
    act(process, "test: stop units").await;
    process.world.machine().services = Services::Mixed;
    if !process.world.machine().is_person(process.pid) {
        process.world.machine().monitor.replaced();
    }
    pause(300).await;
    act(process, "test: install the units").await;
    process.world.machine().etc = system.clone();
    pause(100).await;
    let current = Path::new(CURRENT);
    act(process, "test: remove the current link").await;
    let _ = process.world.machine().disk.remove(current);
    act(process, "test: make the current link").await;
    let _ = process.world.machine().disk.symlink(system.as_path(), current);
    pause(100).await;
    match outcome {
        Outcome::FailsLate => return Exit::bad(1, "activation script failed"),
        Outcome::Hangs => std::future::pending().await,
        _ => {}
    }
    act(process, "test: reload systemd").await;
    pause(200).await;
    act(process, "test: start units").await;
    let mut machine = process.world.machine();
    machine.services = Services::Whole(system.clone());
    if !machine.is_person(process.pid) {
        machine.monitor.replaced();
    }
    machine.failed_units.remove("web.service");
    if outcome == Outcome::UnitFails {
        machine.failed_units.insert("web.service".into());
    }
    if machine.mutant == Some(Mutant::CommitsFirst) && *system == *TARGET {
        let _ = machine.disk.remove(Path::new(BOOT_DEFAULT));
        let _ = machine.disk.symlink(system.as_path(), Path::new(BOOT_DEFAULT));
    }
    machine.change_network();
    if machine.subscriber_is_another() {
        machine.restart_subscriber();
    }
    if outcome == Outcome::UnitFails { Exit::bad(4, "web.service failed") } else { Exit::default() }
}

/// `nix-env --set`: a new generation, unless the latest one is the same, and then the profile.
/// Nix syncs neither.
pub(crate) async fn set_profile(process: &Process, profile: &Path, system: &Path) -> Exit {
    let folder = profile.parent().unwrap_or(Path::new("/"));
    let name = profile.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let _lock = lock_profile(process, profile).await;
    let names = process.world.machine().disk.list(folder).unwrap_or_default();
    let latest = names.iter().filter_map(|link| generation(name, link)).max().unwrap_or(0);
    let link = |number: u32| format!("{name}-{number}-link");
    let says = process.world.machine().disk.read_link(&folder.join(link(latest))).ok();
    let generation = if says.as_deref() == Some(system) {
        link(latest)
    } else {
        act(process, "nix-env: make a generation").await;
        if let Err(error) = process.world.machine().room() {
            return no_room(&error);
        }
        let generation = link(latest + 1);
        let _ = process.world.machine().disk.symlink(system, &folder.join(&generation));
        generation
    };
    pause(50).await;
    match process.replace_link(Path::new(&generation), profile) {
        Ok(()) => Exit::default(),
        Err(error) => no_room(&error),
    }
}

/// Waits for a profile's lock, as Nix does to make or remove a generation.
async fn lock_profile(process: &Process, profile: &Path) -> Held {
    let lock = profile.with_extension("lock");
    loop {
        if let Some(held) = Held::take(process, &lock) {
            return held;
        }
        pause(20).await;
    }
}

/// Gives the number of a generation of a profile by the name of its link.
fn generation(profile: &str, link: &str) -> Option<u32> {
    link.strip_prefix(profile)?.strip_prefix('-')?.strip_suffix("-link")?.parse().ok()
}

/// What tells the boot loader to boot a system once, as `bootctl set-oneshot` does.
async fn boot_once(process: &Process, arguments: &[&str]) -> Exit {
    let told = match arguments {
        ["set", system] => process.replace_link(Path::new(system), Path::new(BOOT_ONCE)),
        _ => {
            act(process, "boot-once: clear").await;
            let _ = process.world.machine().disk.remove(Path::new(BOOT_ONCE));
            Ok(())
        }
    };
    if let Err(error) = told {
        return no_room(&error);
    }
    act(process, "boot-once: sync /boot").await;
    process.world.machine().disk.sync_below(Path::new("/boot"));
    Exit::default()
}

/// `nix-collect-garbage -d`: removes all but the latest generation of each profile, and then what
/// nothing leads to. What is being fetched is safe, as Nix keeps it for the one who fetches.
pub(crate) async fn collect_garbage(process: &Process) {
    for profile in [PROFILE, OWN_PROFILE].map(Path::new) {
        let folder = profile.parent().unwrap_or(Path::new("/"));
        let name = profile.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let _lock = lock_profile(process, profile).await;
        let current = process.world.machine().disk.read_link(profile).ok();
        let names = process.world.machine().disk.list(folder).unwrap_or_default();
        for link in names.iter().filter(|link| generation(name, link).is_some()) {
            if current.as_deref() != Some(Path::new(link)) {
                act(process, &format!("nix-collect-garbage: remove {link}")).await;
                let _ = process.world.machine().disk.remove(&folder.join(link));
            }
        }
    }
    act(process, "nix-collect-garbage: look").await;
    let dead = process.world.machine().garbage();
    for path in dead {
        act(process, &format!("nix-collect-garbage: delete {path}")).await;
        let mut machine = process.world.machine();
        if machine.temporary_roots.values().any(|kept| closure(kept).contains(&path)) {
            continue;
        }
        machine.valid.remove(&path);
        let _ = machine.disk.remove(&Path::new(STORE).join(path.base_name()));
    }
}

async fn realise(
    process: &Process,
    system: &str,
    root: &Path,
    line: &mut dyn FnMut(&[u8]),
) -> Exit {
    let Ok(system) = system.parse::<StorePath>() else { return Exit::bad(1, "no store path") };
    let _kept = TemporaryRoot::make(process, &system);
    for path in closure(&system) {
        if process.world.machine().valid.contains(&path) {
            continue;
        }
        pause(700).await;
        if !process.world.machine().has_network() {
            return Exit::bad(1, "error: unable to download: Could not resolve host");
        }
        line(format!("copying path '{path}' from 'https://cache'...").as_bytes());
        act(process, &format!("nix-store: write {}", path.name())).await;
        if let Err(error) = process.world.machine().room() {
            return no_room(&error);
        }
        let file = Path::new(STORE).join(path.base_name());
        let _ = process.world.machine().disk.remove(&file);
        let _ = process.world.machine().disk.write(&file, content(&path));
        act(process, &format!("nix-store: register {}", path.name())).await;
        process.world.machine().valid.insert(path);
    }
    act(process, "nix-store: make the root").await;
    let _ = process.world.machine().disk.remove(root);
    let _ = process.world.machine().disk.symlink(system.as_path(), root);
    Exit::good(format!("{system}\n"))
}

fn requisites(process: &Process, system: &str) -> Exit {
    let paths = system.parse().map(|system| closure(&system));
    let machine = process.world.machine();
    match paths {
        Ok(paths) if paths.iter().all(|path| machine.valid.contains(path)) => {
            Exit::good(paths.iter().map(|path| format!("{path}\n")).collect())
        }
        _ => Exit::bad(1, "error: path is not valid"),
    }
}

fn verify(process: &Process, paths: &[&str]) -> Exit {
    let machine = process.world.machine();
    let is_whole = |path: &&str| path.parse().is_ok_and(|path| machine.is_whole(&path));
    if paths.iter().all(is_whole) {
        return Exit::default();
    }
    Exit::bad(1, "path was modified!")
}

async fn repair(process: &Process, path: &str) -> Exit {
    let Ok(path) = path.parse::<StorePath>() else { return Exit::bad(1, "no store path") };
    pause(700).await;
    if !process.world.machine().has_network() {
        return Exit::bad(1, "error: unable to download: Could not resolve host");
    }
    act(process, &format!("nix-store: write {} again", path.name())).await;
    if let Err(error) = process.world.machine().room() {
        return no_room(&error);
    }
    let file = Path::new(STORE).join(path.base_name());
    let _ = process.world.machine().disk.remove(&file);
    let _ = process.world.machine().disk.write(&file, content(&path));
    Exit::default()
}

async fn systemd_run(process: &Process, arguments: &[&str]) -> Exit {
    let (options, command) = match arguments.iter().position(|argument| *argument == "--") {
        Some(at) => (&arguments[..at], &arguments[at + 1..]),
        None => return Exit::bad(1, "no command"),
    };
    let Some(name) = options.iter().find_map(|option| option.strip_prefix("--unit=")) else {
        return Exit::bad(1, "no unit");
    };
    act(process, &format!("systemd-run {name}")).await;
    let mut machine = process.world.machine();
    if machine.units.contains_key(name) {
        return Exit::bad(1, "Unit was already loaded");
    }
    let pid = machine.spawn(name);
    // The program itself is left out.
    let arguments = command.iter().skip(1).map(|&argument| argument.to_owned()).collect();
    let restart = options.contains(&"--property=Restart=on-failure");
    let survives = options.contains(&"--property=SurviveFinalKillSignal=yes");
    machine.units.insert(name.to_owned(), Unit { pid: Some(pid), arguments, restart, survives });
    machine.order(Order::Start(name.to_owned()));
    Exit::default()
}

async fn systemctl(process: &Process, arguments: &[&str]) -> Exit {
    match arguments {
        ["show", "--property=ActiveState", "--value", "--", unit] => {
            let _ = process.step(false, &format!("systemctl show {unit}"));
            let state = match process.world.machine().units.get(*unit) {
                Some(Unit { pid: Some(_), .. }) => "active",
                Some(Unit { pid: None, .. }) => "activating",
                None => "inactive",
            };
            Exit::good(format!("{state}\n"))
        }
        ["stop", "--", unit] => {
            act(process, &format!("systemctl stop {unit}")).await;
            let mut machine = process.world.machine();
            if let Some(pid) = machine.units.remove(*unit).and_then(|unit| unit.pid) {
                machine.end(pid);
            }
            Exit::default()
        }
        ["reboot"] => {
            act(process, "systemctl reboot").await;
            process.world.machine().order(Order::Shutdown);
            Exit::default()
        }
        ["list-units", "--state=failed", ..] => {
            let machine = process.world.machine();
            let line = |unit: &String| format!("{unit} loaded failed failed A unit\n");
            Exit::good(machine.failed_units.iter().map(line).collect())
        }
        [.., SUBSCRIBER] => {
            act(process, "systemctl restart the subscriber").await;
            process.world.machine().restart_subscriber();
            Exit::default()
        }
        other => {
            let what = format!("the simulation does not know systemctl {other:?}");
            process.world.machine().monitor.violated(what);
            Exit::bad(1, "")
        }
    }
}

/// Keeps what is being fetched, for as long as the program runs.
struct TemporaryRoot<'a>(&'a Process);

impl<'a> TemporaryRoot<'a> {
    fn make(process: &'a Process, system: &StorePath) -> Self {
        process.world.machine().temporary_roots.insert(process.pid, system.clone());
        Self(process)
    }
}

impl Drop for TemporaryRoot<'_> {
    fn drop(&mut self) {
        self.0.world.machine().temporary_roots.remove(&self.0.pid);
    }
}

async fn check_health(process: &Process) -> Exit {
    act(process, "check health").await;
    pause(50).await;
    let mut machine = process.world.machine();
    if machine.mutant == Some(Mutant::ProofsAreMadeUp) {
        return Exit::default();
    }
    let running = system_at(&machine.disk, CURRENT, false);
    let whole = running.clone().map(Services::Whole).as_ref() == Some(&machine.services);
    let outcome = machine.scenario.outcome;
    let targets = running.as_ref() == Some(&*TARGET);
    machine.rounds = if targets { machine.rounds + 1 } else { 0 };
    let sick =
        targets && (outcome == Outcome::Sick || outcome == Outcome::FallsIll && machine.rounds > 1);
    let healthy = whole && !sick;
    machine.monitor.checked(running.as_ref(), healthy);
    if healthy { Exit::default() } else { Exit::bad(1, "sick") }
}
