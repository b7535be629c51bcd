//! The relay: rumqttd's router, one link to it, and its codec. The only file that names rumqttd.
//!
//! All messages pass the router in one stream, so that everyone is given them in the same order:
//! [`Relay::publish`] puts them in, [`Outlet::take`] takes them out. The router's log is short, and
//! what rolls off it is gone without a word; so what is between the two ends is bounded here, and a
//! message that is missing all the same is noticed by its number and ends the broker.

use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use rumqttd::{
    Notification, Router, RouterConfig,
    local::{LinkBuilder, LinkRx, LinkTx},
    protocol::{self, Protocol, v4::V4},
};

use crate::{
    message::{Message, Revision},
    packet::{Connect, Packet, Publish, QoS},
    refusal::Refusal,
};

/// The one topic in the router, which keeps what it knows of each topic for good.
const TOPIC: &str = "relay";
/// The router's log for it.
const SEGMENT: usize = 256 * 1024;
const SEGMENTS: usize = 8;
/// The most that is between the two ends: a fraction of what the log holds for certain.
const MOST_BYTES: usize = 2 * SEGMENT;
/// What a message takes in the log beside its bytes, generously.
const OVERHEAD: usize = 128;
/// Most messages that the router hands out at a time.
const BATCH: u64 = 200;

/// The router has ended, or lost a message.
#[derive(Debug, thiserror::Error)]
pub enum Died {
    /// It does not start, or has ended.
    #[error("the router has ended: {0}")]
    Ended(String),
    /// A message did not come out.
    #[error("the router lost messages: number {expected} was due, and {found} came")]
    Lost {
        /// The number that was due.
        expected: u64,
        /// The number that came.
        found: u64,
    },
}

/// Where messages go in. What is told with a message (`T`) comes out with it.
pub struct Relay<T> {
    link: LinkTx,
    number: u64,
    between: Arc<Between<T>>,
}

/// Where messages come out.
pub struct Outlet<T> {
    link: LinkRx,
    number: u64,
    between: Arc<Between<T>>,
}

/// What is between the two ends.
struct Between<T> {
    state: Mutex<Waiting<T>>,
    room: Condvar,
}

struct Waiting<T> {
    bytes: usize,
    tokens: VecDeque<T>,
    /// Whether the outlet is gone.
    ended: bool,
}

impl<T> Between<T> {
    fn lock(&self) -> MutexGuard<'_, Waiting<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts the router on a thread of its own. Blocks for a moment.
///
/// # Errors
/// When the router does not answer.
pub fn start<T>() -> Result<(Relay<T>, Outlet<T>), Died> {
    let config = RouterConfig {
        max_connections: 2,
        max_outgoing_packet_count: BATCH,
        max_segment_size: SEGMENT,
        max_segment_count: SEGMENTS,
        ..RouterConfig::default()
    };
    let ended = |error: &dyn std::fmt::Display| Died::Ended(error.to_string());
    let router = Router::new(0, config).spawn();
    let (mut sender, receiver, _) =
        LinkBuilder::new("relay", router).build().map_err(|error| ended(&error))?;
    sender.subscribe(TOPIC).map_err(|error| ended(&error))?;
    let state = Mutex::new(Waiting { bytes: 0, tokens: VecDeque::new(), ended: false });
    let between = Arc::new(Between { state, room: Condvar::new() });
    let relay = Relay { link: sender, number: 0, between: Arc::clone(&between) };
    Ok((relay, Outlet { link: receiver, number: 0, between }))
}

impl<T> Relay<T> {
    /// Puts a message in, and blocks while too much is on its way.
    ///
    /// # Errors
    /// When the router has ended.
    pub fn publish(&mut self, message: &Message, qos: QoS, token: T) -> Result<(), Died> {
        let frame = frame(self.number, message, qos);
        {
            let between = self.between.lock();
            let full = |waiting: &mut Waiting<T>| waiting.bytes > MOST_BYTES && !waiting.ended;
            let waited = self.between.room.wait_while(between, full);
            let mut between = waited.unwrap_or_else(PoisonError::into_inner);
            if between.ended {
                return Err(Died::Ended("nothing comes out of it any more".to_owned()));
            }
            between.bytes += frame.len() + OVERHEAD;
            between.tokens.push_back(token);
        }
        self.number += 1;
        let sent = self.link.publish(TOPIC, frame);
        sent.map(drop).map_err(|error| Died::Ended(error.to_string()))
    }
}

impl<T> Outlet<T> {
    /// Waits for the next message. Blocks.
    ///
    /// # Errors
    /// When the router has ended, or a message is missing.
    pub fn take(&mut self) -> Result<(Message, QoS, T), Died> {
        let ended = |error: &dyn std::fmt::Display| Died::Ended(error.to_string());
        loop {
            match self.link.recv().map_err(|error| ended(&error))? {
                Some(Notification::Forward(forward)) => {
                    return self.unpack(forward.publish.payload);
                }
                // The link would stand still for good.
                Some(Notification::Unschedule) => {
                    self.link.ready().map_err(|error| ended(&error))?;
                }
                Some(Notification::Disconnect(..)) => {
                    return Err(ended(&"it closed the link"));
                }
                Some(_) | None => {}
            }
        }
    }

