//! A client that says exactly what a test wants said; every read ends at the limit.

use std::{
    collections::VecDeque,
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
};

use crate::wait::LIMIT;

/// What carries a connection.
pub(crate) trait Wire: Read + Write + Send {}
impl<T: Read + Write + Send> Wire for T {}

/// An MQTT connection.
pub(crate) struct Client {
    wire: Box<dyn Wire>,
    /// What was received and not read yet.
    received: Vec<u8>,
    /// Messages that came while something else was waited for.
    inbox: VecDeque<Message>,
    last_packet: u16,
}

/// A packet from the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Packet {
    ConnAck { present: bool, code: u8 },
    Publish(Message),
    PubAck(u16),
    SubAck(u16, Vec<u8>),
    UnsubAck(u16),
    PingResp,
}

/// A message from the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) retain: bool,
    /// The packet id, if it is of QoS 1.
    pub(crate) packet: Option<u16>,
}

impl Message {
    /// Gives the payload as text.
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.payload).unwrap()
    }
}

/// What is said first.
#[derive(Clone)]
pub(crate) struct Connect {
    pub(crate) level: u8,
    pub(crate) id: String,
    pub(crate) clean: bool,
    pub(crate) keep_alive: u16,
    pub(crate) will: Option<(String, Vec<u8>, bool)>,
    pub(crate) user: Option<String>,
    pub(crate) password: Option<String>,
}

impl Connect {
    /// A clean session without a login.
    pub(crate) fn new(id: &str) -> Self {
        let (will, user, password) = (None, None, None);
        Self { level: 4, id: id.to_owned(), clean: true, keep_alive: 60, will, user, password }
    }

    pub(crate) fn persistent(id: &str) -> Self {
        Self { clean: false, ..Self::new(id) }
    }

    /// With a retained will.
    pub(crate) fn will(mut self, topic: &str, payload: &str) -> Self {
        self.will = Some((topic.to_owned(), payload.into(), true));
        self
    }

    pub(crate) fn login(mut self, user: &str, password: &str) -> Self {
        (self.user, self.password) = (Some(user.to_owned()), Some(password.to_owned()));
        self
    }

    pub(crate) fn keep_alive(mut self, seconds: u16) -> Self {
        self.keep_alive = seconds;
        self
    }

    /// Gives the packet.
    pub(crate) fn packet(&self) -> Vec<u8> {
        let mut flags = if self.clean { 0x02 } else { 0 };
        let mut body = Vec::new();
        let mut rest = string(self.id.as_bytes());
        if let Some((topic, payload, retain)) = &self.will {
            flags |= 0x0c | if *retain { 0x20 } else { 0 };
            rest.extend([string(topic.as_bytes()), string(payload)].concat());
        }
        for (field, flag) in [(&self.user, 0x80), (&self.password, 0x40)] {
            if let Some(field) = field {
                flags |= flag;
                rest.extend(string(field.as_bytes()));
            }
        }
        body.extend(string(b"MQTT"));
        body.extend([self.level, flags]);
        body.extend(self.keep_alive.to_be_bytes());
        body.extend(rest);
        packet(0x10, &body)
    }

    /// Connects, and gives the answer's code if it is a refusal.
    pub(crate) fn over(&self, wire: Box<dyn Wire>) -> Result<(Client, bool), u8> {
        let mut client = Client::new(wire);
        client.send(&self.packet());
        match client.receive().unwrap() {
            Packet::ConnAck { present, code: 0 } => Ok((client, present)),
            Packet::ConnAck { present: false, code } => {
                client.assert_closed();
                Err(code)
            }
            other => panic!("{other:?} instead of CONNACK"),
        }
    }

    /// Connects, and tells whether there was a session.
    pub(crate) fn attempt(&self, address: SocketAddr) -> Result<(Client, bool), u8> {
        self.over(Box::new(dial(address)))
    }

    /// Connects where nothing is remembered.
    #[track_caller]
    pub(crate) fn open(&self, address: SocketAddr) -> Client {
        let (client, present) = self.attempt(address).unwrap();
        assert!(!present, "a session of {:?} was kept", self.id);
        client
    }

    /// Connects to a session that was kept.
    #[track_caller]
    pub(crate) fn resume(&self, address: SocketAddr) -> Client {
        let (client, present) = self.attempt(address).unwrap();
        assert!(present, "no session of {:?} was kept", self.id);
        client
    }
}

