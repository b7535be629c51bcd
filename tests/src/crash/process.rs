//! A process of the simulated machine: what `herald_subscriber::os` asks of a system.

use std::{
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    process::ExitStatus,
    time::Duration,
};

use herald_core::Monotonic;
use herald_proto::store_path::StorePath;
use herald_subscriber::{
    adapters::command::{self, CommandFailed},
    os::{Lock, NoLock, Os, Program},
    ports::Pending,
};
use tokio::{
    process::Command,
    time::{sleep, timeout},
};

use super::{
    mutant::Mutant,
    programs::{self, Exit, NOT_STARTED},
    systems::{STATE, in_store},
    world::{Machine, World},
};

/// How often a lock that another process has is tried again.
const TRY_AGAIN: Duration = Duration::from_millis(50);

/// A process. Once it is dead, nothing that it does has an effect.
#[derive(Debug, Clone)]
pub(crate) struct Process {
    pub(crate) world: World,
    pub(crate) pid: u64,
}

impl Process {
    /// Begins a step; what is only looked at is one the first time.
    pub(crate) fn step(&self, effect: bool, what: &str) -> io::Result<()> {
        self.world.machine().step(self.pid, effect, what)
    }

    fn look(&self, verb: &str, path: &Path) -> io::Result<()> {
        self.step(false, &format!("{verb} {}", path.display()))
    }

    fn act(&self, verb: &str, path: &Path) -> io::Result<()> {
        self.step(true, &format!("{verb} {}", path.display()))
    }

    fn lies(&self, mutant: Mutant) -> bool {
        self.world.machine().mutant == Some(mutant)
    }

    /// Makes a link by a rename, in two steps.
    pub(crate) fn replace_link(&self, to: &Path, link: &Path) -> io::Result<()> {
        let temporary = link.with_extension("tmp");
        self.act("link", &temporary)?;
        self.world.machine().room()?;
        let _ = self.world.machine().disk.remove(&temporary);
        self.world.machine().disk.symlink(to, &temporary)?;
        self.act("rename to", link)?;
        self.world.machine().disk.rename(&temporary, link)
    }
}

impl Os for Process {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.look("read", path)?;
        let machine = self.world.machine();
        if let Some(text) = machine.trust_file(path) {
            return Ok(text.into_bytes());
        }
        match in_store(path) {
            Some((system, below)) => store_file(&machine, &system, &below).map(<[u8]>::to_vec),
            None => machine.disk.read(path),
        }
    }

    fn read_link(&self, path: &Path) -> io::Result<PathBuf> {
        self.look("read link", path)?;
        self.world.machine().disk.read_link(path)
    }

    fn exists(&self, path: &Path) -> bool {
        if self.look("look for", path).is_err() {
            return false;
        }
        let machine = self.world.machine();
        match in_store(path) {
            Some((_, below)) if below == Path::new("switch-inhibitors") => false,
            Some((store_path, _)) => machine.is_whole(&store_path),
            None => machine.disk.exists(path),
        }
    }

    fn size(&self, path: &Path) -> io::Result<u64> {
        let machine = self.world.machine();
        match in_store(path) {
            Some((system, below)) => {
                store_file(&machine, &system, &below).map(|content| content.len() as u64)
            }
            None => machine.disk.read(path).map(|content| content.len() as u64),
        }
    }

    fn free(&self, _path: &Path) -> io::Result<u64> {
        Ok(if self.world.machine().room().is_ok() { 1 << 40 } else { 0 })
    }

    fn is_locked(&self, path: &Path) -> bool {
        self.world.machine().locks.contains_key(path)
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<OsString>> {
        self.look("list", folder)?;
        let machine = self.world.machine();
        let names = machine.disk.list(folder)?.into_iter().chain(machine.disk.folders(folder));
        Ok(names.map(OsString::from).collect())
    }

    fn replace(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        let temporary = path.with_extension("tmp");
        self.act("write", &temporary)?;
        self.world.machine().room()?;
        if path.starts_with(STATE)
            && path.ends_with("state")
            && self.lies(Mutant::StateIsForgotten)
            && self.world.machine().disk.exists(path)
        {
            return Ok(());
        }
        let _ = self.world.machine().disk.remove(&temporary);
        self.world.machine().disk.write(&temporary, content)?;
        self.act("sync", &temporary)?;
        if !self.lies(Mutant::FilesAreNotSynced) {
            self.world.machine().disk.sync_file(&temporary)?;
        }
        self.act("rename to", path)?;
        self.world.machine().disk.rename(&temporary, path)
    }

    fn overwrite(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        self.act("overwrite", path)?;
        self.world.machine().room()?;
        let _ = self.world.machine().disk.remove(path);
        self.world.machine().disk.write(path, content)?;
        self.act("sync", path)?;
        self.world.machine().disk.sync_file(path)
    }

    fn make_folder(&self, folder: &Path) -> io::Result<()> {
        self.act("make", folder)?;
        self.world.machine().disk.make_folder(&folder.to_string_lossy());
        Ok(())
    }

    fn symlink(&self, to: &Path, link: &Path) -> io::Result<()> {
        self.act("link", link)?;
        self.world.machine().room()?;
        self.world.machine().disk.symlink(to, link)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.act("rename to", to)?;
        if self.lies(Mutant::ClaimsAreCopies) && from.starts_with(STATE) {
            let content = self.world.machine().disk.read(from)?;
            return self.world.machine().disk.write(to, &content);
        }
        self.world.machine().disk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let there = self.world.machine().disk.exists(path);
        self.step(there, &format!("remove {}", path.display()))?;
        if self.lies(Mutant::NothingIsCleanedUp) && path.starts_with(STATE) {
            return Ok(());
        }
        self.world.machine().disk.remove(path)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        self.act("sync", folder)?;
        if self.lies(Mutant::FoldersAreNotSynced) {
            return Ok(());
        }
        self.world.machine().disk.sync_folder(folder)
    }

    fn sync_all<'a>(&'a self, path: &'a Path) -> Pending<'a, io::Result<()>> {
        Box::pin(async move {
            self.act("sync all of", path)?;
            if !self.lies(Mutant::StoreIsNotSynced) {
                let root: PathBuf = path.components().take(2).collect();
                self.world.machine().disk.sync_below(&root);
            }
            Ok(())
        })
    }

    fn lock<'a>(&'a self, path: &'a Path) -> Pending<'a, Result<Lock, NoLock>> {
        Box::pin(async move {
            let refused = |error| NoLock::NoFile(error);
            self.act("lock", path).map_err(refused)?;
            if !self.world.machine().disk.exists(path) {
                self.world.machine().room().map_err(refused)?;
                self.world.machine().disk.write(path, b"").map_err(refused)?;
            }
            loop {
                if let Some(lock) = Held::take(self, path) {
                    return Ok(Box::new(lock) as Lock);
                }
                sleep(TRY_AGAIN).await;
            }
        })
    }

    fn monotonic(&self) -> Monotonic {
        self.world.machine().monotonic()
    }

    fn random(&self, bytes: &mut [u8]) -> Result<(), getrandom::Error> {
        for byte in bytes {
            *byte = self.world.machine().rng.next().to_le_bytes()[0];
        }
        Ok(())
    }

    fn run<'a>(
        &'a self,
        command: &'a mut Command,
        limit: Duration,
    ) -> Pending<'a, Result<String, CommandFailed>> {
        let program = command::name(command);
        Box::pin(async move {
            let mut silent = |_: &[u8]| ();
            match timeout(limit, programs::run(self, command, &mut silent)).await {
                Err(_) => Err(CommandFailed::TooSlow { program, limit }),
                Ok(exit) => judge(program, exit),
            }
        })
    }

    fn listen<'a>(
        &'a self,
        command: &'a mut Command,
        line: &'a mut dyn FnMut(&[u8]),
    ) -> Pending<'a, Result<(), CommandFailed>> {
        let program = command::name(command);
        Box::pin(async move {
            let exit = programs::run(self, command, line).await;
            judge(program, exit).map(drop)
        })
    }

    fn start(&self, command: &mut Command) -> io::Result<Box<dyn Program>> {
        let std = command.as_std();
        let mut copy = Command::new(std.get_program());
        copy.args(std.get_args());
        Ok(Box::new(Started { process: self.clone(), command: copy }))
    }

    fn end_group(&self) -> io::Result<()> {
        self.step(true, "end itself")?;
        self.world.machine().kill_process(self.pid);
        Ok(())
    }
}

