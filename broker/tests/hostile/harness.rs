//! A real `herald-broker`, clients that talk raw MQTT to it, and one that only wants its pings
//! answered.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle, sleep};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::packets::{self, PINGREQ, PINGRESP};

/// What takes longer never comes.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);
/// How long others may wait for the answer to a ping, whatever a client does.
const PATIENCE: Duration = Duration::from_secs(1);

/// A listener for TCP, for everyone on this machine.
pub(crate) const TCP: &str =
    "[[listener]]\naddress = \"127.0.0.1:0\"\ntransport = \"tcp\"\nanonymous = true\n";

/// A `herald-broker` that is killed when the test ends.
pub(crate) struct Broker {
    child: Child,
    addresses: Vec<SocketAddr>,
    metrics: SocketAddr,
    _state: tempfile::TempDir,
}

impl Broker {
    /// One that listens to TCP, gives up on a client after two seconds unless the settings say
    /// otherwise, and has these settings.
    pub(crate) fn start(settings: &str) -> Self {
        let mut all = settings.to_owned();
        for key in ["handshake_timeout", "slow_after"] {
            if !settings.contains(key) {
                all = format!("{key} = \"2s\"\n{all}");
            }
        }
        Self::listening(&all, TCP)
    }

    /// One with these settings and listeners.
    pub(crate) fn listening(settings: &str, listeners: &str) -> Self {
        let state = tempfile::tempdir().unwrap();
        let config = state.path().join("config.toml");
        let text = format!("metrics = \"127.0.0.1:0\"\n{settings}\n{listeners}");
        fs::write(&config, text).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_herald-broker"))
            .arg("--config")
            .arg(&config)
            .arg("--state")
            .arg(state.path().join("state"))
            .env("HERALD_LOG", "off")
            .env_remove("NOTIFY_SOCKET")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut address = |words: &str| {
            let line = lines.next().expect("it starts").unwrap();
            line.strip_prefix(words).unwrap().parse().unwrap()
        };
        let count = listeners.matches("[[listener]]").count();
        let addresses = (0..count).map(|_| address("listening on ")).collect();
        let metrics = address("metrics on ");
        Self { child, addresses, metrics, _state: state }
    }

    /// The first listener.
    pub(crate) fn address(&self) -> SocketAddr {
        self.addresses[0]
    }

    /// A later listener.
    pub(crate) fn listener(&self, number: usize) -> SocketAddr {
        self.addresses[number]
    }

    pub(crate) fn assert_alive(&mut self) {
        assert_eq!(self.child.try_wait().unwrap(), None, "the broker has ended");
    }

    /// Asks it to stop, and gives its exit code.
    pub(crate) fn stopped(&mut self) -> Option<i32> {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        awaited(|| self.child.try_wait().unwrap()).expect("an end").code()
    }

