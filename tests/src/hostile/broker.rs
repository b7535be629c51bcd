//! A broker of MQTT 3.1.1 that lies on purpose: connections, sessions, and what truly stands on each
//! topic, so that it can behave again.

use std::{
    collections::{BTreeMap, VecDeque},
    io::{self, Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use super::{
    lies::{Held, Mischief},
    packet,
};
use crate::crash::Rng;

/// How many messages of earlier times it keeps to replay.
const MEMORY: usize = 512;

/// A broker on a port of loopback, for as long as the process lives.
#[derive(Clone)]
pub(super) struct EvilBroker {
    port: u16,
    shared: Arc<Mutex<Shared>>,
}

/// What the threads of the connections have in common.
pub(super) struct Shared {
    pub(super) mischief: Mischief,
    pub(super) lies_to_operators: bool,
    pub(super) seed: u64,
    /// How many deliveries to a client there were on a topic since the seed began.
    pub(super) deliveries: BTreeMap<String, u64>,
    /// What was ever published, the newest last.
    pub(super) history: VecDeque<(String, Vec<u8>)>,
    /// What stood on each topic when it began to behave as it does.
    pub(super) before: BTreeMap<String, Vec<u8>>,
    pub(super) held: Vec<Held>,
    trace: Vec<String>,
    /// What truly stands on each topic.
    truth: BTreeMap<String, Vec<u8>>,
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
    pub(super) fn start() -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Mutex::new(Shared {
            mischief: Mischief::None,
            lies_to_operators: false,
            seed: 0,
            deliveries: BTreeMap::new(),
            history: VecDeque::new(),
            before: BTreeMap::new(),
            held: Vec::new(),
            trace: Vec::new(),
            truth: BTreeMap::new(),
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
    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// Begins a seed: its chance, and an empty trace.
    pub(super) fn seed(&self, seed: u64) {
        let mut shared = self.shared();
        shared.seed = seed;
        shared.deliveries.clear();
        shared.trace.clear();
    }

    /// Behaves in another way from now on.
    pub(super) fn turn(&self, mischief: Mischief) {
        let mut shared = self.shared();
        shared.note(format!("now {mischief:?}"));
        shared.before = shared.truth.clone();
        shared.mischief = mischief;
    }

    /// Whether operators suffer from chaos too.
    pub(super) fn lie_to_operators(&self, lies: bool) {
        self.shared().lies_to_operators = lies;
    }

    /// Delivers what it still holds back.
    pub(super) fn release(&self) {
        self.shared().release();
    }

    /// Tells everyone what is true.
    pub(super) fn tell_the_truth(&self) {
        let mut shared = self.shared();
        shared.note("tells what is true".to_owned());
        let truth = shared.truth.clone();
        for (topic, payload) in truth {
            shared.deliver_all(&topic, &payload, true);
        }
    }

    /// Cuts every connection; wills are published.
    pub(super) fn cut(&self) {
        let mut shared = self.shared();
        shared.note("cuts all connections".to_owned());
        for session in shared.sessions.values() {
            let _ = session.stream.shutdown(Shutdown::Both);
        }
    }

    /// Tells all who listen to a topic something that stands nowhere.
    pub(super) fn invent(&self, topic: &str, payload: &[u8]) {
        let mut shared = self.shared();
        shared.note(format!("invents {} bytes on {topic}", payload.len()));
        let ids: Vec<u64> = shared.sessions.keys().copied().collect();
        for id in ids {
            shared.send(id, topic, payload, true);
        }
    }

    /// Puts a message on a topic, as if an operator had.
    pub(super) fn publish(&self, topic: &str, payload: &[u8]) {
        self.shared().publish(topic, payload.to_vec(), true);
    }

    /// Replays messages of earlier times to all who listen.
    pub(super) fn replay(&self, count: usize, rng: &mut Rng) {
        let mut shared = self.shared();
        for _ in 0..count {
            let length = shared.history.len();
            if length == 0 {
                return;
            }
            let (topic, payload) = shared.history[rng.below(length)].clone();
            shared.note(format!("replays {} bytes on {topic}", payload.len()));
            let ids: Vec<u64> = shared.sessions.keys().copied().collect();
            for id in ids {
                shared.send(id, &topic, &payload, true);
            }
        }
    }

    /// Gives what truly stands on a topic.
    pub(super) fn truth(&self, topic: &str) -> Option<Vec<u8>> {
        self.shared().truth.get(topic).cloned()
    }

    /// Gives what it did since the seed began.
    pub(super) fn trace(&self) -> Vec<String> {
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
            self.history.pop_front();
        }
        self.history.push_back((topic.to_owned(), payload.clone()));
        self.deliver_all(topic, &payload, false);
    }

    fn deliver_all(&mut self, topic: &str, payload: &[u8], retain: bool) {
        let ids: Vec<u64> = self.sessions.keys().copied().collect();
        for id in ids {
            self.deliver(id, topic, payload, retain);
        }
    }

    /// Hosts' client ids are `<fleet>:<host>`.
    pub(super) fn is_host(&self, id: u64) -> bool {
        self.client(id).contains(':')
    }

    pub(super) fn client(&self, id: u64) -> &str {
        self.sessions.get(&id).map_or("", |session| &session.client)
    }

    pub(super) fn hears(&self, id: u64, topic: &str) -> bool {
        self.sessions.get(&id).is_some_and(|session| {
            session.filters.iter().any(|filter| packet::matches(filter, topic))
        })
    }

    pub(super) fn send(&mut self, id: u64, topic: &str, payload: &[u8], retain: bool) {
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
            self.hang_up(id);
        }
    }

    pub(super) fn hang_up(&self, id: u64) {
        if let Some(session) = self.sessions.get(&id) {
            let _ = session.stream.shutdown(Shutdown::Both);
        }
    }

    pub(super) fn note(&mut self, what: String) {
        self.trace.push(what);
    }
}

/// Reads until the other side has gone.
pub(super) fn exactly(stream: &mut TcpStream, buffer: &mut [u8]) -> io::Result<()> {
    stream.read_exact(buffer)
}
