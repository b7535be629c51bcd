//! A host's files, and the program with them.

use std::{
    fs,
    net::TcpListener,
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    process::Command,
};

use super::{LIMIT, Running, Scratch, subscriber, wait_until};

/// The key that signs releases here; nobody has its secret half.
const TRUSTED: &str = "k:11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";

/// A host's files: a configuration and a trust file that are right until a test changes them.
pub(crate) struct Host {
    pub(crate) scratch: Scratch,
}

impl Host {
    /// Makes one whose broker is at a port of this machine.
    pub(crate) fn new(port: u16) -> Self {
        let host = Self { scratch: Scratch::new() };
        let path = host.scratch.text();
        let config = format!(
            "fleet = \"home\"\nhost = \"alpha\"\nbroker = \"mqtt://127.0.0.1:{port}\"\n\
             trust = \"{path}/trust.toml\"\nstate_dir = \"{path}/herald\"\n\
             state = \"durable-unchecked\"\n\
             runner = \"direct\"\n[profiles.system]\nprofile = \"{path}/system\"\n\
             current = \"{path}/current\"\nbooted = \"{path}/booted\"\n"
        );
        fs::write(host.config(), config).unwrap();
        let trust = format!("fleet = \"home\"\n[release]\nthreshold = 1\nkeys = [\"{TRUSTED}\"]\n");
        fs::write(host.trust(), trust).unwrap();
        host
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.scratch.file("subscriber.toml")
    }

    pub(crate) fn trust(&self) -> PathBuf {
        self.scratch.file("trust.toml")
    }

    pub(crate) fn key(&self) -> PathBuf {
        self.scratch.file("herald/host.key")
    }

    /// Runs a command of the program to its end.
    pub(crate) fn run(&self, command: &str) -> Said {
        self.run_with(&[command])
    }

    /// Runs a command with arguments to its end.
    pub(crate) fn run_with(&self, command: &[&str]) -> Said {
        let mut run = subscriber();
        run.args(command).arg("--config").arg(self.config());
        self.said(&mut run)
    }

    /// Runs a program to its end.
    pub(crate) fn said(&self, run: &mut Command) -> Said {
        let [stdout, stderr] = ["stdout", "stderr"].map(|name| self.scratch.file(name));
        let status = Running::start_with(run, &stdout, &stderr).wait();
        let [stdout, stderr] = [stdout, stderr].map(|file| {
            let text = fs::read_to_string(&file).unwrap();
            fs::remove_file(file).unwrap();
            text
        });
        Said { code: status.code(), stdout, stderr }
    }

    /// Checks that none of the commands works, and gives what each says.
    pub(crate) fn refused(&self, commands: &[&str], code: i32) -> Vec<String> {
        let refused = |command: &&str| {
            let said = self.run(command);
            assert_eq!(said.code, Some(code), "{command}: {said:?}");
            assert_eq!(said.stdout, "", "{command}");
            said.stderr
        };
        commands.iter().map(refused).collect()
    }

    /// Starts the daemon, and waits until it says that it is ready, as systemd does.
    pub(crate) fn start(&self) -> Running {
        let path = self.scratch.file("notify");
        let _ = fs::remove_file(&path);
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        let daemon = self.start_for(&path);
        let mut message = [0; 64];
        let length = socket.recv(&mut message).expect("it gets ready");
        assert_eq!(str::from_utf8(&message[..length]).unwrap().trim_end(), "READY=1");
        daemon
    }

    /// Starts the daemon with a socket for what it tells systemd.
    pub(crate) fn start_for(&self, notified: &Path) -> Running {
        let mut command = subscriber();
        command.arg("run").arg("--config").arg(self.config());
        command.env("NOTIFY_SOCKET", notified).env("HERALD_LOG", "debug");
        Running::start(&mut command, &self.scratch.file("log"))
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.scratch.file("log")).unwrap()
    }

    pub(crate) fn wait_for_log(&self, text: &str) {
        wait_until(text, || self.log().contains(text));
    }
}

/// What a command said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A port of this machine at which nobody listens.
pub(crate) fn closed_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
