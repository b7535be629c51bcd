//! The network under one connection: the only file that names rumqttc.
//!
//! rumqttc's event loop serves one connection here and is thrown away with it: polled again after
//! an error it would retry without pause, and drop what waits if the broker has no session.

use std::{num::NonZeroUsize, time::Duration};

use herald_proto::topic::Filter;
use rumqttc::{
    AsyncClient, ConnectionError, Event, EventLoop, LastWill, MqttOptions, NetworkOptions,
    Outgoing, Packet, Publish, QoS, StateError, SubscribeFilter, SubscribeReasonCode, mqttbytes,
};

use crate::{BrokerUrl, ConnectionLost, Message, SessionKind, Settings};

/// The largest packet that is read at all. A message over [`crate::MAX_PAYLOAD`] and under this
/// costs its sender the message; a larger one costs all who subscribed to it the connection.
const LARGEST_PACKET: usize = 256 * 1024;

/// How many packet ids there are for each message in flight, so that one comes again only long
/// after its message was acknowledged: rumqttc hands them out in turn.
const IDS_FOR_EACH: usize = 16;

/// The most messages in flight that packet ids of 16 bits allow.
pub(crate) const WIDEST_WINDOW: NonZeroUsize =
    NonZeroUsize::new(u16::MAX as usize / IDS_FOR_EACH).unwrap();

/// The most messages that a broker can send without an acknowledgement: all packet ids.
const ACKNOWLEDGEMENTS: usize = u16::MAX as usize;

/// What the network tells. Packet ids are told in the order of the requests.
#[derive(Debug)]
pub(crate) enum Heard {
    /// The broker took the connection.
    Accepted,
    /// A SUBSCRIBE left with this packet id.
    Subscribing(u16),
    /// The broker's answer to a SUBSCRIBE: for each filter, whether it is granted.
    Subscribed(u16, Vec<bool>),
    /// A PUBLISH left with this packet id.
    Publishing(u16),
    /// The broker acknowledged a PUBLISH.
    Published(u16),
    /// An acknowledgement left.
    Acknowledged,
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
    events: EventLoop,
    broker: BrokerUrl,
    accepted: bool,
    /// Why the connection ended, until all that came before was told.
    lost: Option<ConnectionLost>,
}

impl Network {
    /// Prepares a connection, which is made when [`Network::hear`] is first called. At most
    /// `unanswered` PUBLISH and SUBSCRIBE may wait for their answer, and one DISCONNECT follows.
    pub(crate) fn new(
        settings: &Settings,
        will: Option<Message>,
        timeout: Duration,
        unanswered: usize,
    ) -> (Requests, Self) {
        let options = options(settings, will);
        let capacity = unanswered + ACKNOWLEDGEMENTS + 1;
        let (requests, mut events) = AsyncClient::new(options, capacity);
        let mut limits = NetworkOptions::new();
        limits.set_connection_timeout(timeout.as_secs());
        // Acknowledgements are small, and the next message waits for them.
        limits.set_tcp_nodelay(true);
        events.set_network_options(limits);
        let network = Self { events, broker: settings.broker.clone(), accepted: false, lost: None };
        (Requests { requests, acknowledgements: 0 }, network)
    }

    /// Serves the connection until there is something to tell. After an error there is nothing
    /// more. Not safe to cancel, but at the end: rumqttc could lose an acknowledgement by it.
    pub(crate) async fn hear(&mut self) -> Result<Heard, ConnectionLost> {
        loop {
            let event = match self.lost.take() {
                None => match self.events.poll().await {
                    Ok(event) => event,
                    Err(error) => {
                        self.lost = Some(self.reason(error));
                        continue;
                    }
                },
                // What came before the error counts, and rumqttc would keep it to itself.
                Some(reason) => match self.events.state.events.pop_front() {
                    None => return Err(reason),
                    Some(event) => {
                        self.lost = Some(reason);
                        event
                    }
                },
            };
            if let Some(heard) = self.take(event) {
                return Ok(heard);
            }
        }
    }

    fn take(&mut self, event: Event) -> Option<Heard> {
        Some(match event {
            Event::Incoming(Packet::ConnAck(_)) => {
                self.accepted = true;
                Heard::Accepted
            }
            Event::Incoming(Packet::SubAck(answer)) => {
                let codes = answer.return_codes.iter();
                let granted = codes.map(|code| *code != SubscribeReasonCode::Failure);
                Heard::Subscribed(answer.pkid, granted.collect())
            }
            Event::Incoming(Packet::PubAck(answer)) => Heard::Published(answer.pkid),
            Event::Incoming(Packet::Publish(message)) => Heard::Message(Arrived {
                topic: message.topic,
                payload: message.payload.into(),
                retained: message.retain,
                packet: (message.qos == QoS::AtLeastOnce).then_some(message.pkid),
            }),
            Event::Outgoing(Outgoing::Subscribe(packet)) => Heard::Subscribing(packet),
            Event::Outgoing(Outgoing::Publish(packet)) => Heard::Publishing(packet),
            Event::Outgoing(Outgoing::PubAck(_)) => Heard::Acknowledged,
            _ => return None,
        })
    }

