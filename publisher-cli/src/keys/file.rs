//! Making secret keys in files that only their owner can read, and finding them.

use std::{
    fs::{DirBuilder, OpenOptions},
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use herald_proto::key::{KeyName, SecretKey};
use zeroize::Zeroizing;

use crate::{folders, random};

/// Makes a key and writes it to a new file, which nobody else can read.
///
/// A file that exists is never touched. On an error no half of a key is left.
pub(crate) fn generate(name: KeyName, path: &Path) -> anyhow::Result<SecretKey> {
    let mut seed = Zeroizing::new([0; 32]);
    random::fill(seed.as_mut())?;
    let key = SecretKey::from_seed(name, &seed)?;
    let shown = path.display();
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.with_context(|| format!("cannot make the folder {}", folder.display()))?;
    }
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let mut file = match file {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            bail!(
                "{shown} exists, and a key is never overwritten: choose another --out or name; \
                 `herald key public {shown}` prints the public half"
            );
        }
        other => other.with_context(|| format!("cannot write the key to {shown}"))?,
    };
    let mut text = key.to_secret_text();
    text.push('\n');
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    if let Err(error) = written {
        // Best effort: what failed is said in any case.
        let _ = std::fs::remove_file(path);
        return Err(error).with_context(|| format!("cannot write the key to {shown}"));
    }
    Ok(key)
}

/// Gives the file for a new key of this name.
pub(crate) fn default_path(name: &KeyName) -> anyhow::Result<PathBuf> {
    let name = name.to_string();
    if name.contains('/') || name.starts_with('.') {
        bail!("the key's name {name} is no file name: name the file with --out");
    }
    Ok(folders::keys()?.join(format!("{name}.key")))
}

/// Finds the only key in the folder of keys.
pub(crate) fn only_key() -> anyhow::Result<PathBuf> {
    let folder = folders::keys()?;
    let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    let mut keys: Vec<_> =
        paths.filter(|path| path.extension().is_some_and(|end| end == "key")).collect();
    keys.sort();
    match keys.as_slice() {
        [key] => Ok(key.clone()),
        [] => bail!(
            "there is no key in {}: make one with `herald key generate NAME`, or name one",
            folder.display()
        ),
        many => {
            let many: Vec<_> = many.iter().map(|path| path.display().to_string()).collect();
            bail!("there is more than one key, name one with --key: {}", many.join(", "));
        }
    }
}
