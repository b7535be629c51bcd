//! Files with signatures, which pass from one operator to the next.

use std::{
    fs::{File, OpenOptions},
    io::{Read as _, Write as _},
    path::Path,
};

use anyhow::{Context as _, bail};

use crate::random;

/// Reads a file, of which no more than one byte over `limit` is looked at.
pub(crate) fn read(path: &Path, limit: usize) -> anyhow::Result<Vec<u8>> {
    let shown = path.display();
    let mut bytes = Vec::new();
    let file = File::open(path).with_context(|| format!("cannot read {shown}"))?;
    let read = file.take(limit as u64 + 1).read_to_end(&mut bytes);
    read.with_context(|| format!("cannot read {shown}"))?;
    Ok(bytes)
}

/// Writes a file that is not there yet.
pub(crate) fn create(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let shown = path.display();
    let opened = OpenOptions::new().write(true).create_new(true).open(path);
    let mut opened = match opened {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            bail!(
                "{shown} exists, and signatures are never overwritten: choose another file, or \
                 remove that one"
            );
        }
        other => other.with_context(|| format!("cannot write {shown}"))?,
    };
    let written = opened.write_all(bytes).and_then(|()| opened.sync_all());
    if let Err(error) = written {
        // Best effort: what failed is said in any case.
        let _ = std::fs::remove_file(path);
        return Err(error).with_context(|| format!("cannot write {shown}"));
    }
    Ok(())
}

/// Puts a file in the place of one that is there, at once: no reader sees half of it.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let name = path.file_name().context("it has no file name")?.to_string_lossy().into_owned();
    let suffix = u32::from_le_bytes(random::bytes()?);
    let beside = path.with_file_name(format!(".{name}.{suffix:08x}"));
    create(&beside, bytes)?;
    let renamed = std::fs::rename(&beside, path);
    renamed.with_context(|| format!("cannot write {}", path.display()))
}
