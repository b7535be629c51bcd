//! Activating, committing and rolling back a real system.

use std::{ffi::OsString, io, path::PathBuf, sync::Arc, time::Duration};

use herald_core::{
    ActivationEnd, Attempt, Cause, Claim, Failure, Found, Monotonic, Procedure, RunnerTrace,
};
use herald_proto::{host::ProfileName, rejection::Code, store_path::StorePath, text::Prose};
use tokio::time::sleep;

use super::{
    command::{self, CommandFailed},
    launcher::{Launcher, Role},
    own_unit,
    record::{ArmedRecord, NotClaimed, Outcome, Records},
    switch_folder::SwitchFolder,
    toplevel_mark,
};
use crate::{
    config::{Profile, Restart, Runner},
    durable,
    os::{Os, System},
    ports::{Activation, Pending},
    prepare_reboot::remove_profile,
    roll_back::undo_once,
    room::Room,
};

/// How often a result is looked for: after a tenth of the time that has passed, within bounds.
const FIRST_LOOK: Duration = Duration::from_millis(2);
const LAST_LOOK: Duration = Duration::from_millis(250);
/// How often a roll back that failed is tried again, and after which time.
const TRIES: u32 = 3;
const TRY_AGAIN: Duration = Duration::from_secs(5);

/// The program in a toplevel that activates it.
pub const SWITCH_PROGRAM: &str = "bin/switch-to-configuration";
/// The file in a toplevel that says what a running system can't be switched over.
const INHIBITORS: &str = "switch-inhibitors";
/// How long the new system's own check may take: less than what arming may.
const CHECK_LIMIT: Duration = Duration::from_secs(10);
/// What a switch program says where another one is at work.
const LOCKED: &str = "Could not acquire lock";

/// Activates the systems of one profile.
pub struct Activator {
    name: ProfileName,
    profile: Profile,
    runner: Runner,
    restart: Restart,
    room: Room,
    launcher: Launcher,
    records: Records,
}

impl Activator {
    /// Makes the activator of a profile, with its state folder.
    pub fn new(
        name: &ProfileName,
        profile: &Profile,
        runner: Runner,
        restart: Restart,
        room: Room,
        records: Records,
    ) -> Self {
        let launcher =
            Launcher::new(Arc::clone(records.os()), runner, name.clone(), records.folder());
        let (name, profile) = (name.clone(), profile.clone());
        Self { name, profile, runner, restart, room, launcher, records }
    }

    fn record(&self, attempt: &Attempt, dead_man_at: Option<Monotonic>) -> ArmedRecord {
        let Self { name, profile, runner, restart, .. } = self;
        ArmedRecord::new(self.records.os(), attempt, name, profile, *runner, restart, dead_man_at)
    }

    /// Has the new system booted once, in a process of its own, and waits for its end.
    async fn prepare_reboot(&self, number: u64) -> Result<(), Failure> {
        let failed = |problem: &str| failure(Code::ArmFailed, problem);
        if self.records.prepared(number).is_none() {
            let args = self.arguments("prepare-reboot", number);
            let started = self.launcher.start(Role::PrepareReboot, number, args).await;
            started.map_err(|error| failed(&error.to_string()))?;
        }
        let prepared = || self.records.prepared(number);
        judge("preparing", self.wait_for(&[Role::PrepareReboot], number, prepared).await)
            .map_err(|problem| failed(&problem))
    }

    /// Has the boot loader forget a system that was to be booted once.
    async fn forget_reboot(&self, attempt: u64) {
        let Some(reboot) = self.records.read(attempt).ok().and_then(|record| record.reboot) else {
            return;
        };
        if let Err(error) = self.launcher.stop(Role::PrepareReboot, attempt).await {
            tracing::error!(attempt, %error, "cannot stop what prepares a reboot");
        }
        if let Err(error) = reboot.loader.boot_the_default(&**self.records.os()).await {
            tracing::error!(attempt, %error, "cannot tell the boot loader to take the default");
        }
        if let Err(error) = remove_profile(&**self.records.os(), &reboot.own_profile) {
            tracing::error!(attempt, %error, "cannot remove the entry of the boot loader");
        }
    }

    /// Starts a roll back process: at once, or when a time comes.
    async fn start_roll_back(&self, role: Role, attempt: u64) -> io::Result<()> {
        let mut args = self.arguments("roll-back", attempt);
        if role == Role::DeadMan {
            args.push("--when-due".into());
        }
        self.launcher.start(role, attempt, args).await
    }

