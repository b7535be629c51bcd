//! How the store's records are written, and read with mistrust.
//!
//! redb does not verify its pages on ordinary reads, so every value carries a digest of itself and
//! of its key. What is read back here is what was written, or an error. Keys are plain bytes: redb
//! panics on a key that should be UTF-8 and is not.

use bytes::Bytes;
use redb::TableDefinition;
use sha2::{Digest, Sha256};

use super::{Session, Subscription};
use crate::message::{Message, Revision};

/// The layout of the tables below. A store of a later one is refused.
pub(super) const FORMAT: u64 = 1;

/// A number and its digest.
pub(super) type Stamped = (u64, u64);

/// Topic -> revision of its message.
pub(super) const TOPICS: TableDefinition<'_, &[u8], Stamped> = TableDefinition::new("topics");
/// Revision -> message.
pub(super) const MESSAGES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("messages");
/// Client id -> session.
pub(super) const SESSIONS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("sessions");
/// [`FORMAT_KEY`] and [`NEXT_KEY`]. This table has the same layout in every format.
pub(super) const META: TableDefinition<'_, &[u8], Stamped> = TableDefinition::new("meta");

/// The format of the store.
pub(super) const FORMAT_KEY: &[u8] = b"format";
/// The revision that the next retained message gets.
pub(super) const NEXT_KEY: &[u8] = b"next";

const DIGEST: usize = size_of::<u64>();

/// What a digest is of: a record of one table does not pass for one of another.
#[derive(Clone, Copy)]
enum Kind {
    Topic = 1,
    Message = 2,
    Session = 3,
    Meta = 4,
}

/// A value that is not what was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Altered;

pub(super) fn stamp_topic(topic: &[u8], revision: Revision) -> Stamped {
    stamp(Kind::Topic, topic, revision.get())
}

pub(super) fn read_topic(topic: &[u8], stamped: Stamped) -> Result<Revision, Altered> {
    let revision = Revision::new(stamped.0);
    if stamp_topic(topic, revision) == stamped { Ok(revision) } else { Err(Altered) }
}

pub(super) fn stamp_meta(key: &[u8], value: u64) -> Stamped {
    stamp(Kind::Meta, key, value)
}

pub(super) fn read_meta(key: &[u8], stamped: Stamped) -> Result<u64, Altered> {
    if stamp_meta(key, stamped.0) == stamped { Ok(stamped.0) } else { Err(Altered) }
}

fn stamp(kind: Kind, key: &[u8], value: u64) -> Stamped {
    (value, digest(kind, key, &value.to_le_bytes()))
}

pub(super) fn write_message(revision: Revision, topic: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut body = Writer::with_capacity(topic.len() + payload.len());
    body.string(topic);
    body.0.extend_from_slice(payload);
    body.sealed(Kind::Message, &revision.get().to_le_bytes())
}

/// A message as it lies in the store.
pub(super) struct Stored<'a> {
    pub(super) topic: &'a [u8],
    pub(super) payload: &'a [u8],
}

impl<'a> Stored<'a> {
    pub(super) fn read(revision: Revision, value: &'a [u8]) -> Result<Self, Altered> {
        let mut body = Reader::open(Kind::Message, &revision.get().to_le_bytes(), value)?;
        let topic = body.string()?;
        Ok(Self { topic, payload: body.0 })
    }

    pub(super) fn message(&self, revision: Revision) -> Message {
        Message {
            topic: Bytes::copy_from_slice(self.topic),
            payload: Bytes::copy_from_slice(self.payload),
            revision: Some(revision),
        }
    }
}

pub(super) fn write_session(client: &[u8], session: &Session) -> Vec<u8> {
    let mut body = Writer::with_capacity(64 * (1 + session.subscriptions.len()));
    body.string(session.owner.as_bytes());
    for Subscription { filter, qos, acked } in &session.subscriptions {
        body.string(filter.as_bytes());
        body.0.push(*qos);
        body.0.extend_from_slice(&acked.get().to_le_bytes());
    }
    body.sealed(Kind::Session, client)
}

