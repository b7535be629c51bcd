//! Which closures were being fetched and are not on the disk for sure.
//!
//! Nix registers a path without waiting for the disk: after a power cut it can take files for whole
//! that are empty (NixOS/nix#1218). So a mark is made before anything is fetched, and taken away
//! when the store was synced. A mark of an earlier boot says that what is in the store can't be
//! believed by its name.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use herald_proto::{id::BootId, store_path::StorePath};

use crate::durable;

/// The marks, in a folder that all profiles share, as they share the store.
#[derive(Debug, Clone)]
pub struct Unsynced {
    folder: PathBuf,
    boot: BootId,
}

impl Unsynced {
    /// Names the folder, which is made where it is missing, and this boot.
    ///
    /// # Errors
    /// What the file system said.
    pub fn open(folder: PathBuf, boot: BootId) -> io::Result<Self> {
        crate::identity::make_folder(&folder)?;
        Ok(Self { folder, boot })
    }

    /// Tells whether something was being fetched when an earlier boot ended.
    ///
    /// # Errors
    /// What the file system said.
    pub fn from_earlier_boot(&self) -> io::Result<bool> {
        let this_boot = self.boot.to_string();
        for mark in fs::read_dir(&self.folder)? {
            match fs::read_to_string(mark?.path()) {
                Ok(boot) if boot == this_boot => {}
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
    pub fn mark(&self, toplevel: &StorePath) -> io::Result<()> {
        let mark = self.mark_of(toplevel);
        if mark.exists() {
            return Ok(());
        }
        durable::write(&mark, self.boot.to_string().as_bytes())
    }

    /// Takes the mark of a closure away. If a power cut brings it back, the closure is looked at
    /// once more.
    ///
    /// # Errors
    /// What the file system said.
    pub fn clear(&self, toplevel: &StorePath) -> io::Result<()> {
        match fs::remove_file(self.mark_of(toplevel)) {
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

    fn system(label: &str) -> StorePath {
        let name = format!("/nix/store/0123456789abcdfghijklmnpqrsvwxyz-nixos-system-a-{label}");
        name.parse().unwrap()
    }

    #[test]
    fn a_mark_matters_from_the_next_boot_on_until_it_is_cleared() {
        let folder = tempfile::tempdir().unwrap();
        let [first, second] = [1, 2].map(|boot| {
            Unsynced::open(folder.path().join("unsynced"), BootId::from_bytes([boot; 16])).unwrap()
        });
        first.mark(&system("1")).unwrap();
        assert!(!first.from_earlier_boot().unwrap());
        assert!(second.from_earlier_boot().unwrap());
        second.mark(&system("1")).unwrap();
        assert!(second.from_earlier_boot().unwrap(), "trying again does not make it good");
        second.mark(&system("2")).unwrap();
        second.clear(&system("1")).unwrap();
        second.clear(&system("1")).unwrap();
        assert!(!second.from_earlier_boot().unwrap());
    }
}
