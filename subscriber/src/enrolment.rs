//! Getting into the fleet: with a one-time token, a host asks to be known by a key that it made.
//!
//! Each token brings one key: on a host that has none yet it is the host's own, on any other it is
//! the next one, which takes the place of the one before when operators have said that the fleet
//! knows it. Which token has brought which key, and whether that is done, is durable, so that a
//! start at any time goes on where it was.

mod asking;

use std::{
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use herald_proto::key::{BadKey, KeyId, SecretKey};
use zeroize::Zeroizing;

use crate::{
    config::Config,
    durable,
    identity::{self, NoIdentity},
    os::Linux,
};

/// The section `[enrol]`: with what the host asks to be known by its key.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnrolConfig {
    /// The file with the token, such as a credential of systemd. It may be gone once it was used.
    pub token: PathBuf,
}

/// A token that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum BadToken {
    /// The file can't be read.
    #[error("cannot read the token {}: check that this user may read it", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Everybody can read it, and so ask in this host's place.
    #[error(
        "everybody can read the token {path}, and could ask in this host's place: have a new one \
         made, and keep it out of the Nix store, as a credential or in a file with mode 0400",
        path = path.display()
    )]
    Exposed {
        /// Which file.
        path: PathBuf,
    },
    /// It is no token.
    #[error("{} is no token, as `herald host token` makes them", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        source: BadKey,
    },
    /// The key can't be made, or the state not stored.
    #[error(transparent)]
    Key(#[from] NoIdentity),
}

/// A host that asks to be known by a key.
#[derive(Debug)]
pub struct Enrolment {
    folder: PathBuf,
    token: Arc<SecretKey>,
    key: Arc<SecretKey>,
    which: Which,
}

/// Which of its keys a host asks with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// The one with which it signs.
    Own,
    /// The one with which it will sign once the fleet knows it.
    Next,
}

/// What is durable of the last enrolment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Record {
    token: KeyId,
    key: KeyId,
    done: bool,
}

impl EnrolConfig {
    /// Reads the token; none where the file is not there.
    ///
    /// # Errors
    /// When it can't be used.
    pub fn token(&self) -> Result<Option<SecretKey>, BadToken> {
        let path = self.token.clone();
        let text = match fs::read_to_string(&path) {
            Ok(text) => Zeroizing::new(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(BadToken::Unreadable { path, source }),
        };
        let mode = fs::metadata(&path).map(|file| file.permissions().mode());
        match mode {
            Ok(mode) if mode & 0o007 != 0 => return Err(BadToken::Exposed { path }),
            Ok(_) => {}
            Err(source) => return Err(BadToken::Unreadable { path, source }),
        }
        text.trim_end().parse().map(Some).map_err(|source| BadToken::Damaged { path, source })
    }
}

impl Enrolment {
    /// Finds out whether the host has to ask, and makes the key for it. To be called before the host's
    /// own key is made, as a host without one asks with that.
    ///
    /// # Errors
    /// When the token can't be used, or a key not be made.
    pub fn open(config: &Config) -> Result<Option<Self>, BadToken> {
        let Some(enrol) = &config.enrol else { return Ok(None) };
        let Some(token) = enrol.token()? else {
            tracing::info!(
                file = %enrol.token.display(),
                "there is no token: a host that the fleet does not know yet is not let in without one"
            );
            return Ok(None);
        };
        let (folder, host) = (config.state_dir.clone(), &config.host);
        // Of a daemon and a command that start together, one makes the key and the other reads it.
        let _taken = take(&folder)?;
        let is_first = !identity::key_file(&folder).exists();
        let own = identity::host_key(&folder, host)?;
        let (own_id, token_id) = (own.public().id(), token.public().id());
        let record = Record::read(&folder).filter(|record| record.token == token_id);
        let is_own = match record {
            Some(Record { done: true, .. }) => return Ok(None),
            Some(Record { key, .. }) => key == own_id,
            None => is_first,
        };
        let (key, which) = if is_own {
            (own, Which::Own)
        } else {
            let next = next_key(&folder);
            let kept = record.and_then(|record| {
                let key = identity::read_key(&next).ok().flatten()?;
                (key.public().id() == record.key).then_some(key)
            });
            (kept.map_or_else(|| identity::make_key(&next, host), Ok)?, Which::Next)
        };
        let record = Record { token: token_id, key: key.public().id(), done: false };
        record.write(&folder)?;
        Ok(Some(Self { folder, token: Arc::new(token), key: Arc::new(key), which }))
    }

    /// Gives the key that the host asks with.
    pub fn key(&self) -> &SecretKey {
        &self.key
    }

    /// Takes the key into use, durably: from the next start on, if it is not in use already.
    fn finish(&self) -> Result<Which, NoIdentity> {
        if self.which == Which::Next {
            let (next, own) = (next_key(&self.folder), identity::key_file(&self.folder));
            durable::rename(&Linux, &next, &own)
                .map_err(|source| NoIdentity::Io { path: own, source })?;
        }
        let (token, key) = (self.token.public().id(), self.key.public().id());
        Record { token, key, done: true }.write(&self.folder)?;
        Ok(self.which)
    }
}

impl Record {
    fn read(folder: &Path) -> Option<Self> {
        let text = fs::read_to_string(record_file(folder)).ok()?;
        let mut words = text.split_ascii_whitespace();
        let (token, key) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let done = match words.next()? {
            "asking" => false,
            "done" => true,
            _ => return None,
        };
        Some(Self { token, key, done })
    }

    fn write(&self, folder: &Path) -> Result<(), NoIdentity> {
        let Self { token, key, done } = self;
        let text = format!("{token} {key} {}\n", if *done { "done" } else { "asking" });
        let path = record_file(folder);
        durable::write(&Linux, &path, text.as_bytes())
            .map_err(|source| NoIdentity::Io { path, source })
    }
}

fn take(folder: &Path) -> Result<fs::File, NoIdentity> {
    let path = folder.join("enrolment.lock");
    let io = |source| NoIdentity::Io { path: path.clone(), source };
    identity::make_folder(folder).map_err(io)?;
    let lock = fs::File::create(&path).map_err(io)?;
    lock.lock().map_err(io)?;
    Ok(lock)
}

fn record_file(folder: &Path) -> PathBuf {
    folder.join("enrolment")
}

fn next_key(folder: &Path) -> PathBuf {
    folder.join("host.key.next")
}

#[cfg(test)]
mod tests;
