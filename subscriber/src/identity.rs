//! Who this host is: its signing key, and the numbering of its connections.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use herald_proto::{
    host::HostId,
    id::Incarnation,
    key::{BadKey, KeyName, SecretKey},
};

use crate::{durable, os::Linux};

/// The host's key can't be had.
#[derive(Debug, thiserror::Error)]
pub enum NoIdentity {
    /// The file system refuses.
    #[error("cannot use {}: check that the disk has room and that this user owns it", path.display())]
    Io {
        /// Which file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The key file is damaged.
    #[error("{} is not a host key: restore it, or remove it and enrol the host again", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        source: BadKey,
    },
    /// Others can read the key.
    #[error("{} can be read by others: run chmod 600 on it, and enrol the host again if they did", path.display())]
    Exposed {
        /// Which file.
        path: PathBuf,
    },
    /// There is state, but the key with which its reports were signed is gone.
    #[error("{} is missing, but this host has state: restore the key, or remove {} to start as a new host", path.display(), state.display())]
    Missing {
        /// The key file.
        path: PathBuf,
        /// The state folder.
        state: PathBuf,
    },
    /// Another subscriber runs with this state.
    #[error("another herald-subscriber runs with the state in {}: stop that one first", path.display())]
    Taken {
        /// The state folder.
        path: PathBuf,
    },
    /// The system has no randomness to give.
    #[error("the system gives no random numbers")]
    NoRandomness(#[from] getrandom::Error),
}

/// Takes the state folder for this process, for as long as the result is kept: two subscribers
/// with one state would undo each other's work.
///
/// # Errors
/// When another process has it, or it can't be made.
pub fn take_state(state_dir: &Path) -> Result<fs::File, NoIdentity> {
    let path = state_dir.join("lock");
    let io = |source| NoIdentity::Io { path: path.clone(), source };
    make_folder(state_dir).map_err(io)?;
    let lock = fs::File::create(&path).map_err(io)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(fs::TryLockError::WouldBlock) => Err(NoIdentity::Taken { path: state_dir.to_owned() }),
        Err(fs::TryLockError::Error(source)) => Err(io(source)),
    }
}

/// Names the file with the host's key.
pub(crate) fn key_file(state_dir: &Path) -> PathBuf {
    state_dir.join("host.key")
}

/// Reads the host's key, or makes it where this is the host's first start.
///
/// # Errors
/// When there is none and none may be made, or it can't be used.
pub fn host_key(state_dir: &Path, host: &HostId) -> Result<SecretKey, NoIdentity> {
    let path = key_file(state_dir);
    let io = |source| NoIdentity::Io { path: path.clone(), source };
    if let Some(key) = read_key(&path)? {
        return Ok(key);
    }
    make_folder(state_dir).map_err(io)?;
    // Of a daemon and a command that start together, one makes the key and the other reads it.
    let lock = fs::File::create(path.with_extension("lock")).map_err(io)?;
    lock.lock().map_err(io)?;
    if let Some(key) = read_key(&path)? {
        return Ok(key);
    }
    if state_dir.join("session").exists() {
        return Err(NoIdentity::Missing { path, state: state_dir.to_owned() });
    }
    make_key(&path, host)
}

/// Reads a key, if there is one.
pub(crate) fn read_key(path: &Path) -> Result<Option<SecretKey>, NoIdentity> {
    let (path, io) = (path.to_owned(), |source| NoIdentity::Io { path: path.to_owned(), source });
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io(error)),
    };
    if fs::metadata(&path).map_err(io)?.permissions().mode() & 0o077 != 0 {
        return Err(NoIdentity::Exposed { path });
    }
    text.parse().map(Some).map_err(|source| NoIdentity::Damaged { path, source })
}

/// Makes a key, durably, in place of one that is there.
pub(crate) fn make_key(path: &Path, host: &HostId) -> Result<SecretKey, NoIdentity> {
    let io = |source| NoIdentity::Io { path: path.to_owned(), source };
    let mut seed = [0; 32];
    getrandom::fill(&mut seed)?;
    let name = KeyName::from(host);
    let key = SecretKey::from_seed(name, &seed)
        .map_err(|source| NoIdentity::Damaged { path: path.to_owned(), source })?;
    let temporary = path.with_extension("new");
    let _ = fs::remove_file(&temporary);
    let mut options = fs::OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(&temporary).map_err(io)?;
    file.write_all(key.to_secret_text().as_bytes())
        .and_then(|()| file.write_all(b"\n"))
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&temporary, path))
        .and_then(|()| durable::sync_parent(&Linux, path))
        .map_err(io)?;
    Ok(key)
}

