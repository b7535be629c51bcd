//! The process that brings the previous system back: at once, or as the dead-man when its time
//! comes.
//!
//! It reads the armed record and nothing else: no state, no configuration, no Nix. It tells what
//! it did, but what counts is what is seen afterwards.

use std::{
    ffi::OsString,
    io,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use herald_core::{Claim, Monotonic, WAY_BACK_LIMIT};
use herald_proto::{id::BootId, store_path::StorePath};
use tokio::time::sleep;

use crate::{
    adapters::{
        activation::{SWITCH_PROGRAM, restart},
        command,
        launcher::{Launcher, Role},
        own_unit,
        record::{ArmedRecord, NotClaimed, Outcome, Records},
        switch_folder::{FOREIGN_SWITCH_LIMIT, SwitchFolder},
        systems::store_path_at,
    },
    clock, commit,
    config::Runner,
    durable,
    os::{Linux, NoLock, Os, Program, System},
    prepare_reboot::remove_profile,
};

/// How often the dead-man looks whether it is still needed.
const LOOK: Duration = Duration::from_millis(500);
/// How often a result that can't be stored is stored again, and for how long.
const RESULT_AGAIN: Duration = Duration::from_secs(1);
const RESULT_LIMIT: Duration = Duration::from_secs(10 * 60);
/// How long a machine may take to be restarted: until then it may be on its way down.
const RESTART_LIMIT: Duration = Duration::from_secs(10 * 60);
/// How often the dead-man, who may be the only one left, tries it, and after which time again: somebody
/// may have the lock of switches, or start user space again.
const DEAD_MAN_TRIES: u32 = 3;
const TRY_AGAIN: Duration = Duration::from_secs(5);
/// How long after its time the dead-man waits for a commit that has begun.
const COMMIT_LIMIT: Duration = Duration::from_secs(10 * 60);

/// What to roll back, and when.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    of: commit::Which,
    /// Wait until the record's time, and do it only if nobody has claimed the record.
    #[arg(long)]
    when_due: bool,
}

/// Where to look for what a boot may have to be undone for.
#[derive(Debug, clap::Args)]
pub struct AfterBoot {
    /// The subscriber's state folder.
    #[arg(long, default_value = "/var/lib/herald")]
    state_dir: PathBuf,
}

/// Watches over a system that was booted once: becomes the dead-man of the attempt, as the program
/// that armed it. Where nothing is armed for this boot there is nothing to do.
///
/// # Errors
/// When the folder can't be read, or that program can't be run.
pub fn after_boot(args: &AfterBoot) -> anyhow::Result<()> {
    let os: System = Arc::new(Linux);
    let boot = clock::Clock::open()?.now().boot;
    let Some(Watch { program, args }) = watch_of(&os, boot, &args.state_dir)? else {
        return Ok(());
    };
    let program = if program.exists() { program } else { std::env::current_exe()? };
    Err(std::process::Command::new(program).args(args).exec().into())
}

/// The dead-man of a boot.
#[derive(Debug)]
pub struct Watch {
    /// The program that armed the attempt.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
}

/// Finds the attempt for which a system was booted.
///
/// # Errors
/// When the folder can't be read.
pub fn watch_of(os: &System, boot: BootId, state_dir: &Path) -> io::Result<Option<Watch>> {
    for name in os.list(state_dir)? {
        let records = Records::on(os.clone(), &state_dir.join(name));
        for attempt in records.attempts() {
            let Ok(record) = records.read(attempt) else { continue };
            let Some(reboot) = record.reboot.filter(|_| record.boot != boot) else { continue };
            let (folder, number) = (records.folder().into(), attempt.to_string().into());
            let args = vec![
                "roll-back".into(),
                "--folder".into(),
                folder,
                "--attempt".into(),
                number,
                "--when-due".into(),
            ];
            return Ok(Some(Watch { program: reboot.program, args }));
        }
    }
    Ok(None)
}

