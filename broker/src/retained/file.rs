//! The store's file: made whole or not at all, opened by one process, and never larger than needed.

use std::cell::Cell;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use redb::{Builder, Database, DatabaseError, StorageError, TransactionError, WriteTransaction};

use super::check::{self, Fault, Found};
use super::error::{OpenError, directory};
use super::record::{FORMAT, FORMAT_KEY, MESSAGES, META, NEXT_KEY, SESSIONS, TOPICS, stamp_meta};
use super::{RESERVE, Revision};

/// What redb may keep in memory of the file.
const CACHE: usize = 8 * 1024 * 1024;

/// Files below this size are not worth making smaller.
const SMALL: u64 = 32 * 1024 * 1024;

/// Opens the store and checks it; makes it where there is none.
pub(super) fn open(path: &Path) -> Result<(Database, Found), OpenError> {
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => create(path)?,
        Err(source) => return Err(OpenError::Io { path: path.into(), source }),
        Ok(there) if !there.is_file() => return Err(OpenError::NotAFile { path: path.into() }),
        Ok(_) => {}
    }
    let (mut database, found) = checked(path)?;
    compact(&mut database, path, &found)?;
    Ok((database, found))
}

/// Opens the file, which must be there, and checks all of it.
pub(super) fn checked(path: &Path) -> Result<(Database, Found), OpenError> {
    let refused = |fault: Fault| fault.refusal(path);
    // redb would make a new database of an empty file.
    if fs::metadata(path).map_err(|e| refused(e.into()))?.len() == 0 {
        return Err(refused(Fault::Damaged("it is empty".to_owned())));
    }
    guarded(|| {
        let mut database = builder().open(path)?;
        let found = check::whole(&mut database)?;
        Ok((database, found))
    })
    .map_err(refused)
}

/// Makes an empty store, whose next revision is the first.
fn create(path: &Path) -> Result<(), OpenError> {
    let new = sibling(path, "new");
    let refused = |fault: Fault| fault.refusal(path);
    let database = blank(&new, Revision::NONE.next()).map_err(refused)?;
    drop(database);
    replace(&new, path).map_err(|source| refused(source.into()))
}

/// Makes a file with empty tables, in the place of what a crash may have left there.
pub(super) fn blank(path: &Path, next: Revision) -> Result<Database, Fault> {
    remove(path)?;
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)?;
    let database = builder().create_file(file)?;
    let transaction = begin_write(&database)?;
    {
        let mut meta = transaction.open_table(META)?;
        meta.insert(FORMAT_KEY, stamp_meta(FORMAT_KEY, FORMAT))?;
        meta.insert(NEXT_KEY, stamp_meta(NEXT_KEY, next.get()))?;
        transaction.open_table(TOPICS)?;
        transaction.open_table(MESSAGES)?;
        transaction.open_table(SESSIONS)?;
    }
    transaction.commit()?;
    Ok(database)
}

/// Puts a closed file in the place of another, durably.
pub(super) fn replace(new: &Path, path: &Path) -> io::Result<()> {
    File::open(new)?.sync_all()?;
    fs::rename(new, path)?;
    File::open(directory(path))?.sync_all()
}

/// Removes a file that need not be there.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The name of a file beside the store.
pub(super) fn sibling(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    name.into()
}

/// Begins a transaction that is on the disk when its commit returns.
///
/// It is committed in two steps, the file before the header that names it, and with the map of free
/// pages. With one step, redb could not tell a torn commit from one that rotted later, and would
/// fall back to the commit before: acknowledged messages would be lost without a word.
pub(super) fn begin_write(database: &Database) -> Result<WriteTransaction, TransactionError> {
    let mut transaction = database.begin_write()?;
    transaction.set_quick_repair(true);
    Ok(transaction)
}

/// Bytes that can still be written on the disk of that file.
pub(super) fn free_space(path: &Path) -> io::Result<u64> {
    let disk = rustix::fs::statvfs(directory(path))?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

pub(super) fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE);
    builder
}

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Tells whether this thread is reading a file that may be damaged, so that a panic is expected and
/// will be caught: for a panic hook, which should neither report it nor end the process.
pub fn is_guarded() -> bool {
    GUARDED.get()
}

/// Runs redb on a file that may be damaged: it may panic there, and must not take us with it.
///
/// What the work had in its hands is given up with it, so it does not matter in which state.
pub(super) fn guarded<T>(work: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
    let outer = GUARDED.replace(true);
    let outcome = catch_unwind(AssertUnwindSafe(work));
    GUARDED.set(outer);
    outcome.unwrap_or_else(|_| Err(Fault::Damaged("its pages contradict each other".to_owned())))
}

/// Gives the disk back what is free, where that is most of a large file.
fn compact(database: &mut Database, path: &Path, found: &Found) -> Result<(), OpenError> {
    let io = |source| OpenError::Io { path: path.into(), source };
    let size = fs::metadata(path).map_err(io)?.len();
    let room = found.bytes.saturating_mul(2).saturating_add(RESERVE);
    if size < SMALL || found.bytes > size / 8 || free_space(path).map_err(io)? < room {
        return Ok(());
    }
    match database.compact() {
        Ok(_) => Ok(()),
        Err(redb::CompactionError::Storage(StorageError::Io(source))) => Err(io(source)),
        Err(error) => Err(io(io::Error::other(error))),
    }
}

impl Fault {
    fn refusal(self, path: &Path) -> OpenError {
        let path = path.to_owned();
        match self {
            Self::Damaged(what) => OpenError::Damaged { path, what },
            Self::Newer(found) => OpenError::NewerFormat { path, found },
            Self::InUse => OpenError::InUse { path },
            Self::Io(source) => OpenError::Io { path, source },
        }
    }
}

impl From<DatabaseError> for Fault {
    fn from(error: DatabaseError) -> Self {
        match error {
            DatabaseError::DatabaseAlreadyOpen => Self::InUse,
            other => redb::Error::from(other).into(),
        }
    }
}
