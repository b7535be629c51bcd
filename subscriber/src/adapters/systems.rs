//! Which systems the machine's links name, and which units are failed.

use std::{
    cell::Cell,
    path::{Path, PathBuf},
    rc::Rc,
};

use herald_core::Seen;
use herald_proto::{host::UnitName, store_path::StorePath, text::Prose};

use super::{command::CommandFailed, launcher::systemctl, reboot_need::reboot_needed};
use crate::{
    config::{Profile, Runner},
    os::{Os, System},
    ports::{Machine, Pending},
};

/// Looks at one profile's machine.
pub struct Systems {
    /// The system that is looked at.
    pub os: System,
    /// Where the links are.
    pub profile: Profile,
    /// Whether there is a systemd to ask.
    pub runner: Runner,
    /// Whether the broker is connected.
    pub connected: Rc<Cell<bool>>,
}

impl Machine for Systems {
    fn seen(&self) -> Pending<'_, Seen> {
        Box::pin(async {
            let failed_units = match self.runner {
                Runner::Systemd => failed_units(&*self.os)
                    .await
                    .inspect_err(
                        |error| tracing::warn!(%error, "cannot ask systemd for failed units"),
                    )
                    .ok(),
                Runner::Direct => Some(Vec::new()),
            };
            let at = |link: &Path| store_path_at(&*self.os, link);
            Seen {
                running: at(&self.profile.current),
                booted: at(&self.profile.booted),
                boot_default: self.profile.boot_default.as_deref().and_then(at),
                profile: at(&self.profile.profile),
                failed_units,
                connected: self.connected.get(),
            }
        })
    }

    fn reboot_needed(&self, toplevel: &StorePath) -> Option<Prose> {
        reboot_needed(&self.profile.booted, &self.profile.current, toplevel.as_path())
    }
}

/// Follows links until one names a store path.
pub fn store_path_at(os: &dyn Os, link: &Path) -> Option<StorePath> {
    /// A profile is a link to a generation, which is a link to the store; more is not expected.
    const MOST_LINKS: usize = 8;
    let mut at: PathBuf = link.to_owned();
    for _ in 0..MOST_LINKS {
        let next = os.read_link(&at).ok()?;
        if let Some(path) = next.to_str().and_then(|text| text.parse().ok()) {
            return Some(path);
        }
        at = at.parent()?.join(next);
    }
    None
}

/// Lists the units that are failed.
///
/// # Errors
/// When systemd does not answer.
pub async fn failed_units(os: &dyn Os) -> Result<Vec<UnitName>, CommandFailed> {
    let ask = ["list-units", "--state=failed", "--plain", "--no-legend", "--no-pager"];
    let listed = systemctl(os, &ask).await?;
    let names = listed.lines().filter_map(|line| line.split_whitespace().next()?.parse().ok());
    Ok(names.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::Linux;

    #[test]
    fn a_profile_is_followed_through_its_generation_and_loops_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = "/nix/store/0123456789abcdfghijklmnpqrsvwxyz-nixos-system-a-1";
        let link = |name: &str, to: &str| {
            std::os::unix::fs::symlink(to, folder.path().join(name)).unwrap();
            folder.path().join(name)
        };
        link("system-1-link", path);
        let profile = link("system", "system-1-link");
        assert_eq!(store_path_at(&Linux, &profile).unwrap().as_str(), path);
        let a = link("a", "b");
        link("b", "a");
        assert_eq!(store_path_at(&Linux, &a), None);
        assert_eq!(store_path_at(&Linux, &folder.path().join("none")), None);
    }
}