/// Gives the content of a file in the store, of those that are read.
fn store_file(machine: &Machine, system: &StorePath, below: &Path) -> io::Result<&'static [u8]> {
    let is_whole = machine.is_whole(system);
    let content: Option<&[u8]> =
        (is_whole && below == Path::new("herald.json")).then_some(br#"{"state_formats":[0]}"#);
    content.ok_or_else(|| io::ErrorKind::NotFound.into())
}

fn judge(program: String, exit: Exit) -> Result<String, CommandFailed> {
    match exit {
        Exit { status: 0, stdout, .. } => Ok(stdout),
        Exit { status: NOT_STARTED, .. } => {
            Err(CommandFailed::NotStarted { program, source: io::ErrorKind::NotFound.into() })
        }
        Exit { status, stderr, .. } => {
            Err(CommandFailed::Failed { program, status: exit_status(status), stderr })
        }
    }
}

fn exit_status(status: i32) -> ExitStatus {
    std::os::unix::process::ExitStatusExt::from_raw(status << 8)
}

/// A program that a process started and waits for.
struct Started {
    process: Process,
    command: Command,
}

impl Program for Started {
    fn wait(&mut self) -> Pending<'_, io::Result<ExitStatus>> {
        Box::pin(async {
            let mut silent = |_: &[u8]| ();
            let exit = programs::run(&self.process, &self.command, &mut silent).await;
            if exit.status == NOT_STARTED {
                return Err(io::ErrorKind::NotFound.into());
            }
            Ok(exit_status(exit.status))
        })
    }
}

/// A lock that a process has.
pub(crate) struct Held {
    process: Process,
    path: PathBuf,
}

impl Held {
    /// Takes a lock, if nobody has it.
    pub(crate) fn take(process: &Process, path: &Path) -> Option<Self> {
        let mut machine = process.world.machine();
        if machine.locks.contains_key(path) || !machine.is_alive(process.pid) {
            return None;
        }
        machine.locks.insert(path.to_owned(), process.pid);
        Some(Self { process: process.clone(), path: path.to_owned() })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut machine = self.process.world.machine();
        if machine.locks.get(&self.path) == Some(&self.process.pid) {
            machine.locks.remove(&self.path);
        }
    }
}
