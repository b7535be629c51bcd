//! The network under one connection: the only file that names rumqttc, of which it uses the codec.
//!
//! rumqttc's event loop is not used: it hands out packet ids only once a packet leaves, retries by
//! itself, and takes no stream from outside, so that TLS and WebSocket would be its own, with
//! crates that nobody maintains.

use std::{collections::HashSet, io, mem, num::NonZeroUsize, time::Duration};

use bytes::{Buf as _, BytesMut};
use herald_proto::topic::Filter;
use rumqttc::{
    Connect, ConnectReturnCode, LastWill, Login as UserAndPassword, Packet, PubAck, Publish, QoS,
    Subscribe, SubscribeFilter, SubscribeReasonCode, mqttbytes,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf},
    select,
    sync::mpsc,
    time::{Instant, sleep_until, timeout},
};

use crate::{
    ConnectionLost, Message, SessionKind, Settings,
    login::Credentials,
    transport::{self, Stream},
};

/// The largest packet that is read at all. A message over [`crate::MAX_PAYLOAD`] and under this
/// is handed on, so that its reader can say that it is too large; a larger one costs all who
/// subscribed to it the connection.
const LARGEST_PACKET: usize = 256 * 1024;

/// The most messages in flight, so that packet ids of 16 bits come again only long after their
/// messages were acknowledged: they are handed out in turn.
pub(crate) const WIDEST_WINDOW: NonZeroUsize = NonZeroUsize::new(4095).unwrap();

/// The most bytes that wait to be written before nothing more is read: a broker that sends and
/// does not take what it asked for is left alone until it does.
const MOST_UNWRITTEN: usize = 1024 * 1024;
/// How many bytes are asked of the network at once, at least.
const READ_AT_ONCE: usize = 8 * 1024;
/// How long to listen for last words when nothing can be written any more.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What the network tells.
#[derive(Debug)]
pub(crate) enum Heard {
    /// The broker took the connection.
    Accepted {
        /// Whether it remembers the client.
        resumed: bool,
    },
    /// The broker's answer to a SUBSCRIBE: for each filter, whether it is granted.
    Subscribed(u16, Vec<bool>),
    /// The broker acknowledged a PUBLISH.
    Published(u16),
    /// A message came.
    Message(Arrived),
}

/// A message that came, on a topic that was not parsed yet.
#[derive(Debug)]
pub(crate) struct Arrived {
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) retained: bool,
    /// Its packet id, if it is to be acknowledged.
    pub(crate) packet: Option<u16>,
}

/// One connection's network.
pub(crate) struct Network {
    state: State,
    requests: mpsc::UnboundedReceiver<Packet>,
    keep_alive: Duration,
}

enum State {
    /// Nothing was sent yet. The packet is CONNECT.
    Before(Box<(Settings, Packet)>, Duration),
    Open(Box<Wire>),
    Over,
}

impl Network {
    /// Prepares a connection, which is made when [`Network::hear`] is first called, within
    /// `timeout`.
    pub(crate) fn new(
        settings: &Settings,
        credentials: Option<Credentials>,
        will: Option<Message>,
        timeout: Duration,
    ) -> (Requests, Self) {
        let keep_alive = settings.keep_alive.as_secs().clamp(1, u16::MAX.into());
        let connect = connect(settings, credentials, will, keep_alive);
        let (sender, requests) = mpsc::unbounded_channel();
        let network = Self {
            state: State::Before(Box::new((settings.clone(), connect)), timeout),
            requests,
            keep_alive: Duration::from_secs(keep_alive),
        };
        (Requests { requests: sender, last: 0, in_use: HashSet::new() }, network)
    }

    /// Serves the connection until there is something to tell. After an error there is nothing
    /// more. Not safe to cancel while a connection is being made.
    pub(crate) async fn hear(&mut self) -> Result<Heard, ConnectionLost> {
        match mem::replace(&mut self.state, State::Over) {
            State::Over => Err(ConnectionLost::Closed),
            State::Before(first, within) => {
                let (settings, connect) = *first;
                let opening = Wire::open(&settings, connect, self.keep_alive);
                let opened = timeout(within, opening).await;
                let (wire, resumed) =
                    opened.unwrap_or(Err(ConnectionLost::Unanswered { within }))?;
                self.state = State::Open(Box::new(wire));
                Ok(Heard::Accepted { resumed })
            }
            State::Open(wire) => {
                self.state = State::Open(wire);
                let State::Open(wire) = &mut self.state else { return Err(ConnectionLost::Closed) };
                wire.hear(&mut self.requests).await
            }
        }
    }
}

