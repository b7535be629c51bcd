//! Entries of the roster as operators pass them around until enough of them have signed.

use crate::{
    WIRE_VERSION,
    codec::{self, Bytes, Malformed, Wire as _},
    enrol::RosterEntry,
    rejection::Rejection,
    signing::Gathering,
};

/// The most bytes of a roster file: some 100,000 entries.
pub const MAX_ROSTER_FILE: usize = 32 * 1024 * 1024;

/// What every roster file says of itself.
const FORMAT: &str = "herald-roster";

/// Bytes that are no roster file, or one with an entry that can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadRosterFile {
    /// Too large, or not deterministic CBOR.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// Something else.
    #[error("it is not a roster file, as `herald host enrol` writes them")]
    NotOne,
    /// A file of another version.
    #[error("it is a roster file of version {found}; this program knows version {known}")]
    Version {
        /// What the file says.
        found: u64,
        /// What is known here.
        known: u16,
    },
    /// An entry in it.
    #[error("entry {number} in it can't be used: {source}")]
    Entry {
        /// Which, from 1.
        number: usize,
        /// Why.
        source: Rejection,
    },
}

/// The file in its own form.
struct Form {
    format: String,
    version: u16,
    entries: Vec<Bytes>,
}

wire_map!(Form, unknown keys Refuse:
    1 => format required,
    2 => version required,
    3 => entries list,
);

/// Writes entries, each of which somebody has signed.
pub fn write(entries: &[Gathering<RosterEntry>]) -> Vec<u8> {
    let entries = entries.iter().map(Gathering::seal).collect();
    codec::encode(&Form { format: FORMAT.to_owned(), version: WIRE_VERSION, entries })
}

/// Reads entries. None of their signatures is looked at.
///
/// # Errors
/// When the bytes are no roster file, or of another version, or an entry is malformed.
pub fn read(bytes: &[u8]) -> Result<Vec<Gathering<RosterEntry>>, BadRosterFile> {
    let value = codec::decode_value_within(bytes, &[], MAX_ROSTER_FILE)?;
    let found = codec::file_version(&value, FORMAT).ok_or(BadRosterFile::NotOne)?;
    if found != u64::from(WIRE_VERSION) {
        return Err(BadRosterFile::Version { found, known: WIRE_VERSION });
    }
    let form = Form::from_value(value)?;
    let entries = form.entries.iter().zip(1..);
    entries
        .map(|(entry, number)| {
            Gathering::open(&entry.0).map_err(|source| BadRosterFile::Entry { number, source })
        })
        .collect()
}
