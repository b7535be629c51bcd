//! Which keys were trusted here, and which of them count for nothing any more.
//!
//! A key that a committed system removes is revoked on this host for good: neither a roll back nor
//! an old generation that somebody boots, nor a later system that lists it again, brings it back. Who
//! wants its holder back makes a new key, which costs nothing.
//!
//! A trust that was in force here before is no news: going back to it removes no key that came later.

use std::{
    io,
    path::{Path, PathBuf},
};

use herald_proto::{
    id::TrustDigest,
    key::{KeyId, PublicKey},
    trust::{Role, Trust},
};

use crate::{durable, os::Os};

/// How many different trusts are remembered, the latest last.
const MOST_TRUSTS: usize = 256;

/// What stands above the file's content: a person may have to read it.
const HEAD: &str = "# Written by herald-subscriber: the trust that committed systems brought, and the \
                    keys that\n# they have removed. A key in [revoked] signs nothing here any more.\n";

/// The keys that a host has seen come and go. It is durable once it was saved.
#[derive(Debug)]
pub struct Revocations {
    file: PathBuf,
    seen: Seen,
    is_stored: bool,
}

#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Seen {
    /// The digests of all trusts that were in force with a committed system.
    trusts: Vec<TrustDigest>,
    /// The keys of the one that came last.
    trusted: Keys,
    revoked: Keys,
}

#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    release: Vec<PublicKey>,
    rollout: Vec<PublicKey>,
}

/// The file can't be read, or be moved aside.
#[derive(Debug, thiserror::Error)]
#[error("cannot use {}: check the disk, and that this user owns it", path.display())]
pub struct Unusable {
    path: PathBuf,
    source: io::Error,
}

impl Revocations {
    /// Reads the file; one that is not there is that of a host which has seen nothing yet. A damaged
    /// one is kept beside it, and said in the log: a host that did not start would be no safer.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn open(os: &dyn Os, file: PathBuf) -> Result<Self, Unusable> {
        let unusable = |path: &Path, source| Unusable { path: path.to_owned(), source };
        let bytes = match os.read(&file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Self { file, seen: Seen::default(), is_stored: true });
            }
            read => read.map_err(|source| unusable(&file, source))?,
        };
        if let Some(seen) = std::str::from_utf8(&bytes).ok().and_then(|t| toml::from_str(t).ok()) {
            return Ok(Self { file, seen, is_stored: true });
        }
        let aside = file.with_extension("damaged");
        tracing::error!(file = %file.display(), kept = %aside.display(), "which keys are revoked is not known any more: the file is damaged");
        durable::rename(os, &file, &aside).map_err(|source| unusable(&file, source))?;
        Ok(Self { file, seen: Seen::default(), is_stored: true })
    }

    /// Gives a trust without the keys that are revoked.
    pub fn applied_to(&self, trust: Trust) -> Trust {
        let Keys { release, rollout } = &self.seen.revoked;
        trust.without(|id| has(release, id), |id| has(rollout, id))
    }

    /// Takes in the trust of a system that is committed, and gives the keys that are revoked by that.
    pub fn take(&mut self, trust: &Trust) -> Vec<PublicKey> {
        let digest = trust.digest();
        if self.seen.trusts.contains(&digest) {
            return Vec::new();
        }
        self.is_stored = false;
        self.seen.trusts.push(digest);
        let surplus = self.seen.trusts.len().saturating_sub(MOST_TRUSTS);
        self.seen.trusts.drain(..surplus);
        let Seen { trusted, revoked, .. } = &mut self.seen;
        let mut gone = revoke(&mut trusted.release, &mut revoked.release, Some(trust.release()));
        gone.extend(revoke(&mut trusted.rollout, &mut revoked.rollout, trust.rollout()));
        gone
    }

    /// Makes durable what was taken in; does nothing where it is.
    ///
    /// # Errors
    /// What the file system said.
    pub fn save(&mut self, os: &dyn Os) -> io::Result<()> {
        if self.is_stored {
            return Ok(());
        }
        let text = toml::to_string(&self.seen).map_err(io::Error::other)?;
        durable::write(os, &self.file, format!("{HEAD}{text}").as_bytes())?;
        self.is_stored = true;
        Ok(())
    }
}

/// Replaces the keys of a role, and gives those that are gone and were not before.
fn revoke(
    trusted: &mut Vec<PublicKey>,
    revoked: &mut Vec<PublicKey>,
    role: Option<&Role>,
) -> Vec<PublicKey> {
    let listed: Vec<PublicKey> = role.into_iter().flat_map(Role::listed).cloned().collect();
    let before = std::mem::replace(trusted, listed);
    let is_gone = |key: &PublicKey| !has(trusted, key.id()) && !has(revoked, key.id());
    let gone: Vec<PublicKey> = before.into_iter().filter(is_gone).collect();
    revoked.extend(gone.iter().cloned());
    gone
}