fn connect(
    settings: &Settings,
    credentials: Option<Credentials>,
    will: Option<Message>,
    keep_alive: u64,
) -> Packet {
    let mut connect = Connect::new(&settings.client_id);
    connect.keep_alive = u16::try_from(keep_alive).unwrap_or(u16::MAX);
    connect.clean_session = settings.session == SessionKind::Clean || settings.client_id.is_empty();
    connect.login = credentials.map(|Credentials { user, password }| UserAndPassword {
        username: user,
        password: password.expose().to_owned(),
    });
    connect.last_will = will.map(|Message { topic, payload }| {
        LastWill::new(topic.to_string(), payload, QoS::AtLeastOnce, topic.is_retained())
    });
    Packet::Connect(connect)
}

/// A connection that stands, and the bytes that wait on both sides of it.
struct Wire {
    reader: ReadHalf<Stream>,
    writer: WriteHalf<Stream>,
    unread: BytesMut,
    unwritten: BytesMut,
    /// Whether what was written may still be on this side.
    unflushed: bool,
    /// Why nothing can be written any more, and until when there may be last words.
    broken: Option<(io::Error, Instant)>,
    keep_alive: Duration,
    next_ping: Instant,
    /// Whether a sign of life is awaited.
    pinged: bool,
}

impl Wire {
    /// Connects and logs in. Tells whether the broker remembers the client.
    async fn open(
        settings: &Settings,
        connect: Packet,
        keep_alive: Duration,
    ) -> Result<(Self, bool), ConnectionLost> {
        let stream = transport::connect(&settings.broker, &settings.tls).await?;
        let (reader, writer) = tokio::io::split(stream);
        let mut wire = Self {
            reader,
            writer,
            unread: BytesMut::new(),
            unwritten: BytesMut::new(),
            unflushed: false,
            broken: None,
            keep_alive,
            next_ping: Instant::now() + keep_alive,
            pinged: false,
        };
        wire.write(&connect)?;
        loop {
            match wire.packet()? {
                Some(Packet::ConnAck(answer)) if answer.code == ConnectReturnCode::Success => {
                    return Ok((wire, answer.session_present));
                }
                Some(Packet::ConnAck(answer)) => {
                    return Err(settings.login.refused(answer.code as u8));
                }
                Some(other) => return Err(unexpected(&other)),
                None => wire.progress(&mut None).await?,
            }
        }
    }

    async fn hear(
        &mut self,
        requests: &mut mpsc::UnboundedReceiver<Packet>,
    ) -> Result<Heard, ConnectionLost> {
        loop {
            while let Ok(request) = requests.try_recv() {
                self.write(&request)?;
            }
            match self.packet()? {
                Some(Packet::PingResp) => self.pinged = false,
                Some(packet) => return told(packet),
                None => self.progress(&mut Some(&mut *requests)).await?,
            }
        }
    }

    /// Takes a packet from what was read, if it holds a whole one.
    fn packet(&mut self) -> Result<Option<Packet>, ConnectionLost> {
        match Packet::read(&mut self.unread, LARGEST_PACKET) {
            Ok(packet) => Ok(Some(packet)),
            Err(mqttbytes::Error::InsufficientBytes(missing)) => {
                self.unread.reserve(missing.max(READ_AT_ONCE));
                Ok(None)
            }
            Err(error) => Err(ConnectionLost::Protocol(Box::new(error))),
        }
    }

    fn write(&mut self, packet: &Packet) -> Result<(), ConnectionLost> {
        if self.broken.is_some() {
            return Ok(());
        }
        let written = packet.write(&mut self.unwritten, usize::MAX);
        written.map(|_| ()).map_err(|error| ConnectionLost::Protocol(Box::new(error)))
    }

    /// Waits until bytes came or left, or a request or a sign of life is there to be written. Safe
    /// to cancel.
    async fn progress(
        &mut self,
        requests: &mut Option<&mut mpsc::UnboundedReceiver<Packet>>,
    ) -> Result<(), ConnectionLost> {
        let ping = Instant::now() >= self.next_ping;
        if ping && !self.pinged {
            return self.ping();
        }
        let over = self.broken.as_ref().map_or(self.next_ping, |(_, until)| *until);
        let has_room = self.unwritten.len() < MOST_UNWRITTEN;
        let writes = self.broken.is_none() && (!self.unwritten.is_empty() || self.unflushed);
        // What can be written is, then what came is read; only if nothing came is the time over.
        select! {
            biased;
            written = write(&mut self.writer, &mut self.unwritten, &mut self.unflushed), if writes => {
                if let Err(error) = written {
                    self.broken = Some((error, Instant::now() + LAST_WORDS));
                    self.unwritten.clear();
                }
            }
            read = self.reader.read_buf(&mut self.unread), if has_room => match read {
                Ok(0) => return Err(ConnectionLost::Closed),
                Ok(_) => {}
                Err(error) => return Err(lost(error)),
            },
            request = next(requests) => self.write(&request)?,
            () = sleep_until(over) => match self.broken.take() {
                Some((error, _)) => return Err(lost(error)),
                None if self.pinged => {
                    return Err(ConnectionLost::Unanswered { within: self.keep_alive });
                }
                None => self.ping()?,
            },
        }
        Ok(())
    }

