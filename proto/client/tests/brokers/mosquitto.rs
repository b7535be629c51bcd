//! A real mosquitto that lives as long as its value.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::mpsc,
};

use crate::support::BOUND;

pub(crate) struct Mosquitto {
    port: u16,
    /// Further lines of its configuration.
    settings: String,
    process: Child,
}

impl Mosquitto {
    /// Starts one on a free port.
    pub(crate) fn start() -> Self {
        Self::start_with("allow_anonymous true")
    }

    /// Starts one with further lines of configuration.
    pub(crate) fn start_with(settings: &str) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let settings = settings.to_owned();
        Self { port, process: run(port, &settings), settings }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Ends it as a power cut does. It forgets everything.
    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Makes it deaf and dumb, with its connections open.
    pub(crate) fn suspend(&self) {
        let id = self.process.id().to_string();
        let status = Command::new("kill").args(["-STOP", &id]).status().unwrap();
        assert!(status.success());
    }

    /// Starts it again on the same port, after [`Mosquitto::kill`].
    pub(crate) fn restart(&mut self) {
        self.process = run(self.port, &self.settings);
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Runs mosquitto, and waits until it says that it does.
fn run(port: u16, settings: &str) -> Child {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("mosquitto.conf");
    let text = format!(
        "listener {port} 127.0.0.1\nuser root\npersistence false\nmax_queued_messages 0\n\
         log_dest stderr\nlog_type all\n{settings}\n"
    );
    fs::write(&config, text).unwrap();
    let mut process = Command::new(program())
        .arg("-c")
        .arg(&config)
        .stderr(Stdio::piped())
        .spawn()
        .expect("mosquitto runs");
    let log = BufReader::new(process.stderr.take().unwrap());
    let (runs, running) = mpsc::channel();
    // Reads to the end, as a full pipe would stop the broker.
    std::thread::spawn(move || {
        for line in log.lines().map_while(Result::ok) {
            if line.ends_with("running") {
                let _ = runs.send(());
            }
        }
    });
    running.recv_timeout(BOUND).expect("mosquitto says that it runs: is its port free?");
    process
}

fn program() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/usr/local/sbin".into()])
        .map(|directory| directory.join("mosquitto"))
        .find(|program| program.is_file())
        .expect("no mosquitto in PATH or /usr/sbin: install it (Debian, nixpkgs: `mosquitto`)")
}
