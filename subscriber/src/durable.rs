//! Files that are there whole after a power cut, or not at all.

use std::{
    fs, io,
    io::Write as _,
    path::{Path, PathBuf},
};

use atomic_write_file::AtomicWriteFile;

/// Replaces a file: temporary file, fsync, rename, fsync of the folder.
pub fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = AtomicWriteFile::open(path)?;
    file.write_all(content)?;
    file.commit()?;
    sync_parent(path)
}

/// Renames a file and makes the new name durable. Of several that rename one file, one succeeds.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    sync_parent(to)
}

/// Makes what was created, renamed or removed in a file's folder durable.
pub fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) => fs::File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

/// Makes all that was written to a file's file system durable, by whomever. It can take as long as
/// the disk has to write, so it has a thread of its own.
pub async fn sync_file_system(path: PathBuf) -> io::Result<()> {
    let sync = move || rustix::fs::syncfs(fs::File::open(path)?).map_err(io::Error::from);
    tokio::task::spawn_blocking(sync).await.map_err(io::Error::other)?
}
