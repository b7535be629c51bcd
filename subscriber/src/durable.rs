//! Files that are there whole after a power cut, or not at all.

use std::{io, path::Path};

use crate::os::Os;

/// Replaces a file: temporary file, fsync, rename, fsync of the folder.
pub fn write(os: &dyn Os, path: &Path, content: &[u8]) -> io::Result<()> {
    os.replace(path, content)?;
    sync_parent(os, path)
}

/// Renames a file and makes the new name durable. Of several that rename one file, one succeeds.
pub fn rename(os: &dyn Os, from: &Path, to: &Path) -> io::Result<()> {
    os.rename(from, to)?;
    sync_parent(os, to)
}

/// Tells whether a disk, or somebody's share of it, is full.
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Makes what was created, renamed or removed in a file's folder durable.
pub fn sync_parent(os: &dyn Os, path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |folder| os.sync_folder(folder))
}
