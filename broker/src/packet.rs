//! MQTT 3.1.1 packets, as a session knows them: what clients send, and the bytes of what they get.

use bytes::{BufMut, Bytes};

use crate::message::Message;

/// A packet that a client may send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packet {
    /// The first packet of a connection.
    Connect(Box<Connect>),
    /// A message.
    Publish(Publish),
    /// The client took the message that it got with this packet id.
    PubAck(u16),
    /// A request for messages.
    Subscribe {
        /// The packet id that the answer bears.
        packet: u16,
        /// The filters, each with the highest QoS that is wanted.
        filters: Vec<(String, u8)>,
    },
    /// An end of requests for messages.
    Unsubscribe {
        /// The packet id that the answer bears.
        packet: u16,
        /// The filters.
        filters: Vec<String>,
    },
    /// A sign of life.
    PingReq,
    /// An orderly end.
    Disconnect,
}

/// How a client introduces itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Connect {
    /// Its name for its session.
    pub client_id: String,
    /// Whether the session ends with the connection.
    pub clean_session: bool,
    /// The time between signs of life, in seconds; 0 for none.
    pub keep_alive: u16,
    /// What is published if it goes without a word.
    pub will: Option<Publish>,
    /// A user name.
    pub username: Option<String>,
    /// A password.
    pub password: Option<String>,
}

impl std::fmt::Debug for Connect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connect").field("client_id", &self.client_id).finish_non_exhaustive()
    }
}

/// A message from a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publish {
    /// The topic: UTF-8, and nothing more is known yet.
    pub topic: String,
    /// The payload.
    pub payload: Bytes,
    /// Its packet id, if it is to be acknowledged.
    pub packet: Option<u16>,
    /// Whether it is kept for those who subscribe later.
    pub retain: bool,
}

/// Whether a message is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum QoS {
    /// It is not.
    AtMostOnce,
    /// It is, and sent again if that takes too long.
    AtLeastOnce,
}

/// The answer to a CONNECT (MQTT 3.1.1, section 3.2.2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ConnectReturn {
    /// The connection is accepted.
    Accepted = 0,
    /// Another version of the protocol is wanted.
    ProtocolVersion = 1,
    /// The client id is refused.
    ClientId = 2,
    /// There is no room.
    Unavailable = 3,
    /// The user name or password is wrong.
    BadLogin = 4,
    /// The client may not do this.
    NotAuthorized = 5,
}

/// The SUBACK code of a filter that is refused.
pub const SUBSCRIPTION_REFUSED: u8 = 0x80;
/// PINGRESP.
pub const PINGRESP: [u8; 2] = [0xd0, 0];

/// Makes a CONNACK.
pub fn connack(session_present: bool, code: ConnectReturn) -> [u8; 4] {
    [0x20, 2, u8::from(session_present && code == ConnectReturn::Accepted), code as u8]
}

/// Makes a PUBACK.
pub fn puback(packet: u16) -> [u8; 4] {
    let [high, low] = packet.to_be_bytes();
    [0x40, 2, high, low]
}

/// Makes an UNSUBACK.
pub fn unsuback(packet: u16) -> [u8; 4] {
    let [high, low] = packet.to_be_bytes();
    [0xb0, 2, high, low]
}

/// Appends a SUBACK.
pub fn suback(out: &mut Vec<u8>, packet: u16, codes: &[u8]) {
    out.put_u8(0x90);
    put_length(out, 2 + codes.len());
    out.put_u16(packet);
    out.put_slice(codes);
}

/// Appends a PUBLISH; one with a packet id is of QoS 1.
pub fn publish(out: &mut Vec<u8>, message: &Message, packet: Option<u16>, retain: bool) {
    let length = 2 + message.topic.len() + message.payload.len() + packet.map_or(0, |_| 2);
    out.reserve(5 + length);
    out.put_u8(0x30 | if packet.is_some() { 0x02 } else { 0 } | u8::from(retain));
    put_length(out, length);
    // A topic was read from a packet, where its length has 16 bits too.
    out.put_u16(message.topic.len() as u16);
    out.put_slice(&message.topic);
    if let Some(packet) = packet {
        out.put_u16(packet);
    }
    out.put_slice(&message.payload);
}

/// Appends a remaining length (section 2.2.3).
fn put_length(out: &mut Vec<u8>, mut length: usize) {
    while length >= 0x80 {
        out.put_u8((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    out.put_u8(length as u8);
}