pub(super) fn read_session(client: &[u8], value: &[u8]) -> Result<Session, Altered> {
    let mut body = Reader::open(Kind::Session, client, value)?;
    let owner = body.text()?;
    let mut subscriptions = Vec::new();
    while !body.0.is_empty() {
        let filter = body.text()?;
        let [qos] = body.array()?;
        let acked = Revision::new(u64::from_le_bytes(body.array()?));
        subscriptions.push(Subscription { filter, qos, acked });
    }
    Ok(Session { owner, subscriptions })
}

/// The first 8 bytes of a SHA-256 over the kind, the key with its length, and the value.
fn digest(kind: Kind, key: &[u8], value: &[u8]) -> u64 {
    let whole = Sha256::new()
        .chain_update([kind as u8])
        .chain_update((key.len() as u64).to_le_bytes())
        .chain_update(key)
        .chain_update(value)
        .finalize();
    whole.iter().take(DIGEST).rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

/// A value in the making: room for its digest, then its body.
struct Writer(Vec<u8>);

impl Writer {
    fn with_capacity(body: usize) -> Self {
        let mut value = Vec::with_capacity(DIGEST + size_of::<u64>() + body);
        value.extend_from_slice(&[0; DIGEST]);
        Self(value)
    }

    fn string(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        self.0.extend_from_slice(bytes);
    }

    fn sealed(mut self, kind: Kind, key: &[u8]) -> Vec<u8> {
        let (seal, body) = self.0.split_at_mut(DIGEST);
        seal.copy_from_slice(&digest(kind, key, body).to_le_bytes());
        self.0
    }
}

/// The rest of a body whose digest was right.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn open(kind: Kind, key: &[u8], value: &'a [u8]) -> Result<Self, Altered> {
        let mut reader = Self(value);
        let seal = u64::from_le_bytes(reader.array()?);
        if digest(kind, key, reader.0) == seal { Ok(reader) } else { Err(Altered) }
    }

    fn take(&mut self, bytes: usize) -> Result<&'a [u8], Altered> {
        let (taken, rest) = self.0.split_at_checked(bytes).ok_or(Altered)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Altered> {
        self.take(N)?.try_into().map_err(|_| Altered)
    }

    fn string(&mut self) -> Result<&'a [u8], Altered> {
        let length = u64::from_le_bytes(self.array()?);
        self.take(usize::try_from(length).map_err(|_| Altered)?)
    }

    fn text(&mut self) -> Result<String, Altered> {
        String::from_utf8(self.string()?.to_vec()).map_err(|_| Altered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_altered_byte_of_a_message_passes() {
        let revision = Revision::new(7);
        let value = write_message(revision, b"herald/v1/f/beacon", b"payload");
        let stored = Stored::read(revision, &value).unwrap();
        assert_eq!((stored.topic, stored.payload), (&b"herald/v1/f/beacon"[..], &b"payload"[..]));
        assert!(Stored::read(revision.next(), &value).is_err(), "another key");
        for position in 0..value.len() {
            let mut altered = value.clone();
            altered[position] ^= 0x10;
            assert!(Stored::read(revision, &altered).is_err(), "byte {position}");
            assert!(Stored::read(revision, &value[..position]).is_err(), "{position} bytes");
        }
    }

    #[test]
    fn session_is_read_as_it_was_written_and_only_for_its_client() {
        let session = Session {
            owner: "f/web-1".to_owned(),
            subscriptions: vec![
                Subscription { filter: String::new(), qos: 0, acked: Revision::NONE },
                Subscription { filter: "a/+".to_owned(), qos: 1, acked: Revision::new(u64::MAX) },
            ],
        };
        let value = write_session(b"web-1", &session);
        assert_eq!(read_session(b"web-1", &value), Ok(session));
        assert_eq!(read_session(b"web-2", &value), Err(Altered));
        for end in 0..value.len() {
            assert_eq!(read_session(b"web-1", &value[..end]), Err(Altered), "{end} bytes");
        }
    }

    #[test]
    fn stamped_number_is_bound_to_its_key_and_its_table() {
        let stamped = stamp_topic(b"format", Revision::new(3));
        assert_eq!(read_topic(b"format", stamped), Ok(Revision::new(3)));
        assert_eq!(read_topic(b"formats", stamped), Err(Altered));
        assert_eq!(read_topic(b"format", (4, stamped.1)), Err(Altered));
        assert_eq!(read_meta(b"format", stamped), Err(Altered));
    }
}
