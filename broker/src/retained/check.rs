//! Reads all of a store and finds what is wrong with it.

use std::io;

use redb::{Database, ReadableDatabase, ReadableTable, ReadableTableMetadata};

use super::Revision;
use super::record::{
    self, Altered, FORMAT, FORMAT_KEY, MESSAGES, META, NEXT_KEY, SESSIONS, Stored, TOPICS,
};

/// What is in a store without a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found {
    /// Messages.
    pub(super) messages: u64,
    /// Sessions.
    pub(super) sessions: u64,
    /// The revision that the next message gets: above that of every other.
    pub(super) next: Revision,
    /// Bytes of all records.
    pub(super) bytes: u64,
}

/// Why a store cannot be used.
#[derive(Debug)]
pub(super) enum Fault {
    /// Something is not what was written.
    Damaged(String),
    /// Its format is of a later release.
    Newer(u64),
    /// Another process has it.
    InUse,
    /// The operating system refused.
    Io(io::Error),
}

/// Checks redb's pages, then every record, then that topics and messages name each other.
pub(super) fn whole(database: &mut Database) -> Result<Found, Fault> {
    // False says that the map of free pages was wrong and is right again; no record depends on it.
    database.check_integrity()?;
    let transaction = database.begin_read()?;

    let meta = transaction.open_table(META)?;
    let format = number(&meta, FORMAT_KEY)?;
    if format > FORMAT {
        return Err(Fault::Newer(format));
    }
    let next = Revision::new(number(&meta, NEXT_KEY)?);

    let topics = transaction.open_table(TOPICS)?;
    let messages = transaction.open_table(MESSAGES)?;
    let mut found = Found { messages: 0, sessions: 0, next, bytes: 0 };
    for entry in messages.iter()? {
        let (revision, value) = entry?;
        let (revision, value) = (Revision::new(revision.value()), value.value());
        let stored = Stored::read(revision, value)
            .map_err(|Altered| altered(&format!("message {revision}")))?;
        if revision == Revision::NONE || revision >= next {
            return Err(Fault::Damaged(format!("message {revision} comes before its time")));
        }
        let name = stored.topic.escape_ascii();
        let stamped = topics.get(stored.topic)?.map(|stamped| stamped.value());
        if stamped.map(|stamped| record::read_topic(stored.topic, stamped)) != Some(Ok(revision)) {
            return Err(Fault::Damaged(format!("topic {name} does not name its message")));
        }
        found.messages += 1;
        found.bytes += (value.len() + stored.topic.len()) as u64;
    }
    if (messages.len()?, topics.len()?) != (found.messages, found.messages) {
        return Err(Fault::Damaged(format!(
            "{} topics and {} messages are counted, and {} found",
            topics.len()?,
            messages.len()?,
            found.messages
        )));
    }

    for entry in transaction.open_table(SESSIONS)?.iter()? {
        let (client, value) = entry?;
        record::read_session(client.value(), value.value())
            .map_err(|Altered| altered(&format!("session {}", client.value().escape_ascii())))?;
        found.sessions += 1;
        found.bytes += value.value().len() as u64;
    }
    Ok(found)
}

/// A number of the table `meta`. The next revision and the format are above 0.
pub(super) fn number(
    meta: &impl ReadableTable<&'static [u8], record::Stamped>,
    key: &'static [u8],
) -> Result<u64, Fault> {
    let name = key.escape_ascii();
    let stamped = meta.get(key)?.map(|stamped| stamped.value());
    match stamped.map(|stamped| record::read_meta(key, stamped)) {
        Some(Ok(value)) if value > 0 => Ok(value),
        Some(_) => Err(altered(&format!("number `{name}`"))),
        None => Err(Fault::Damaged(format!("the number `{name}` is missing"))),
    }
}

fn altered(record: &str) -> Fault {
    Fault::Damaged(format!("{record} is not what was written"))
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            // Pages that lie beyond the end of the file.
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::InvalidInput
            | io::ErrorKind::InvalidData => Self::Damaged(format!("redb: {error}")),
            _ => Self::Io(error),
        }
    }
}

impl From<redb::Error> for Fault {
    fn from(error: redb::Error) -> Self {
        match error {
            redb::Error::Io(source) => source.into(),
            other => Self::Damaged(format!("redb: {other}")),
        }
    }
}