/// Opens a connection whose reads and writes end at the limit.
pub(crate) fn dial(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, LIMIT).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.set_write_timeout(Some(LIMIT)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

fn string(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
}

fn packet(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![kind];
    let mut rest = body.len();
    while rest >= 0x80 {
        packet.push((rest % 0x80) as u8 | 0x80);
        rest /= 0x80;
    }
    packet.push(rest as u8);
    packet.extend_from_slice(body);
    packet
}

/// Gives the bytes of a PUBLISH; one with an id is of QoS 1.
pub(crate) fn publish_packet(
    topic: &str,
    payload: &[u8],
    id: Option<u16>,
    retain: bool,
) -> Vec<u8> {
    let kind = 0x30 | if id.is_some() { 0x02 } else { 0 } | u8::from(retain);
    let id = id.map(u16::to_be_bytes);
    let id = id.as_ref().map_or(&[][..], |id| id);
    packet(kind, &[&string(topic.as_bytes()), id, payload].concat())
}

impl Client {
    /// Takes a connection on which nothing was said yet.
    pub(crate) fn new(wire: Box<dyn Wire>) -> Self {
        Self { wire, received: Vec::new(), inbox: VecDeque::new(), last_packet: 0 }
    }

    /// Connects with a clean session and no login.
    #[track_caller]
    pub(crate) fn connect(address: SocketAddr, id: &str) -> Self {
        Connect::new(id).open(address)
    }

    /// Sends bytes. The broker may close meanwhile: the next read tells.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        let _ = self.wire.write_all(bytes).and_then(|()| self.wire.flush());
    }

    /// Gives the next packet. An error of the kind `WouldBlock` says that none came.
    pub(crate) fn receive(&mut self) -> io::Result<Packet> {
        match self.inbox.pop_front() {
            Some(message) => Ok(Packet::Publish(message)),
            None => self.read(),
        }
    }

    /// Gives the next packet that is no message. Those are for later.
    #[track_caller]
    fn answer(&mut self) -> Packet {
        loop {
            match self.read().unwrap() {
                Packet::Publish(message) => self.inbox.push_back(message),
                answer => return answer,
            }
        }
    }

    fn read(&mut self) -> io::Result<Packet> {
        loop {
            if let Some((packet, length)) = parse(&self.received) {
                self.received.drain(..length);
                return Ok(packet);
            }
            let mut chunk = [0; 16 * 1024];
            match self.wire.read(&mut chunk)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => self.received.extend_from_slice(&chunk[..count]),
            }
        }
    }

    /// Waits for the end of the connection. What comes before it is given.
    #[track_caller]
    pub(crate) fn closed(&mut self) -> Vec<Packet> {
        let mut before = Vec::new();
        loop {
            match self.receive() {
                Ok(packet) => before.push(packet),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    panic!("it is not closed; before came {before:?}")
                }
                Err(_) => return before,
            }
        }
    }

    /// Waits for the end of the connection, before which nothing may come.
    #[track_caller]
    pub(crate) fn assert_closed(&mut self) {
        assert_eq!(self.closed(), []);
    }

    fn next_packet(&mut self) -> u16 {
        self.last_packet = self.last_packet % u16::MAX + 1;
        self.last_packet
    }

    /// Publishes a retained message with QoS 1, and does not wait. Gives the packet id.
    pub(crate) fn retain(&mut self, topic: &str, payload: impl AsRef<[u8]>) -> u16 {
        self.publish(topic, payload, true)
    }

    /// Publishes with QoS 1, and does not wait. Gives the packet id.
    pub(crate) fn publish(&mut self, topic: &str, payload: impl AsRef<[u8]>, retain: bool) -> u16 {
        let id = self.next_packet();
        self.send(&publish_packet(topic, payload.as_ref(), Some(id), retain));
        id
    }

    /// Publishes a retained message, and waits until that is acknowledged.
    #[track_caller]
    pub(crate) fn retained(&mut self, topic: &str, payload: impl AsRef<[u8]>) {
        let id = self.retain(topic, payload);
        assert_eq!(self.answer(), Packet::PubAck(id));
    }

    /// Publishes a message that is not retained, and waits until that is acknowledged.
    #[track_caller]
    pub(crate) fn published(&mut self, topic: &str, payload: impl AsRef<[u8]>) {
        let id = self.publish(topic, payload, false);
        assert_eq!(self.answer(), Packet::PubAck(id));
    }

    /// Sends a SUBSCRIBE, and gives its packet id.
    pub(crate) fn ask(&mut self, filters: &[(&str, u8)]) -> u16 {
        let id = self.next_packet();
        let mut body = id.to_be_bytes().to_vec();
        for (filter, qos) in filters {
            body.extend(string(filter.as_bytes()));
            body.push(*qos);
        }
        self.send(&packet(0x82, &body));
        id
    }

    /// Subscribes, and gives what was granted.
    #[track_caller]
    pub(crate) fn subscribe_all(&mut self, filters: &[(&str, u8)]) -> Vec<u8> {
        let id = self.ask(filters);
        match self.answer() {
            Packet::SubAck(of, codes) if of == id => codes,
            other => panic!("{other:?} instead of SUBACK"),
        }
    }

    /// Subscribes with QoS 1.
    #[track_caller]
    pub(crate) fn subscribe(&mut self, filter: &str) {
        assert_eq!(self.subscribe_all(&[(filter, 1)]), [1], "{filter}");
    }

    #[track_caller]
    pub(crate) fn unsubscribe(&mut self, filter: &str) {
        let id = self.next_packet();
        let body = [&id.to_be_bytes()[..], &string(filter.as_bytes())].concat();
        self.send(&packet(0xa2, &body));
        assert_eq!(self.answer(), Packet::UnsubAck(id));
    }

    /// Asks for a sign of life. Everything that was sent before has been read then.
    #[track_caller]
    pub(crate) fn ping(&mut self) {
        self.send(&[0xc0, 0]);
        assert_eq!(self.answer(), Packet::PingResp);
    }

    /// Takes the messages that have come by now, without acknowledging them.
    #[track_caller]
    pub(crate) fn peek_all(&mut self) -> Vec<Message> {
        self.ping();
        self.inbox.drain(..).collect()
    }

    /// Expects that nothing is sent any more, not even by an answer to this.
    #[track_caller]
    pub(crate) fn assert_idle(&mut self) {
        self.ping();
        assert_eq!(self.inbox, []);
    }

    pub(crate) fn acknowledge(&mut self, message: &Message) {
        if let Some(id) = message.packet {
            self.send(&packet(0x40, &id.to_be_bytes()));
        }
    }

    /// Waits for a message, and does not acknowledge it.
    #[track_caller]
    pub(crate) fn peek(&mut self) -> Message {
        match self.receive() {
            Ok(Packet::Publish(message)) => message,
            other => panic!("{other:?} instead of a message"),
        }
    }

    /// Waits for a message and acknowledges it.
    #[track_caller]
    pub(crate) fn take(&mut self) -> Message {
        let message = self.peek();
        self.acknowledge(&message);
        message
    }

    /// Takes messages until one has this payload, which is given too.
    #[track_caller]
    pub(crate) fn take_until(&mut self, payload: &str) -> Vec<Message> {
        let mut all = vec![self.take()];
        while all.last().unwrap().payload != payload.as_bytes() {
            all.push(self.take());
        }
        all
    }

    /// Says goodbye, and waits until the broker has closed the connection.
    #[track_caller]
    pub(crate) fn disconnect(mut self) {
        self.send(&[0xe0, 0]);
        self.closed();
    }

    /// Goes without a word, as the network does.
    pub(crate) fn vanish(self) {}
}