fn has(keys: &[PublicKey], id: KeyId) -> bool {
    keys.iter().any(|key| key.id() == id)
}

#[cfg(test)]
mod tests {
    use herald_proto::key::SecretKey;

    use super::*;
    use crate::os::Linux;

    fn key(n: u8) -> String {
        let name = format!("k{n}").parse().unwrap();
        SecretKey::from_seed(name, &[n; 32]).unwrap().public().to_string()
    }

    fn trust(release: &[u8], rollout: &[u8]) -> Trust {
        let role = |name: &str, keys: &[u8]| {
            let keys: Vec<_> = keys.iter().map(|n| key(*n)).collect();
            format!("[{name}]\nthreshold = 1\nkeys = {keys:?}\n")
        };
        let rollout = if rollout.is_empty() { String::new() } else { role("rollout", rollout) };
        let text = format!("fleet = \"home\"\n{}{rollout}", role("release", release));
        Trust::from_toml(&text).unwrap()
    }

    fn names(keys: &[PublicKey]) -> Vec<String> {
        keys.iter().map(|key| key.name().to_string()).collect()
    }

    fn counting(seen: &Revocations, trust: Trust) -> Vec<String> {
        let trust = seen.applied_to(trust);
        let mut names: Vec<_> = trust.release().keys().map(|key| key.name().to_string()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_removed_key_stays_revoked_in_an_old_trust_and_in_a_new_one_that_lists_it_again() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("trust.seen");
        let mut seen = Revocations::open(&Linux, file.clone()).unwrap();
        assert!(seen.take(&trust(&[1, 2], &[])).is_empty(), "the first removes nothing");
        assert_eq!(names(&seen.take(&trust(&[2, 3], &[]))), ["k1"]);
        assert!(seen.take(&trust(&[2, 3], &[])).is_empty());
        seen.save(&Linux).unwrap();

        let mut seen = Revocations::open(&Linux, file).unwrap();
        assert_eq!(counting(&seen, trust(&[1, 2], &[])), ["k2"]);
        assert_eq!(counting(&seen, trust(&[1, 2, 4], &[])), ["k2", "k4"]);
        // Going back removes nothing that came later.
        assert!(seen.take(&trust(&[1, 2], &[])).is_empty());
        assert_eq!(counting(&seen, trust(&[2, 3], &[])), ["k2", "k3"]);
        // A new trust that lists it again does not revive it, and removes what it lacks.
        assert_eq!(names(&seen.take(&trust(&[1, 2, 4], &[]))), ["k3"]);
        assert_eq!(counting(&seen, trust(&[1, 2, 3, 4], &[])), ["k2", "k4"]);
    }

    #[test]
    fn a_key_that_changes_its_role_can_t_come_back_to_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let mut seen = Revocations::open(&Linux, folder.path().join("trust.seen")).unwrap();
        seen.take(&trust(&[1, 2], &[3]));
        assert_eq!(names(&seen.take(&trust(&[2], &[1]))), ["k1", "k3"]);
        let now = seen.applied_to(trust(&[2], &[1]));
        assert_eq!(now.rollout().unwrap().keys().count(), 1, "it has its new role");
        let before = seen.applied_to(trust(&[1, 2], &[3]));
        assert_eq!(before.release().keys().count(), 1);
        assert_eq!(before.rollout().unwrap().keys().count(), 0);
    }

    #[test]
    fn what_is_remembered_of_trusts_is_bounded_and_of_revoked_keys_all_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let mut seen = Revocations::open(&Linux, folder.path().join("trust.seen")).unwrap();
        for first in 1..=100 {
            for second in (first + 1)..=105 {
                seen.take(&trust(&[first, second], &[]));
            }
        }
        assert_eq!(seen.seen.trusts.len(), MOST_TRUSTS);
        assert!(seen.seen.revoked.release.len() <= 105);
        assert_eq!(counting(&seen, trust(&[1, 105], &[])), Vec::<String>::new());
    }

    #[test]
    fn a_damaged_file_is_kept_aside_and_does_not_keep_the_host_from_starting() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("trust.seen");
        std::fs::write(&file, b"trusts = [").unwrap();
        let seen = Revocations::open(&Linux, file.clone()).unwrap();
        assert_eq!(counting(&seen, trust(&[1], &[])), ["k1"]);
        assert!(!file.exists() && file.with_extension("damaged").exists());
    }
}
