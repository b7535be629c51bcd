//! The retained messages and persistent sessions, on disk (redb).
//!
//! A commit that returned is on the disk, and whole after any crash. What is read is what was
//! written, or an error: each record carries a digest, and all are checked at the start. Knows no
//! network and no permissions.

mod check;
mod error;
mod file;
mod record;
mod repair;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use redb::{
    Database, ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata, Table,
    WriteTransaction,
};

pub use self::error::{CommitError, OpenError, ReadError, RepairError};
pub use self::file::is_guarded;
use self::record::{Altered, MESSAGES, META, NEXT_KEY, SESSIONS, Stamped, Stored, TOPICS};
pub use self::repair::{Counts, Repaired, repair};
use crate::message::{Message, Revision};
use crate::quota::Limits;

/// Bytes of the disk that are left free, beside what a batch needs.
pub const RESERVE: u64 = 16 * 1024 * 1024;

/// What a change may write beside its own bytes: the pages on its way through four trees.
const PAGES_OF_A_CHANGE: u64 = 64 * 1024;

/// The durable store. To be shared by `Arc`.
#[derive(Debug)]
pub struct Store {
    database: Database,
    path: PathBuf,
    reserve: u64,
    limits: Limits,
    retained: AtomicU64,
    sessions: AtomicU64,
    latest: AtomicU64,
}

/// A persistent session, of one client id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Whose client id it is: a principal as it is displayed.
    pub owner: String,
    /// What it listens to.
    pub subscriptions: Vec<Subscription>,
}

/// One filter of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// The filter, as the client wrote it.
    pub filter: String,
    /// The quality of service that was granted.
    pub qos: u8,
    /// All of this filter up to here was acknowledged.
    pub acked: Revision,
}

/// Something to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Keeps the message in the place of its topic's former one.
    Retain {
        /// The topic.
        topic: Bytes,
        /// The payload.
        payload: Bytes,
    },
    /// Forgets the message of the topic, if it has one.
    Clear {
        /// The topic.
        topic: Bytes,
    },
    /// Keeps the session in the place of the client's former one.
    SaveSession {
        /// The client id.
        client: String,
        /// The session.
        session: Session,
    },
    /// Forgets the session of the client, if it has one.
    DropSession {
        /// The client id.
        client: String,
    },
}