/// Gives the first packet, and its length, if it is there whole.
fn parse(bytes: &[u8]) -> Option<(Packet, usize)> {
    let kind = *bytes.first()?;
    let (mut length, mut at) = (0, 1);
    loop {
        let byte = *bytes.get(at)?;
        length |= usize::from(byte & 0x7f) << (7 * (at - 1));
        at += 1;
        if byte < 0x80 {
            break;
        }
    }
    let body = bytes.get(at..at + length)?;
    let two = |at: usize| u16::from_be_bytes([body[at], body[at + 1]]);
    let packet = match kind {
        0x20 => Packet::ConnAck { present: body[0] == 1, code: body[1] },
        0x30..=0x33 => {
            let (topic, mut payload) = body[2..].split_at(two(0).into());
            let id = (kind & 0x02 != 0).then(|| {
                let id = u16::from_be_bytes([payload[0], payload[1]]);
                payload = &payload[2..];
                id
            });
            let topic = String::from_utf8(topic.to_vec()).unwrap();
            let (payload, retain) = (payload.to_vec(), kind & 0x01 != 0);
            Packet::Publish(Message { topic, payload, retain, packet: id })
        }
        0x40 => Packet::PubAck(two(0)),
        0x90 => Packet::SubAck(two(0), body[2..].to_vec()),
        0xb0 => Packet::UnsubAck(two(0)),
        0xd0 => Packet::PingResp,
        other => panic!("{other:#x} is no packet of ours"),
    };
    Some((packet, at + length))
}

/// Gives payloads as text.
pub(crate) fn texts(messages: &[Message]) -> Vec<&str> {
    messages.iter().map(Message::text).collect()
}
