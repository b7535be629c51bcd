//! The folder in which switch programs keep their lock, and the lists of units that one which is
//! cut off leaves to the next: `/run/nixos`.

use std::{
    ffi::OsStr,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use herald_proto::store_path::StorePath;
use tokio::time::sleep;

use super::own_unit::UNITS;
use crate::os::Os;

/// How long a switch that somebody else began is waited for. It is well within what the core gives
/// to a commit or a roll back beside the switch programs themselves.
pub const FOREIGN_SWITCH_LIMIT: Duration = Duration::from_secs(45);
/// How often the lock is looked at.
const LOOK: Duration = Duration::from_millis(250);
/// The kinds of units that generators make, so that no system has a file of them.
const GENERATED: [&str; 3] = [".mount", ".automount", ".swap"];

/// The folder of one machine.
#[derive(Debug, Clone)]
pub struct SwitchFolder(PathBuf);

impl SwitchFolder {
    /// Names the folder, which is beside the link to what runs.
    pub fn beside(current: &Path) -> Self {
        Self(current.with_file_name("nixos"))
    }

    /// Gives the lock's file, which every switch program locks (flock(2)) while it is at work.
    pub fn lock(&self) -> PathBuf {
        self.0.join("switch-to-configuration.lock")
    }

    /// Tells whether a switch program is at work. Where nothing can be told, the switch program
    /// that is started next will say.
    pub fn is_busy(&self, os: &dyn Os) -> bool {
        os.is_locked(&self.lock())
    }

    /// Waits until no switch program is at work; gives false when that took too long.
    pub async fn wait_until_free(&self, os: &dyn Os, limit: Duration) -> bool {
        let mut waited = Duration::ZERO;
        while self.is_busy(os) {
            if waited >= limit {
                return false;
            }
            sleep(LOOK).await;
            waited += LOOK;
        }
        true
    }

    /// Takes those units off the lists that a system lacks: its switch program would try to start
    /// them, and fail.
    ///
    /// # Errors
    /// What the file system said.
    pub fn forget_units_unknown_to(&self, os: &dyn Os, toplevel: &StorePath) -> io::Result<()> {
        let units = toplevel.as_path().join(UNITS);
        let Ok(names) = os.list(&self.0) else { return Ok(()) };
        if !os.exists(&units) {
            return Ok(());
        }
        for name in names.iter().filter(|name| is_list(name)) {
            let path = self.0.join(name);
            let list = String::from_utf8(os.read(&path)?).map_err(io::Error::other)?;
            let (known, unknown): (Vec<_>, Vec<_>) =
                list.lines().partition(|unit| is_known(os, &units, unit));
            if !unknown.is_empty() {
                tracing::info!(list = ?name, ?unknown, "forgetting units that a cut off switch has left");
                let known: String = known.iter().map(|unit| format!("{unit}\n")).collect();
                os.replace(&path, known.as_bytes())?;
            }
        }
        Ok(())
    }
}

fn is_list(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| name.ends_with("-list"))
}

fn is_known(os: &dyn Os, units: &Path, unit: &str) -> bool {
    let template = || {
        let (prefix, instance) = unit.split_once('@')?;
        let (_, kind) = instance.rsplit_once('.')?;
        Some(units.join(format!("{prefix}@.{kind}")))
    };
    // A unit may be a link to a file that is there in the running system only.
    let has = |path: PathBuf| os.exists(&path) || os.read_link(&path).is_ok();
    GENERATED.iter().any(|kind| unit.ends_with(kind))
        || has(units.join(unit))
        || template().is_some_and(has)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use super::*;
    use crate::os::Linux;

    fn folder() -> (tempfile::TempDir, SwitchFolder) {
        let machine = tempfile::tempdir().unwrap();
        fs::create_dir(machine.path().join("nixos")).unwrap();
        let folder = SwitchFolder::beside(&machine.path().join("current-system"));
        (machine, folder)
    }

    #[test]
    fn a_switch_is_at_work_for_as_long_as_its_lock_is_held() {
        let (_machine, folder) = folder();
        assert!(!folder.is_busy(&Linux), "there was no switch yet");
        let lock = File::create(folder.lock()).unwrap();
        assert!(!folder.is_busy(&Linux));
        lock.lock().unwrap();
        assert!(folder.is_busy(&Linux));
        drop(lock);
        assert!(!folder.is_busy(&Linux));
    }

    #[tokio::test]
    async fn waiting_for_a_foreign_switch_ends() {
        let (_machine, folder) = folder();
        let lock = File::create(folder.lock()).unwrap();
        lock.lock().unwrap();
        assert!(!folder.wait_until_free(&Linux, Duration::ZERO).await);
        let end = async {
            tokio::task::yield_now().await;
            drop(lock);
        };
        let (free, ()) = tokio::join!(folder.wait_until_free(&Linux, FOREIGN_SWITCH_LIMIT), end);
        assert!(free);
    }

    #[test]
    fn only_units_that_the_system_has_or_that_are_generated_stay_on_the_lists() {
        let (machine, folder) = folder();
        let toplevel = machine.path().join(format!("{}-nixos-system-a", "0".repeat(32)));
        fs::create_dir_all(toplevel.join(UNITS)).unwrap();
        for unit in ["web.service", "worker@.service"] {
            fs::write(toplevel.join(UNITS).join(unit), "").unwrap();
        }
        let toplevel = toplevel.to_str().unwrap().parse().unwrap();
        let list = machine.path().join("nixos/start-list");
        fs::write(
            &list,
            "web.service\nnew.service\nworker@2.service\nother@2.service\nsrv.mount\n",
        )
        .unwrap();
        fs::write(folder.lock(), "new.service\n").unwrap();
        folder.forget_units_unknown_to(&Linux, &toplevel).unwrap();
        assert_eq!(
            fs::read_to_string(&list).unwrap(),
            "web.service\nworker@2.service\nsrv.mount\n"
        );
        assert_eq!(fs::read_to_string(folder.lock()).unwrap(), "new.service\n", "it is no list");
    }
}
