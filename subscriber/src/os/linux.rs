//! The system that this program runs on.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write as _},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::ExitStatus,
    time::Duration,
};

use atomic_write_file::AtomicWriteFile;
use herald_core::Monotonic;
use rustix::process::{Signal, getpid, kill_process_group};
use tokio::process::{Child, Command};

use super::{Lock, NoLock, Os, Program};
use crate::{
    adapters::command::{self, CommandFailed},
    clock,
    ports::Pending,
};

/// Linux, by its own calls.
#[derive(Debug, Clone, Copy, Default)]
pub struct Linux;

impl Os for Linux {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        fs::read(path)
    }

    fn read_link(&self, path: &Path) -> io::Result<PathBuf> {
        fs::read_link(path)
    }

    fn exists(&self, path: &Path) -> bool {
        path.exists()
    }

    fn size(&self, path: &Path) -> io::Result<u64> {
        Ok(fs::metadata(path)?.len())
    }

    fn free(&self, path: &Path) -> io::Result<u64> {
        let all = rustix::fs::statvfs(path)?;
        Ok(all.f_bavail.saturating_mul(all.f_frsize))
    }

    fn is_locked(&self, path: &Path) -> bool {
        File::open(path).is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<OsString>> {
        Ok(fs::read_dir(folder)?.flatten().map(|entry| entry.file_name()).collect())
    }

    fn replace(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        let mut file = AtomicWriteFile::open(path)?;
        file.write_all(content)?;
        file.commit()
    }

    fn overwrite(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        let mut file = OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
        file.write_all(content)?;
        file.set_len(content.len() as u64)?;
        file.sync_all()
    }

    fn make_folder(&self, folder: &Path) -> io::Result<()> {
        fs::create_dir_all(folder)
    }

    fn symlink(&self, to: &Path, link: &Path) -> io::Result<()> {
        symlink(to, link)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        File::open(folder)?.sync_all()
    }

    fn sync_all<'a>(&'a self, path: &'a Path) -> Pending<'a, io::Result<()>> {
        let path = path.to_owned();
        let sync = move || rustix::fs::syncfs(File::open(path)?).map_err(io::Error::from);
        Box::pin(async { tokio::task::spawn_blocking(sync).await.map_err(io::Error::other)? })
    }

    fn lock<'a>(&'a self, path: &'a Path) -> Pending<'a, Result<Lock, NoLock>> {
        Box::pin(async move {
            let lock = File::create(path).map_err(NoLock::NoFile)?;
            let locked = tokio::task::spawn_blocking(move || lock.lock().map(|()| lock)).await;
            let lock = locked.map_err(io::Error::other).and_then(|locked| locked);
            lock.map(|lock| Box::new(lock) as Lock).map_err(NoLock::Refused)
        })
    }

    fn monotonic(&self) -> Monotonic {
        clock::monotonic()
    }

    fn random(&self, bytes: &mut [u8]) -> Result<(), getrandom::Error> {
        getrandom::fill(bytes)
    }

    fn run<'a>(
        &'a self,
        command: &'a mut Command,
        limit: Duration,
    ) -> Pending<'a, Result<String, CommandFailed>> {
        Box::pin(command::output_within(command, limit))
    }

    fn listen<'a>(
        &'a self,
        command: &'a mut Command,
        line: &'a mut dyn FnMut(&[u8]),
    ) -> Pending<'a, Result<(), CommandFailed>> {
        Box::pin(command::listen(command, line))
    }

    fn start(&self, command: &mut Command) -> io::Result<Box<dyn Program>> {
        Ok(Box::new(command.spawn()?))
    }

    fn end_group(&self) -> io::Result<()> {
        Ok(kill_process_group(getpid(), Signal::KILL)?)
    }
}

impl Program for Child {
    fn wait(&mut self) -> Pending<'_, io::Result<ExitStatus>> {
        Box::pin(Child::wait(self))
    }
}
