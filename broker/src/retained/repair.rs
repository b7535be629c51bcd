//! Makes a new store of what is intact in a damaged one.

use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::io;
use std::mem::ManuallyDrop;
use std::os::unix::fs::{FileExt, MetadataExt, chown};
use std::path::{Path, PathBuf};

use redb::{Database, ReadOnlyTable, ReadableDatabase, ReadableTable, ReadableTableMetadata};

use super::check::{self, Fault};
use super::error::{OpenError, RepairError};
use super::record::{
    self, FORMAT, FORMAT_KEY, MESSAGES, META, NEXT_KEY, SESSIONS, Stored, TOPICS, stamp_meta,
};
use super::{Revision, file};

/// How far revisions go on where the last one given is unknown: further than a broker gets.
const STEP: u64 = 1 << 40;

/// Records that are written in one transaction.
const BATCH: usize = 1_000;

/// Most files of damage that are kept.
const MOST_KEPT: u64 = 10_000;

/// Most entries that are read of a table: damaged pages may name each other in a circle.
const MOST_ENTRIES: usize = 10_000_000;

/// How a repair went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repaired {
    /// What the store has now.
    pub kept: Counts,
    /// What it had and lacks now; none if the damage hides even that.
    pub lost: Option<Counts>,
    /// Where the damaged file is now; none if nothing was wrong and nothing was done.
    pub damaged: Option<PathBuf>,
}

/// Numbers of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Retained messages.
    pub messages: u64,
    /// Persistent sessions.
    pub sessions: u64,
}

/// Replaces a damaged store by one of all its intact records; leaves a sound one alone.
///
/// The damaged file stays as it is, beside the new one, as `<name>.damaged-<n>`. Messages keep
/// their revisions, and new ones come above every revision ever given. The store is replaced in one
/// step at the end; a crash before leaves it as it was. No other process can have it open. Needs
/// room for two more files of its size. Where the last commit cannot be read at all, the one before
/// it is kept, and where that can't be either, nothing.
///
/// Expects, as [`Store::open`](super::Store::open) does, that a panic unwinds.
pub fn repair(path: &Path) -> Result<Repaired, RepairError> {
    let _lock = lock(path)?;
    // redb writes to what it opens, so it gets a copy.
    let copy = file::sibling(path, "salvage");
    fs::copy(path, &copy).map_err(writing(&copy))?;
    let outcome = match file::checked(&copy) {
        Ok((_, found)) => {
            let kept = Counts { messages: found.messages, sessions: found.sessions };
            Ok(Repaired { kept, lost: Some(Counts::default()), damaged: None })
        }
        Err(OpenError::Damaged { .. }) => rebuild(path, &copy),
        Err(OpenError::NewerFormat { found, .. }) => Err(newer(path, found)),
        Err(OpenError::Io { source, .. }) => Err(writing(&copy)(source)),
        Err(other) => Err(RepairError::Open(other)),
    };
    file::remove(&copy).map_err(writing(&copy))?;
    outcome
}

/// Puts what is intact in the copy in the place of the store.
fn rebuild(path: &Path, copy: &Path) -> Result<Repaired, RepairError> {
    let (damaged, number) = free_name(path).map_err(writing(path))?;
    let new = file::sibling(path, "new");
    let (kept, had) = salvage(copy, &new, number).map_err(|fault| match fault {
        Fault::Newer(found) => newer(path, found),
        other => writing(&new)(other.into()),
    })?;
    // The damaged file gets its second name before it loses its first.
    fs::hard_link(path, &damaged).map_err(writing(&damaged))?;
    keep_owner(&new, path).map_err(writing(&new))?;
    file::replace(&new, path).map_err(writing(path))?;
    let lost = had.map(|had| had.without(kept));
    Ok(Repaired { kept, lost, damaged: Some(damaged) })
}

/// Gives a file the owner of the one that it replaces: root repairs, and the broker is another user.
fn keep_owner(new: &Path, replaced: &Path) -> io::Result<()> {
    let (own, wanted) = (fs::metadata(new)?, fs::metadata(replaced)?);
    if (own.uid(), own.gid()) != (wanted.uid(), wanted.gid()) {
        chown(new, Some(wanted.uid()), Some(wanted.gid()))?;
    }
    Ok(())
}

fn writing(path: &Path) -> impl FnOnce(io::Error) -> RepairError + use<> {
    let path = path.to_owned();
    move |source| RepairError::Write { path, source }
}

fn newer(path: &Path, found: u64) -> RepairError {
    RepairError::Open(OpenError::NewerFormat { path: path.into(), found })
}

/// Keeps every other process from the store, as redb's own lock does.
fn lock(path: &Path) -> Result<File, RepairError> {
    let io = |source| RepairError::Open(OpenError::Io { path: path.into(), source });
    let file = File::open(path).map_err(io)?;
    if !file.metadata().map_err(io)?.is_file() {
        return Err(RepairError::Open(OpenError::NotAFile { path: path.into() }));
    }
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err(RepairError::Open(OpenError::InUse { path: path.into() }))
        }
        Err(TryLockError::Error(source)) => Err(io(source)),
    }
}

