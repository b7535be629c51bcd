//! A broker that says exactly what a test makes it say.

use std::{os::fd::AsFd, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use crate::support::bounded;

/// Waits for connections.
pub(crate) struct Fake(TcpListener);

impl Fake {
    pub(crate) async fn start() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    pub(crate) fn port(&self) -> u16 {
        self.0.local_addr().unwrap().port()
    }

    /// Waits for a connection and its CONNECT, and leaves that without an answer.
    pub(crate) async fn accept(&self) -> FakeSession {
        let (stream, _) = bounded(self.0.accept()).await.unwrap();
        let mut session = FakeSession(stream);
        assert_eq!(session.packet().await.0, CONNECT);
        session
    }

    /// Waits for a connection without a will that logs in, and leaves that without an answer. Gives
    /// its user name and its password.
    pub(crate) async fn accept_login(&self) -> (FakeSession, String, String) {
        let (stream, _) = bounded(self.0.accept()).await.unwrap();
        let mut session = FakeSession(stream);
        let (first, body) = session.packet().await;
        assert_eq!(first, CONNECT);
        // Protocol name and level, flags, keep-alive; then client id, user name and password.
        let mut rest = &body[10..];
        let mut text = || {
            let length = usize::from(u16::from_be_bytes([rest[0], rest[1]]));
            let (text, behind) = rest[2..].split_at(length);
            rest = behind;
            String::from_utf8(text.to_vec()).unwrap()
        };
        let (_client_id, user, password) = (text(), text(), text());
        (session, user, password)
    }

    /// Waits for a connection of a client that the broker remembers, and says so.
    pub(crate) async fn accept_known(&self) -> FakeSession {
        let mut session = self.accept().await;
        session.say(&[0x20, 2, 1, 0]).await;
        session
    }

    /// Waits for a connection, and accepts it.
    pub(crate) async fn accept_well(&self) -> FakeSession {
        let mut session = self.accept().await;
        session.say(&[0x20, 2, 0, 0]).await;
        session
    }
}

pub(crate) const CONNECT: u8 = 0x10;
pub(crate) const PUBLISH_QOS_1: u8 = 0x32;
pub(crate) const PUBLISH_QOS_1_RETAINED: u8 = 0x33;
pub(crate) const PUBACK: u8 = 0x40;
pub(crate) const SUBSCRIBE: u8 = 0x82;
pub(crate) const PINGREQ: u8 = 0xc0;
pub(crate) const PINGRESP: u8 = 0xd0;
pub(crate) const DISCONNECT: u8 = 0xe0;

/// One connection.
pub(crate) struct FakeSession(TcpStream);

impl FakeSession {
    /// Reads one packet: its first byte and its body.
    pub(crate) async fn packet(&mut self) -> (u8, Vec<u8>) {
        let first = bounded(self.0.read_u8()).await.unwrap();
        let (mut length, mut shift) = (0, 0);
        loop {
            let byte = bounded(self.0.read_u8()).await.unwrap();
            length |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
        let mut body = vec![0; length];
        bounded(self.0.read_exact(&mut body)).await.unwrap();
        (first, body)
    }

    /// Takes the same connection a second time, to speak and listen at once.
    pub(crate) fn twin(&mut self) -> Self {
        let socket = self.0.as_fd().try_clone_to_owned().unwrap();
        Self(TcpStream::from_std(socket.into()).unwrap())
    }

    pub(crate) async fn say(&mut self, bytes: &[u8]) {
        self.try_say(bytes).await.unwrap();
    }

    /// Says something to a client that may have gone already.
    pub(crate) async fn try_say(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.0.write_all(bytes).await
    }

    /// Says what the client takes of it, and gives what it does not take within the time.
    pub(crate) async fn say_within<'a>(&mut self, time: Duration, bytes: &'a [u8]) -> &'a [u8] {
        let mut rest = bytes;
        while !rest.is_empty() {
            match timeout(time, self.0.write(rest)).await {
                Ok(written) => rest = &rest[written.unwrap()..],
                Err(_) => break,
            }
        }
        rest
    }

    /// Says nothing more, and waits until the client has closed the connection.
    pub(crate) async fn finish(&mut self) {
        let _ = self.0.shutdown().await;
        let mut rest = Vec::new();
        let _ = bounded(self.0.read_to_end(&mut rest)).await;
    }

    /// Reads a SUBSCRIBE, and answers it with one code for each filter.
    pub(crate) async fn subscribed(&mut self, codes: &[u8]) {
        let (first, body) = self.packet().await;
        assert_eq!(first, SUBSCRIBE);
        let length = u8::try_from(2 + codes.len()).unwrap();
        self.say(&[&[0x90, length, body[0], body[1]], codes].concat()).await;
    }

    /// Reads a QoS 1 PUBLISH, and gives its packet id, its topic and its payload.
    pub(crate) async fn message(&mut self) -> ([u8; 2], String, Vec<u8>) {
        let (first, body) = self.packet().await;
        assert!(first == PUBLISH_QOS_1 || first == PUBLISH_QOS_1_RETAINED, "{first:x}");
        let length = usize::from(u16::from_be_bytes([body[0], body[1]]));
        let topic = String::from_utf8(body[2..2 + length].to_vec()).unwrap();
        (packet_id(&body), topic, body[4 + length..].to_vec())
    }

    /// Reads a QoS 1 PUBLISH and gives its packet id.
    pub(crate) async fn published(&mut self) -> [u8; 2] {
        let (first, body) = self.packet().await;
        assert!(first == PUBLISH_QOS_1 || first == PUBLISH_QOS_1_RETAINED, "{first:x}");
        packet_id(&body)
    }

    pub(crate) async fn acknowledge(&mut self, packet: [u8; 2]) {
        self.say(&[PUBACK, 2, packet[0], packet[1]]).await;
    }
}

/// Gives the packet id in the body of a QoS 1 PUBLISH.
pub(crate) fn packet_id(body: &[u8]) -> [u8; 2] {
    let topic = usize::from(u16::from_be_bytes([body[0], body[1]]));
    [body[2 + topic], body[3 + topic]]
}

/// A QoS 0 PUBLISH.
pub(crate) fn publish(topic: &str, payload: &[u8]) -> Vec<u8> {
    packet(0x30, &[&text(topic)[..], payload].concat())
}

pub(crate) fn publish_qos_1(topic: &str, id: u16, payload: &[u8]) -> Vec<u8> {
    packet(PUBLISH_QOS_1, &[&text(topic)[..], &id.to_be_bytes(), payload].concat())
}

fn text(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).unwrap();
    [&length.to_be_bytes(), text.as_bytes()].concat()
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let (mut packet, mut length) = (vec![first], body.len());
    while length >= 0x80 {
        packet.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    packet.push(length as u8);
    [&packet, body].concat()
}