    /// Bytes of memory that the process has.
    pub(crate) fn memory(&self) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
    }

    fn scrape(&self) -> String {
        let mut stream = TcpStream::connect(self.metrics).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    /// What was refused so far, by reason; without what never was.
    pub(crate) fn refusals(&self) -> Refusals {
        let text = self.scrape();
        let counted = text.lines().filter_map(|line| {
            let rest = line.strip_prefix("herald_broker_refused_total{reason=\"")?;
            let (reason, count) = rest.split_once("\"} ")?;
            Some((reason.to_owned(), count.parse().unwrap())).filter(|(_, count)| *count > 0)
        });
        Refusals(counted.collect())
    }

    /// A value that is told without a label.
    pub(crate) fn value(&self, name: &str) -> u64 {
        let text = self.scrape();
        let name = format!("herald_broker_{name} ");
        let value = text.lines().find_map(|line| line.strip_prefix(&name));
        value.unwrap_or_else(|| panic!("{name} is not in {text}")).parse().unwrap()
    }

    /// Waits until this, and nothing else, was refused in addition to what was refused before.
    pub(crate) fn assert_refused(&self, before: &Refusals, more: &[(&str, u64)], what: &str) {
        let mut expected = before.clone();
        for (reason, count) in more {
            *expected.0.entry((*reason).to_owned()).or_default() += count;
        }
        let refused = || (self.refusals() == expected).then_some(());
        let found = awaited(refused);
        assert!(found.is_some(), "{what}: {:?} instead of {expected:?}", self.refusals());
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How often clients were refused something, by reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusals(BTreeMap<String, u64>);

impl Refusals {
    pub(crate) fn of(&self, reason: &str) -> u64 {
        self.0.get(reason).copied().unwrap_or(0)
    }
}

/// Waits for something, which may never come.
pub(crate) fn awaited<T>(mut found: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + LIMIT;
    loop {
        match found() {
            None if Instant::now() < end => sleep(Duration::from_millis(5)),
            found => return found,
        }
    }
}

/// A connection; every read ends at the limit.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
}

impl Client {
    /// A connection without a word.
    pub(crate) fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream }
    }

    /// A session that ends with its connection.
    pub(crate) fn connect(address: SocketAddr, id: &str) -> Self {
        Self::greet(address, &packets::connect(id))
    }

    /// A session with this CONNECT.
    pub(crate) fn greet(address: SocketAddr, connect: &[u8]) -> Self {
        let mut client = Self::open(address);
        client.send(connect);
        client.expect(&packets::connack(0));
        client
    }

    /// A session that was kept.
    pub(crate) fn resume(address: SocketAddr, id: &str) -> Self {
        let mut client = Self::open(address);
        client.send(&packets::connect_kept(id));
        client.expect(&[0x20, 2, 1, 0]);
        client
    }

    /// Sends bytes. The broker may close while they are written: the next read tells.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// Reads exactly these bytes.
    pub(crate) fn expect(&mut self, bytes: &[u8]) {
        let mut found = vec![0; bytes.len()];
        let read = self.stream.read_exact(&mut found);
        let (found, bytes) = (found.escape_ascii(), bytes.escape_ascii());
        assert!(read.is_ok(), "{read:?} instead of {bytes}");
        assert_eq!(found.to_string(), bytes.to_string());
    }

    /// Subscribes to one filter.
    pub(crate) fn subscribe(&mut self, filter: &str) {
        self.send(&packets::subscribe(1, &[filter]));
        self.expect(&packets::suback(1, &[1]));
    }

    /// Publishes a retained message, and waits until it is stored.
    pub(crate) fn retain(&mut self, topic: &str, payload: &[u8]) {
        self.send(&packets::retain(topic, 1, payload));
        self.expect(&packets::puback(1));
    }

    pub(crate) fn ping(&mut self) {
        self.send(PINGREQ);
        self.expect(PINGRESP);
    }

    /// Tells whether a ping is answered before the connection ends.
    pub(crate) fn is_open(&mut self) -> bool {
        self.send(PINGREQ);
        let (mut found, mut byte) = (Vec::new(), [0]);
        while self.stream.read(&mut byte).is_ok_and(|read| read > 0) {
            found.push(byte[0]);
            if found.ends_with(PINGRESP) {
                return true;
            }
        }
        false
    }

    /// Reads one packet: its first byte and its body.
    pub(crate) fn receive(&mut self) -> (u8, Vec<u8>) {
        let mut byte = [0];
        self.stream.read_exact(&mut byte).expect("a packet");
        let kind = byte[0];
        let (mut length, mut shift) = (0, 0);
        loop {
            self.stream.read_exact(&mut byte).expect("a length");
            length |= usize::from(byte[0] & 0x7f) << shift;
            shift += 7;
            if byte[0] < 0x80 {
                break;
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).expect("a body");
        (kind, body)
    }

    /// Reads one message of QoS 1: its packet id and payload.
    pub(crate) fn message(&mut self) -> (u16, Vec<u8>) {
        let (kind, body) = self.receive();
        assert_eq!(kind & 0xf6, 0x32, "a message");
        let topic = usize::from(u16::from_be_bytes([body[0], body[1]]));
        let id = u16::from_be_bytes([body[2 + topic], body[3 + topic]]);
        (id, body[4 + topic..].to_vec())
    }

    /// Reads all until the broker closes the connection, well or badly.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        if let Err(error) = self.stream.read_to_end(&mut rest) {
            assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
        }
        rest
    }

    /// Waits until the broker closes the connection without another word.
    pub(crate) fn assert_closed(&mut self) {
        assert_eq!(self.rest().escape_ascii().to_string(), "");
    }
}

/// Somebody else's client, whose pings are to be answered all the time.
pub(crate) struct Bystander {
    stop: Arc<AtomicBool>,
    worst: Option<JoinHandle<Duration>>,
}

impl Bystander {
    /// Pings until it is asked how that was.
    pub(crate) fn start(address: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let mut client = Client::connect(address, "bystander");
        let pinging = thread::spawn(move || {
            let mut worst = Duration::ZERO;
            while !stopped.load(Ordering::Relaxed) {
                let began = Instant::now();
                client.ping();
                worst = worst.max(began.elapsed());
                sleep(Duration::from_millis(10));
            }
            worst
        });
        Self { stop, worst: Some(pinging) }
    }

    /// Ends the pinging.
    pub(crate) fn assert_was_served(mut self, what: &str) {
        self.stop.store(true, Ordering::Relaxed);
        let worst = self.worst.take().unwrap().join().expect("the bystander was closed");
        assert!(worst < PATIENCE, "{what}: a ping took {worst:?}");
    }
}
