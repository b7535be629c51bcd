//! A `herald-broker` in a folder of its own.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Read, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::{
    client::dial,
    wait::{until, within_limit},
};

/// Where a broker keeps its files, from one start to the next.
pub(crate) struct Site {
    /// Shared with the brokers, which may outlive this.
    folder: Arc<TempDir>,
    /// The store's folder.
    pub(crate) state: PathBuf,
}

impl Site {
    pub(crate) fn new() -> Self {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        Self { state: folder.path().join("state"), folder }
    }

    /// A site whose broker tells metrics, and has these settings.
    pub(crate) fn with(settings: &str) -> Self {
        let site = Self::new();
        site.configure(settings);
        site
    }

    /// Writes the configuration anew, with these settings and metrics.
    pub(crate) fn configure(&self, settings: &str) {
        self.write("broker.toml", &format!("metrics = \"127.0.0.1:0\"\n{settings}"));
    }

    /// Gives the settings, but for that of the metrics.
    pub(crate) fn settings(&self) -> String {
        let config = fs::read_to_string(self.path("broker.toml")).unwrap();
        config.split_once('\n').unwrap().1.to_owned()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file in the place of the one before.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let (new, path) = (self.path("new"), self.path(name));
        fs::write(&new, text).unwrap();
        fs::rename(&new, &path).unwrap();
        path
    }

    /// The broker's command, with its state and its configuration, if there is one.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_herald-broker"));
        for variable in ["HERALD_LOG", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"] {
            command.env_remove(variable);
        }
        command.args(args).arg("--state").arg(&self.state);
        if self.path("broker.toml").exists() {
            command.arg("--config").arg(self.path("broker.toml"));
        }
        command
    }

    /// Starts a broker on loopback that takes everyone.
    pub(crate) fn start(&self) -> Broker {
        self.spawn(self.command(&["--listen", "127.0.0.1:0", "--anonymous"]))
    }

    /// Starts a broker with the listeners of its configuration.
    pub(crate) fn start_configured(&self) -> Broker {
        self.spawn(self.command(&[]))
    }

    /// Starts a broker, and returns once it has said that it listens.
    pub(crate) fn spawn(&self, mut command: Command) -> Broker {
        let log = self.path("log");
        let stderr = File::options().create(true).append(true).open(&log).unwrap();
        let mut child = command.stdout(Stdio::piped()).stderr(stderr).spawn().unwrap();
        let stdout = child.stdout.take().unwrap();
        let (addresses, folder) = (Vec::new(), Arc::clone(&self.folder));
        let mut broker = Broker { child, addresses, log, metrics: None, _folder: folder };
        let config = fs::read_to_string(self.path("broker.toml")).unwrap_or_default();
        let count = config.matches("[[listener]]").count().max(1);
        let has_metrics = config.starts_with("metrics = ");
        (broker.addresses, broker.metrics) = within_limit(move || {
            let mut lines = BufReader::new(stdout).lines().map(Result::unwrap);
            let address = |line: String, words| {
                line.strip_prefix(words).and_then(|address| address.parse::<SocketAddr>().ok())
            };
            let listening = lines.by_ref().take(count);
            let addresses = listening.map(|line| address(line, "listening on ").unwrap()).collect();
            let metrics = has_metrics.then(|| lines.next()).flatten();
            (addresses, metrics.map(|line| address(line, "metrics on ").unwrap()))
        });
        assert_eq!(broker.addresses.len(), count, "it does not listen: {}", broker.log());
        broker
    }

    /// Runs a broker's command that is expected to end by itself.
    pub(crate) fn run(&self, args: &[&str]) -> Ended {
        run(self.command(args), "")
    }
}

/// Runs a command to its end.
pub(crate) fn run(mut command: Command, input: &str) -> Ended {
    let input = input.to_owned();
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let Output { status, stdout, stderr } = within_limit(move || {
        let mut child = command.spawn().unwrap();
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        child.wait_with_output().unwrap()
    });
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ended { code: status.code(), stdout: text(stdout), stderr: text(stderr) }
}

/// How a command ended, and what it said.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A running broker, which is killed when the test ends.
pub(crate) struct Broker {
    child: Child,
    /// Where it listens, in the order of its configuration.
    pub(crate) addresses: Vec<SocketAddr>,
    log: PathBuf,
    metrics: Option<SocketAddr>,
    _folder: Arc<TempDir>,
}

impl Broker {
    /// Where it listens first.
    pub(crate) fn address(&self) -> SocketAddr {
        self.addresses[0]
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for its end, and gives the exit code, if no signal ended it.
    pub(crate) fn wait(&mut self) -> Option<i32> {
        let mut status = None;
        until("the broker ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap().code()
    }

    /// Ends it in an orderly way.
    #[track_caller]
    pub(crate) fn stop(mut self) {
        self.signal(Signal::TERM);
        let began = Instant::now();
        assert_eq!(self.wait(), Some(0), "{}", self.log());
        // What does not come to its end is given up after 5 s.
        assert!(began.elapsed() < Duration::from_secs(4), "it took {:?}", began.elapsed());
    }

    /// Ends it as a power cut would.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// What it and those before it have logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// Waits until it has logged something.
    #[track_caller]
    pub(crate) fn wait_for_log(&self, words: &str) {
        until(words, || self.log().contains(words));
    }

    /// Gives what is scraped.
    pub(crate) fn scrape(&self) -> String {
        let mut socket = dial(self.metrics.unwrap());
        socket.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").unwrap();
        let mut text = String::new();
        socket.read_to_string(&mut text).unwrap();
        text
    }

    /// Gives the value of a series.
    #[track_caller]
    pub(crate) fn metric(&self, series: &str) -> f64 {
        let text = self.scrape();
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {series} in {text}")).parse().unwrap()
    }

    /// Tells how often something was refused for a reason.
    #[track_caller]
    pub(crate) fn refusals(&self, reason: &str) -> f64 {
        self.metric(&format!("herald_broker_refused_total{{reason=\"{reason}\"}}"))
    }

    /// Waits until something was refused so often.
    #[track_caller]
    pub(crate) fn wait_for_refusals(&self, reason: &str, count: u32) {
        until(reason, || self.refusals(reason) >= f64::from(count));
        assert!((self.refusals(reason) - f64::from(count)).abs() < 0.5, "{reason}");
    }

    /// Waits until a series has a value.
    #[track_caller]
    pub(crate) fn wait_for_metric(&self, series: &str, value: u32) {
        until(series, || (self.metric(series) - f64::from(value)).abs() < 0.5);
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Gives a path as text.
pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
