//! What the tests of the real adapters share: a folder, processes, and waiting for conditions.
#![allow(dead_code, reason = "each test takes what it needs")]

pub(crate) mod fleet;
pub(crate) mod host;
pub(crate) mod machine;

use std::{
    ffi::OsString,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// How long a condition may take to come true. It is reached only when a test fails.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// Waits until `look` finds something.
pub(crate) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < LIMIT, "waited {LIMIT:?} for {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until something is so.
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    wait_for(what, || is_so().then_some(()));
}

/// A temporary folder. Every process that a test starts names it in its arguments, so that in the
/// end the folder and all processes can be removed, whoever their parents are by then.
pub(crate) struct Scratch(TempDir);

impl Scratch {
    pub(crate) fn new() -> Self {
        Self(tempfile::Builder::new().prefix("herald-test-").tempdir().expect("a folder"))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// Gives the path as text, for scripts.
    pub(crate) fn text(&self) -> &str {
        self.path().to_str().expect("a temporary folder's path is text")
    }

    /// Gives the ids of the processes that name the folder or this part of it.
    pub(crate) fn processes(&self, part: &str) -> Vec<Pid> {
        processes_naming(&format!("{}{part}", self.text()))
    }
}

/// Gives the ids of the processes that have a text in their arguments. One that has ended but was
/// not waited for has none any more.
pub(crate) fn processes_naming(text: &str) -> Vec<Pid> {
    let names_it = |id: &Pid| {
        let arguments = fs::read(format!("/proc/{}/cmdline", id.as_raw_nonzero()));
        String::from_utf8_lossy(&arguments.unwrap_or_default()).contains(text)
    };
    let entries = fs::read_dir("/proc").expect("/proc is mounted").flatten();
    let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    ids.filter_map(Pid::from_raw).filter(names_it).collect()
}

/// Tells whether a process leads its group.
pub(crate) fn leads_group(id: Pid) -> bool {
    group_and_session(id).is_some_and(|(group, _)| group == id.as_raw_nonzero().get())
}

/// Tells whether a process leads its session.
pub(crate) fn leads_session(id: Pid) -> bool {
    group_and_session(id).is_some_and(|(_, session)| session == id.as_raw_nonzero().get())
}

/// Reads them from proc(5), as the calls of `rustix` panic where the leader is outside of this
/// namespace, and the id therefore 0.
fn group_and_session(id: Pid) -> Option<(i32, i32)> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", id.as_raw_nonzero())).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(2);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let kill_what_is_left = || {
            let left = self.processes("");
            for id in &left {
                let _ = kill_process(*id, Signal::KILL);
            }
            left.is_empty()
        };
        // A test that has failed says so, whatever becomes of this.
        if !thread::panicking() || !kill_what_is_left() {
            wait_until("the processes of the test to be gone", kill_what_is_left);
        }
    }
}

/// A child, with what it prints in a file, that is killed when a test fails before it has ended.
pub(crate) struct Running(Child);

impl Running {
    pub(crate) fn start(command: &mut Command, log: &Path) -> Self {
        Self::start_with(command, log, log)
    }

    /// Starts one whose output and errors go to two files.
    pub(crate) fn start_with(command: &mut Command, stdout: &Path, stderr: &Path) -> Self {
        let open = |path| File::options().create(true).append(true).open(path).unwrap();
        let started =
            command.stdin(Stdio::null()).stdout(open(stdout)).stderr(open(stderr)).spawn();
        Self(started.unwrap_or_else(|error| panic!("cannot start {command:?}: {error}")))
    }

    pub(crate) fn id(&self) -> Pid {
        let id = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw);
        id.expect("a process id is a positive number")
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.0.try_wait().expect("a child can be asked").is_none()
    }

    /// Waits until it has ended by itself.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        wait_for("a process to end", || self.0.try_wait().expect("a child can be asked"))
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.id(), signal).expect("a child can be sent a signal");
    }

    /// Kills it as a crash would, and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Names the real program, without what the caller's environment would tell it.
pub(crate) fn subscriber() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_herald-subscriber"));
    command.env_remove("HERALD_LOG").env_remove("NOTIFY_SOCKET").env("NO_COLOR", "1");
    command
}

/// Gives the arguments with which this program, started again, runs one ignored test, which is a
/// process that other tests need. What follows is for that process.
pub(crate) fn again(test: &str) -> Vec<OsString> {
    ["--exact", "--ignored", "--nocapture", test, "--"].map(OsString::from).into()
}

/// Gives the arguments after those of [`again`]; none where somebody runs the ignored tests.
pub(crate) fn arguments_of_this_process() -> Option<Vec<OsString>> {
    let mut all = std::env::args_os();
    all.find(|argument| argument == "--")?;
    Some(all.collect())
}
