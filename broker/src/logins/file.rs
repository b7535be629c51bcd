//! A file of logins, as its operator wrote it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use herald_proto::host::{FleetId, HostId};
use herald_proto::key::PublicKey;
use herald_proto::trust::Trust;
use serde::Deserialize;
use serde::de::{self, Deserializer, SeqAccess, Visitor};
use toml::Spanned;

use super::{BadSigners, Error, Part, Place};
use crate::principal::Role;
use crate::roster::Signers;

/// What a file says.
pub(super) struct Parsed {
    pub(super) fleet: FleetId,
    /// In the order of sections and names.
    pub(super) listed: Vec<Listed>,
    pub(super) signers: Option<Signers>,
}

/// A login where it stands.
pub(super) struct Listed {
    pub(super) name: HostId,
    pub(super) place: Place,
    pub(super) part: Part,
    pub(super) keys: Vec<PublicKey>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sections {
    fleet: FleetId,
    trust: Option<PathBuf>,
    #[serde(default)]
    older_trusts: Vec<PathBuf>,
    #[serde(default)]
    hosts: Section,
    #[serde(default)]
    operators: Section,
    #[serde(default)]
    rollouts: Section,
    #[serde(default)]
    monitors: Section,
}

type Section = BTreeMap<Spanned<HostId>, Keys>;

/// Reads a file of logins.
pub(super) fn read(path: &Path) -> Result<String, Error> {
    read_guarded(path).map_err(|unusable| match unusable {
        Unusable::Unreadable(source) => Error::Unreadable { path: path.to_owned(), source },
        Unusable::Writable(mode) => Error::Writable { path: path.to_owned(), mode },
    })
}

/// Why a file is not taken, whatever is in it.
enum Unusable {
    Unreadable(io::Error),
    /// Everybody can write it: its mode.
    Writable(u32),
}

impl From<io::Error> for Unusable {
    fn from(source: io::Error) -> Self {
        Self::Unreadable(source)
    }
}

/// Reads a file that not everybody can write.
fn read_guarded(path: &Path) -> Result<String, Unusable> {
    let mut file = File::open(path)?;
    let mode = file.metadata()?.permissions().mode() & 0o777;
    if mode & 0o002 != 0 {
        return Err(Unusable::Writable(mode));
    }
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    Ok(text)
}

/// Parses a file, and reads the trust files that it names.
pub(super) fn parse(path: &Path, text: &str) -> Result<Parsed, Error> {
    let lines = Lines::of(text);
    let sections: Sections = toml::from_str(text).map_err(|error| Error::Invalid {
        path: path.to_owned(),
        line: lines.at(error.span().map_or(0, |span| span.start)),
        reason: error.message().to_owned(),
    })?;
    let signers = signers(path, &sections)?;
    let mut listed = Vec::new();
    for (section, part, logins) in [
        ("hosts", Part::Host, sections.hosts),
        ("operators", Part::Member(Role::Operator), sections.operators),
        ("rollouts", Part::Member(Role::Rollout), sections.rollouts),
        ("monitors", Part::Member(Role::Monitor), sections.monitors),
    ] {
        listed.extend(logins.into_iter().map(|(name, Keys(keys))| {
            let place = Place { section, line: lines.at(name.span().start) };
            Listed { name: name.into_inner(), place, part, keys }
        }));
    }
    Ok(Parsed { fleet: sections.fleet, listed, signers })
}

/// Reads who signs the roster.
fn signers(path: &Path, sections: &Sections) -> Result<Option<Signers>, Error> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let load = |trust: &PathBuf| {
        let trust = folder.join(trust);
        let read = || -> Result<Trust, BadSigners> {
            let text = read_guarded(&trust).map_err(|unusable| match unusable {
                Unusable::Unreadable(source) => BadSigners::Unreadable(source),
                Unusable::Writable(mode) => BadSigners::Writable { mode },
            })?;
            let found = Trust::from_toml(&text)?;
            let own = &sections.fleet;
            if found.fleet() != own {
                let (found, own) = (found.fleet().clone(), own.clone());
                return Err(BadSigners::OtherFleet { found, own });
            }
            Ok(found)
        };
        read().map_err(|source| Error::Trust {
            path: path.to_owned(),
            trust: trust.clone(),
            source: Box::new(source),
        })
    };
    let older = sections.older_trusts.iter().map(load).collect::<Result<Vec<_>, _>>()?;
    match (&sections.trust, sections.older_trusts.first()) {
        (Some(trust), _) => Ok(Some(Signers { current: load(trust)?, older })),
        (None, None) => Ok(None),
        (None, Some(older)) => {
            let (path, trust) = (path.to_owned(), folder.join(older));
            Err(Error::Trust { path, trust, source: Box::new(BadSigners::NoCurrent) })
        }
    }
}

/// The keys of a login: a list, be it empty.
struct Keys(Vec<PublicKey>);

impl<'de> Deserialize<'de> for Keys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(KeysVisitor).map(Self)
    }
}

struct KeysVisitor;

impl<'de> Visitor<'de> for KeysVisitor {
    type Value = Vec<PublicKey>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a list of public keys, as in [\"web-1:BASE64\"]")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut keys = Vec::new();
        while let Some(key) = list.next_element()? {
            keys.push(key);
        }
        Ok(keys)
    }

    /// serde would repeat the text, which could be a secret key.
    fn visit_str<E: de::Error>(self, _: &str) -> Result<Self::Value, E> {
        Err(E::custom("keys are a list, as in [\"web-1:BASE64\"]"))
    }
}

/// Where the lines of a text begin.
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Self {
        Self(text.bytes().enumerate().filter(|(_, c)| *c == b'\n').map(|(at, _)| at).collect())
    }

    /// Gives the line, from 1, of a byte.
    fn at(&self, byte: usize) -> usize {
        self.0.partition_point(|end| *end < byte) + 1
    }
}
