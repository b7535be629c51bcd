use std::{
    io::{BufRead as _, BufReader},
    net::TcpListener,
    num::NonZeroUsize,
    process::{Child, Command, Stdio},
};

use herald_client::{Backoff, KEEP_ALIVE, Message, SessionKind, Settings};
use herald_proto::topic::{Subject, Topic};
use tempfile::TempDir;

use super::HOME;

/// A mosquitto of its own, on a free port.
pub(crate) struct Broker {
    process: Child,
    port: u16,
    folder: TempDir,
}

impl Broker {
    pub(crate) fn start() -> Self {
        // Between finding a free port and listening on it somebody else may take it.
        (0..10).find_map(|_| Self::try_start()).expect("mosquitto starts on a free port")
    }

    fn try_start() -> Option<Self> {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let folder = tempfile::tempdir().unwrap();
        let process = launch(port, &folder)?;
        Some(Self { process, port, folder })
    }

    /// Ends it and starts it anew on its port: it has lost what it kept.
    pub(crate) fn restart(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        self.process = launch(self.port, &self.folder).expect("the port is still free");
    }

    pub(crate) fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }
}

fn launch(port: u16, folder: &TempDir) -> Option<Child> {
    let config = folder.path().join("mosquitto.conf");
    let text = format!(
        "listener {port} 127.0.0.1\nallow_anonymous true\nuser root\nmax_queued_messages 0\n"
    );
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
