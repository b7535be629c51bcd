//! Runs the real `herald-broker` and talks raw MQTT 3.1.1 to it.

#![allow(clippy::unwrap_used)]

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

const LIMIT: Duration = Duration::from_secs(20);
const MAX_PAYLOAD: usize = 32 * 1024;
const PUBLISH_QOS1: u8 = 0x32;
const PUBLISH_QOS1_RETAIN: u8 = 0x33;
const PUBACK: u8 = 0x40;

/// A `herald-broker` that is killed when the test ends.
struct Broker {
    child: Child,
    address: SocketAddr,
}

impl Broker {
    /// Returns once the broker has said that it listens.
    fn start() -> Self {
        Self::spawn(&mut command(&["--listen", "127.0.0.1:0"]))
    }

    fn spawn(command: &mut Command) -> Self {
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.strip_prefix("listening on ").expect("a broker that listens");
        Self { address: address.trim_end().parse().unwrap(), child }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for the end of the broker: its exit code and what it wrote to stderr.
    fn end(&mut self) -> (Option<i32>, String) {
        let mut stderr = self.child.stderr.take().unwrap();
        let text = within_limit(move || {
            let mut text = String::new();
            stderr.read_to_string(&mut text).map(|_| text)
        });
        (self.child.wait().unwrap().code(), text.unwrap())
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An MQTT connection; every read ends at the limit.
struct Client(TcpStream);

impl Client {
    fn connect(address: SocketAddr, id: &str) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        let mut client = Self(stream);
        client.send(0x10, &[b"\0\x04MQTT\x04\x02\0\x3c", string(id).as_slice()].concat());
        assert_eq!(client.receive().unwrap(), (0x20, vec![0, 0]), "CONNACK");
        client
    }

    fn send(&mut self, kind: u8, body: &[u8]) {
        let mut packet = vec![kind];
        let mut rest = body.len();
        while rest >= 0x80 {
            packet.push((rest % 0x80) as u8 | 0x80);
            rest /= 0x80;
        }
        packet.push(rest as u8);
        packet.extend_from_slice(body);
        // The broker may close while this is written: the next read tells.
        let _ = self.0.write_all(&packet);
    }

    fn publish(&mut self, kind: u8, topic: &str, payload: &[u8]) {
        self.send(kind, &[string(topic).as_slice(), b"\0\x01", payload].concat());
    }

    fn subscribe(&mut self, filter: &str) {
        self.send(0x82, &[b"\0\x02", string(filter).as_slice(), b"\x01"].concat());
        assert_eq!(self.receive().unwrap(), (0x90, vec![0, 2, 1]), "SUBACK");
    }

    fn ping(&mut self) -> io::Result<()> {
        self.send(0xc0, &[]);
        self.receive().map(|answer| assert_eq!(answer, (0xd0, vec![]), "PINGRESP"))
    }

    /// Reads one packet: the first byte of its header, and its body.
    fn receive(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let mut byte = [0];
        self.0.read_exact(&mut byte)?;
        let kind = byte[0];
        let (mut length, mut shift) = (0, 0);
        loop {
            self.0.read_exact(&mut byte)?;
            length |= usize::from(byte[0] & 0x7f) << shift;
            shift += 7;
            if byte[0] < 0x80 {
                break;
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body)?;
        Ok((kind, body))
    }
}

fn string(text: &str) -> Vec<u8> {
    [&(text.len() as u16).to_be_bytes(), text.as_bytes()].concat()
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_herald-broker"));
    command.args(args).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.env_remove("HERALD_LOG").env_remove("NOTIFY_SOCKET");
    command
}

/// Runs a broker that is expected to end by itself.
fn run(args: &[&str]) -> (Option<i32>, String, String) {
    let mut command = command(args);
    let Output { status, stdout, stderr } = within_limit(move || command.output()).unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

fn within_limit<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, result) = mpsc::channel();
    thread::spawn(move || done.send(work()));
    result.recv_timeout(LIMIT).expect("an end within the limit")
}

fn config_file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

#[test]
fn retained_message_reaches_a_later_subscriber() {
    let broker = Broker::start();
    let mut publisher = Client::connect(broker.address, "publisher");
    publisher.publish(PUBLISH_QOS1_RETAIN, "herald/web-1/order", b"an order");
    assert_eq!(publisher.receive().unwrap(), (PUBACK, vec![0, 1]));

    let mut subscriber = Client::connect(broker.address, "subscriber");
    subscriber.subscribe("herald/web-1/order");
    let (kind, body) = subscriber.receive().unwrap();
    assert_eq!(kind, PUBLISH_QOS1_RETAIN);
    assert!(body.ends_with(b"an order"));
}

#[test]
fn publisher_to_a_topic_that_nobody_reads_stays_connected() {
    let broker = Broker::start();
    let mut publisher = Client::connect(broker.address, "publisher");
    publisher.publish(PUBLISH_QOS1, "herald/web-1/report", b"a report");
    assert_eq!(publisher.receive().unwrap(), (PUBACK, vec![0, 1]));
    publisher.ping().unwrap();
}

#[test]
fn payload_above_the_limit_closes_only_its_own_connection() {
    let broker = Broker::start();
    let mut bystander = Client::connect(broker.address, "bystander");
    let mut sender = Client::connect(broker.address, "sender");
    let topic = "herald/web-1/order";
    sender.publish(PUBLISH_QOS1, topic, &vec![0; MAX_PAYLOAD - topic.len() - 4]);
    assert_eq!(sender.receive().unwrap(), (PUBACK, vec![0, 1]));
    sender.publish(PUBLISH_QOS1, topic, &vec![0; MAX_PAYLOAD + 1]);
    let error = sender.receive().unwrap_err();
    assert!(
        matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset),
        "{error}"
    );
    bystander.ping().unwrap();
    Client::connect(broker.address, "sender").ping().unwrap();
}

#[test]
fn dead_router_ends_the_broker_with_4() {
    let mut broker = Broker::start();
    let mut client = Client::connect(broker.address, "client");
    client.subscribe("herald/web-1/order");
    // The stock router panics here. Once it doesn't, find another way to end it.
    client.publish(PUBLISH_QOS1, "über", b"x");
    let (code, stderr) = broker.end();
    assert_eq!(code, Some(4), "{stderr}");
    assert!(stderr.contains("start the broker again"), "{stderr}");
}

#[test]
fn signal_to_stop_ends_the_broker_with_0() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut broker = Broker::start();
        let _idle = Client::connect(broker.address, "idle");
        broker.signal(signal);
        assert_eq!(broker.end(), (Some(0), String::new()));
    }
}

