//! Which keys were trusted here, and which of them count for nothing any more.
//!
//! A key that a committed system removes is revoked on this host for good: neither a roll back nor
//! an old generation that somebody boots, nor a later system that lists it again, brings it back. Who
//! wants its holder back makes a new key, which costs nothing.
//!
//! A trust that was in force here before is no news: going back to it removes no key that came later.
//!
//! Where the file is damaged nobody knows which keys are revoked, and no key counts until somebody at
//! the host has put it right.

use std::{io, path::PathBuf};

use herald_proto::{
    id::{MessageDigest, TrustDigest},
    key::{KeyId, PublicKey},
    trust::{Role, Trust},
};

use crate::{durable, os::Os};

/// How many different trusts are remembered, the latest last.
const MOST_TRUSTS: usize = 256;

/// What stands above the file's content: a person may have to read it.
const HEAD: &str = "# Written by herald-subscriber: the trust that committed systems brought, and the \
                    keys that\n# they have removed. A key in [revoked] signs nothing here any more. Who \
                    changes this file\n# by hand removes the line with the checksum.\n";
/// What stands before the SHA-256 of all that follows its line.
const CHECKSUM: &str = "checksum = ";

/// The keys that a host has seen come and go. It is durable once it was saved.
#[derive(Debug)]
pub struct Revocations {
    file: PathBuf,
    seen: Seen,
    is_stored: bool,
    /// The file is damaged, and stays as it is.
    is_damaged: bool,
}

#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Seen {
    /// None where a person has changed the file, or a version wrote it that had none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    checksum: Option<MessageDigest>,
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

/// The file can't be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot use {}: check the disk, and that this user owns it", path.display())]
pub struct Unusable {
    path: PathBuf,
    source: io::Error,
}

/// Nobody knows which keys are revoked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "which keys were revoked on this host is not known, as {} is damaged, and none counts: put it right \
     at the host, or remove it if no key ever had to go, and restart the subscriber",
    path.display()
)]
pub struct Forgotten {
    path: PathBuf,
}

impl Revocations {
    /// Reads the file; one that is not there is that of a host which has seen nothing yet. A damaged
    /// one stays, for somebody to look at it.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn open(os: &dyn Os, file: PathBuf) -> Result<Self, Unusable> {
        let bytes = match os.read(&file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Self::of(file, Some(Seen::default())));
            }
            read => read.map_err(|source| Unusable { path: file.clone(), source })?,
        };
        let opened = Self::of(file, Seen::read(&bytes));
        if let Err(problem) = opened.check() {
            tracing::error!("{problem}");
        }
        Ok(opened)
    }

    fn of(file: PathBuf, seen: Option<Seen>) -> Self {
        let is_damaged = seen.is_none();
        Self { file, seen: seen.unwrap_or_default(), is_stored: true, is_damaged }
    }

    /// Tells whether it is known which keys are revoked.
    ///
    /// # Errors
    /// When it is not.
    pub fn check(&self) -> Result<(), Forgotten> {
        if self.is_damaged { Err(Forgotten { path: self.file.clone() }) } else { Ok(()) }
    }

    /// Gives a trust without the keys that are revoked.
    pub fn applied_to(&self, trust: Trust) -> Trust {
        let Keys { release, rollout } = &self.seen.revoked;
        let all = self.is_damaged;
        trust.without(|id| all || has(release, id), |id| all || has(rollout, id))
    }

    /// Takes in the trust of a system that is committed, and gives the keys that are revoked by that.
    pub fn take(&mut self, trust: &Trust) -> Vec<PublicKey> {
        let digest = trust.digest();
        if self.is_damaged || self.seen.trusts.contains(&digest) {
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
        let checksum = MessageDigest::of(text.as_bytes());
        let text = format!("{HEAD}{CHECKSUM}\"{checksum}\"\n{text}");
        durable::write(os, &self.file, text.as_bytes())?;
        self.is_stored = true;
        Ok(())
    }
}

impl Seen {
    /// Reads what is in a file; nothing where it is damaged.
    fn read(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let seen: Self = toml::from_str(text).ok()?;
        let Some(checksum) = seen.checksum else { return Some(seen) };
        let (_, line) = text.split_once(CHECKSUM)?;
        let (_, content) = line.split_once('\n')?;
        (MessageDigest::of(content.as_bytes()) == checksum)
            .then_some(Self { checksum: None, ..seen })
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
    fn a_damaged_file_leaves_no_key_that_counts_until_somebody_has_put_it_right() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("trust.seen");
        let open = || Revocations::open(&Linux, file.clone()).unwrap();
        let mut seen = open();
        seen.take(&trust(&[1, 2], &[3]));
        seen.take(&trust(&[2], &[3]));
        seen.save(&Linux).unwrap();
        let good = std::fs::read_to_string(&file).unwrap();
        let content = good.find("trusts").unwrap();
        for at in content..good.len() {
            let mut bad = good.clone().into_bytes();
            bad[at] ^= 1;
            assert!(Seen::read(&bad).is_none(), "a flipped bit at {at}");
            assert!(Seen::read(&good.as_bytes()[..at]).is_none(), "cut off at {at}");
        }

        let bad = &good.as_bytes()[..good.len() - 10];
        std::fs::write(&file, bad).unwrap();
        for _ in 0..2 {
            let mut seen = open();
            assert!(seen.check().unwrap_err().to_string().contains("is damaged"));
            assert_eq!(counting(&seen, trust(&[1, 2, 4], &[3])), Vec::<String>::new());
            let rollout = seen.applied_to(trust(&[2], &[3]));
            assert_eq!(rollout.rollout().unwrap().keys().count(), 0);
            // Nor is it forgotten by what is committed meanwhile.
            assert!(seen.take(&trust(&[1], &[])).is_empty());
            seen.save(&Linux).unwrap();
            assert_eq!(std::fs::read(&file).unwrap(), bad);
        }

        // By hand, without the checksum.
        let line = good.lines().find(|line| line.starts_with(CHECKSUM)).unwrap();
        std::fs::write(&file, good.replace(&format!("{line}\n"), "")).unwrap();
        assert_eq!(open().check(), Ok(()));
        assert_eq!(counting(&open(), trust(&[1, 2], &[])), ["k2"]);
    }
}
