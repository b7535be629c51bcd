//! The logins of the fleets that a broker serves: who there is, in which part, with which keys.
//!
//! A file (TOML) has the logins of one fleet, and may name who signs its roster, from which more hosts
//! come. It holds no secrets, only public keys; but whoever
//! can write it can log in as anybody, so a file that anybody can write is refused.

mod file;

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use herald_proto::host::{FleetId, HostId};
use herald_proto::key::{KeyId, PublicKey};
use herald_proto::login::LoginName;
use herald_proto::trust::BadTrust;

use crate::principal::{Principal, Role};
use crate::roster::{Roster, Signers, Token};

/// The most keys that a login has: one in use, one to come, and some to spare.
pub const MAX_KEYS: usize = 8;

/// Everybody who can log in.
#[derive(Debug, Default)]
pub struct Logins {
    fleets: HashMap<FleetId, Fleet>,
    roster: Roster,
}

#[derive(Debug)]
struct Fleet {
    path: PathBuf,
    logins: HashMap<HostId, Entry>,
    /// Whose each key is.
    owners: HashMap<KeyId, HostId>,
    signers: Option<Signers>,
}

#[derive(Debug)]
struct Entry {
    part: Part,
    keys: Box<[PublicKey]>,
}

/// A login that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// Whose it is.
    pub principal: Principal,
    /// The keys with which it signs; none if it has only a password or a certificate.
    pub keys: Vec<PublicKey>,
}

/// Whoever may ask to be let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Who that is.
    pub principal: Principal,
    /// With what it shows that.
    pub token: Token,
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
    /// A trust file that says who signs the roster can't be used.
    #[error("bad logins in {}: the trust file {} can't be used: {source}", path.display(), trust.display())]
    Trust {
        /// Which file names it.
        path: PathBuf,
        /// The trust file.
        trust: PathBuf,
        /// Why.
        source: Box<BadSigners>,
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

/// Why nobody can sign by a trust file.
#[derive(Debug, thiserror::Error)]
pub enum BadSigners {
    /// It can't be read.
    #[error(transparent)]
    Unreadable(#[from] io::Error),
    /// Anybody can write it.
    #[error("anybody can write it (mode {mode:03o}), and so let hosts in: chmod o-w it")]
    Writable {
        /// Its permissions.
        mode: u32,
    },
    /// It is none.
    #[error(transparent)]
    Invalid(#[from] BadTrust),
    /// It is another fleet's.
    #[error("it is for the fleet {found}, and the logins are of {own}")]
    OtherFleet {
        /// The trust file's fleet.
        found: FleetId,
        /// The fleet of the logins.
        own: FleetId,
    },
    /// It stands as one from before, and there is none for now.
    #[error("it is one of older_trusts, and there is no `trust`: set that")]
    NoCurrent,
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

    /// Finds a login by its name. What the roster says of a host counts over the file.
    pub fn find(&self, name: &LoginName) -> Option<Login> {
        let (fleet, host) = (name.fleet.clone(), name.name.clone());
        let entry = self.fleets.get(&fleet)?.logins.get(&host);
        if let Some(Entry { part: Part::Member(role), keys }) = entry {
            let principal = Principal::Member { fleet, name: host.as_str().into(), role: *role };
            return Some(Login { principal, keys: keys.to_vec() });
        }
        let keys = match (self.roster.find(name), entry) {
            (Some(standing), _) => vec![standing.key?],
            (None, Some(entry)) => entry.keys.to_vec(),
            (None, None) => return None,
        };
        Some(Login { principal: Principal::Host { fleet, host }, keys })
    }

    /// Finds who may ask to be a host.
    pub fn candidate(&self, name: &LoginName) -> Option<Candidate> {
        let (fleet, host) = (name.fleet.clone(), name.name.clone());
        self.fleets.get(&fleet).filter(|it| !it.has_member(&host))?;
        let token = self.roster.find(name)?.token?;
        let principal = Principal::Candidate { fleet, host, token: token.key.id() };
        Some(Candidate { principal, token })
    }

    /// Takes the roster.
    #[must_use]
    pub fn with_roster(self, roster: Roster) -> Self {
        Self { roster, ..self }
    }

    /// Gives the roster.
    pub fn roster(&self) -> &Roster {
        &self.roster
    }

    /// Gives who signs the roster of a fleet, if there is anybody.
    pub fn signers(&self, fleet: &FleetId) -> Option<&Signers> {
        self.fleets.get(fleet)?.signers.as_ref()
    }

    /// Gives the fleets whose roster somebody signs.
    pub fn all_signers(&self) -> impl Iterator<Item = (&FleetId, &Signers)> {
        self.fleets.iter().filter_map(|(id, fleet)| Some((id, fleet.signers.as_ref()?)))
    }

    /// Finds a login other than the host's own that one of these keys is, or whose name the host has
    /// though it is none.
    pub fn other_with(&self, host: &LoginName, keys: &[KeyId]) -> Option<HostId> {
        self.listed_with(host, keys).or_else(|| self.roster.other_with(host, keys))
    }

    /// Finds one that stands in the file.
    pub fn listed_with(&self, host: &LoginName, keys: &[KeyId]) -> Option<HostId> {
        let fleet = self.fleets.get(&host.fleet)?;
        if fleet.has_member(&host.name) {
            return Some(host.name.clone());
        }
        let mut owners = keys.iter().filter_map(|key| fleet.owners.get(key));
        owners.find(|owner| **owner != host.name).cloned()
    }

    /// Gives the fleets, each with the number of its logins, in no order.
    pub fn fleets(&self) -> impl Iterator<Item = (&FleetId, usize)> {
        self.fleets.iter().map(|(id, fleet)| (id, fleet.logins.len()))
    }

    fn add(&mut self, path: &Path, text: &str) -> Result<(), Error> {
        let file::Parsed { fleet: id, listed, signers } = file::parse(path, text)?;
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
        self.fleets.insert(id, Fleet { path: path.to_owned(), logins, owners, signers });
        Ok(())
    }
}

impl Fleet {
    /// Tells whether somebody has this name who is no host.
    fn has_member(&self, name: &HostId) -> bool {
        self.logins.get(name).is_some_and(|entry| entry.part != Part::Host)
    }
}

#[cfg(test)]
mod tests;
