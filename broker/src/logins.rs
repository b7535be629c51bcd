//! The logins of the fleets that a broker serves: who there is, in which part, with which keys.
//!
//! A file (TOML) has the logins of one fleet. It holds no secrets, only public keys; but whoever
//! can write it can log in as anybody, so a file that anybody can write is refused.

mod file;

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use herald_proto::host::{FleetId, HostId};
use herald_proto::key::{KeyId, PublicKey};
use herald_proto::login::LoginName;

use crate::principal::{Principal, Role};

/// The most keys that a login has: one in use, one to come, and some to spare.
pub const MAX_KEYS: usize = 8;

/// Everybody who can log in.
#[derive(Debug, Default)]
pub struct Logins {
    fleets: HashMap<FleetId, Fleet>,
}

#[derive(Debug)]
struct Fleet {
    path: PathBuf,
    logins: HashMap<HostId, Entry>,
}

#[derive(Debug)]
struct Entry {
    part: Part,
    keys: Box<[PublicKey]>,
}

/// A login that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login<'a> {
    /// Whose it is.
    pub principal: Principal,
    /// The keys with which it signs; none if it has only a password or a certificate.
    pub keys: &'a [PublicKey],
}

/// What a login is in its fleet: the section of the file in which it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// A host.
    Host,
    /// A member.
    Member(Role),
}

/// A file of logins that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It can't be read.
    #[error("cannot read the logins {}: {source}", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Anybody can write it.
    #[error(
        "anybody can write the logins {path} (mode {mode:03o}), and so log in as anybody: \
         chmod o-w {path}",
        path = path.display()
    )]
    Writable {
        /// Which file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// It is not TOML, has a setting that is not known, or a name or key that can't be used.
    #[error("bad logins in {}, line {line}: {reason}", path.display())]
    Invalid {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// What is wrong; the line itself is not repeated, as it may hold what is secret.
        reason: String,
    },
    /// Two logins of a fleet have the same name.
    #[error(
        "bad logins in {}: {name} is there twice, in [{}] on line {} and in [{}] on line {}: \
         a name is one login's",
        path.display(), first.section, first.line, second.section, second.line
    )]
    SameName {
        /// Which file.
        path: PathBuf,
        /// The name.
        name: HostId,
        /// Where it stands first.
        first: Place,
        /// Where it stands again.
        second: Place,
    },
    /// Two logins of a fleet have the same key, so that either could log in as the other; or one
    /// has it twice.
    #[error(
        "bad logins in {}: {first} and {second} have the same key, {key}: a key is one login's, \
         and stands once",
        path.display()
    )]
    SameKey {
        /// Which file.
        path: PathBuf,
        /// The key's name where it stands again.
        key: String,
        /// The one login.
        first: HostId,
        /// The other.
        second: HostId,
    },
    /// A login has more keys than it needs, each of which would cost time to try.
    #[error(
        "bad logins in {}, line {line}: {name} has {count} keys: at most {MAX_KEYS}",
        path.display()
    )]
    TooManyKeys {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// The login.
        name: HostId,
        /// How many keys.
        count: usize,
    },
    /// Two files are for the same fleet.
    #[error(
        "{} and {} both have the logins of the fleet {fleet}: a fleet has one file",
        first.display(), second.display()
    )]
    SameFleet {
        /// The fleet.
        fleet: FleetId,
        /// The one file.
        first: PathBuf,
        /// The other file.
        second: PathBuf,
    },
}

/// Where a name stands in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// In which section.
    pub section: &'static str,
    /// On which line, from 1.
    pub line: usize,
}

impl Logins {
    /// Reads the files, one for each fleet.
    ///
    /// # Errors
    /// When a file can't be read or used, or two are for the same fleet.
    pub fn load<P: AsRef<Path>>(paths: &[P]) -> Result<Self, Error> {
        let mut logins = Self::default();
        for path in paths.iter().map(AsRef::as_ref) {
            logins.add(path, &file::read(path)?)?;
        }
        Ok(logins)
    }

    /// Finds a login by its name.
    pub fn find(&self, name: &LoginName) -> Option<Login<'_>> {
        let entry = self.fleets.get(&name.fleet)?.logins.get(&name.name)?;
        let fleet = name.fleet.clone();
        let principal = match entry.part {
            Part::Host => Principal::Host { fleet, host: name.name.clone() },
            Part::Member(role) => {
                Principal::Member { fleet, name: name.name.as_str().into(), role }
            }
        };
        Some(Login { principal, keys: &entry.keys })
    }

    /// Gives the fleets, each with the number of its logins, in no order.
    pub fn fleets(&self) -> impl Iterator<Item = (&FleetId, usize)> {
        self.fleets.iter().map(|(id, fleet)| (id, fleet.logins.len()))
    }

    fn add(&mut self, path: &Path, text: &str) -> Result<(), Error> {
        let (id, listed) = file::parse(path, text)?;
        if let Some(other) = self.fleets.get(&id) {
            let (first, second) = (other.path.clone(), path.to_owned());
            return Err(Error::SameFleet { fleet: id, first, second });
        }
        let mut logins = HashMap::<HostId, (Place, Entry)>::with_capacity(listed.len());
        let mut owners = HashMap::<KeyId, HostId>::with_capacity(listed.len());
        for file::Listed { name, place, part, keys } in listed {
            if let Some(&(first, _)) = logins.get(&name) {
                let path = path.to_owned();
                return Err(Error::SameName { path, name, first, second: place });
            }
            if keys.len() > MAX_KEYS {
                let (path, count) = (path.to_owned(), keys.len());
                return Err(Error::TooManyKeys { path, line: place.line, name, count });
            }
            for key in &keys {
                if let Some(first) = owners.insert(key.id(), name.clone()) {
                    let (path, key) = (path.to_owned(), key.name().to_string());
                    return Err(Error::SameKey { path, key, first, second: name });
                }
            }
            logins.insert(name, (place, Entry { part, keys: keys.into() }));
        }
        let logins = logins.into_iter().map(|(name, (_, entry))| (name, entry)).collect();
        self.fleets.insert(id, Fleet { path: path.to_owned(), logins });
        Ok(())
    }
}

#[cfg(test)]
mod tests;