/// The first number under which no damaged file is kept yet.
fn free_name(path: &Path) -> io::Result<(PathBuf, u64)> {
    for number in 1..=MOST_KEPT {
        let name = file::sibling(path, &format!("damaged-{number}"));
        if !name.try_exists()? {
            return Ok((name, number));
        }
    }
    Err(io::Error::other("too many damaged files are kept beside it; remove them"))
}

impl Counts {
    fn without(self, kept: Self) -> Self {
        Self {
            messages: self.messages.saturating_sub(kept.messages),
            sessions: self.sessions.saturating_sub(kept.sessions),
        }
    }
}

type Table<K, V> = Option<ReadOnlyTable<K, V>>;

/// What can be reached of a damaged store. Nothing in it is trusted until its digest is right.
struct Wreck {
    topics: Table<&'static [u8], record::Stamped>,
    messages: Table<u64, &'static [u8]>,
    sessions: Table<&'static [u8], &'static [u8]>,
    meta: Table<&'static [u8], record::Stamped>,
    /// Whether this is the last commit, for sure.
    newest: bool,
    /// Never closed: redb would write its map of free pages, and panic in a destructor if that is
    /// damaged too, which ends the process. It is a copy that nobody will open again.
    _database: ManuallyDrop<Database>,
}

/// Writes what is intact in `copy` into a new store, and closes that; `number` is the repair's.
///
/// Tells what was kept, and what there was if that can be known.
fn salvage(copy: &Path, new: &Path, number: u64) -> Result<(Counts, Option<Counts>), Fault> {
    let wreck = Wreck::open(copy);
    if let Some(found) = wreck.as_ref().and_then(Wreck::format).filter(|found| *found > FORMAT) {
        return Err(Fault::Newer(found));
    }
    let database = file::blank(new, Revision::NONE.next())?;
    let mut latest = Revision::NONE;
    let (mut had, mut next) = (None, None);
    if let Some(wreck) = &wreck {
        for revisions in wreck.revisions(&mut latest).chunks(BATCH) {
            keep_messages(&database, wreck, revisions)?;
        }
        for clients in wreck.clients().chunks(BATCH) {
            keep_sessions(&database, wreck, clients, &mut latest)?;
        }
        had = wreck.counts();
        next = wreck.next();
    }
    let next = match next {
        Some(next) => next.max(latest.next()),
        None => Revision::new(latest.get().saturating_add(number.saturating_mul(STEP))),
    };
    let transaction = file::begin_write(&database)?;
    transaction.open_table(META)?.insert(NEXT_KEY, stamp_meta(NEXT_KEY, next.get()))?;
    let kept = Counts {
        messages: transaction.open_table(MESSAGES)?.len()?,
        sessions: transaction.open_table(SESSIONS)?.len()?,
    };
    transaction.commit()?;
    Ok((kept, had))
}

/// Writes the intact ones of these messages, ascending: the later of one topic wins.
fn keep_messages(database: &Database, wreck: &Wreck, revisions: &[Revision]) -> Result<(), Fault> {
    let transaction = file::begin_write(database)?;
    {
        let mut topics = transaction.open_table(TOPICS)?;
        let mut messages = transaction.open_table(MESSAGES)?;
        for &revision in revisions {
            let Some(value) = wreck.message(revision) else { continue };
            let Ok(stored) = Stored::read(revision, &value) else { continue };
            let stamped = record::stamp_topic(stored.topic, revision);
            let former = topics.insert(stored.topic, stamped)?.map(|former| former.value().0);
            if let Some(former) = former {
                messages.remove(former)?;
            }
            messages.insert(revision.get(), &*value)?;
        }
    }
    Ok(transaction.commit()?)
}

/// Writes the intact ones of these sessions, and raises `latest` to what they acknowledged.
fn keep_sessions(
    database: &Database,
    wreck: &Wreck,
    clients: &[Vec<u8>],
    latest: &mut Revision,
) -> Result<(), Fault> {
    let transaction = file::begin_write(database)?;
    {
        let mut sessions = transaction.open_table(SESSIONS)?;
        for client in clients {
            let Some(value) = wreck.session(client) else { continue };
            let Ok(session) = record::read_session(client, &value) else { continue };
            for subscription in &session.subscriptions {
                *latest = (*latest).max(subscription.acked);
            }
            sessions.insert(&**client, &*value)?;
        }
    }
    Ok(transaction.commit()?)
}

impl Wreck {
    fn open(copy: &Path) -> Option<Self> {
        let newest = || Self::read(copy, true);
        let former = || {
            forgive(copy)?;
            Self::read(copy, false)
        };
        file::guarded(newest).or_else(|_| file::guarded(former)).ok()
    }

