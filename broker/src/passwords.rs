//! Passwords of logins that can't sign: a file of Argon2id hashes (RFC 9106), a line each.
//!
//! ```text
//! # name:hash in the PHC format
//! home/grafana:$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0c2FsdA$…
//! ```
//!
//! Checking a password takes tens of milliseconds and the memory that its hash asks for, on
//! purpose: never on a thread that has connections to serve. It takes as long for a name that is
//! not in the file.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use argon2::{Algorithm, Argon2, Params, Version};
use herald_proto::login::{LoginName, looks_signed};

/// The most bytes of a password; more would only be work for the broker.
pub const MAX_PASSWORD: usize = 512;

/// The least work of a hash, in KiB times passes: the weakest of what OWASP's Password Storage
/// Cheat Sheet recommends (7 MiB, 5 passes).
const MIN_WORK: u64 = 7 * 1024 * 5;
/// The most work of a hash: about a second.
const MAX_WORK: u64 = 1024 * 1024;
/// The least and most memory of a hash, in KiB.
const MEMORY: std::ops::RangeInclusive<u32> = 7 * 1024..=256 * 1024;
/// The most lanes of a hash: they are computed one after the other here.
const MAX_LANES: u32 = 16;

/// The hashes of a file.
pub struct Passwords {
    /// Sorted by name.
    hashes: Vec<(LoginName, PasswordHash)>,
    /// Chooses which hash stands in for a name that has none: always the same one for a name, and
    /// nobody outside can tell which.
    stand_in: RandomState,
}

/// A password file that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It can't be read.
    #[error("cannot read the passwords {}: {source}", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others can read it, and guess the passwords at their leisure, or write it.
    #[error(
        "the passwords {path} are open to others (mode {mode:03o}): chmod o-rwx,g-w {path}",
        path = path.display()
    )]
    Open {
        /// Which file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// A line is not a login's name and a hash that can be used.
    #[error("bad passwords in {}, line {line}: {reason}", path.display())]
    Line {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// What is wrong.
        reason: BadLine,
    },
}

/// What is wrong with a line of a password file. The hash is not repeated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadLine {
    /// There is no name and hash.
    #[error("expected <fleet>/<name>:$argon2id$…")]
    Form,
    /// The name is not a login's.
    #[error("{0}")]
    Name(#[from] herald_proto::text::Unparsable),
    /// The name has a line already.
    #[error("{name} is there twice, first on line {first}")]
    Twice {
        /// The name.
        name: LoginName,
        /// Where it stands first.
        first: usize,
    },
    /// What follows the name is no hash in the PHC format, or only part of one.
    #[error("the hash is not in the PHC format: make it with `herald-broker hash-password`")]
    Hash,
    /// The hash is of another kind.
    #[error("the hash is {found}: only argon2id, version 19, is taken")]
    Algorithm {
        /// What it is.
        found: String,
    },
    /// The hash is too cheap to protect a password, or costs more than the broker will spend.
    #[error(
        "the hash costs {memory} KiB, {passes} passes, {lanes} lanes: take {} to {} KiB, 1 to \
         {MAX_LANES} lanes, and KiB times passes from {MIN_WORK} to {MAX_WORK}",
        MEMORY.start(), MEMORY.end()
    )]
    Cost {
        /// KiB of memory.
        memory: u32,
        /// Passes over it.
        passes: u32,
        /// Lanes.
        lanes: u32,
    },
    /// The salt or the hash is too short to be worth anything.
    #[error("the salt has {salt} bytes and the hash {output}: take 8 and 16 at least")]
    Short {
        /// Bytes of salt.
        salt: usize,
        /// Bytes of hash.
        output: usize,
    },
}

/// A password that is not made into a hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// It is empty, or longer than any that is checked.
    #[error("the password has {bytes} bytes: take 1 to {MAX_PASSWORD}, better 12 and more")]
    Length {
        /// How many bytes.
        bytes: usize,
    },
    /// It would be taken for a signed password.
    #[error("the password looks like a signed one (ey….….…): take another")]
    LooksSigned,
    /// Argon2 would not take it.
    #[error("cannot hash the password: {0}")]
    Argon2(argon2::password_hash::Error),
}

impl Passwords {
    /// No passwords.
    pub fn none() -> Self {
        Self { hashes: Vec::new(), stand_in: RandomState::new() }
    }

