//! The durable state of one profile: `state`, a checksum and CBOR.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use herald_core::{Standing, State};
use herald_proto::{
    id::{BootId, Incarnation, MessageDigest},
    time::Timestamp,
};

use crate::{
    durable,
    os::{Linux, System},
    ports::Memory,
};

/// The number of the format: who can't read it can't go on from here.
pub const FORMAT: u16 = 0;
const MAGIC: &str = "herald-state";

/// The state file, and beside it a mark that tells a lost state from a first start.
#[derive(Debug, Clone)]
pub struct StateFile {
    os: System,
    file: PathBuf,
    mark: PathBuf,
    /// Another mark, in a place that does not get lost together with the folder.
    canary: Option<PathBuf>,
    floor: Option<Timestamp>,
}

/// A state could not be read or begun.
#[derive(Debug, thiserror::Error)]
pub enum NoState {
    /// The file system refuses.
    #[error("cannot use {}: check that the disk has room and that this user owns it", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The system has no randomness to give.
    #[error("the system gives no random numbers")]
    NoRandomness(#[from] getrandom::Error),
}

impl StateFile {
    /// Names the state file in a profile's folder.
    pub fn new(folder: &Path) -> Self {
        Self::on(Arc::new(Linux), folder)
    }

    /// Names the state file in a profile's folder of a system.
    pub fn on(os: System, folder: &Path) -> Self {
        Self {
            os,
            file: folder.join("state"),
            mark: folder.join("state-was-here"),
            canary: None,
            floor: None,
        }
    }

    /// Has no clock be believed below a time, such as that at which this program was built.
    #[must_use]
    pub fn with_floor(mut self, floor: Timestamp) -> Self {
        self.floor = Some(floor);
        self
    }

    /// Names another mark, which tells a state that is gone with its whole folder from a first start.
    #[must_use]
    pub fn with_canary(mut self, canary: Option<PathBuf>) -> Self {
        self.canary = canary;
        self
    }

    /// Reads the state. One that is damaged is moved aside, and like one that is gone replaced by
    /// a new one that says so.
    ///
    /// # Errors
    /// When the file system or the system's randomness refuses.
    pub fn open(&self, boot: BootId) -> Result<State, NoState> {
        let mut state = self.read_or_make(boot)?;
        state.floor = state.floor.max(self.floor.unwrap_or_default());
        Ok(state)
    }

    fn read_or_make(&self, boot: BootId) -> Result<State, NoState> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| NoState::Io { path, source }
        };
        match self.os.read(&self.file) {
            Ok(bytes) => match decode(&bytes) {
                Some(state) => {
                    self.set_canary();
                    return Ok(state);
                }
                None => {
                    let aside = self.file.with_extension("damaged");
                    tracing::error!(file = %self.file.display(), kept = %aside.display(), "the state is damaged");
                    durable::rename(&*self.os, &self.file, &aside).map_err(io(&self.file))?;
                }
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(NoState::Io { path: self.file.clone(), source }),
        }
        let was_here = |mark: Option<&PathBuf>| mark.is_some_and(|mark| self.os.exists(mark));
        let first = !was_here(Some(&self.mark)) && !was_here(self.canary.as_ref());
        let mut random = [0; 16];
        self.os.random(&mut random)?;
        let standing = if first { Standing::Known } else { Standing::Lost };
        let state = State::new(Incarnation::from_bytes(random), standing, boot);
        self.save(&state).map_err(io(&self.file))?;
        if first {
            durable::write(&*self.os, &self.mark, b"").map_err(io(&self.mark))?;
        }
        self.set_canary();
        Ok(state)
    }

    /// Sets the other mark where it is missing. A host without it is as safe as one that has none.
    fn set_canary(&self) {
        let Some(canary) = self.canary.as_ref().filter(|canary| !self.os.exists(canary)) else {
            return;
        };
        let folder = canary.parent().unwrap_or(canary);
        let set = self.os.make_folder(folder).and_then(|()| durable::write(&*self.os, canary, b""));
        if let Err(error) = set {
            tracing::warn!(canary = %canary.display(), %error, "a loss of the whole state folder would not be noticed");
        }
    }
}

impl Memory for StateFile {
    fn save(&self, state: &State) -> io::Result<()> {
        durable::write(&*self.os, &self.file, &framed(&encode(state))).map_err(|error| {
            io::Error::new(error.kind(), format!("{}: {error}", self.file.display()))
        })
    }
}