/// Rolls back, if it is this process that has to.
///
/// # Errors
/// When the record can't be read or claimed, or the result can't be written.
pub async fn run(os: System, args: Args) -> anyhow::Result<()> {
    let records = Records::on(os, &args.of.folder);
    let record = match records.read(args.of.attempt) {
        Ok(record) => record,
        // The dead-man of a record that was withdrawn.
        Err(error) if args.when_due && error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    // Kept for as long as the dead-man lives, which is until the attempt has ended.
    let _awake = if args.when_due { stay_awake(&record, &**records.os()) } else { None };
    if args.when_due && !wait_until_due(&records, &record).await {
        return Ok(());
    }
    let tries = if args.when_due { DEAD_MAN_TRIES } else { 1 };
    undo_once(&record, &records, tries).await?;
    if args.when_due {
        take_last_resort(&record, &records).await;
    }
    Ok(())
}

/// Restarts the machine, once, where going back did not bring the previous system back and it is
/// what boots. The subscriber does the same; this is for where there is none any more.
async fn take_last_resort(record: &ArmedRecord, records: &Records) {
    let os = &**records.os();
    let runs = store_path_at(os, &record.current);
    let is_stuck = runs.is_none() || runs.as_ref() == Some(&record.target);
    let boots_the_old = os.read_link(&record.profile).ok() == record.profile_link;
    let Some(command) = record.last_resort.as_ref().filter(|_| is_stuck && boots_the_old) else {
        return;
    };
    let mark = records.file("restarted", record.attempt);
    if os.exists(&mark) || durable::write(os, &mark, b"").is_err() {
        return;
    }
    tracing::error!(attempt = record.attempt, "the roll back failed: restarting the machine");
    if let Err(error) = restart(os, command).await {
        tracing::error!(%error, "cannot restart the machine");
    }
}

/// Rolls back, unless that was done already, and writes down how it went.
///
/// # Errors
/// When the lock can't be taken.
pub async fn undo_once(record: &ArmedRecord, records: &Records, tries: u32) -> io::Result<()> {
    // One roll back at a time: a second one waits for the first, and then finds its result. Where
    // the disk does not let a lock be made, going back matters more.
    let _lock = match records.os().lock(&records.file("undoing", record.attempt)).await {
        Ok(lock) => Some(lock),
        Err(NoLock::Refused(error)) => return Err(error),
        Err(NoLock::NoFile(error)) => {
            tracing::error!(attempt = record.attempt, %error, "rolling back without a lock");
            None
        }
    };
    if records.undone(record.attempt).is_some() {
        return Ok(());
    }
    let mut problems = undo(record, records).await;
    for _ in 1..tries {
        if problems.is_empty() {
            break;
        }
        sleep(TRY_AGAIN).await;
        problems = undo(record, records).await;
    }
    for problem in &problems {
        tracing::error!(attempt = record.attempt, problem, "while rolling back");
    }
    let outcome = Outcome { problems };
    let mut waited = Duration::ZERO;
    // Ended with an error, this process would be started again, and roll back again.
    while let Err(error) = records.write_undone(record.attempt, &outcome) {
        tracing::error!(%error, "cannot write down the end of the roll back: make room on the disk");
        if waited >= RESULT_LIMIT {
            break;
        }
        sleep(RESULT_AGAIN).await;
        waited += RESULT_AGAIN;
    }
    Ok(())
}

/// Keeps the machine awake: the clock of all limits stands still while it sleeps, with a system
/// that nobody has confirmed. Where there is no logind to ask, it sleeps.
fn stay_awake(record: &ArmedRecord, os: &dyn Os) -> Option<Box<dyn Program>> {
    if record.runner == Runner::Direct {
        return None;
    }
    let mut inhibit = command::program("systemd-inhibit");
    inhibit.args([
        "--what=sleep",
        "--mode=block",
        "--who=Herald",
        "--why=A new system is confirmed",
    ]);
    inhibit.args(["sleep", "infinity"]);
    let started = os.start(&mut inhibit);
    started.inspect_err(|error| tracing::warn!(%error, "cannot keep the machine awake")).ok()
}

/// Waits for the record's time. Gives false where there is nothing to do any more.
async fn wait_until_due(records: &Records, record: &ArmedRecord) -> bool {
    let attempt = record.attempt;
    let due = Monotonic::from_millis(record.dead_man_at);
    loop {
        let now = records.os().monotonic();
        match records.holder(attempt) {
            Claim::Armed if now >= due => match records.claim_for_dead_man(attempt) {
                Ok(()) => return true,
                Err(NotClaimed::Lost { .. }) => continue,
                // A disk that went read-only must not keep the unconfirmed system running.
                Err(error) => {
                    tracing::error!(attempt, %error, "rolling back without a claim");
                    return true;
                }
            },
            Claim::Armed => {}
            Claim::Commit if now < due.plus(COMMIT_LIMIT) => {}
            // Whoever claimed it may have ended before it was done: the subscriber, or this
            // process before it was started again.
            Claim::Rollback if records.undone(attempt).is_none() => {
                if now >= due {
                    return true;
                }
            }
            Claim::Commit | Claim::Rollback | Claim::None => return false,
        }
        sleep(LOOK.min(due.since(now)).max(Duration::from_millis(20))).await;
    }
}

/// Undoes what the attempt did; each step is tried whatever came of the one before.
async fn undo(record: &ArmedRecord, records: &Records) -> Vec<String> {
    let os = &**records.os();
    let mut problems = Vec::new();
    let mut note = |what: &str, outcome: Result<(), String>| {
        if let Err(error) = outcome {
            problems.push(format!("{what}: {error}"));
        }
    };
    let launcher = Launcher::new(
        records.os().clone(),
        record.runner,
        record.profile_name.clone(),
        records.folder(),
    );
    for role in [Role::Activate, Role::PrepareReboot, Role::Commit] {
        let stopped = launcher.stop(role, record.attempt).await;
        note("stopping what is under way", stopped.map_err(|error| error.to_string()));
    }

    // What somebody else's switch makes of the machine is looked at when it has ended.
    let folder = SwitchFolder::beside(&record.current);
    if !folder.wait_until_free(os, FOREIGN_SWITCH_LIMIT).await {
        let lock = folder.lock();
        note("waiting", Err(format!("another switch has held {} for long", lock.display())));
    }
    let runs = store_path_at(os, &record.current);
    if runs.as_ref().is_some_and(|path| *path != record.target && *path != record.previous) {
        note("looking", Err("another system was activated meanwhile; nothing was touched".into()));
        return problems;
    }
    // An order's limits are about the new system: they must not cut off the way to the old one.
    let limit = record.activate_limit().max(WAY_BACK_LIMIT);
    // What somebody set meanwhile, and names a third system, is theirs.
    let committed = os.read_link(&record.profile).ok() != record.profile_link
        && !record.profile_is_anothers(records.os());
    let boots_target =
        match record.boot_default_link.as_deref().and_then(|link| store_path_at(os, link)) {
            Some(default) => {
                default == record.target && record.boot_default.as_ref() != Some(&default)
            }
            // What can't be read was set if the profile was: that comes first.
            None => committed,
        };
    if record.activates {
        let forgotten = folder.forget_units_unknown_to(os, &record.previous);
        note("clearing the lists of units", forgotten.map_err(|error| error.to_string()));
        let switched = switch(os, &record.previous, "test", limit).await;
        note("activating the previous system", switched);
    }
    if let Some(reboot) = &record.reboot {
        note("telling the boot loader", reboot.loader.boot_the_default(os).await);
        let removed = remove_profile(os, &reboot.own_profile);
        note("removing the entry of the boot loader", removed.map_err(|error| error.to_string()));
    }
    // Of a reboot always: the old system's `boot` was run, and may have changed the default.
    if boots_target || record.reboot.is_some() {
        // Where the boot loader can't be read: what the profile said is what it was told last.
        let generation =
            || store_path_at(os, &record.profile.parent()?.join(record.profile_link.as_ref()?));
        let default = record.boot_default.clone().or_else(generation);
        let default = default.unwrap_or_else(|| record.previous.clone());
        let switched = switch(os, &default, "boot", limit).await;
        note("restoring the boot default", switched);
    }
    // Last, as the profile says whether there was a commit: a roll back that is cut off before this
    // restores the boot default when it is done again.
    if committed {
        let restored = restore_profile(os, record);
        note("restoring the profile", restored.map_err(|error| error.to_string()));
    }
    // What was booted is left by booting again; the default is the previous system.
    if let Some(reboot) = record.reboot.as_ref().filter(|_| runs.as_ref() == Some(&record.target)) {
        let asked = restart(os, &reboot.command).await;
        if asked.is_ok() {
            sleep(RESTART_LIMIT).await;
        }
        note("restarting the machine", asked.and(Err("it does not restart".into())));
        return problems;
    }
    note("starting the previous subscriber", restart_subscriber(os, record).await);
    problems
}

/// Starts the previous system's subscriber, where it is another one. It may be the new one that
/// runs, or none that can.
async fn restart_subscriber(os: &dyn Os, record: &ArmedRecord) -> Result<(), String> {
    let Some(unit) = own_unit::to_restart(os, record) else { return Ok(()) };
    // The subscriber rolls back itself only where it can start no process for that.
    if own_unit::of_this_process(os).as_ref() == Some(unit) {
        return Ok(());
    }
    own_unit::restart(os, unit).await.map_err(|error| error.to_string())
}

async fn switch(
    os: &dyn Os,
    toplevel: &StorePath,
    verb: &str,
    limit: Duration,
) -> Result<(), String> {
    let mut program = command::program(toplevel.as_path().join(SWITCH_PROGRAM));
    // The check asks whether this is a NixOS machine; it must not keep the way back shut.
    program.arg(verb).env("NIXOS_NO_CHECK", "1");
    let outcome = os.run(&mut program, limit).await;
    outcome.map(drop).map_err(|error| error.to_string())
}

/// Points the profile at the generation of before, by replacing the link.
fn restore_profile(os: &dyn Os, record: &ArmedRecord) -> io::Result<()> {
    let Some(before) = &record.profile_link else { return Ok(()) };
    let generation = record.profile.parent().unwrap_or(Path::new("/")).join(before);
    if store_path_at(os, &generation).is_none() {
        // Somebody removed old generations meanwhile; the system itself is kept.
        let system = record.boot_default.as_ref().filter(|path| os.exists(path.as_path()));
        os.symlink(system.unwrap_or(&record.previous).as_path(), &generation)?;
    }
    let temporary: &Path = &record.profile.with_extension("herald-new");
    let _ = os.remove(temporary);
    os.symlink(before, temporary)?;
    durable::rename(os, temporary, &record.profile)
}