    /// Waits until `look` finds something, or the process that would make it is gone.
    async fn wait_for<T>(
        &self,
        roles: &[Role],
        attempt: u64,
        look: impl Fn() -> Option<T>,
    ) -> Option<T> {
        let mut waited = Duration::ZERO;
        loop {
            if let Some(found) = look() {
                return Some(found);
            }
            let mut running = false;
            for role in roles {
                running |= self.launcher.is_running(*role, attempt).await;
            }
            if !running {
                return look();
            }
            let interval = (waited / 10).clamp(FIRST_LOOK, LAST_LOOK);
            sleep(interval).await;
            waited += interval;
        }
    }

    async fn try_commit(&self, attempt: &Attempt) -> Result<(), Failure> {
        let number = attempt.number;
        let failed = |problem: &str| failure(Code::CommitFailed, problem);
        if attempt.procedure.activates() {
            self.records.claim_for_commit(number).map_err(|lost| match lost {
                NotClaimed::Lost { holder: Claim::Rollback, .. } => {
                    failure(Code::DeadMan, "the dead-man rolled back before the commit")
                }
                other => failed(&other.to_string()),
            })?;
        } else if self.records.holder(number) == Claim::None {
            // Nothing was armed, as nothing is activated; a roll back needs the record all the same.
            self.check_toplevels(attempt)?;
            self.check_room(attempt)?;
            let record = self.record(attempt, Some(Monotonic::default()));
            let written = self.records.write(Claim::Commit, &record);
            written.map_err(|error| failed(&error.to_string()))?;
        }
        if attempt.procedure == Procedure::Test {
            return Ok(());
        }
        if self.records.committed(number).is_none() {
            let args = self.arguments("commit", number);
            let started = self.launcher.start(Role::Commit, number, args).await;
            started.map_err(|error| failed(&error.to_string()))?;
        }
        let committed = || self.records.committed(number);
        judge("the commit", self.wait_for(&[Role::Commit], number, committed).await)
            .map_err(|problem| failed(&problem))?;
        self.sync_links().await.map_err(|error| failed(&format!("syncing the disk: {error}")))
    }

    /// Makes profile and boot default durable, before anybody is told of them: neither Nix nor every
    /// boot loader's installer waits for the disk.
    async fn sync_links(&self) -> io::Result<()> {
        let links = [Some(&self.profile.profile), self.profile.boot_default.as_ref()];
        for folder in links.into_iter().flatten().filter_map(|link| link.parent()) {
            self.records.os().sync_all(folder).await?;
        }
        Ok(())
    }

    async fn try_roll_back(&self, attempt: &Attempt) -> Result<(), Failure> {
        let number = attempt.number;
        let failed = |problem: &str| failure(Code::RollbackFailed, problem);
        if self.records.holder(number) == Claim::None {
            let record = self.record(attempt, Some(Monotonic::default()));
            let written = self.records.write(Claim::Rollback, &record);
            written.map_err(|error| failed(&error.to_string()))?;
        }
        self.records.claim_for_rollback(number).map_err(|lost| failed(&lost.to_string()))?;
        if let Err(error) = self.start_roll_back(Role::RollBack, number).await {
            // Better in this process than not at all: its program may have been deleted.
            tracing::error!(%error, "cannot start the roll back as a process of its own");
            let undo = async { undo_once(&self.records.read(number)?, &self.records, 1).await };
            undo.await.map_err(|error| failed(&error.to_string()))?;
        }
        // Until both have ended, whichever was done first: where the disk was too full for their
        // lock, the other one may be in the middle of its switch.
        let still_runs = || None::<()>;
        self.wait_for(&[Role::RollBack, Role::DeadMan], number, still_runs).await;
        judge("the roll back", self.records.undone(number)).map_err(|problem| failed(&problem))?;
        self.sync_links().await.map_err(|error| failed(&format!("syncing the disk: {error}")))
    }

    /// Checks that there is a way forward, and one back.
    fn check_toplevels(&self, attempt: &Attempt) -> Result<(), Failure> {
        let (target, previous) = (&attempt.order.target().toplevel, &attempt.baseline.previous);
        let require = |path, file, code| require(self.records.os(), path, file, code);
        require(previous, SWITCH_PROGRAM, Code::NoWayBack)?;
        require(target, SWITCH_PROGRAM, Code::NotActivatable)?;
        Ok(toplevel_mark::check(&**self.records.os(), target, &self.name)?)
    }

    /// Checks that there is room for what the boot loader gets, now or at the commit.
    fn check_room(&self, attempt: &Attempt) -> Result<(), Failure> {
        let boots = match attempt.procedure {
            Procedure::Switch | Procedure::Boot | Procedure::Reboot => true,
            Procedure::Test | Procedure::DryActivate => false,
        };
        if !boots || self.name != ProfileName::system() {
            return Ok(());
        }
        let checked =
            self.room.for_boot(&**self.records.os(), self.restart.loader.folder(), attempt);
        checked.map_err(|no_room| failure(Code::DiskFull, &no_room.to_string()))
    }

