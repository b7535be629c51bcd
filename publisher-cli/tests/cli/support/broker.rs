use std::{
    io::{BufRead as _, BufReader},
    net::TcpListener,
    num::NonZeroUsize,
    process::{Child, Command, Stdio},
};

use herald_client::{Backoff, KEEP_ALIVE, Login, Message, SessionKind, Settings, Tls};
use herald_proto::topic::{Subject, Topic};
use tempfile::TempDir;

use super::HOME;

/// A mosquitto of its own, on a free port.
pub(crate) struct Broker {
    process: Child,
    port: u16,
    folder: TempDir,
    /// Further lines of its configuration.
    settings: String,
}

impl Broker {
    pub(crate) fn start() -> Self {
        Self::start_with("allow_anonymous true")
    }

    /// Starts one with further lines of configuration.
    pub(crate) fn start_with(settings: &str) -> Self {
        // Between finding a free port and listening on it somebody else may take it.
        (0..10).find_map(|_| Self::try_start(settings)).expect("mosquitto starts on a free port")
    }

    fn try_start(settings: &str) -> Option<Self> {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let folder = tempfile::tempdir().unwrap();
        let process = launch(port, &folder, settings)?;
        Some(Self { process, port, folder, settings: settings.to_owned() })
    }

    /// Ends it and starts it anew on its port: it has lost what it kept.
    pub(crate) fn restart(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        self.process =
            launch(self.port, &self.folder, &self.settings).expect("the port is still free");
    }

    pub(crate) fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }
}

fn launch(port: u16, folder: &TempDir, settings: &str) -> Option<Child> {
    let config = folder.path().join("mosquitto.conf");
    let text = format!("listener {port} 127.0.0.1\nuser root\nmax_queued_messages 0\n{settings}\n");
    std::fs::write(&config, text).unwrap();
    let found = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/usr/local/sbin";
    let mut process = Command::new("mosquitto")
        .env("PATH", found)
        .args(["-v", "-c", config.to_str().unwrap()])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("mosquitto is installed");
    let mut log = BufReader::new(process.stderr.take().unwrap());
    let mut line = String::new();
    while log.read_line(&mut line).unwrap() > 0 {
        if line.contains(" running") {
            // It stops when its log is full and nobody reads it.
            std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
            return Some(process);
        }
        line.clear();
    }
    process.wait().unwrap();
    None
}

impl Drop for Broker {
    fn drop(&mut self) {
        // It may have ended by itself; there is nothing to do about that here.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Broker {
    /// Publishes one message, and returns when the broker has it.
    pub(crate) fn publish(&self, subject: Subject, payload: Vec<u8>) {
        let settings = Settings {
            broker: self.url().parse().unwrap(),
            tls: Tls::default(),
            login: Login::None,
            client_id: "somebody".to_owned(),
            session: SessionKind::Clean,
            keep_alive: KEEP_ALIVE,
            backoff: Backoff::default(),
            window: NonZeroUsize::MIN,
        };
        let topic = Topic::new(HOME.parse().unwrap(), subject);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(async {
            let (client, mut inbox) = herald_client::start(settings, vec![], Box::new(()), 1);
            let drain = async { while inbox.next().await.is_some() {} };
            tokio::select! {
                delivered = client.publish(Message::new(topic, payload)) => delivered.unwrap(),
                () = drain => unreachable!("the client lives"),
            }
        });
    }
}