    fn ping(&mut self) -> Result<(), ConnectionLost> {
        self.next_ping = Instant::now() + self.keep_alive;
        self.pinged = true;
        self.write(&Packet::PingReq)
    }
}

/// Writes a part of what waits, or flushes when nothing does. Safe to cancel.
async fn write(
    writer: &mut WriteHalf<Stream>,
    unwritten: &mut BytesMut,
    unflushed: &mut bool,
) -> io::Result<()> {
    if unwritten.is_empty() {
        writer.flush().await?;
        *unflushed = false;
        return Ok(());
    }
    *unflushed = true;
    let written = writer.write(unwritten).await?;
    if written == 0 {
        return Err(io::ErrorKind::WriteZero.into());
    }
    unwritten.advance(written);
    Ok(())
}

async fn next(requests: &mut Option<&mut mpsc::UnboundedReceiver<Packet>>) -> Packet {
    let request = match requests {
        Some(requests) => requests.recv().await,
        None => None,
    };
    match request {
        Some(request) => request,
        None => std::future::pending().await,
    }
}

/// A TLS connection that ends without a farewell of its own ends like any other here: what counts
/// was acknowledged.
fn lost(error: io::Error) -> ConnectionLost {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => ConnectionLost::Closed,
        _ => ConnectionLost::Network(error),
    }
}

fn told(packet: Packet) -> Result<Heard, ConnectionLost> {
    match packet {
        Packet::SubAck(answer) => {
            let codes = answer.return_codes.iter();
            let granted = codes.map(|code| *code != SubscribeReasonCode::Failure);
            Ok(Heard::Subscribed(answer.pkid, granted.collect()))
        }
        Packet::PubAck(answer) => Ok(Heard::Published(answer.pkid)),
        Packet::Publish(message) if message.qos != QoS::ExactlyOnce => {
            Ok(Heard::Message(Arrived {
                topic: message.topic,
                payload: message.payload.into(),
                retained: message.retain,
                packet: (message.qos == QoS::AtLeastOnce).then_some(message.pkid),
            }))
        }
        other => Err(unexpected(&other)),
    }
}

/// Names the kind of a packet, and nothing of what is in it.
fn unexpected(packet: &Packet) -> ConnectionLost {
    let shown = format!("{packet:?}");
    let kind = shown.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
    ConnectionLost::Protocol(format!("an unexpected {kind}").into())
}

/// Where requests are made. They wait until [`Network::hear`] sends them.
pub(crate) struct Requests {
    requests: mpsc::UnboundedSender<Packet>,
    last: u16,
    /// The packet ids of what is not acknowledged.
    in_use: HashSet<u16>,
}

impl Requests {
    /// Publishes a message, and gives its packet id.
    pub(crate) fn publish(&mut self, message: &Message) -> u16 {
        let Message { topic, payload } = message;
        let mut publish = Publish::new(topic.to_string(), QoS::AtLeastOnce, payload.clone());
        publish.retain = topic.is_retained();
        publish.pkid = self.take_id();
        let id = publish.pkid;
        self.send(Packet::Publish(publish));
        id
    }

    /// Subscribes, and gives the packet id.
    pub(crate) fn subscribe(&mut self, filters: &[Filter]) -> u16 {
        let filters = filters.iter().map(ToString::to_string);
        let filters = filters.map(|filter| SubscribeFilter::new(filter, QoS::AtLeastOnce));
        let mut subscribe = Subscribe::new_many(filters);
        subscribe.pkid = self.take_id();
        let id = subscribe.pkid;
        self.send(Packet::Subscribe(subscribe));
        id
    }

    /// Acknowledges a message that came.
    pub(crate) fn acknowledge(&mut self, packet: u16) {
        self.send(Packet::PubAck(PubAck::new(packet)));
    }

    pub(crate) fn disconnect(&self) {
        self.send(Packet::Disconnect);
    }

    /// Notes that a request was answered, so that its packet id is free.
    pub(crate) fn answered(&mut self, packet: u16) {
        self.in_use.remove(&packet);
    }

    /// Takes the next free packet id. There is one: fewer requests can be unanswered than there
    /// are ids.
    fn take_id(&mut self) -> u16 {
        loop {
            self.last = self.last.checked_add(1).unwrap_or(1);
            if self.in_use.insert(self.last) {
                return self.last;
            }
        }
    }

    /// Passes a packet on. One for a network that is gone is dropped, and told as not answered.
    fn send(&self, packet: Packet) {
        let _ = self.requests.send(packet);
    }
}