    fn unpack(&mut self, frame: Bytes) -> Result<(Message, QoS, T), Died> {
        let size = frame.len() + OVERHEAD;
        let (found, message, qos) = unframe(frame);
        let expected = self.number;
        let token = {
            let mut between = self.between.lock();
            between.bytes = between.bytes.saturating_sub(size);
            self.between.room.notify_one();
            between.tokens.pop_front()
        };
        match token {
            Some(token) if found == expected => {
                self.number += 1;
                Ok((message, qos, token))
            }
            _ => Err(Died::Lost { expected, found }),
        }
    }
}

impl<T> Drop for Outlet<T> {
    fn drop(&mut self) {
        self.between.lock().ended = true;
        self.between.room.notify_all();
    }
}

/// Writes a message as it passes the router: number, revision, QoS, topic, payload.
fn frame(number: u64, message: &Message, qos: QoS) -> Bytes {
    let mut frame = BytesMut::with_capacity(19 + message.topic.len() + message.payload.len());
    frame.put_u64(number);
    frame.put_u64(message.revision.map_or(0, Revision::get));
    frame.put_u8(qos as u8);
    frame.put_u16(message.topic.len() as u16);
    frame.put_slice(&message.topic);
    frame.put_slice(&message.payload);
    frame.freeze()
}

fn unframe(mut frame: Bytes) -> (u64, Message, QoS) {
    let number = frame.get_u64();
    let revision = Some(Revision::new(frame.get_u64())).filter(|revision| revision.get() != 0);
    let qos = if frame.get_u8() == 0 { QoS::AtMostOnce } else { QoS::AtLeastOnce };
    let topic_length = frame.get_u16().into();
    let topic = frame.split_to(topic_length);
    (number, Message { topic, payload: frame, revision }, qos)
}

/// Takes the next packet from what a client sent. Gives none until it is there whole.
///
/// # Errors
/// When it is no packet that a client of MQTT 3.1.1 sends, or has more than `limit` bytes.
pub fn decode(received: &mut BytesMut, limit: usize) -> Result<Option<Packet>, Refusal> {
    let Some(&first) = received.first() else { return Ok(None) };
    // The codec passes over the flags of the fixed header (section 2.2.2).
    let expected = match first >> 4 {
        1 | 4 | 12 | 14 => 0x00,
        8 | 10 => 0x02,
        3 => first & 0x0f,
        // PUBREC, PUBREL and PUBCOMP belong to QoS 2, and the others are the server's.
        2 | 5 | 6 | 7 | 9 | 11 | 13 => return Err(Refusal::Unexpected),
        _ => return Err(Refusal::Malformed),
    };
    if first & 0x0f != expected {
        return Err(Refusal::Malformed);
    }
    // The codec keeps packet ids and QoS of a PUBLISH to itself.
    let header = match protocol::v4::check(received.iter(), limit) {
        Ok(header) => header,
        Err(protocol::Error::InsufficientBytes(_)) => return Ok(None),
        Err(protocol::Error::PayloadSizeLimitExceeded(_)) => return Err(Refusal::TooLarge),
        Err(_) => return Err(Refusal::Malformed),
    };
    let body = &received[header.fixed_header_len..header.frame_length()];
    match first >> 4 {
        1 => check_connect(body)?,
        12 | 14 if !body.is_empty() => return Err(Refusal::Malformed),
        3 if first & 0x06 == 0x06 => return Err(Refusal::Malformed),
        3 if first & 0x04 != 0 => return Err(Refusal::QoS),
        _ => {}
    }
    let packet_id = (first & 0x06 != 0).then(|| publish_id(body)).flatten();
    let packet = V4.read_mut(received, limit).map_err(refusal)?;
    translate(packet, packet_id).map(Some)
}

fn refusal(error: protocol::Error) -> Refusal {
    match error {
        protocol::Error::InvalidProtocol | protocol::Error::InvalidProtocolLevel(_) => {
            Refusal::ProtocolVersion
        }
        _ => Refusal::Malformed,
    }
}

/// Checks what the codec does not: the flags of a CONNECT (section 3.1.2), and that all belongs to
/// it.
fn check_connect(body: &[u8]) -> Result<(), Refusal> {
    let mut rest = body;
    let name = field(&mut rest).ok_or(Refusal::Malformed)?;
    let (Some(&level), Some(&flags)) = (rest.first(), rest.get(1)) else {
        return Err(Refusal::Malformed);
    };
    if name != b"MQTT" || level != 4 {
        return Err(Refusal::ProtocolVersion);
    }
    let has = |bit: u8| flags & bit != 0;
    let (user, password, will) = (has(0x80), has(0x40), has(0x04));
    let will_qos = (flags >> 3) & 0x03;
    let without_will = !will && (will_qos != 0 || has(0x20));
    if has(0x01) || (password && !user) || without_will || will_qos == 3 {
        return Err(Refusal::Malformed);
    }
    rest = rest.get(4..).ok_or(Refusal::Malformed)?;
    let fields = 1 + 2 * usize::from(will) + usize::from(user) + usize::from(password);
    for _ in 0..fields {
        field(&mut rest).ok_or(Refusal::Malformed)?;
    }
    if rest.is_empty() { Ok(()) } else { Err(Refusal::Malformed) }
}

/// Takes a field that begins with its length.
fn field<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, behind) = rest.split_first_chunk::<2>()?;
    let (field, behind) = behind.split_at_checked(u16::from_be_bytes(*length).into())?;
    *rest = behind;
    Some(field)
}

