//! Which closures were being fetched and are not on the disk for sure.
//!
//! Nix registers a path without waiting for the disk: after a power cut it can take files for whole
//! that are empty (NixOS/nix#1218). So a mark is made before anything is fetched, and taken away
//! when the store was synced. A mark of an earlier boot says that what is in the store can't be
//! believed by its name.

use std::{
    io,
    path::{Path, PathBuf},
};

use herald_proto::{id::BootId, store_path::StorePath};

use crate::{durable, os::Os};

/// The marks, in a folder that all profiles share, as they share the store.
#[derive(Debug, Clone)]
pub struct Unsynced {
    folder: PathBuf,
    boot: BootId,
}

impl Unsynced {
    /// Names the folder, which must be there, and this boot.
    pub fn new(folder: PathBuf, boot: BootId) -> Self {
        Self { folder, boot }
    }

    /// Names the folder for what Nix remembers of caches, which is another one in each boot: Nix
    /// writes it unsynced, and once a power cut has damaged it, fetches nothing any more.
    pub fn cache(&self) -> PathBuf {
        self.caches().join(self.boot.to_string())
    }

    /// Gives the folders that earlier boots remembered things in.
    ///
    /// # Errors
    /// What the file system said.
    pub fn outdated_caches(&self, os: &dyn Os) -> io::Result<Vec<PathBuf>> {
        let names = match os.list(&self.caches()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            names => names?,
        };
        let caches = names.into_iter().map(|name| self.caches().join(name));
        Ok(caches.filter(|cache| *cache != self.cache()).collect())
    }

    fn caches(&self) -> PathBuf {
        self.folder.with_extension("cache")
    }

    /// Tells whether something was being fetched when an earlier boot ended.
    ///
    /// # Errors
    /// What the file system said.
    pub fn from_earlier_boot(&self, os: &dyn Os) -> io::Result<bool> {
        let this_boot = self.boot.to_string();
        for mark in os.list(&self.folder)? {
            match os.read(&self.folder.join(mark)) {
                Ok(boot) if boot == this_boot.as_bytes() => {}
                // Taken away meanwhile, by another profile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                _ => return Ok(true),
            }
        }
        Ok(false)
    }

    /// Marks a closure, durably. A mark that is there already stays as it is: what an earlier boot
    /// left is not good because it is tried again.
    ///
    /// # Errors
    /// What the file system said.
    pub fn mark(&self, os: &dyn Os, toplevel: &StorePath) -> io::Result<()> {
        let mark = self.mark_of(toplevel);
        if os.exists(&mark) {
            return Ok(());
        }
        durable::write(os, &mark, self.boot.to_string().as_bytes())
    }

    /// Takes the mark of a closure away. If a power cut brings it back, the closure is looked at
    /// once more.
    ///
    /// # Errors
    /// What the file system said.
    pub fn clear(&self, os: &dyn Os, toplevel: &StorePath) -> io::Result<()> {
        match os.remove(&self.mark_of(toplevel)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn mark_of(&self, toplevel: &StorePath) -> PathBuf {
        self.folder.join(Path::new(toplevel.base_name()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::Linux;

    fn system(label: &str) -> StorePath {
        let name = format!("/nix/store/0123456789abcdfghijklmnpqrsvwxyz-nixos-system-a-{label}");
        name.parse().unwrap()
    }

    #[test]
    fn a_mark_matters_from_the_next_boot_on_until_it_is_cleared() {
        let folder = tempfile::tempdir().unwrap();
        let [first, second] =
            [1, 2].map(|boot| Unsynced::new(folder.path().into(), BootId::from_bytes([boot; 16])));
        first.mark(&Linux, &system("1")).unwrap();
        assert!(!first.from_earlier_boot(&Linux).unwrap());
        assert!(second.from_earlier_boot(&Linux).unwrap());
        second.mark(&Linux, &system("1")).unwrap();
        assert!(second.from_earlier_boot(&Linux).unwrap(), "trying again does not make it good");
        second.mark(&Linux, &system("2")).unwrap();
        second.clear(&Linux, &system("1")).unwrap();
        second.clear(&Linux, &system("1")).unwrap();
        assert!(!second.from_earlier_boot(&Linux).unwrap());
    }

    #[test]
    fn each_boot_has_a_cache_of_its_own_and_those_of_others_are_outdated() {
        let folder = tempfile::tempdir().unwrap();
        let [first, second] = [1, 2].map(|boot| {
            Unsynced::new(folder.path().join("store.unsynced"), BootId::from_bytes([boot; 16]))
        });
        assert_eq!(first.outdated_caches(&Linux).unwrap(), Vec::<PathBuf>::new());
        for boot in [&first, &second] {
            std::fs::create_dir_all(boot.cache()).unwrap();
        }
        assert_eq!(first.outdated_caches(&Linux).unwrap(), [second.cache()]);
        assert_eq!(second.outdated_caches(&Linux).unwrap(), [first.cache()]);
    }
}