    /// Reads a password file.
    ///
    /// A file that others can read is refused, not only warned about: that is how hashes get into
    /// a Nix store or a backup, where nobody reads a warning. Its group may read it, as secrets
    /// are often given to a service in that way.
    ///
    /// # Errors
    /// When the file can't be read, is open to others, or a line can't be used.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let unreadable = |source| Error::Unreadable { path: path.to_owned(), source };
        let mut file = File::open(path).map_err(unreadable)?;
        let about = file.metadata().map_err(unreadable)?;
        let mode = about.permissions().mode() & 0o777;
        // A pipe has no permissions worth checking: its writer chose its reader.
        if about.is_file() && mode & 0o027 != 0 {
            return Err(Error::Open { path: path.to_owned(), mode });
        }
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(unreadable)?;
        Self::parse(&text).map_err(|(line, reason)| Error::Line {
            path: path.to_owned(),
            line,
            reason,
        })
    }

    fn parse(text: &str) -> Result<Self, (usize, BadLine)> {
        let mut hashes = BTreeMap::new();
        for (line, content) in (1..).zip(text.lines().map(str::trim)) {
            if content.is_empty() || content.starts_with('#') {
                continue;
            }
            let (name, hash) = parse_line(content).map_err(|reason| (line, reason))?;
            if let Some(&(first, _)) = hashes.get(&name) {
                return Err((line, BadLine::Twice { name, first }));
            }
            hashes.insert(name, (line, hash));
        }
        let hashes = hashes.into_iter().map(|(name, (_, hash))| (name, hash)).collect();
        Ok(Self { hashes, ..Self::none() })
    }

    /// Tells whether this is the login's password. It takes as long for a name without one: then
    /// it computes another name's hash and forgets the answer.
    pub fn verify(&self, name: &LoginName, password: &str) -> bool {
        if self.hashes.is_empty() || password.len() > MAX_PASSWORD {
            return false;
        }
        let (index, is_known) = match self.position(name) {
            Some(index) => (index, true),
            None => {
                let chosen = self.stand_in.hash_one(name) % self.hashes.len() as u64;
                (chosen as usize, false)
            }
        };
        let (_, hash) = &self.hashes[index];
        let matches = Argon2::default().verify_password(password.as_bytes(), hash).is_ok();
        matches && is_known
    }

    /// Tells whether a name has the same password here and there, or none.
    pub fn is_same(&self, other: &Self, name: &LoginName) -> bool {
        let hash = |all: &Self| all.position(name).map(|at| all.hashes[at].1.to_string());
        hash(self) == hash(other)
    }

    /// Gives the names that have a password, in their order.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &LoginName> {
        self.hashes.iter().map(|(name, _)| name)
    }

    fn position(&self, name: &LoginName) -> Option<usize> {
        self.hashes.binary_search_by(|(other, _)| other.cmp(name)).ok()
    }
}

impl fmt::Debug for Passwords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Passwords({} of them)", self.hashes.len())
    }
}

/// Makes the hash of a password for the file, with 16 random bytes that are used for it alone.
///
/// # Errors
/// When the password is empty or too long, or looks like a signed one.
pub fn hash(password: &str, salt: &[u8; 16]) -> Result<String, Unusable> {
    let bytes = password.len();
    if !(1..=MAX_PASSWORD).contains(&bytes) {
        return Err(Unusable::Length { bytes });
    }
    if looks_signed(password) {
        return Err(Unusable::LooksSigned);
    }
    // 19 MiB and 2 passes: what OWASP recommends.
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::DEFAULT);
    let hash = argon2.hash_password_with_salt(password.as_bytes(), salt);
    hash.map(|hash| hash.to_string()).map_err(Unusable::Argon2)
}

fn parse_line(line: &str) -> Result<(LoginName, PasswordHash), BadLine> {
    let (name, hash) = line.split_once(':').ok_or(BadLine::Form)?;
    let name = name.parse()?;
    let algorithm = hash.strip_prefix('$').ok_or(BadLine::Form)?;
    let algorithm = algorithm.split('$').next().unwrap_or_default();
    if algorithm != "argon2id" {
        let found = algorithm.chars().take(16).map(|c| if c.is_ascii_graphic() { c } else { '?' });
        return Err(BadLine::Algorithm { found: found.collect() });
    }
    let hash = PasswordHash::new(hash).map_err(|_| BadLine::Hash)?;
    if hash.version != Some(Version::V0x13.into()) {
        let version = hash.version.map_or("none".to_owned(), |version| version.to_string());
        return Err(BadLine::Algorithm { found: format!("argon2id, version {version}") });
    }
    let params = Params::try_from(&hash).map_err(|_| BadLine::Hash)?;
    let (memory, passes, lanes) = (params.m_cost(), params.t_cost(), params.p_cost());
    // The parser takes a parameter that is missing, or there twice: one way to write it is enough.
    if hash.params.to_string() != format!("m={memory},t={passes},p={lanes}") {
        return Err(BadLine::Hash);
    }
    let work = u64::from(memory) * u64::from(passes);
    if !MEMORY.contains(&memory) || !(MIN_WORK..=MAX_WORK).contains(&work) || lanes > MAX_LANES {
        return Err(BadLine::Cost { memory, passes, lanes });
    }
    let (Some(salt), Some(output)) = (&hash.salt, &hash.hash) else {
        return Err(BadLine::Hash);
    };
    if salt.len() < 8 || output.len() < 16 {
        return Err(BadLine::Short { salt: salt.len(), output: output.len() });
    }
    Ok((name, hash))
}

#[cfg(test)]
mod tests;