    /// Asks a new system that knows of switch inhibitors whether this one can be switched over; that
    /// touches nothing.
    async fn check_switch(&self, attempt: &Attempt) -> Result<(), Failure> {
        let os = &**self.records.os();
        let target = attempt.order.target().toplevel.as_path();
        let switches = matches!(attempt.procedure, Procedure::Switch | Procedure::Test);
        if !switches || !os.exists(&target.join(INHIBITORS)) {
            return Ok(());
        }
        let mut check = command::program(target.join(SWITCH_PROGRAM));
        match os.run(check.arg("check"), CHECK_LIMIT).await {
            Ok(_) => Ok(()),
            Err(CommandFailed::Failed { stderr, .. }) if !stderr.contains(LOCKED) => {
                let detail = format!("the new system can't be switched to: {stderr}");
                Err(failure(Code::RebootNeeded, &detail))
            }
            Err(error) => Err(failure(Code::ArmFailed, &error.to_string())),
        }
    }

    /// Somebody else's switch must not be cut off, and ours would fail.
    fn check_switch_lock(&self) -> Result<(), Failure> {
        let folder = SwitchFolder::beside(&self.profile.current);
        if !folder.is_busy(&**self.records.os()) {
            return Ok(());
        }
        let lock = folder.lock();
        let problem = format!("another switch is at work, and holds {}", lock.display());
        Err(failure(Code::ArmFailed, &problem))
    }

    fn arguments(&self, subcommand: &str, attempt: u64) -> Vec<OsString> {
        let folder = self.records.folder().into();
        let number = attempt.to_string().into();
        vec![subcommand.into(), "--folder".into(), folder, "--attempt".into(), number]
    }
}