/// The topics that are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Matching<'a> {
    /// This one.
    Topic(&'a str),
    /// Every one that starts with this: end it with a `/`, or `web-1` is `web-10`'s start too.
    Prefix(&'a str),
}

impl Store {
    /// Opens the store and checks all of it; makes it where there is none.
    ///
    /// Expects that a panic unwinds: redb may panic on a damaged file, which is caught here.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let (database, found) = file::open(path)?;
        Ok(Self {
            database,
            path: path.to_owned(),
            reserve: RESERVE,
            limits: Limits::default(),
            retained: AtomicU64::new(found.messages),
            sessions: AtomicU64::new(found.sessions),
            latest: AtomicU64::new(found.next.get() - 1),
        })
    }

    /// Leaves so many bytes of the disk free, instead of [`RESERVE`].
    #[must_use]
    pub fn with_reserve(self, bytes: u64) -> Self {
        Self { reserve: bytes, ..self }
    }

    /// Keeps no more than this.
    #[must_use]
    pub fn with_limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// Stores all the changes, in their order, or none; returns when they are on the disk.
    ///
    /// Gives a revision for each `Retain` and `None` for every other change; also for a `Retain` of a
    /// topic that has no message yet and is one too many, which is not stored. To be called by one
    /// thread at a time; readers see either all of it or nothing, and never wait.
    pub fn commit(&self, changes: &[Change]) -> Result<Vec<Option<Revision>>, CommitError> {
        if changes.is_empty() {
            return Ok(Vec::new());
        }
        let failed = |source| CommitError::Failed { path: self.path.clone(), source };
        self.ensure_space(changes)?;
        let written = self.write(changes).map_err(|e| failed(Box::new(e)))?;
        self.retained.store(written.retained, Ordering::Release);
        self.sessions.store(written.sessions, Ordering::Release);
        self.latest.store(written.latest.get(), Ordering::Release);
        Ok(written.revisions)
    }

    /// How many messages are retained.
    pub fn retained(&self) -> u64 {
        self.retained.load(Ordering::Acquire)
    }

    /// How many persistent sessions there are.
    pub fn sessions(&self) -> u64 {
        self.sessions.load(Ordering::Acquire)
    }

    /// The latest revision that was given; [`Revision::NONE`] before the first.
    pub fn latest(&self) -> Revision {
        Revision::new(self.latest.load(Ordering::Acquire))
    }

    /// The revisions of the retained messages that match and are newer, ascending.
    pub fn newer(&self, topics: Matching<'_>, than: Revision) -> Result<Vec<Revision>, ReadError> {
        let table = self.read()?.open_table(TOPICS).map_err(|e| self.unreadable(e))?;
        let mut newer = Vec::new();
        let mut add = |topic: &[u8], stamped| {
            let revision = record::read_topic(topic, stamped)
                .map_err(|Altered| self.damaged(&format!("topic {}", topic.escape_ascii())))?;
            if revision > than {
                newer.push(revision);
            }
            Ok(())
        };
        match topics {
            Matching::Topic(topic) => {
                let found = table.get(topic.as_bytes()).map_err(|e| self.unreadable(e))?;
                if let Some(stamped) = found {
                    add(topic.as_bytes(), stamped.value())?;
                }
            }
            Matching::Prefix(prefix) => {
                let prefix = prefix.as_bytes();
                for entry in table.range(prefix..).map_err(|e| self.unreadable(e))? {
                    let (topic, stamped) = entry.map_err(|e| self.unreadable(e))?;
                    if !topic.value().starts_with(prefix) {
                        break;
                    }
                    add(topic.value(), stamped.value())?;
                }
            }
        }
        newer.sort_unstable();
        Ok(newer)
    }

    /// The message of that revision; none if it was superseded or cleared meanwhile.
    pub fn message(&self, revision: Revision) -> Result<Option<Message>, ReadError> {
        Ok(self.messages(&[revision])?.pop())
    }

    /// The messages of those revisions, in that order, without those superseded or cleared.
    pub fn messages(&self, revisions: &[Revision]) -> Result<Vec<Message>, ReadError> {
        let table = self.read()?.open_table(MESSAGES).map_err(|e| self.unreadable(e))?;
        let mut messages = Vec::with_capacity(revisions.len());
        for &revision in revisions {
            if let Some(value) = table.get(revision.get()).map_err(|e| self.unreadable(e))? {
                let stored = Stored::read(revision, value.value())
                    .map_err(|Altered| self.damaged(&format!("message {revision}")))?;
                messages.push(stored.message(revision));
            }
        }
        Ok(messages)
    }

    /// The session of the client.
    pub fn session(&self, client: &str) -> Result<Option<Session>, ReadError> {
        let table = self.read()?.open_table(SESSIONS).map_err(|e| self.unreadable(e))?;
        let Some(value) = table.get(client.as_bytes()).map_err(|e| self.unreadable(e))? else {
            return Ok(None);
        };
        record::read_session(client.as_bytes(), value.value())
            .map(Some)
            .map_err(|Altered| self.damaged(&format!("session {client:?}")))
    }

    /// The client ids of all sessions, each with its owner.
    pub fn owners(&self) -> Result<Vec<(String, String)>, ReadError> {
        let table = self.read()?.open_table(SESSIONS).map_err(|e| self.unreadable(e))?;
        let mut owners = Vec::new();
        for entry in table.iter().map_err(|e| self.unreadable(e))? {
            let (client, value) = entry.map_err(|e| self.unreadable(e))?;
            let name = String::from_utf8_lossy(client.value()).into_owned();
            let session = record::read_session(client.value(), value.value())
                .map_err(|Altered| self.damaged(&format!("session {name:?}")))?;
            owners.push((name, session.owner));
        }
        Ok(owners)
    }

    /// A full disk must not be noticed by redb: it refuses all writes after a failed one.
    fn ensure_space(&self, changes: &[Change]) -> Result<(), CommitError> {
        let free = file::free_space(&self.path).map_err(|source| CommitError::Failed {
            path: self.path.clone(),
            source: Box::new(redb::Error::Io(source)),
        })?;
        let batch = changes.iter().fold(0, |sum: u64, change| sum.saturating_add(change.size()));
        let needed = self.reserve.saturating_add(batch);
        if free >= needed {
            return Ok(());
        }
        Err(CommitError::NoSpace { path: self.path.clone(), free, needed })
    }

    /// Writes the changes; tells how many messages there are now, and the latest revision.
    fn write(&self, changes: &[Change]) -> Result<Written, redb::Error> {
        let transaction = file::begin_write(&self.database)?;
        let (revisions, latest) = apply(&transaction, changes, self.latest(), &self.limits)?;
        let retained = transaction.open_table(MESSAGES)?.len()?;
        let sessions = transaction.open_table(SESSIONS)?.len()?;
        transaction.commit()?;
        Ok(Written { revisions, retained, sessions, latest })
    }

    fn read(&self) -> Result<ReadTransaction, ReadError> {
        self.database.begin_read().map_err(|e| self.unreadable(e))
    }

    fn unreadable(&self, source: impl Into<redb::Error>) -> ReadError {
        ReadError::Failed { path: self.path.clone(), source: Box::new(source.into()) }
    }

    fn damaged(&self, record: &str) -> ReadError {
        let what = format!("{record} is not what was written");
        ReadError::Damaged { path: self.path.clone(), what }
    }
}

