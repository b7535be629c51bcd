//! A broker of MQTT 3.1.1 that lies to hosts on purpose. What it does is decided by a seed; what is
//! true it remembers, so that it can behave again.

use std::{
    collections::BTreeMap,
    io::{self, Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use super::packet;
use crate::crash::Rng;

/// How many messages of earlier times it keeps to replay.
const MEMORY: usize = 512;
/// How many deliveries it holds back at most, to give them later in another order.
const HELD: usize = 8;

/// How it treats what it should deliver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mischief {
    /// As a broker should.
    None,
    /// Each delivery to a host or to the operator suffers what chance decides.
    Chaos,
    /// No beacon is delivered.
    Freeze,
    /// No order is delivered to one host; everything else is.
    Withhold(String),
}

/// A broker on a port of loopback, for as long as the process lives.
#[derive(Clone)]
pub struct EvilBroker {
    port: u16,
    shared: Arc<Mutex<Shared>>,
}

struct Shared {
    mischief: Mischief,
    lies_to_operators: bool,
    rng: Rng,
    trace: Vec<String>,
    /// What truly stands on each topic.
    truth: BTreeMap<String, Vec<u8>>,
    /// What was ever published, the newest last.
    history: Vec<(String, Vec<u8>)>,
    held: Vec<(u64, String, Vec<u8>)>,
    sessions: BTreeMap<u64, Session>,
    next: u64,
}

struct Session {
    client: String,
    stream: TcpStream,
    filters: Vec<String>,
    packet: u16,
}

impl EvilBroker {
    /// Begins to listen, and behaves at first.
    ///
    /// # Errors
    /// When there is no port.
    pub fn start() -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Mutex::new(Shared {
            mischief: Mischief::None,
            lies_to_operators: false,
            rng: Rng::new(0),
            trace: Vec::new(),
            truth: BTreeMap::new(),
            history: Vec::new(),
            held: Vec::new(),
            sessions: BTreeMap::new(),
            next: 0,
        }));
        let broker = Self { port, shared };
        let serving = broker.clone();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let broker = serving.clone();
                thread::spawn(move || broker.serve(stream));
            }
        });
        Ok(broker)
    }

    /// Gives the port where clients connect.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Begins a seed: its chance, and an empty trace.
    pub fn seed(&self, seed: u64) {
        let mut shared = self.shared();
        shared.rng = Rng::new(seed);
        shared.trace.clear();
    }

    /// Behaves in another way from now on.
    pub fn turn(&self, mischief: Mischief) {
        let mut shared = self.shared();
        shared.trace.push(format!("now {mischief:?}"));
        shared.mischief = mischief;
    }

    /// Whether operators suffer from chaos too.
    pub fn lie_to_operators(&self, lies: bool) {
        self.shared().lies_to_operators = lies;
    }

    /// Behaves again, and tells everyone what is true.
    pub fn recover(&self) {
        let mut shared = self.shared();
        shared.trace.push("recovers".into());
        shared.mischief = Mischief::None;
        shared.held.clear();
        let truth = shared.truth.clone();
        for (topic, payload) in truth {
            shared.deliver_all(&topic, &payload, true);
        }
    }

    /// Cuts every connection; wills are published.
    pub fn cut(&self) {
        let mut shared = self.shared();
        shared.trace.push("cuts all connections".into());
        for session in shared.sessions.values() {
            let _ = session.stream.shutdown(Shutdown::Both);
        }
    }

    /// Tells all who listen to a topic something that stands nowhere.
    pub fn invent(&self, topic: &str, payload: &[u8]) {
        let mut shared = self.shared();
        shared.trace.push(format!("invents {} bytes on {topic}", payload.len()));
        let ids: Vec<u64> = shared.sessions.keys().copied().collect();
        for id in ids {
            shared.send(id, topic, payload, true);
        }
    }

    /// Puts a message on a topic, as if an operator had.
    pub fn publish(&self, topic: &str, payload: &[u8]) {
        self.shared().publish(topic, payload.to_vec(), true);
    }

    /// Replays messages of earlier times to all who listen, chosen by the seed.
    pub fn replay(&self, count: usize) {
        let mut shared = self.shared();
        for _ in 0..count {
            let length = shared.history.len();
            if length == 0 {
                return;
            }
            let at = shared.rng.below(length);
            let (topic, payload) = shared.history[at].clone();
            shared.trace.push(format!("replays {} bytes on {topic}", payload.len()));
            let ids: Vec<u64> = shared.sessions.keys().copied().collect();
            for id in ids {
                shared.send(id, &topic, &payload, true);
            }
        }
    }

    /// Gives what truly stands on a topic.
    pub fn truth(&self, topic: &str) -> Option<Vec<u8>> {
        self.shared().truth.get(topic).cloned()
    }

    /// Gives what it did since the seed began.
    pub fn trace(&self) -> Vec<String> {
        self.shared().trace.clone()
    }

    fn serve(&self, mut stream: TcpStream) {
        let _ = stream.set_nodelay(true);
        let Ok(Some((0x10, body))) = packet::read(&mut stream) else { return };
        let Some(connect) = packet::Connect::read(&body) else { return };
        let Ok(writer) = stream.try_clone() else { return };
        let _ = writer.set_write_timeout(Some(Duration::from_secs(1)));
        let id = {
            let mut shared = self.shared();
            shared.next += 1;
            let id = shared.next;
            let session = Session {
                client: connect.client.clone(),
                stream: writer,
                filters: Vec::new(),
                packet: 0,
            };
            shared.sessions.insert(id, session);
            shared.write(id, &[0x20, 2, 0, 0]);
            id
        };
        let clean = self.listen(id, &mut stream);
        let mut shared = self.shared();
        shared.sessions.remove(&id);
        if let Some((topic, payload)) = connect.will.filter(|_| !clean) {
            shared.publish(&topic, payload, true);
        }
    }

    /// Hears a client until it has gone; tells whether it said so.
    fn listen(&self, id: u64, stream: &mut TcpStream) -> bool {
        while let Ok(Some((first, body))) = packet::read(stream) {
            let mut shared = self.shared();
            match first & 0xf0 {
                0x30 => {
                    let Some(message) = packet::Message::read(first, &body) else { return false };
                    if let Some(number) = message.id {
                        shared.write(id, &[0x40, 2, number[0], number[1]]);
                    }
                    shared.publish(&message.topic, message.payload, message.retain);
                }
                0x80 => {
                    let Some((number, filters)) = packet::filters(&body) else { return false };
                    let mut answer = vec![0x90, (2 + filters.len()) as u8];
                    answer.extend(number);
                    answer.extend(filters.iter().map(|_| 1));
                    shared.write(id, &answer);
                    if let Some(session) = shared.sessions.get_mut(&id) {
                        session.filters.extend(filters.iter().cloned());
                        session.filters.sort_unstable();
                        session.filters.dedup();
                    }
                    let truth = shared.truth.clone();
                    for (topic, payload) in truth {
                        if filters.iter().any(|filter| packet::matches(filter, &topic)) {
                            shared.deliver(id, &topic, &payload, true);
                        }
                    }
                }
                0xa0 => shared.write(id, &[0xb0, 2, body[0], body[1]]),
                0xc0 => shared.write(id, &[0xd0, 0]),
                0xe0 => return true,
                _ => {}
            }
        }
        false
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    fn publish(&mut self, topic: &str, payload: Vec<u8>, retain: bool) {
        if retain {
            self.truth.insert(topic.to_owned(), payload.clone());
        }
        if self.history.len() == MEMORY {
            self.history.remove(0);
        }
        self.history.push((topic.to_owned(), payload.clone()));
        self.deliver_all(topic, &payload, false);
    }

    fn deliver_all(&mut self, topic: &str, payload: &[u8], retain: bool) {
        let ids: Vec<u64> = self.sessions.keys().copied().collect();
        for id in ids {
            self.deliver(id, topic, payload, retain);
        }
    }

    /// Delivers a message, or does something else in its place.
    fn deliver(&mut self, id: u64, topic: &str, payload: &[u8], retain: bool) {
        if !self.hears(id, topic) {
            return;
        }
        match self.mischief.clone() {
            Mischief::Chaos if self.lies_to(id) => self.spoil(id, topic, payload, retain),
            Mischief::Freeze if topic.ends_with("/beacon") => {}
            Mischief::Withhold(host)
                if self.is_host(id) && topic.contains(&format!("/desired/{host}/")) => {}
            _ => self.send(id, topic, payload, retain),
        }
    }

    fn spoil(&mut self, id: u64, topic: &str, payload: &[u8], retain: bool) {
        let misdeed = self.rng.below(12);
        let mut said = payload.to_vec();
        let what = match misdeed {
            0..=2 => {
                self.send(id, topic, payload, retain);
                "passes"
            }
            3 | 4 => "drops",
            5 => {
                self.send(id, topic, payload, retain);
                self.send(id, topic, payload, retain);
                "duplicates"
            }
            6 => {
                self.held.push((id, topic.to_owned(), said));
                "holds back"
            }
            7 if !said.is_empty() => {
                said.truncate(self.rng.below(payload.len()));
                self.send(id, topic, &said, retain);
                "truncates"
            }
            8 if !said.is_empty() => {
                let bit = self.rng.below(payload.len() * 8);
                said[bit / 8] ^= 1 << (bit % 8);
                self.send(id, topic, &said, retain);
                "flips a bit of"
            }
            9 => {
                let kind = topic.split('/').nth(3).unwrap_or_default().to_owned();
                let like = |one: &&(String, Vec<u8>)| one.0.split('/').nth(3) == Some(&kind);
                let count = self.history.iter().filter(like).count();
                if count > 0 {
                    let at = self.rng.below(count);
                    let other = self.history.iter().filter(like).nth(at).cloned();
                    if let Some((_, payload)) = other {
                        self.send(id, topic, &payload, retain);
                    }
                }
                "gives another host's or time's in place of"
            }
            10 => {
                let noise: Vec<u8> =
                    (0..self.rng.below(64)).map(|_| self.rng.next() as u8).collect();
                self.send(id, topic, &noise, retain);
                "invents noise in place of"
            }
            _ => {
                if let Some(session) = self.sessions.get(&id) {
                    let _ = session.stream.shutdown(Shutdown::Both);
                }
                "cuts the connection at"
            }
        };
        let client = self.sessions.get(&id).map_or("", |session| &session.client);
        self.trace.push(format!("{what} {topic} for {client:?}"));
        if self.held.len() > self.rng.below(HELD) {
            let at = self.rng.below(self.held.len());
            let (id, topic, payload) = self.held.swap_remove(at);
            self.trace.push(format!("gives {topic} late"));
            self.send(id, &topic, &payload, false);
        }
    }

    /// Operators are lied to only while they look, so that they can publish in between.
    fn lies_to(&self, id: u64) -> bool {
        self.lies_to_operators || self.is_host(id)
    }

    /// Hosts' client ids are `<fleet>:<host>`.
    fn is_host(&self, id: u64) -> bool {
        self.sessions.get(&id).is_some_and(|session| session.client.contains(':'))
    }

    fn hears(&self, id: u64, topic: &str) -> bool {
        self.sessions.get(&id).is_some_and(|session| {
            session.filters.iter().any(|filter| packet::matches(filter, topic))
        })
    }

    fn send(&mut self, id: u64, topic: &str, payload: &[u8], retain: bool) {
        if !self.hears(id, topic) {
            return;
        }
        let Some(session) = self.sessions.get_mut(&id) else { return };
        session.packet = session.packet % 60_000 + 1;
        let bytes = packet::publish(topic, payload, retain, session.packet);
        self.write(id, &bytes);
    }

    fn write(&mut self, id: u64, bytes: &[u8]) {
        if let Some(session) = self.sessions.get_mut(&id)
            && session.stream.write_all(bytes).is_err()
        {
            let _ = session.stream.shutdown(Shutdown::Both);
        }
    }
}

/// Reads until the other side has gone.
pub(super) fn exactly(stream: &mut TcpStream, buffer: &mut [u8]) -> io::Result<()> {
    stream.read_exact(buffer)
}