macro_rules! faults {
    ($($error:ident),*) => {$(
        impl From<redb::$error> for Fault {
            fn from(error: redb::$error) -> Self {
                redb::Error::from(error).into()
            }
        }
    )*};
}

impl From<Fault> for io::Error {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Io(error) => error,
            Fault::Damaged(what) => Self::other(what),
            Fault::Newer(_) | Fault::InUse => Self::other("another process wrote it"),
        }
    }
}

faults!(StorageError, TableError, TransactionError, CommitError, SetDurabilityError);

#[cfg(test)]
mod tests {
    use redb::WriteTransaction;

    use super::super::file;
    use super::super::record::{stamp_meta, stamp_topic, write_message};
    use super::*;

    /// Makes a store with one message, alters its tables, and opens it.
    fn fault_after(alter: impl FnOnce(&WriteTransaction)) -> Fault {
        let dir = tempfile::tempdir().unwrap();
        let revision = Revision::new(1);
        let mut database = file::blank(&dir.path().join("store"), revision.next()).unwrap();
        let transaction = file::begin_write(&database).unwrap();
        let value = write_message(revision, b"a", b"payload");
        transaction.open_table(MESSAGES).unwrap().insert(1, &*value).unwrap();
        let stamped = stamp_topic(b"a", revision);
        transaction.open_table(TOPICS).unwrap().insert(&b"a"[..], stamped).unwrap();
        transaction.commit().unwrap();
        assert_eq!(whole(&mut database).unwrap().messages, 1);
        let transaction = file::begin_write(&database).unwrap();
        alter(&transaction);
        transaction.commit().unwrap();
        whole(&mut database).unwrap_err()
    }

    #[track_caller]
    fn assert_damage(fault: &Fault, words: &str) {
        assert!(matches!(fault, Fault::Damaged(what) if what.contains(words)), "{fault:?}");
    }

    #[test]
    fn store_of_a_later_format_is_refused_as_such() {
        let fault = fault_after(|transaction| {
            let mut meta = transaction.open_table(META).unwrap();
            meta.insert(FORMAT_KEY, stamp_meta(FORMAT_KEY, FORMAT + 1)).unwrap();
        });
        assert!(matches!(fault, Fault::Newer(2)), "{fault:?}");
    }

    #[test]
    fn topics_and_messages_must_name_each_other() {
        let fault = fault_after(|transaction| {
            transaction.open_table(TOPICS).unwrap().remove(&b"a"[..]).unwrap();
        });
        assert_damage(&fault, "topic a does not name its message");
        let fault = fault_after(|transaction| {
            let stamped = stamp_topic(b"a", Revision::new(2));
            transaction.open_table(TOPICS).unwrap().insert(&b"a"[..], stamped).unwrap();
        });
        assert_damage(&fault, "topic a does not name its message");
        let fault = fault_after(|transaction| {
            transaction.open_table(MESSAGES).unwrap().remove(1).unwrap();
        });
        assert_damage(&fault, "1 topics and 0 messages are counted, and 0 found");
    }

    #[test]
    fn next_revision_must_be_there_and_above_all_others() {
        let fault = fault_after(|transaction| {
            let mut meta = transaction.open_table(META).unwrap();
            meta.insert(NEXT_KEY, stamp_meta(NEXT_KEY, 1)).unwrap();
        });
        assert_damage(&fault, "message 1 comes before its time");
        let fault = fault_after(|transaction| {
            transaction.open_table(META).unwrap().remove(NEXT_KEY).unwrap();
        });
        assert_damage(&fault, "the number `next` is missing");
    }

    #[test]
    fn altered_record_is_noticed() {
        let fault = fault_after(|transaction| {
            let value = write_message(Revision::new(2), b"a", b"payload");
            transaction.open_table(MESSAGES).unwrap().insert(1, &*value).unwrap();
        });
        assert_damage(&fault, "message 1 is not what was written");
        let fault = fault_after(|transaction| {
            let mut sessions = transaction.open_table(SESSIONS).unwrap();
            sessions.insert(&b"web-1"[..], &b"12345678"[..]).unwrap();
        });
        assert_damage(&fault, "session web-1 is not what was written");
    }
}