    fn read(copy: &Path, newest: bool) -> Result<Self, Fault> {
        let database = ManuallyDrop::new(file::builder().open(copy)?);
        let read = database.begin_read()?;
        Ok(Self {
            topics: file::guarded(|| Ok(read.open_table(TOPICS)?)).ok(),
            messages: file::guarded(|| Ok(read.open_table(MESSAGES)?)).ok(),
            sessions: file::guarded(|| Ok(read.open_table(SESSIONS)?)).ok(),
            meta: file::guarded(|| Ok(read.open_table(META)?)).ok(),
            newest,
            _database: database,
        })
    }

    /// The revisions that a message may have, ascending; `latest` becomes the last of them.
    ///
    /// Damage in one table, or in the middle of one, hides few: both tables know the revisions,
    /// and each is read from both ends.
    fn revisions(&self, latest: &mut Revision) -> Vec<Revision> {
        let mut revisions = BTreeSet::new();
        if let Some(table) = &self.messages {
            from_both_ends(table, |revision, value| {
                let revision = Revision::new(revision);
                if Stored::read(revision, value).is_ok() {
                    revisions.insert(revision);
                }
            });
        }
        if let Some(table) = &self.topics {
            from_both_ends(table, |topic, stamped| {
                revisions.extend(record::read_topic(topic, stamped));
            });
        }
        *latest = revisions.last().copied().unwrap_or_default();
        revisions.into_iter().collect()
    }

    /// The ids that a session may have.
    fn clients(&self) -> Vec<Vec<u8>> {
        let mut clients = BTreeSet::new();
        if let Some(table) = &self.sessions {
            from_both_ends(table, |client, _| {
                clients.insert(client.to_vec());
            });
        }
        clients.into_iter().collect()
    }

    fn message(&self, revision: Revision) -> Option<Vec<u8>> {
        let table = self.messages.as_ref()?;
        file::guarded(|| Ok(table.get(revision.get())?.map(|value| value.value().to_vec()))).ok()?
    }

    fn session(&self, client: &[u8]) -> Option<Vec<u8>> {
        let table = self.sessions.as_ref()?;
        file::guarded(|| Ok(table.get(client)?.map(|value| value.value().to_vec()))).ok()?
    }

    /// How many records there were.
    fn counts(&self) -> Option<Counts> {
        if !self.newest {
            return None;
        }
        let (messages, sessions) = (self.messages.as_ref()?, self.sessions.as_ref()?);
        file::guarded(|| Ok(Counts { messages: messages.len()?, sessions: sessions.len()? })).ok()
    }

    /// The format, where it can be read.
    fn format(&self) -> Option<u64> {
        let meta = self.meta.as_ref()?;
        file::guarded(|| check::number(meta, FORMAT_KEY)).ok()
    }

    /// The revision that was to be given next.
    fn next(&self) -> Option<Revision> {
        let meta = self.meta.as_ref().filter(|_| self.newest)?;
        file::guarded(|| check::number(meta, NEXT_KEY)).ok().map(Revision::new)
    }
}

/// Lets redb open the copy at the commit before the last, where it can't at the last.
///
/// The flag at this place says that the last commit was made in two steps, so that redb expects it
/// to be whole. After an orderly stop both commits hold the same records.
fn forgive(copy: &Path) -> io::Result<()> {
    const FLAGS: u64 = 9;
    const TWO_STEPS: u8 = 4;
    let file = File::options().read(true).write(true).open(copy)?;
    let mut flags = [0];
    file.read_exact_at(&mut flags, FLAGS)?;
    file.write_all_at(&[flags[0] & !TWO_STEPS], FLAGS)
}

/// Visits the entries from the first up to the first damage, and from the last down to it.
fn from_both_ends<K: redb::Key + 'static, V: redb::Value + 'static>(
    table: &ReadOnlyTable<K, V>,
    mut visit: impl FnMut(K::SelfType<'_>, V::SelfType<'_>),
) {
    let mut broken = false;
    for backwards in [false, true] {
        let passed = file::guarded(|| {
            let mut entries = table.iter()?;
            for _ in 0..MOST_ENTRIES {
                let entry = if backwards { entries.next_back() } else { entries.next() };
                let Some(entry) = entry else { break };
                let (key, value) = entry?;
                visit(key.value(), value.value());
            }
            Ok(())
        });
        broken |= passed.is_err();
        if !broken {
            break;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damaged_store_of_a_later_format_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store");
        let database = file::blank(&path, Revision::new(7)).unwrap();
        let transaction = file::begin_write(&database).unwrap();
        let later = stamp_meta(FORMAT_KEY, FORMAT + 1);
        transaction.open_table(META).unwrap().insert(FORMAT_KEY, later).unwrap();
        transaction.open_table(SESSIONS).unwrap().insert(&b"x"[..], &b"no digest"[..]).unwrap();
        transaction.commit().unwrap();
        drop(database);
        let refusal = repair(&path).unwrap_err();
        assert!(
            matches!(refusal, RepairError::Open(OpenError::NewerFormat { found: 2, .. })),
            "{refusal}"
        );
        let refusal = salvage(&path, &dir.path().join("new"), 1).unwrap_err();
        assert!(matches!(refusal, Fault::Newer(2)), "{refusal:?}");
    }
}