/// What a commit left.
struct Written {
    revisions: Vec<Option<Revision>>,
    retained: u64,
    sessions: u64,
    latest: Revision,
}

impl Change {
    /// Most bytes that storing it may take.
    fn size(&self) -> u64 {
        let own = match self {
            Self::Retain { topic, payload } => 2 * topic.len() + payload.len(),
            Self::Clear { topic } => topic.len(),
            Self::SaveSession { client, session } => {
                let filters: usize =
                    session.subscriptions.iter().map(|s| s.filter.len() + 32).sum();
                client.len() + session.owner.len() + filters
            }
            Self::DropSession { client } => client.len(),
        };
        // redb rounds large values up to a power of two.
        (2 * own as u64).saturating_add(PAGES_OF_A_CHANGE)
    }
}

/// Tells whether there is room for a topic that has just been added.
fn has_room(
    topics: &Table<'_, &'static [u8], Stamped>,
    retained: u64,
    topic: &[u8],
    limits: &Limits,
) -> Result<bool, redb::Error> {
    let Ok(text) = std::str::from_utf8(topic) else { return Ok(true) };
    limits.have_room(text, retained, |prefix, most| {
        let mut count = 0;
        for entry in topics.range(prefix.as_bytes()..)? {
            let (other, _) = entry?;
            if !other.value().starts_with(prefix.as_bytes()) || count >= most {
                break;
            }
            count += usize::from(other.value() != topic);
        }
        Ok(count)
    })
}

/// Applies the changes to the tables, giving revisions above `latest`.
fn apply(
    transaction: &WriteTransaction,
    changes: &[Change],
    mut latest: Revision,
    limits: &Limits,
) -> Result<(Vec<Option<Revision>>, Revision), redb::Error> {
    let mut topics = transaction.open_table(TOPICS)?;
    let mut messages = transaction.open_table(MESSAGES)?;
    let mut sessions = transaction.open_table(SESSIONS)?;
    let mut revisions = Vec::with_capacity(changes.len());
    for change in changes {
        let mut given = None;
        match change {
            Change::Retain { topic, payload } => {
                latest = latest.next();
                given = Some(latest);
                let stamped = record::stamp_topic(topic, latest);
                let former = topics.insert(&**topic, stamped)?.map(|former| former.value().0);
                if let Some(former) = former {
                    messages.remove(former)?;
                } else if !has_room(&topics, messages.len()?, topic, limits)? {
                    topics.remove(&**topic)?;
                    revisions.push(None);
                    continue;
                }
                let value = record::write_message(latest, topic, payload);
                messages.insert(latest.get(), &*value)?;
            }
            Change::Clear { topic } => {
                let former = topics.remove(&**topic)?.map(|former| former.value().0);
                if let Some(former) = former {
                    messages.remove(former)?;
                }
            }
            Change::SaveSession { client, session } => {
                let value = record::write_session(client.as_bytes(), session);
                sessions.insert(client.as_bytes(), &*value)?;
            }
            Change::DropSession { client } => {
                sessions.remove(client.as_bytes())?;
            }
        }
        revisions.push(given);
    }
    let next = latest.next().get();
    transaction.open_table(META)?.insert(NEXT_KEY, record::stamp_meta(NEXT_KEY, next))?;
    Ok((revisions, latest))
}
