//! Starting processes that outlive the subscriber: the activation, the roll back, the dead-man.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Seek as _, Write as _},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use herald_proto::host::ProfileName;
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    process::Command,
    time::{sleep, timeout},
};

use super::command::{self, CommandFailed};
use crate::{
    config::Runner,
    os::{Os, System},
};

/// How often a process that was killed is looked at, until it is gone.
const KILL_INTERVAL: Duration = Duration::from_millis(10);
/// How long a killed process may take to be gone: it may be in an uninterruptible sleep.
const KILL_LIMIT: Duration = Duration::from_secs(30);
/// How often systemd is asked again, and for how long: while it re-executes itself, as a switch to
/// another version makes it do, it refuses connections and drops those that it has.
const ASK_INTERVAL: Duration = Duration::from_millis(100);
const ASK_LIMIT: Duration = Duration::from_secs(10);

/// What a process is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Runs the switch program.
    Activate,
    /// Has a new system booted once.
    PrepareReboot,
    /// Sets the profile and the boot default.
    Commit,
    /// Brings the previous system back, now.
    RollBack,
    /// Brings the previous system back when its time comes.
    DeadMan,
    /// Deletes old generations, once the attempt has ended.
    Prune,
}

impl Role {
    /// All that end with their attempt, those first that could undo what the others do.
    pub const ALL: [Self; 5] =
        [Self::DeadMan, Self::RollBack, Self::Commit, Self::PrepareReboot, Self::Activate];

    fn name(self) -> &'static str {
        match self {
            Self::Activate => "activate",
            Self::PrepareReboot => "prepare-reboot",
            Self::Commit => "commit",
            Self::RollBack => "roll-back",
            Self::DeadMan => "dead-man",
            Self::Prune => "prune",
        }
    }
}

/// Where what a process prints can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// In a file, until the attempt's files are removed.
    File(PathBuf),
    /// In the journal.
    Journal {
        /// As that of a unit.
        unit: String,
    },
}

/// Starts, watches and stops processes of one profile.
#[derive(Debug, Clone)]
pub struct Launcher {
    os: System,
    runner: Runner,
    profile: ProfileName,
    folder: PathBuf,
}

impl Launcher {
    /// Makes the launcher of a profile, with its state folder.
    pub fn new(os: System, runner: Runner, profile: ProfileName, folder: &Path) -> Self {
        Self { os, runner, profile, folder: folder.to_owned() }
    }

    /// Starts this program again, with other arguments, outside of the subscriber's session and
    /// cgroup. One that runs already is left alone.
    ///
    /// # Errors
    /// When it could not be started.
    pub async fn start(&self, role: Role, attempt: u64, args: Vec<OsString>) -> io::Result<()> {
        let program = std::env::current_exe()?;
        match self.runner {
            Runner::Direct => self.start_direct(role, attempt, &program, args),
            Runner::Systemd => self.start_unit(role, attempt, &program, &args).await,
        }
    }

    /// Tells whether a process runs. One of which systemd can't say it is taken to run: whoever
    /// waits for its end has a deadline.
    pub async fn is_running(&self, role: Role, attempt: u64) -> bool {
        self.runs(role, attempt).await.unwrap_or(true)
    }

    /// Kills a process with all that it started, and waits, bounded, until it is gone.
    ///
    /// # Errors
    /// When it is still there, or systemd can't say.
    pub async fn stop(&self, role: Role, attempt: u64) -> io::Result<()> {
        let gone = async {
            while self.runs(role, attempt).await? {
                match self.runner {
                    Runner::Direct => self.kill_direct(role, attempt),
                    Runner::Systemd => self.stop_unit(role, attempt).await,
                }
                sleep(KILL_INTERVAL).await;
            }
            Ok(())
        };
        timeout(KILL_LIMIT, gone).await.unwrap_or_else(|_| {
            let unit = self.unit(role, attempt);
            Err(io::Error::other(format!("{unit} does not end when it is killed")))
        })
    }

    /// Gives the file that takes what a process prints; none where that goes to the journal.
    pub fn log(&self, role: Role, attempt: u64) -> Option<PathBuf> {
        match self.runner {
            Runner::Direct => Some(self.file(role, attempt, "log")),
            Runner::Systemd => None,
        }
    }

    /// Says where what a process prints can be read.
    pub fn output(&self, role: Role, attempt: u64) -> Output {
        match self.runner {
            Runner::Direct => Output::File(self.file(role, attempt, "log")),
            Runner::Systemd => Output::Journal { unit: self.unit(role, attempt) },
        }
    }