impl Activation for Activator {
    fn arm<'a>(
        &'a self,
        attempt: &'a Attempt,
        dead_man_at: Option<Monotonic>,
    ) -> Pending<'a, Result<(), Failure>> {
        Box::pin(async move {
            self.check_toplevels(attempt)?;
            self.check_switch_lock()?;
            self.check_room(attempt)?;
            self.check_switch(attempt).await?;
            let record = self.record(attempt, dead_man_at);
            let failed = |error: io::Error| {
                let full = durable::is_full(&error);
                let code = if full { Code::DiskFull } else { Code::ArmFailed };
                failure(code, &error.to_string())
            };
            self.records.write(Claim::Armed, &record).map_err(failed)?;
            match (attempt.procedure, dead_man_at) {
                (Procedure::Reboot, _) => self.prepare_reboot(attempt.number).await,
                (_, Some(_)) => {
                    self.start_roll_back(Role::DeadMan, attempt.number).await.map_err(failed)
                }
                (_, None) => Ok(()),
            }
        })
    }

    fn reboot<'a>(&'a self, attempt: &'a Attempt) -> Pending<'a, ()> {
        Box::pin(async move {
            tracing::warn!(attempt = attempt.number, "restarting the machine");
            if let Err(error) = restart(&**self.records.os(), &self.restart.command).await {
                tracing::error!(%error, "cannot restart the machine");
            }
        })
    }

    fn guard<'a>(&'a self, attempt: &'a Attempt, dead_man_at: Monotonic) -> Pending<'a, ()> {
        Box::pin(async move {
            let number = attempt.number;
            tracing::debug!(number, dead_man_at = dead_man_at.as_millis(), "guarding what booted");
            // The record has the same time: it was written for this boot.
            if let Err(error) = self.start_roll_back(Role::DeadMan, number).await {
                tracing::error!(number, %error, "cannot start the dead-man");
            }
        })
    }

    fn disarm(&self, attempt: u64) -> Pending<'_, ()> {
        Box::pin(async move {
            self.forget_reboot(attempt).await;
            if let Err(error) = self.records.withdraw(attempt) {
                tracing::error!(attempt, %error, "cannot take the armed record away");
            }
            if self.records.holder(attempt) != Claim::Rollback
                && let Err(error) = self.launcher.stop(Role::DeadMan, attempt).await
            {
                tracing::error!(attempt, %error, "cannot stop the dead-man");
            }
        })
    }

    fn activate<'a>(
        &'a self,
        attempt: &'a Attempt,
        deadline: Monotonic,
    ) -> Pending<'a, ActivationEnd> {
        Box::pin(async move {
            let number = attempt.number;
            let unknown = |reason: &str| ActivationEnd::Unknown { reason: Prose::lossy(reason) };
            if self.records.result(number).is_none() {
                let verb = match attempt.procedure {
                    Procedure::DryActivate => "dry-activate",
                    _ => "test",
                };
                let program = attempt.order.target().toplevel.as_path().join(SWITCH_PROGRAM);
                let mut args = self.arguments("activate", number);
                args.extend(["--until".into(), deadline.as_millis().to_string().into()]);
                if attempt.procedure.activates() {
                    args.push("--if-armed".into());
                }
                if let Some(log) = self.launcher.log(Role::Activate, number) {
                    args.extend(["--log".into(), log.into()]);
                }
                args.extend(["--".into(), program.into(), verb.into()]);
                if let Err(error) = self.launcher.start(Role::Activate, number, args).await {
                    return unknown(&format!("the switch program could not be started: {error}"));
                }
            }
            let result = || self.records.result(number);
            let Some(end) = self.wait_for(&[Role::Activate], number, result).await else {
                return unknown("the runner ended without a result");
            };
            // Another subscriber has to prove the new system, so this one is not to take the result.
            let record = self.records.read(number).ok();
            if record.is_some_and(|record| {
                own_unit::to_restart_after(&**self.records.os(), &end, &record).is_some()
            }) {
                let never = || None::<()>;
                self.wait_for(&[Role::Activate], number, never).await;
                return unknown("the runner ended without starting the new system's subscriber");
            }
            end
        })
    }

    fn commit<'a>(&'a self, attempt: &'a Attempt) -> Pending<'a, Result<(), Failure>> {
        Box::pin(self.try_commit(attempt))
    }

    fn roll_back<'a>(&'a self, attempt: &'a Attempt) -> Pending<'a, Result<(), Failure>> {
        Box::pin(async move {
            let mut tries = 1;
            loop {
                match self.try_roll_back(attempt).await {
                    Err(failure) if tries < TRIES => {
                        let problem = &failure.cause.detail;
                        tracing::error!(attempt = attempt.number, %problem, "rolling back again");
                    }
                    outcome => return outcome,
                }
                tries += 1;
                sleep(TRY_AGAIN).await;
                self.records.forget_outcomes(attempt.number);
            }
        })
    }

    fn left_over(&self) -> Vec<u64> {
        self.records.attempts()
    }

    fn found(&self, attempt: Option<u64>) -> Pending<'_, Found> {
        Box::pin(async move {
            let Some(attempt) = attempt else {
                return Found { claim: Claim::None, runner: RunnerTrace::None };
            };
            // Whether it runs is asked first: a result that is written meanwhile is not missed.
            let running = self.launcher.is_running(Role::Activate, attempt).await;
            let runner = match self.records.result(attempt) {
                Some(end) => RunnerTrace::Ended(end),
                None if running => RunnerTrace::Running,
                None => RunnerTrace::None,
            };
            // Without its dead-man, which a soft-reboot ends too, an armed record guards nothing.
            let claim = match self.records.holder(attempt) {
                Claim::Armed if !self.launcher.is_running(Role::DeadMan, attempt).await => {
                    Claim::None
                }
                holder => holder,
            };
            Found { claim, runner }
        })
    }

    fn clean_up(&self, attempt: u64) -> Pending<'_, ()> {
        Box::pin(async move {
            for role in Role::ALL {
                if let Err(error) = self.launcher.stop(role, attempt).await {
                    tracing::error!(attempt, %error, "a process of an ended attempt is still there");
                }
            }
            self.records.remove(attempt);
        })
    }
}

/// How long a program that restarts the machine may take: it only asks for it.
const RESTART_LIMIT: Duration = Duration::from_secs(60);

/// Asks for a restart of the machine.
///
/// # Errors
/// What the program said; the machine does not restart then.
pub async fn restart(os: &dyn Os, argv: &[String]) -> Result<(), String> {
    let (program, args) = argv.split_first().ok_or("no program is named")?;
    let mut command = command::program(program);
    let asked = os.run(command.args(args), RESTART_LIMIT).await;
    asked.map(drop).map_err(|error| error.to_string())
}

/// Judges a commit or roll back by what its process wrote down.
fn judge(what: &str, outcome: Option<Outcome>) -> Result<(), String> {
    let problems = outcome.ok_or_else(|| format!("{what} ended without a result"))?.problems;
    if problems.is_empty() { Ok(()) } else { Err(problems.join("; ")) }
}

fn require(os: &System, toplevel: &StorePath, file: &str, code: Code) -> Result<(), Failure> {
    let path: PathBuf = toplevel.as_path().join(file);
    if os.exists(&path) {
        return Ok(());
    }
    let hint = match code {
        Code::NoWayBack => "so there is no way back to what runs",
        _ => "is it a NixOS system with the Herald module?",
    };
    Err(failure(code, &format!("{} does not exist; {hint}", path.display())))
}

fn failure(code: Code, detail: &str) -> Failure {
    Failure { cause: Cause::new(code, detail), retry: false }
}
