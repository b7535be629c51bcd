//! A broker process in a temporary folder of its own; both are gone when it is dropped.

use std::{
    fs::{self, File},
    io,
    net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::{failure::Failure, interrupt, settings::Settings, settings::Side, vitals};
use crate::built::built;

/// A broker that does not listen, or stop, in this time is given up.
const LIMIT: Duration = Duration::from_secs(30);

/// The other broker at its best: nothing of it is durable, nothing is queued in vain.
const MOSQUITTO: &str = "\
allow_anonymous true
set_tcp_nodelay true
max_queued_messages 0
persistence false
connection_messages false
log_type error
log_type warning
user root
";

/// What carries MQTT to a broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Carrier {
    /// TCP.
    Tcp,
    /// TLS, with the certificate `broker.pem` and the key `broker.key` of the broker's folder.
    Tls,
}

/// A running broker.
pub(crate) struct Broker {
    program: PathBuf,
    carrier: Carrier,
    child: Child,
    folder: TempDir,
    address: SocketAddrV4,
}

impl Broker {
    /// Starts a broker with nothing in its memory.
    pub(crate) fn start(settings: &Settings, side: Side) -> Result<Self, Failure> {
        Self::start_program(program(settings, side)?)
    }

    /// Starts this program.
    pub(crate) fn start_program(program: PathBuf) -> Result<Self, Failure> {
        let folder = tempfile::Builder::new().prefix("herald-load-").tempdir();
        let folder = folder.map_err(Failure::system("make a temporary folder"))?;
        Self::start_in(folder, Carrier::Tcp, program)
    }

    /// Starts a broker with nothing in its memory, in a folder that has what its carrier needs.
    pub(crate) fn start_in(
        folder: TempDir,
        carrier: Carrier,
        program: PathBuf,
    ) -> Result<Self, Failure> {
        let (child, address) = spawn(&program, folder.path(), carrier)?;
        Ok(Self { program, carrier, child, folder, address })
    }

    /// Starts it again, on the same state and port. The process must have ended.
    pub(crate) fn start_again(&mut self) -> Result<(), Failure> {
        let _ = fs::remove_file(log_file(self.folder.path()));
        let port = self.address.port();
        // Connections are tried while it starts, so nothing here waits for its word.
        self.child = command(&self.program, self.folder.path(), self.carrier, port)?
            .spawn()
            .map_err(Failure::system(format!("start {}", self.program.display())))?;
        Ok(())
    }

    /// Tells whether it says that it listens; fails if it has ended.
    pub(crate) fn is_listening(&mut self) -> Result<bool, Failure> {
        self.check()?;
        Ok(printed_port(self.folder.path()).is_some())
    }

    /// Gives the process.
    pub(crate) fn process(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Leaves its folder behind, and gives it.
    pub(crate) fn keep(&mut self) -> &Path {
        self.folder.disable_cleanup(true);
        self.folder.path()
    }

    /// Stops it as systemd would, or kills it as a crash would, and waits until it is gone.
    pub(crate) fn end(&mut self, signal: Signal) -> Result<Duration, Failure> {
        let began = Instant::now();
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal)
            .map_err(|error| Failure::system("signal the broker")(error.into()))?;
        while self.child.try_wait().map_err(Failure::system("wait for the broker"))?.is_none() {
            interrupt::check()?;
            if began.elapsed() > LIMIT {
                return Err(self.failed("did not end when it was told to"));
            }
            thread::sleep(Duration::from_millis(1));
        }
        Ok(began.elapsed())
    }

