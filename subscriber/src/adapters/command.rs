//! Running other programs: bounded, with the end of what they said when they fail.

use std::{
    ffi::OsStr,
    io,
    pin::pin,
    process::{Output, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader},
    process::{Child, Command},
    time::timeout,
};

use crate::os::Os;

/// How long a program that only looks something up may take.
const LOOK_UP_LIMIT: Duration = Duration::from_secs(120);
/// How long the output of a program that has ended is read on, where something that it left
/// running holds it open. What the program itself printed is there by then.
const OUTPUT_GRACE: Duration = Duration::from_millis(100);

/// A program did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum CommandFailed {
    /// It could not be started.
    #[error("cannot run {program}: {source}; is it installed and in PATH?")]
    NotStarted {
        /// Which program.
        program: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// It ended with an error.
    #[error("{program} ended with {status}: {stderr}")]
    Failed {
        /// Which program.
        program: String,
        /// How it ended.
        status: std::process::ExitStatus,
        /// The end of what it printed.
        stderr: String,
    },
    /// It took too long, and was killed.
    #[error("{program} did not end within {limit:?}")]
    TooSlow {
        /// Which program.
        program: String,
        /// How long it had.
        limit: Duration,
    },
}

impl CommandFailed {
    /// Puts what a program said into other words, where there are some.
    pub(super) fn in_words(self, words: String) -> Self {
        match self {
            Self::Failed { program, status, .. } if !words.is_empty() => {
                Self::Failed { program, status, stderr: words }
            }
            other => other,
        }
    }
}

/// Names a program, with no input, that is killed when nobody waits for it any more.
pub fn program(name: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(name);
    command.stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// Runs a program that looks something up, and gives what it printed.
///
/// # Errors
/// When it can't be started, fails, or takes too long.
pub async fn output(os: &dyn Os, command: &mut Command) -> Result<String, CommandFailed> {
    os.run(command, LOOK_UP_LIMIT).await
}

/// Runs a program for at most `limit`, and gives what it printed.
///
/// # Errors
/// As [`output`].
pub async fn output_within(
    command: &mut Command,
    limit: Duration,
) -> Result<String, CommandFailed> {
    let program = name(command);
    let output = match timeout(limit, run(command)).await {
        Err(_) => return Err(CommandFailed::TooSlow { program, limit }),
        Ok(Err(source)) => return Err(CommandFailed::NotStarted { program, source }),
        Ok(Ok(output)) => output,
    };
    if !output.status.success() {
        let stderr = tail(&output.stderr);
        return Err(CommandFailed::Failed { program, status: output.status, stderr });
    }
    // Without a copy: a closure's description can be large.
    Ok(String::from_utf8(output.stdout)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

/// Runs a program to its end, and passes on each line that it prints as an error.
///
/// # Errors
/// When it can't be started or fails.
pub async fn listen(
    command: &mut Command,
    line: &mut dyn FnMut(&[u8]),
) -> Result<(), CommandFailed> {
    /// What is kept of the output, to tell the end of it.
    const KEPT: usize = 64 * 1024;
    let program = name(command);
    let not_started = |source| CommandFailed::NotStarted { program: program.clone(), source };
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(not_started)?;
    let Some(stderr) = child.stderr.take() else {
        return Err(not_started(io::ErrorKind::BrokenPipe.into()));
    };
    let mut lines = BufReader::new(stderr).split(b'\n');
    let mut printed: Vec<u8> = Vec::new();
    while let Ok(Some(next)) = lines.next_segment().await {
        line(&next);
        printed.extend(next);
        printed.push(b'\n');
        let surplus = printed.len().saturating_sub(KEPT);
        printed.drain(..surplus);
    }
    let status = child.wait().await.map_err(not_started)?;
    if status.success() {
        return Ok(());
    }
    Err(CommandFailed::Failed { program, status, stderr: tail(&printed) })
}

/// Runs a program to its own end, whatever becomes of what it started.
async fn run(command: &mut Command) -> io::Result<Output> {
    command.process_group(0).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let group = Group::of(&child);
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let status = {
        let read = async { tokio::join!(read_all(out, &mut stdout), read_all(err, &mut stderr)) };
        let (mut read, mut all_read) = (pin!(read), false);
        let status = loop {
            tokio::select! {
                status = child.wait() => break status?,
                _ = &mut read, if !all_read => all_read = true,
            }
        };
        if !all_read {
            let _ = timeout(OUTPUT_GRACE, read).await;
        }
        status
    };
    group.let_go();
    Ok(Output { status, stdout, stderr })
}

/// A program with all that it started: killed together, when nobody waits for the program any
/// more. A commit that is given up must not go on behind the roll back's back.
struct Group(Option<Pid>);

impl Group {
    fn of(leader: &Child) -> Self {
        Self(leader.id().and_then(|id| Pid::from_raw(id.try_into().ok()?)))
    }

    fn let_go(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0 {
            let _ = kill_process_group(leader, Signal::KILL);
        }
    }
}

/// Reads what there is; an output that can't be read is as good as an empty one.
async fn read_all(from: Option<impl AsyncRead + Unpin>, to: &mut Vec<u8>) {
    if let Some(mut from) = from {
        let _ = from.read_to_end(to).await;
    }
}

/// Gives the name by which errors call a program.
pub fn name(command: &Command) -> String {
    let std = command.as_std();
    let verb = std.get_args().next().unwrap_or_default();
    format!("{} {}", std.get_program().display(), verb.display())
}

/// Gives the last lines of an output.
pub fn tail(output: &[u8]) -> String {
    const LINES: usize = 8;
    let text = String::from_utf8_lossy(output);
    let lines: Vec<_> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_program_that_is_given_up_is_killed_with_all_that_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("id");
        let mut slow = program("sh");
        slow.args(["-c", r#"sleep 600 & echo $! >"$0"; wait"#]).arg(&file);
        let limit = Duration::from_millis(300);
        let outcome = output_within(&mut slow, limit).await;
        assert!(matches!(outcome, Err(CommandFailed::TooSlow { .. })), "{outcome:?}");
        let id = std::fs::read_to_string(&file).unwrap();
        let gone = async {
            // A killed process that nobody has waited for yet is still listed, as a zombie.
            let runs = || {
                let stat = std::fs::read_to_string(format!("/proc/{}/stat", id.trim()));
                stat.is_ok_and(|stat| !stat.contains(") Z "))
            };
            while runs() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(Duration::from_secs(10), gone).await.unwrap();
    }
}