/// Gives the durable part of a state as bytes.
pub fn encode(state: &State) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1024);
    ciborium::into_writer(state, &mut bytes).expect("a state is made of what CBOR can hold");
    bytes
}

/// Gives the bytes of a state file: its name and format, the checksum of the content, the content.
pub fn framed(content: &[u8]) -> Vec<u8> {
    let digest = MessageDigest::of(content);
    let mut bytes = format!("{MAGIC} {FORMAT}\n{digest}\n").into_bytes();
    bytes.extend(content);
    bytes
}

/// Reads the bytes of a state file; there is nothing where they are damaged in any way.
pub fn decode(bytes: &[u8]) -> Option<State> {
    let head = format!("{MAGIC} {FORMAT}\n");
    let rest = bytes.strip_prefix(head.as_bytes())?;
    let (digest, content) = rest.split_at_checked(64)?;
    let content = content.strip_prefix(b"\n")?;
    let expected: MessageDigest = std::str::from_utf8(digest).ok()?.parse().ok()?;
    (MessageDigest::of(content) == expected).then(|| ciborium::from_reader(content).ok())?
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn boot() -> BootId {
        BootId::from_bytes([1; 16])
    }

    #[test]
    fn a_state_is_read_as_it_was_saved() {
        let folder = tempfile::tempdir().unwrap();
        let file = StateFile::new(folder.path());
        let mut state = file.open(boot()).unwrap();
        assert_eq!(state.standing, Standing::Known);
        state.reports = 7;
        file.save(&state).unwrap();
        assert_eq!(file.open(boot()).unwrap(), state);
    }

    #[test]
    fn no_state_is_judged_by_a_time_before_the_program_was_built() {
        let folder = tempfile::tempdir().unwrap();
        let at = Timestamp::from_millis;
        let opened = |floor| StateFile::new(folder.path()).with_floor(floor).open(boot()).unwrap();
        let mut state = opened(at(7_000));
        assert_eq!(state.floor, at(7_000), "at the first start");
        state.floor = at(9_000);
        StateFile::new(folder.path()).save(&state).unwrap();
        assert_eq!(opened(at(8_000)).floor, at(9_000), "what was signed is later");
        assert_eq!(opened(at(10_000)).floor, at(10_000), "another program came");
        fs::remove_file(folder.path().join("state")).unwrap();
        let lost = opened(at(7_000));
        assert_eq!((lost.standing, lost.floor), (Standing::Lost, at(7_000)));
    }

    #[test]
    fn every_damage_is_noticed_and_the_damaged_file_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let file = StateFile::new(folder.path());
        let state = file.open(boot()).unwrap();
        let good = fs::read(&file.file).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert_ne!(decode(&bad).as_ref(), Some(&state), "a flipped bit at {at}");
            assert!(decode(&good[..at]).is_none(), "cut off at {at}");
        }
        fs::write(&file.file, &good[..good.len() / 2]).unwrap();
        let fresh = file.open(boot()).unwrap();
        assert_eq!(fresh.standing, Standing::Lost);
        assert_ne!(fresh.incarnation, state.incarnation);
        assert!(folder.path().join("state.damaged").exists());
    }

    #[test]
    fn a_state_folder_that_is_gone_as_a_whole_is_not_taken_for_a_first_start() {
        let machine = tempfile::tempdir().unwrap();
        let (folder, canary) = (machine.path().join("state"), machine.path().join("nix/system"));
        let open = || {
            fs::create_dir_all(&folder).unwrap();
            StateFile::new(&folder).with_canary(Some(canary.clone())).open(boot()).unwrap()
        };
        assert_eq!(open().standing, Standing::Known);
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(open().standing, Standing::Lost);
        // A state from before there was a canary gets one.
        fs::remove_file(&canary).unwrap();
        open();
        assert!(canary.exists());
    }

    #[test]
    fn a_state_that_is_gone_is_not_taken_for_a_first_start() {
        let folder = tempfile::tempdir().unwrap();
        let file = StateFile::new(folder.path());
        file.open(boot()).unwrap();
        fs::remove_file(&file.file).unwrap();
        assert_eq!(file.open(boot()).unwrap().standing, Standing::Lost);
    }
}