    /// Fails if it has ended.
    pub(crate) fn check(&mut self) -> Result<(), Failure> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            _ => Err(self.failed("ended by itself")),
        }
    }

    /// Gives the address that it listens on.
    pub(crate) fn address(&self) -> SocketAddrV4 {
        self.address
    }

    /// Gives the processor time that it has used.
    pub(crate) fn processor_time(&self) -> Result<Duration, Failure> {
        let time = vitals::processor_time(self.child.id());
        time.map_err(Failure::system("read the broker's processor time"))
    }

    /// Gives the time that it was ready to run and had no processor.
    pub(crate) fn queued_time(&self) -> Result<Duration, Failure> {
        let time = vitals::queued_time(self.child.id());
        time.map_err(Failure::system("read the broker's time in the queue"))
    }

    /// Gives its resident memory.
    pub(crate) fn resident_kib(&self) -> Result<f64, Failure> {
        let kib = vitals::resident_kib(self.child.id());
        kib.map(|kib| kib as f64).map_err(Failure::system("read the broker's memory"))
    }

    /// Gives the KiB of its files.
    pub(crate) fn stored_kib(&self) -> f64 {
        let files = fs::read_dir(self.folder.path().join("state")).into_iter().flatten().flatten();
        let sizes = files.filter_map(|file| file.metadata().ok()).map(|file| file.len());
        sizes.sum::<u64>() as f64 / 1024.0
    }

    /// Adds what it said to a failure that may be its fault.
    pub(crate) fn explain(&mut self, failure: Failure) -> Failure {
        match (self.child.try_wait(), failure) {
            (Ok(Some(_)), Failure::Lost { .. } | Failure::Late { .. } | Failure::System { .. }) => {
                self.failed("ended by itself")
            }
            (_, failure) => failure,
        }
    }

    fn failed(&self, what: &'static str) -> Failure {
        failed(&self.program, self.folder.path(), what)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Gives the program of a side; ours is built if none is named.
pub(crate) fn program(settings: &Settings, side: Side) -> Result<PathBuf, Failure> {
    match (side, &settings.broker_bin) {
        (Side::Theirs, _) => Ok(settings.mosquitto_bin.clone()),
        (Side::Ours, Some(path)) => Ok(path.clone()),
        (Side::Ours, None) => Ok(built("herald-broker")?),
    }
}

/// Starts a broker and waits until it takes connections.
fn spawn(
    program: &Path,
    folder: &Path,
    carrier: Carrier,
) -> Result<(Child, SocketAddrV4), Failure> {
    let is_ours = !is_mosquitto(program);
    let port = if is_ours { 0 } else { free_port()? };
    let mut child = command(program, folder, carrier, port)?
        .spawn()
        .map_err(Failure::system(format!("start {}", program.display())))?;
    let began = Instant::now();
    loop {
        let port = if is_ours { printed_port(folder) } else { Some(port) };
        let address = port.map(|port| SocketAddrV4::new(Ipv4Addr::LOCALHOST, port));
        if let Some(address) = address
            && TcpStream::connect(address).is_ok()
        {
            return Ok((child, address));
        }
        let ended = child.try_wait().is_ok_and(|status| status.is_some());
        if let Err(failure) = interrupt::check().and_then(|()| {
            if ended {
                Err(failed(program, folder, "ended before it listened"))
            } else if began.elapsed() > LIMIT {
                Err(failed(program, folder, "did not listen in time"))
            } else {
                Ok(())
            }
        }) {
            let _ = child.kill();
            let _ = child.wait();
            return Err(failure);
        }
        thread::sleep(Duration::from_millis(5));
    }
}

fn command(program: &Path, folder: &Path, carrier: Carrier, port: u16) -> Result<Command, Failure> {
    let output = || -> io::Result<(File, File)> {
        let file = File::options().create(true).append(true).open(log_file(folder))?;
        Ok((file.try_clone()?, file))
    };
    let (stdout, stderr) = output().map_err(Failure::system("make a log file"))?;
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).stdout(stdout).stderr(stderr);
    let [certificate, key] = ["broker.pem", "broker.key"].map(|name| folder.join(name));
    let (certificate, key) = (certificate.display(), key.display());
    let (file, text) = if is_mosquitto(program) {
        let tls = match carrier {
            Carrier::Tcp => String::new(),
            Carrier::Tls => format!("certfile {certificate}\nkeyfile {key}\n"),
        };
        let log = log_file(folder);
        let log = log.display();
        let text = format!("listener {port} 127.0.0.1\n{tls}log_dest file {log}\n{MOSQUITTO}");
        (folder.join("mosquitto.conf"), text)
    } else {
        let carrier = match carrier {
            Carrier::Tcp => "transport = \"tcp\"\n".to_owned(),
            Carrier::Tls => {
                format!("transport = \"tls\"\ncertificate = \"{certificate}\"\nkey = \"{key}\"\n")
            }
        };
        let text = format!(
            "max_connections = 100000\n[[listener]]\naddress = \"127.0.0.1:{port}\"\n\
             anonymous = true\n{carrier}"
        );
        command.arg("--state").arg(folder.join("state"));
        (folder.join("broker.toml"), text)
    };
    fs::write(&file, text).map_err(Failure::system("write the broker's configuration"))?;
    command.arg(if is_mosquitto(program) { "-c" } else { "--config" }).arg(file);
    Ok(command)
}

fn is_mosquitto(program: &Path) -> bool {
    program.file_name().is_some_and(|name| name == "mosquitto")
}

fn log_file(folder: &Path) -> PathBuf {
    folder.join("broker.log")
}

fn printed_port(folder: &Path) -> Option<u16> {
    let output = fs::read_to_string(log_file(folder)).ok()?;
    let line = output.lines().find_map(|line| line.strip_prefix("listening on 127.0.0.1:"))?;
    line.trim().parse().ok()
}

fn free_port() -> Result<u16, Failure> {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|one| one.local_addr());
    Ok(port.map_err(Failure::system("find a free port"))?.port())
}

fn failed(program: &Path, folder: &Path, what: &'static str) -> Failure {
    let output = fs::read_to_string(log_file(folder)).unwrap_or_default();
    let lines: Vec<&str> = output.lines().collect();
    let log = lines[lines.len().saturating_sub(10)..].join("\n");
    Failure::Broker { program: program.to_owned(), what, log }
}