    /// The child holds a lock for as long as it lives, as its standard input: the lock says that
    /// it runs, and the process id in the file is then its own.
    fn start_direct(
        &self,
        role: Role,
        attempt: u64,
        program: &Path,
        args: Vec<OsString>,
    ) -> io::Result<()> {
        let Some(mut lock) = self.lock(role, attempt)? else { return Ok(()) };
        let log =
            OpenOptions::new().create(true).append(true).open(self.file(role, attempt, "log"))?;
        let child = Command::new(program)
            .args(args)
            .current_dir("/")
            .stdin(lock.try_clone()?)
            .stdout(log.try_clone()?)
            .stderr(Stdio::from(log))
            .spawn()
            .map_err(|error| {
                io::Error::new(error.kind(), format!("cannot run {}: {error}", program.display()))
            })?;
        lock.set_len(0)?;
        lock.rewind()?;
        write!(lock, "{}", child.id().unwrap_or_default())
    }

    /// Takes the lock of a process; none where the process has it.
    fn lock(&self, role: Role, attempt: u64) -> io::Result<Option<File>> {
        let path = self.file(role, attempt, "lock");
        let lock =
            OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path)?;
        match lock.try_lock() {
            Ok(()) => Ok(Some(lock)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn kill_direct(&self, role: Role, attempt: u64) {
        let text = fs::read_to_string(self.file(role, attempt, "lock")).unwrap_or_default();
        if let Some(pid) = text.parse().ok().filter(|pid| *pid > 1).and_then(Pid::from_raw) {
            // The leader last: while it lives, its session's number is nobody else's. Held, it tells of no
            // end of the others.
            let _ = kill_process(pid, Signal::STOP);
            for member in session_members(pid) {
                let _ = kill_process(member, Signal::KILL);
            }
            let _ = kill_process(pid, Signal::KILL);
        }
    }

    /// Starts a transient unit. An answer of systemd can get lost: what counts is whether it runs.
    /// One that ran and is gone is started again, and finds that its work is done.
    async fn start_unit(
        &self,
        role: Role,
        attempt: u64,
        program: &Path,
        args: &[OsString],
    ) -> io::Result<()> {
        let mut waited = Duration::ZERO;
        let mut soft_reboot = SoftReboot::Survived;
        while !self.runs(role, attempt).await? {
            let mut run = command::program("systemd-run");
            run.arg(format!("--unit={}", self.unit(role, attempt)));
            run.arg(format!("--description=Herald's {} of attempt {attempt}", role.name()));
            run.args(["--collect", "--quiet"])
                .args(properties(role, soft_reboot))
                .args(inherited_environment());
            run.arg("--").arg(program).args(args);
            match command::output(&*self.os, &mut run).await {
                Ok(_) => return Ok(()),
                Err(CommandFailed::Failed { stderr, .. }) if stderr.contains(SURVIVES) => {
                    tracing::warn!(
                        "this systemd is older than 255: a soft-reboot ends the dead-man"
                    );
                    soft_reboot = SoftReboot::NotKnown;
                }
                Err(error) if waited >= ASK_LIMIT => return Err(io::Error::other(error)),
                Err(error) => tracing::debug!(%error, "trying again"),
            }
            sleep(ASK_INTERVAL).await;
            waited += ASK_INTERVAL;
        }
        Ok(())
    }

    async fn runs(&self, role: Role, attempt: u64) -> io::Result<bool> {
        if self.runner == Runner::Direct {
            return Ok(self.lock(role, attempt).is_ok_and(|lock| lock.is_none()));
        }
        let unit = self.unit(role, attempt);
        let ask = ["show", "--property=ActiveState", "--value", "--", &unit];
        let state = systemctl(&*self.os, &ask).await.map_err(io::Error::other)?;
        Ok(matches!(state.trim(), "active" | "activating" | "deactivating" | "reloading"))
    }

    async fn stop_unit(&self, role: Role, attempt: u64) {
        let unit = self.unit(role, attempt);
        let mut stop = command::program("systemctl");
        if let Err(error) = command::output(&*self.os, stop.args(["stop", "--", &unit])).await {
            tracing::debug!(%error, "trying again");
        }
    }

    fn file(&self, role: Role, attempt: u64, what: &str) -> PathBuf {
        self.folder.join(format!("{}-{what}-{attempt}", role.name()))
    }

    fn unit(&self, role: Role, attempt: u64) -> String {
        format!("herald-{}-{}-{attempt}.service", self.profile, role.name())
    }
}

/// Lists the other processes of a session, whatever their groups (proc_pid_stat(5), field 6).
fn session_members(leader: Pid) -> Vec<Pid> {
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    let member = |entry: fs::DirEntry| {
        let pid = Pid::from_raw(entry.file_name().to_str()?.parse().ok()?)?;
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        let session = stat.rsplit_once(')')?.1.split_whitespace().nth(3)?;
        (pid != leader && session == leader.as_raw_nonzero().to_string()).then_some(pid)
    };
    processes.flatten().filter_map(member).collect()
}

/// Asks systemd, again and again while it does not answer.
pub(super) async fn systemctl(os: &dyn Os, args: &[&str]) -> Result<String, CommandFailed> {
    let mut waited = Duration::ZERO;
    loop {
        match command::output(os, command::program("systemctl").args(args)).await {
            Err(CommandFailed::Failed { .. }) if waited < ASK_LIMIT => {}
            outcome => return outcome,
        }
        sleep(ASK_INTERVAL).await;
        waited += ASK_INTERVAL;
    }
}

/// The property by which a unit survives a soft-reboot (systemd-soft-reboot.service(8)).
const SURVIVES: &str = "SurviveFinalKillSignal";

/// What systemd can do for the way back when somebody starts user space again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SoftReboot {
    /// It lets the process live on.
    Survived,
    /// It is older than soft-reboots that units survive.
    NotKnown,
}

/// What a transient unit needs beside its command.
fn properties(role: Role, soft_reboot: SoftReboot) -> impl Iterator<Item = &'static str> {
    /// A unit that needs `sysinit.target`, as they do by default, goes with it when somebody
    /// isolates `emergency.target`, whatever `IgnoreOnIsolate` says.
    const EACH: &[&str] = &[
        "--property=Type=exec",
        "--property=KillMode=control-group",
        "--property=IgnoreOnIsolate=yes",
        "--property=DefaultDependencies=no",
    ];
    const ENDS_WITH_USER_SPACE: &[&str] =
        &["--property=Conflicts=shutdown.target", "--property=Before=shutdown.target"];
    /// A soft-reboot keeps what was activated, so it must not end what guards that: the new
    /// system's subscriber may never come up.
    const ENDS_WITH_THE_KERNEL: &[&str] = &[
        "--property=SurviveFinalKillSignal=yes",
        "--property=Conflicts=reboot.target kexec.target poweroff.target halt.target",
        "--property=Before=reboot.target kexec.target poweroff.target halt.target",
    ];
    /// The way back must not wait for one that is deaf.
    const ACTIVATION: &[&str] = &["--property=KillSignal=SIGKILL"];
    /// It ends by itself, or is stopped by us: whoever kills it with another signal, or with one
    /// that systemd takes for a wish to end, does not get rid of it.
    const WAY_BACK: &[&str] = &[
        "--property=TimeoutStopSec=10",
        "--property=Restart=on-failure",
        "--property=RestartForceExitStatus=SIGHUP SIGINT SIGTERM",
        "--property=RestartSec=1",
        "--property=StartLimitIntervalSec=0",
        "--property=OOMScoreAdjust=-1000",
    ];
    let (own, until) = match (role, soft_reboot) {
        (Role::Activate | Role::PrepareReboot | Role::Commit | Role::Prune, _) => {
            (ACTIVATION, ENDS_WITH_USER_SPACE)
        }
        (_, SoftReboot::Survived) => (WAY_BACK, ENDS_WITH_THE_KERNEL),
        (_, SoftReboot::NotKnown) => (WAY_BACK, ENDS_WITH_USER_SPACE),
    };
    EACH.iter().chain(until).chain(own).copied()
}

/// Names what steers Nix and logging, which a transient unit would not have. `NIX_CONFIG` stays
/// behind: it can hold access tokens, and everybody can read a unit's environment.
fn inherited_environment() -> impl Iterator<Item = String> {
    std::env::vars_os()
        .filter_map(|(name, _)| name.into_string().ok())
        .filter(|name| name.starts_with("NIX_") || matches!(&**name, "PATH" | "HERALD_LOG"))
        .filter(|name| name != "NIX_CONFIG")
        .map(|name| format!("--setenv={name}"))
}