    fn reason(&self, error: ConnectionError) -> ConnectionLost {
        match error {
            ConnectionError::Io(source) if !self.accepted => {
                ConnectionLost::Unreachable { broker: self.broker.clone(), source }
            }
            ConnectionError::ConnectionRefused(code) => {
                ConnectionLost::Refused { code: code as u8 }
            }
            ConnectionError::NetworkTimeout | ConnectionError::FlushTimeout => {
                let within = self.events.network_options().connection_timeout();
                let within = Duration::from_secs(within);
                ConnectionLost::Unanswered { within }
            }
            ConnectionError::MqttState(
                StateError::AwaitPingResp | StateError::CollisionTimeout,
            ) => {
                let within = self.events.mqtt_options.keep_alive();
                ConnectionLost::Unanswered { within }
            }
            ConnectionError::MqttState(StateError::ConnectionAborted) => ConnectionLost::Closed,
            ConnectionError::Io(source)
            | ConnectionError::MqttState(
                StateError::Io(source) | StateError::Deserialization(mqttbytes::Error::Io(source)),
            ) => ConnectionLost::Network(source),
            other => ConnectionLost::Protocol(Box::new(other)),
        }
    }
}

fn options(settings: &Settings, will: Option<Message>) -> MqttOptions {
    let (host, port) = (settings.broker.host(), settings.broker.port());
    let mut options = MqttOptions::new(&settings.client_id, host, port);
    // rumqttc panics at a persistent session without a name, and at a keep-alive below a second.
    let clean = settings.session == SessionKind::Clean || settings.client_id.is_empty();
    let keep_alive = settings.keep_alive.as_secs().clamp(1, u16::MAX.into());
    let ids = settings.window.get().saturating_mul(IDS_FOR_EACH).max(256);
    options
        .set_manual_acks(true)
        .set_clean_session(clean)
        .set_keep_alive(Duration::from_secs(keep_alive))
        .set_inflight(u16::try_from(ids).unwrap_or(u16::MAX))
        .set_max_packet_size(LARGEST_PACKET, LARGEST_PACKET);
    if let Some(Message { topic, payload }) = will {
        let (text, retain) = (topic.to_string(), topic.is_retained());
        options.set_last_will(LastWill::new(text, payload, QoS::AtLeastOnce, retain));
    }
    options
}

/// Where requests are made. They wait until [`Network::hear`] sends them.
pub(crate) struct Requests {
    requests: AsyncClient,
    /// Acknowledgements that did not leave yet.
    acknowledgements: usize,
}

/// Why a request always fits into rumqttc's queue.
const ROOM: &str = "the queue holds all that may be unanswered, and one DISCONNECT";

impl Requests {
    pub(crate) fn publish(&self, message: &Message) {
        let Message { topic, payload } = message;
        let (text, retain) = (topic.to_string(), topic.is_retained());
        let made = self.requests.try_publish(text, QoS::AtLeastOnce, retain, payload.clone());
        made.expect(ROOM);
    }

    pub(crate) fn subscribe(&self, filters: &[Filter]) {
        let filters = filters.iter().map(ToString::to_string);
        let filters = filters.map(|filter| SubscribeFilter::new(filter, QoS::AtLeastOnce));
        self.requests.try_subscribe_many(filters).expect(ROOM);
    }

    /// Acknowledges a message that came.
    ///
    /// A broker that has more unacknowledged messages than there are packet ids breaks the
    /// protocol, and some of them stay so: rumqttc reads faster than it acknowledges.
    pub(crate) fn acknowledge(&mut self, packet: u16) {
        if self.acknowledgements < ACKNOWLEDGEMENTS {
            self.acknowledgements += 1;
            let mut message = Publish::new("", QoS::AtLeastOnce, []);
            message.pkid = packet;
            self.requests.try_ack(&message).expect(ROOM);
        }
    }

    /// Notes that an acknowledgement left.
    pub(crate) fn acknowledged(&mut self) {
        self.acknowledgements = self.acknowledgements.saturating_sub(1);
    }

    pub(crate) fn disconnect(&self) {
        self.requests.try_disconnect().expect(ROOM);
    }
}
