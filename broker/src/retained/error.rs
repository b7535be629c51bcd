//! Why the store could not be opened, written, read or repaired.

use std::io;
use std::path::{Path, PathBuf};

use super::record::FORMAT;

/// Why there is no store to work with. Nothing was lost by trying.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The operating system refused.
    #[error("cannot open the store {}: {source}; check its directory, owner and mode", path.display())]
    Io {
        /// The store's file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// A directory, a device or the like.
    #[error("cannot open the store {}: it is not a regular file", path.display())]
    NotAFile {
        /// What is there.
        path: PathBuf,
    },
    /// Another process has it.
    #[error(
        "the store {} is in use by another process; stop the other herald-broker first",
        path.display()
    )]
    InUse {
        /// The store's file.
        path: PathBuf,
    },
    /// A later release wrote it.
    #[error(
        "the store {} has format {found}, and this herald-broker knows {FORMAT}; run the release \
         that wrote it, or a later one",
        path.display()
    )]
    NewerFormat {
        /// The store's file.
        path: PathBuf,
        /// Its format.
        found: u64,
    },
    /// Something in it is not what was written.
    #[error(
        "the store {} is damaged: {what}; run `herald-broker repair --state {}`, which keeps all \
         that is intact, and the damaged file beside it",
        path.display(),
        directory(path).display()
    )]
    Damaged {
        /// The store's file.
        path: PathBuf,
        /// What was found first.
        what: String,
    },
}

/// Why nothing of a batch was stored.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// The disk is too full to be sure. The store is as it was, and can be used.
    #[error(
        "the disk of the store {} has {free} bytes free, and a write needs {needed} to be safe; \
         make room there",
        path.display()
    )]
    NoSpace {
        /// The store's file.
        path: PathBuf,
        /// Free bytes.
        free: u64,
        /// Bytes that must be free.
        needed: u64,
    },
    /// A write failed, and nobody knows what is on the disk now. The store refuses all further
    /// writes: end the process; the next [`open`](super::Store::open) finds the last commit that
    /// succeeded, or this one.
    #[error(
        "cannot write the store {}: {source}; look for disk errors, then start herald-broker again",
        path.display()
    )]
    Failed {
        /// The store's file.
        path: PathBuf,
        /// What redb or the operating system said.
        source: Box<redb::Error>,
    },
}

/// Why something stored could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file could not be read.
    #[error("cannot read the store {}: {source}; look for disk errors", path.display())]
    Failed {
        /// The store's file.
        path: PathBuf,
        /// What redb or the operating system said.
        source: Box<redb::Error>,
    },
    /// It is not what was written.
    #[error(
        "the store {} is damaged: {what}; stop herald-broker and run `herald-broker repair \
         --state {}`",
        path.display(),
        directory(path).display()
    )]
    Damaged {
        /// The store's file.
        path: PathBuf,
        /// What was found.
        what: String,
    },
}

/// Why the store was left as it is.
#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    /// It cannot be opened, and repair is no help.
    #[error(transparent)]
    Open(OpenError),
    /// The new store could not be made.
    #[error(
        "cannot write {} while repairing: {source}; the store is untouched: correct this, and \
         repair again",
        path.display()
    )]
    Write {
        /// The file that could not be written.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The directory that a file is in.
pub(super) fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}
