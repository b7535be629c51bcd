//! Has old generations deleted, by a process that outlives the subscriber.

use std::{ffi::OsString, sync::Arc, time::Duration};

use herald_core::{Attempt, Cause, Failure};
use herald_proto::{host::ProfileName, rejection::Code};
use tokio::time::sleep;

use super::{
    launcher::{Launcher, Role},
    record::Records,
};
use crate::{
    config::{Profile, Runner},
    ports::{Pending, Prune},
    retention::{Generations, Job},
};

/// How often its end is looked for.
const LOOK: Duration = Duration::from_millis(200);

/// Deletes old generations of one profile.
pub struct Pruner {
    profile: Profile,
    generations: Generations,
    launcher: Launcher,
    records: Records,
}

impl Pruner {
    /// Makes the pruner of a profile, with its state folder.
    pub fn new(
        name: &ProfileName,
        profile: &Profile,
        runner: Runner,
        generations: Generations,
        records: Records,
    ) -> Self {
        let launcher =
            Launcher::new(Arc::clone(records.os()), runner, name.clone(), records.folder());
        Self { profile: profile.clone(), generations, launcher, records }
    }

    fn job(&self, attempt: &Attempt) -> Job {
        let Profile { profile, current, booted, boot_default } = &self.profile;
        let target = &attempt.order.target().toplevel;
        Job {
            profile: profile.clone(),
            target: target.clone(),
            made: attempt.baseline.profile.as_ref() != Some(target),
            generations: self.generations,
            previous: attempt.baseline.previous.clone(),
            links: [current, booted].into_iter().chain(boot_default).cloned().collect(),
        }
    }

    async fn try_prune(&self, attempt: &Attempt) -> Result<(), String> {
        let number = attempt.number;
        let job = serde_json::to_string(&self.job(attempt)).map_err(|error| error.to_string())?;
        let folder = self.records.folder().into();
        let args: [OsString; 7] = [
            "prune".into(),
            "--folder".into(),
            folder,
            "--attempt".into(),
            number.to_string().into(),
            "--job".into(),
            job.into(),
        ];
        let started = self.launcher.start(Role::Prune, number, args.into()).await;
        started.map_err(|error| error.to_string())?;
        while self.launcher.is_running(Role::Prune, number).await {
            sleep(LOOK).await;
        }
        let outcome = self.records.pruned(number);
        let problems = outcome.ok_or("deleting generations ended without a result")?.problems;
        if problems.is_empty() { Ok(()) } else { Err(problems.join("; ")) }
    }
}

impl Prune for Pruner {
    fn prune<'a>(&'a self, attempt: &'a Attempt) -> Pending<'a, Result<(), Failure>> {
        Box::pin(async move {
            if self.generations == Generations::All {
                return Ok(());
            }
            let pruned = self.try_prune(attempt).await;
            self.records.remove(attempt.number);
            pruned.map_err(|problem| {
                let detail = format!("old generations were not deleted: {problem}");
                Failure { cause: Cause::new(Code::NotPruned, &detail), retry: false }
            })
        })
    }
}