#[test]
fn systemd_is_told_that_the_broker_is_ready() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    let mut command = command(&["--listen", "127.0.0.1:0"]);
    let _broker = Broker::spawn(command.env("NOTIFY_SOCKET", &path));
    let mut message = [0; 64];
    let length = socket.recv(&mut message).unwrap();
    assert_eq!(&message[..length], b"READY=1\n");
}

#[test]
fn address_in_use_ends_the_broker_with_3_and_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (code, stdout, stderr) = run(&["--listen", &address]);
    assert_eq!((code, stdout.as_str()), (Some(3), ""));
    assert!(stderr.contains(&address) && stderr.contains("--listen"), "{stderr}");
}

#[test]
fn bad_configuration_ends_the_broker_with_2_and_is_named() {
    let file = config_file("max_payload = 20000\nmax_payloads = 1\n");
    let path = file.path().to_str().unwrap();
    for args in [&["--config", path][..], &["check-config", "--config", path]] {
        let (code, stdout, stderr) = run(args);
        assert_eq!((code, stdout.as_str()), (Some(2), ""), "{stderr}");
        for fact in [path, "line 2", "max_payloads"] {
            assert!(stderr.contains(fact), "{fact} is not in {stderr}");
        }
    }
    let (code, _, stderr) = run(&["--listen", "0.0.0.0:1883"]);
    assert_eq!(code, Some(2));
    assert!(stderr.contains("is not a loopback address"), "{stderr}");
}

#[test]
fn check_config_prints_the_settings_in_effect() {
    let file = config_file("max_connections = 7\n");
    let (code, stdout, stderr) = run(&["check-config", "--config", file.path().to_str().unwrap()]);
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    assert!(stdout.contains("max_payload = 32768\nmax_connections = 7\n"), "{stdout}");
}