/// Makes a folder that only its owner can look into, with its parents.
pub fn make_folder(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Counts the host's connections. Numbers rise durably within one incarnation, so that the death
/// of an old connection can be told from that of a new one.
#[derive(Debug)]
pub struct Sessions {
    path: PathBuf,
    incarnation: Incarnation,
    last: u64,
}

impl Sessions {
    /// Reads the counter; one that is not there or damaged starts anew, in a new incarnation.
    ///
    /// # Errors
    /// When the file system or the system's randomness refuses.
    pub fn open(state_dir: &Path) -> Result<Self, NoIdentity> {
        let path = state_dir.join("session");
        let read = fs::read_to_string(&path).ok();
        if let Some((incarnation, last)) = read.as_deref().and_then(parse_session) {
            return Ok(Self { path, incarnation, last });
        }
        let mut random = [0; 16];
        getrandom::fill(&mut random)?;
        let sessions = Self { path, incarnation: Incarnation::from_bytes(random), last: 0 };
        sessions.save().map_err(|source| NoIdentity::Io { path: sessions.path.clone(), source })?;
        Ok(sessions)
    }

    /// Gives the number of a connection that begins. It is durable before it is used; when it can't be
    /// made so it is used all the same, as a host that stays silent would be worse.
    pub fn begin(&mut self) -> u64 {
        self.last += 1;
        if let Err(error) = self.save() {
            tracing::error!(file = %self.path.display(), %error, "cannot store the session number: make room on the disk");
        }
        self.last
    }

    /// Gives the life of the counter.
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    fn save(&self) -> io::Result<()> {
        durable::write(
            &Linux,
            &self.path,
            format!("{} {}\n", self.incarnation, self.last).as_bytes(),
        )
    }
}

fn parse_session(text: &str) -> Option<(Incarnation, u64)> {
    let (incarnation, last) = text.trim_end().split_once(' ')?;
    Some((incarnation.parse().ok()?, last.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_makes_its_key_once_and_keeps_it() {
        let folder = tempfile::tempdir().unwrap();
        let (state, host) = (folder.path().join("herald"), "alpha".parse().unwrap());
        let first = host_key(&state, &host).unwrap();
        assert_eq!(host_key(&state, &host).unwrap().public(), first.public());
        let mode = fs::metadata(state.join("host.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn of_many_first_starts_at_once_all_have_the_same_key() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("herald");
        let host = "alpha".parse().unwrap();
        let start = || host_key(&state, &host).unwrap().public().id();
        let keys: Vec<_> = std::thread::scope(|scope| {
            let starts: Vec<_> = (0..8).map(|_| scope.spawn(start)).collect();
            starts.into_iter().map(|start| start.join().unwrap()).collect()
        });
        assert_eq!(keys, vec![start(); 8]);
    }

    #[test]
    fn a_missing_damaged_or_exposed_key_is_never_replaced_silently() {
        let folder = tempfile::tempdir().unwrap();
        let (state, host) = (folder.path(), "alpha".parse().unwrap());
        let file = state.join("host.key");
        host_key(state, &host).unwrap();
        Sessions::open(state).unwrap();

        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(host_key(state, &host), Err(NoIdentity::Exposed { .. })));
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&file, "alpha:garbage").unwrap();
        assert!(matches!(host_key(state, &host), Err(NoIdentity::Damaged { .. })));
        fs::remove_file(&file).unwrap();
        assert!(matches!(host_key(state, &host), Err(NoIdentity::Missing { .. })));
    }

    #[test]
    fn session_numbers_rise_over_restarts_and_a_damaged_counter_begins_a_new_life() {
        let folder = tempfile::tempdir().unwrap();
        let mut sessions = Sessions::open(folder.path()).unwrap();
        assert_eq!((sessions.begin(), sessions.begin()), (1, 2));
        let mut again = Sessions::open(folder.path()).unwrap();
        assert_eq!((again.incarnation(), again.begin()), (sessions.incarnation(), 3));
        fs::write(folder.path().join("session"), [0xff; 9]).unwrap();
        assert_ne!(Sessions::open(folder.path()).unwrap().incarnation(), sessions.incarnation());
    }
}
