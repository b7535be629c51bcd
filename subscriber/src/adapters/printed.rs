//! Telling the fleet what the programs of an attempt printed.

use std::{
    cell::RefCell,
    collections::BTreeSet,
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
    path::Path,
    process::Stdio,
    rc::Rc,
    time::Duration,
};

use herald_core::Attempt;
use herald_proto::{
    id::{Incarnation, TargetHash},
    log::{Log, Program},
    text::Prose,
};
use tokio::{io::AsyncReadExt as _, time::timeout};

use super::{
    command,
    launcher::{Launcher, Output, Role},
};
use crate::{link::LogVoice, ports::Scribe};

/// How much of an output is read: more than is told, as control characters and blank lines go.
const READ: usize = 2 * Log::MOST;
/// How many lines the journal is asked for.
const LINES: &str = "--lines=500";
/// How long the journal may take.
const JOURNAL_LIMIT: Duration = Duration::from_secs(20);

/// Publishes what one profile's programs printed.
pub struct Printed {
    launcher: Launcher,
    voice: Rc<LogVoice>,
    told: RefCell<BTreeSet<(u64, Program)>>,
}

/// Of which program of which attempt something is told.
#[derive(Debug, Clone, Copy)]
pub struct About {
    /// The life of the host's state.
    pub incarnation: Incarnation,
    /// The attempt's number.
    pub attempt: u64,
    /// The target's hash.
    pub target: TargetHash,
    /// The program.
    pub program: Program,
}

impl Printed {
    /// Makes it for the profile of a launcher.
    pub fn new(launcher: Launcher, voice: LogVoice) -> Self {
        Self { launcher, voice: Rc::new(voice), told: RefCell::default() }
    }
}

impl Scribe for Printed {
    fn ended(&self, attempt: &Attempt, incarnation: Incarnation, programs: &[Program]) {
        // What was told of earlier attempts is not asked for again.
        self.told.borrow_mut().retain(|(number, _)| *number >= attempt.number);
        for program in programs {
            let Some(role) = role(*program) else { continue };
            if !self.told.borrow_mut().insert((attempt.number, *program)) {
                continue;
            }
            let about = About {
                incarnation,
                attempt: attempt.number,
                target: attempt.order.name().target,
                program: *program,
            };
            match self.launcher.output(role, attempt.number) {
                // At once, as the file goes with the attempt.
                Output::File(path) => match end_of(&path) {
                    Ok((end, cut)) => say(&self.voice, about, &end, cut),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => tracing::warn!(%error, "cannot read what a program printed"),
                },
                Output::Journal { unit } => {
                    let voice = Rc::clone(&self.voice);
                    tokio::task::spawn_local(async move {
                        match timeout(JOURNAL_LIMIT, journal(&unit)).await {
                            Ok(Ok((end, cut))) => say(&voice, about, &end, cut),
                            Ok(Err(error)) => {
                                tracing::warn!(%unit, %error, "cannot read the journal");
                            }
                            Err(_) => tracing::warn!(%unit, "the journal does not answer"),
                        }
                    });
                }
            }
        }
    }
}

/// Gives what a program is started as; none where this version starts no such program.
fn role(program: Program) -> Option<Role> {
    match program {
        Program::Activate => Some(Role::Activate),
        Program::PrepareReboot => Some(Role::PrepareReboot),
        Program::Commit => Some(Role::Commit),
        Program::RollBack => Some(Role::RollBack),
        Program::DeadMan => Some(Role::DeadMan),
        Program::Unknown(_) => None,
    }
}

/// Says it, unless there is nothing to say.
fn say(voice: &LogVoice, about: About, end: &[u8], cut: bool) {
    let (lines, dropped): (Vec<Prose>, bool) = Log::last_lines(end);
    if !lines.is_empty() {
        voice.say(about, lines, cut || dropped);
    }
}

/// Reads the end of a file, and tells whether there is more before it.
fn end_of(path: &Path) -> io::Result<(Vec<u8>, bool)> {
    let mut file = File::open(path)?;
    let size = file.metadata()?.len();
    let start = size.saturating_sub(READ as u64);
    file.seek(SeekFrom::Start(start))?;
    let mut end = Vec::new();
    file.take(READ as u64).read_to_end(&mut end)?;
    Ok((whole_lines(end, start > 0), start > 0))
}

/// Reads the end of a unit's journal, over all of its runs: what is in the middle of it is read
/// and forgotten.
async fn journal(unit: &str) -> io::Result<(Vec<u8>, bool)> {
    let sync = command::program("journalctl").arg("--sync").stdout(Stdio::null()).status().await;
    if let Err(error) = sync {
        tracing::debug!(%error, "the journal may not have it all yet");
    }
    let mut read = command::program("journalctl");
    read.args(["--no-pager", "--quiet", "--output=cat", LINES]);
    read.arg(format!("_SYSTEMD_UNIT={unit}")).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = read.spawn()?;
    let mut stdout = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
    let (mut end, mut cut, mut buffer) = (Vec::new(), false, [0; 4096]);
    loop {
        let size = stdout.read(&mut buffer).await?;
        if size == 0 {
            break;
        }
        end.extend_from_slice(&buffer[..size]);
        let surplus = end.len().saturating_sub(READ);
        cut |= surplus > 0;
        end.drain(..surplus);
    }
    child.wait().await?;
    Ok((whole_lines(end, cut), cut))
}

/// Drops the rest of a line whose beginning is not there.
fn whole_lines(mut end: Vec<u8>, cut: bool) -> Vec<u8> {
    if cut && let Some(first) = end.iter().position(|byte| *byte == b'\n') {
        end.drain(..first);
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_long_file_the_last_whole_lines_are_read() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(end_of(file.path()).unwrap(), (vec![], false));
        std::fs::write(file.path(), b"one\ntwo").unwrap();
        assert_eq!(end_of(file.path()).unwrap(), (b"one\ntwo".to_vec(), false));
        let many: String = (0..10_000).map(|n| format!("line {n:05}\n")).collect();
        std::fs::write(file.path(), &many).unwrap();
        let (end, cut) = end_of(file.path()).unwrap();
        assert!(
            cut && end.len() <= READ && end.starts_with(b"\nline 0") && end.ends_with(b"09999\n")
        );
    }
}
