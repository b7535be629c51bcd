//! The operating system as the adapters and the processes that outlive the daemon use it: files,
//! programs, the clock, randomness.
//!
//! Each call is one step, before and after which power can fail: what a step makes durable is said
//! beside it. So a simulation can stand in its place, and cut anything off anywhere.

use std::{
    ffi::OsString,
    fmt, io,
    path::{Path, PathBuf},
    process::ExitStatus,
    sync::Arc,
    time::Duration,
};

use herald_core::Monotonic;
use tokio::process::Command;

use crate::{adapters::command::CommandFailed, ports::Pending};

mod linux;

pub use linux::Linux;

/// A handle to the system, for one process.
pub type System = Arc<dyn Os>;

/// What a process asks of the system.
pub trait Os: fmt::Debug + Send + Sync {
    /// Reads a file.
    ///
    /// # Errors
    /// What the file system said.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// Reads what a symbolic link says.
    ///
    /// # Errors
    /// What the file system said.
    fn read_link(&self, path: &Path) -> io::Result<PathBuf>;

    /// Tells whether there is something, links followed.
    fn exists(&self, path: &Path) -> bool;

    /// Gives the size of a file in bytes, links followed.
    ///
    /// # Errors
    /// What the file system said.
    fn size(&self, path: &Path) -> io::Result<u64>;

    /// Gives how many bytes there is room for in the file system that holds a path.
    ///
    /// # Errors
    /// What the file system said.
    fn free(&self, path: &Path) -> io::Result<u64>;

    /// Tells whether somebody has the lock of a file (flock(2)).
    fn is_locked(&self, path: &Path) -> bool;

    /// Lists the names in a folder.
    ///
    /// # Errors
    /// What the file system said.
    fn list(&self, folder: &Path) -> io::Result<Vec<OsString>>;

    /// Replaces a file by a rename; its content is durable, the new name is not yet.
    ///
    /// # Errors
    /// What the file system said; the old file is still there whole.
    fn replace(&self, path: &Path, content: &[u8]) -> io::Result<()>;

    /// Writes a file in its place, block for block, and makes its content durable: a boot loader may
    /// know it by its blocks. Cut off in the middle, some of it is old.
    ///
    /// # Errors
    /// What the file system said.
    fn overwrite(&self, path: &Path, content: &[u8]) -> io::Result<()>;

    /// Makes a folder with those above it, where they are missing; they are not durable yet.
    ///
    /// # Errors
    /// What the file system said.
    fn make_folder(&self, folder: &Path) -> io::Result<()>;

    /// Makes a symbolic link; it is not durable yet.
    ///
    /// # Errors
    /// What the file system said.
    fn symlink(&self, to: &Path, link: &Path) -> io::Result<()>;

    /// Renames a file; the new name is not durable yet.
    ///
    /// # Errors
    /// What the file system said.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file; that is not durable yet.
    ///
    /// # Errors
    /// What the file system said.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes what was created, renamed or removed in a folder durable.
    ///
    /// # Errors
    /// What the file system said.
    fn sync_folder(&self, folder: &Path) -> io::Result<()>;

    /// Makes all of the file system that holds a path durable, whoever wrote it; that takes as long
    /// as the disk has to write.
    fn sync_all<'a>(&'a self, path: &'a Path) -> Pending<'a, io::Result<()>>;

    /// Takes the lock of a file, which is made where it is missing; waits for whoever has it.
    fn lock<'a>(&'a self, path: &'a Path) -> Pending<'a, Result<Lock, NoLock>>;

    /// Reads `CLOCK_MONOTONIC`.
    fn monotonic(&self) -> Monotonic;

    /// Fills in randomness.
    ///
    /// # Errors
    /// When the system has none to give.
    fn random(&self, bytes: &mut [u8]) -> Result<(), getrandom::Error>;

    /// Runs a program for at most `limit`, and gives what it printed.
    fn run<'a>(
        &'a self,
        command: &'a mut Command,
        limit: Duration,
    ) -> Pending<'a, Result<String, CommandFailed>>;

    /// Runs a program to its end, and passes on each line that it prints as an error.
    fn listen<'a>(
        &'a self,
        command: &'a mut Command,
        line: &'a mut dyn FnMut(&[u8]),
    ) -> Pending<'a, Result<(), CommandFailed>>;

    /// Starts a program that is waited for, and ends with this process's group.
    ///
    /// # Errors
    /// When it could not be started.
    fn start(&self, command: &mut Command) -> io::Result<Box<dyn Program>>;

    /// Ends this process, with all that it started.
    ///
    /// # Errors
    /// What the system said.
    fn end_group(&self) -> io::Result<()>;
}

/// A program that was started.
pub trait Program {
    /// Waits for its end.
    fn wait(&mut self) -> Pending<'_, io::Result<ExitStatus>>;
}

/// A lock, for as long as it is kept.
pub type Lock = Box<dyn std::any::Any>;

/// A lock could not be taken.
#[derive(Debug)]
pub enum NoLock {
    /// The file of the lock can't be made.
    NoFile(io::Error),
    /// The system refuses the lock.
    Refused(io::Error),
}
