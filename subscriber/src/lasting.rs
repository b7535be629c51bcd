//! Whether what a host remembers outlasts its boots.

use std::{
    io,
    path::{Path, PathBuf},
};

/// What is said of the state folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lasting {
    /// It lasts. A folder in memory is refused.
    #[default]
    Durable,
    /// It lasts, whatever the file system looks like.
    DurableUnchecked,
    /// It is gone with the next boot: orders are taken only by a beacon that is newer than the boot.
    Ephemeral,
}

/// The state folder does not last, and nobody has said so.
#[derive(Debug, thiserror::Error)]
pub enum NotLasting {
    /// It is in a file system that is gone with the next boot, or can be.
    #[error(
        "{} is on {kind}, so this host would forget which orders are old: put it on a disk, or set \
         `state = \"ephemeral\"` (it takes orders only after a beacon then), or \
         `state = \"durable-unchecked\"` if it does outlast a boot",
        path.display()
    )]
    InMemory {
        /// The folder.
        path: PathBuf,
        /// The file system.
        kind: &'static str,
    },
    /// The file system does not say what it is.
    #[error("cannot find out on which file system {} is", path.display())]
    Unknown {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Checks that a folder outlasts a boot, as far as its file system tells.
///
/// # Errors
/// When it is in memory, or may be: an overlay does not tell what is below it.
pub fn check(folder: &Path) -> Result<(), NotLasting> {
    let path = folder.to_owned();
    match rustix::fs::statfs(folder) {
        Ok(found) => match in_memory(found.f_type) {
            Some(kind) => Err(NotLasting::InMemory { path, kind }),
            None => Ok(()),
        },
        Err(source) => Err(NotLasting::Unknown { path, source: source.into() }),
    }
}

/// Names a file system that does not last, or may not (statfs(2)).
fn in_memory(magic: i64) -> Option<&'static str> {
    match magic {
        0x0102_1994 => Some("a tmpfs"),
        0x8584_58f6 => Some("a ramfs"),
        0x794c_7630 => Some("an overlay"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_in_memory_is_told_from_one_on_a_disk() {
        // A tmpfs on every Linux.
        let refused = check(Path::new("/dev/shm")).unwrap_err();
        assert!(refused.to_string().contains("on a tmpfs"), "{refused}");
        assert!(check(Path::new("/proc")).is_ok());
        assert_eq!(in_memory(0x794c_7630), Some("an overlay"));
        assert_eq!(in_memory(0xef53), None);
    }
}
