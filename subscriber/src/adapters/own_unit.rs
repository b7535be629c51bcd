//! The subscriber's own unit: which it is, whether two systems differ in it, and starting it anew.
//!
//! A switch program leaves it alone (`X-RestartIfChanged=false`), as it would otherwise stop the
//! subscriber that waits for it. So whoever ran the switch program starts the subscriber of the new
//! system afterwards, which is then the one that has to prove itself.

use std::path::{Path, PathBuf};

use herald_core::ActivationEnd;
use herald_proto::{host::UnitName, store_path::StorePath};

use super::{
    command::{self, CommandFailed},
    launcher::systemctl,
    record::ArmedRecord,
};
use crate::os::Os;

/// The exit status with which switch-to-configuration says that units failed: only the checks of
/// the new system tell what to think of that.
const UNITS_FAILED: i32 = 4;
/// Where a system keeps its units.
pub(super) const UNITS: &str = "etc/systemd/system";

/// Names the unit that this process belongs to, if systemd has put it into a service (cgroups(7)).
pub fn of_this_process(os: &dyn Os) -> Option<UnitName> {
    let cgroups = String::from_utf8(os.read(Path::new("/proc/self/cgroup")).ok()?).ok()?;
    let unified = cgroups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let unit = Path::new(unified).file_name()?.to_str()?;
    unit.ends_with(".service").then(|| unit.parse().ok()).flatten()
}

/// Gives the subscriber's unit where the end of an activation calls for another subscriber: the two
/// systems differ in it, and the new one may yet be confirmed.
pub fn to_restart_after<'a>(
    os: &dyn Os,
    end: &ActivationEnd,
    record: &'a ArmedRecord,
) -> Option<&'a UnitName> {
    let goes_on = matches!(end, ActivationEnd::Exited { status: 0 | UNITS_FAILED, .. });
    to_restart(os, record).filter(|_| goes_on)
}

/// Gives the subscriber's unit where an attempt's two systems differ in it.
pub fn to_restart<'a>(os: &dyn Os, record: &'a ArmedRecord) -> Option<&'a UnitName> {
    let unit = record.subscriber.as_ref()?;
    (record.activates && differs(os, unit, &record.previous, &record.target)).then_some(unit)
}

/// Starts the unit anew, as its file says now, and waits until it is up.
///
/// # Errors
/// When it does not come up, or systemd does not answer.
pub async fn restart(os: &dyn Os, unit: &UnitName) -> Result<(), CommandFailed> {
    // One that has failed too often lately is not started otherwise.
    let mut reset = command::program("systemctl");
    let _ = command::output(os, reset.args(["reset-failed", "--", unit.as_str()])).await;
    systemctl(os, &["restart", "--", unit.as_str()]).await.map(drop)
}

/// Asks systemd to start the unit anew, and does not wait for that: it ends this process.
///
/// # Errors
/// When systemd does not answer.
pub async fn request_restart(os: &dyn Os, unit: &UnitName) -> Result<(), CommandFailed> {
    systemctl(os, &["restart", "--no-block", "--", unit.as_str()]).await.map(drop)
}

/// Tells whether two systems differ in a unit: in its file, or in those that add to it.
pub fn differs(os: &dyn Os, unit: &UnitName, one: &StorePath, other: &StorePath) -> bool {
    content(os, unit, one) != content(os, unit, other)
}

fn content(os: &dyn Os, unit: &UnitName, toplevel: &StorePath) -> Vec<(PathBuf, Option<Vec<u8>>)> {
    let units = toplevel.as_path().join(UNITS);
    let additions = PathBuf::from(format!("{unit}.d"));
    let names = os.list(&units.join(&additions)).unwrap_or_default();
    let mut files: Vec<PathBuf> = names.iter().map(|name| additions.join(name)).collect();
    files.sort();
    files.push(unit.as_str().into());
    files
        .into_iter()
        .map(|file| {
            let text = os.read(&units.join(&file)).ok();
            (file, text)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::os::Linux;

    fn system(folder: &Path, letter: &str, files: &[(&str, &str)]) -> StorePath {
        let path = folder.join(format!("{}-nixos-system-a", letter.repeat(32)));
        for (name, text) in files {
            let file = path.join(UNITS).join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        path.to_str().unwrap().parse().unwrap()
    }

    #[test]
    fn systems_differ_in_a_unit_by_its_file_and_by_what_adds_to_it() {
        let folder = tempfile::tempdir().unwrap();
        let unit: UnitName = "herald-subscriber.service".parse().unwrap();
        let file = "herald-subscriber.service";
        let addition = "herald-subscriber.service.d/overrides.conf";
        let one = system(folder.path(), "1", &[(file, "a"), ("web.service", "a")]);
        let same = system(folder.path(), "2", &[(file, "a"), ("web.service", "b")]);
        let changed = system(folder.path(), "3", &[(file, "b")]);
        let added = system(folder.path(), "4", &[(file, "a"), (addition, "c")]);
        let without = system(folder.path(), "5", &[]);
        assert!(!differs(&Linux, &unit, &one, &same));
        assert!(differs(&Linux, &unit, &one, &changed));
        assert!(differs(&Linux, &unit, &one, &added));
        assert!(differs(&Linux, &unit, &one, &without));
        assert!(!differs(&Linux, &unit, &without, &without));
    }
}