fn publish_id(mut body: &[u8]) -> Option<u16> {
    field(&mut body)?;
    body.first_chunk::<2>().map(|id| u16::from_be_bytes(*id))
}

fn translate(packet: protocol::Packet, publish_id: Option<u16>) -> Result<Packet, Refusal> {
    let some_id = |id: u16| if id == 0 { Err(Refusal::Malformed) } else { Ok(id) };
    Ok(match packet {
        protocol::Packet::Connect(connect, _, will, _, login) => {
            let will = will.map(|will| -> Result<Publish, Refusal> {
                if will.qos == protocol::QoS::ExactlyOnce {
                    return Err(Refusal::QoS);
                }
                Ok(Publish {
                    topic: text(&will.topic)?,
                    // Not a part of the CONNECT, which has a password in it.
                    payload: Bytes::copy_from_slice(&will.message),
                    packet: (will.qos == protocol::QoS::AtLeastOnce).then_some(1),
                    retain: will.retain,
                })
            });
            let (username, password) = match login {
                Some(login) => (Some(login.username), Some(login.password)),
                None => (None, None),
            };
            if connect.client_id.contains('\0') {
                return Err(Refusal::Malformed);
            }
            Packet::Connect(Box::new(Connect {
                client_id: connect.client_id,
                clean_session: connect.clean_session,
                keep_alive: connect.keep_alive,
                will: will.transpose()?,
                username,
                password,
            }))
        }
        protocol::Packet::Publish(publish, _) => Packet::Publish(Publish {
            topic: text(&publish.topic)?,
            // It outlives the buffer that it was read into.
            payload: Bytes::copy_from_slice(&publish.payload),
            packet: publish_id.map(some_id).transpose()?,
            retain: publish.retain,
        }),
        protocol::Packet::PubAck(ack, _) => Packet::PubAck(some_id(ack.pkid)?),
        protocol::Packet::Subscribe(subscribe, _) => Packet::Subscribe {
            packet: some_id(subscribe.pkid)?,
            filters: subscribe
                .filters
                .into_iter()
                .map(|filter| (filter.path, filter.qos as u8))
                .collect(),
        },
        protocol::Packet::Unsubscribe(unsubscribe, _) => {
            if unsubscribe.filters.is_empty() {
                return Err(Refusal::Malformed);
            }
            let packet = some_id(unsubscribe.pkid)?;
            Packet::Unsubscribe { packet, filters: unsubscribe.filters }
        }
        protocol::Packet::PingReq(_) => Packet::PingReq,
        protocol::Packet::Disconnect(..) => Packet::Disconnect,
        _ => return Err(Refusal::Unexpected),
    })
}

/// Reads a topic: UTF-8 without U+0000 (section 1.5.3).
fn text(bytes: &[u8]) -> Result<String, Refusal> {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains('\0') => Ok(text.to_owned()),
        _ => Err(Refusal::Malformed),
    }
}

#[cfg(test)]
mod tests;
