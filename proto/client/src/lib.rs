//! Herald's one MQTT client, which the subscriber, the command line and the tests share.
//!
//! [`start`] gives a [`Client`] to speak with and an [`Inbox`] to listen at. Behind them one task
//! makes one connection after another, for as long as there is a handle on it:
//!
//! - Each attempt asks the [`Greeter`] for a will and for births. [`Event::Connected`] follows once
//!   the broker has granted every subscription and acknowledged every birth, within 10 seconds (and
//!   one more for each 512 subscriptions).
//! - A message is sent until the broker acknowledges it, so it arrives at least once, and each
//!   [`Delivery`] ends in exactly one way. The outbox is ours, and so outlives connections and a
//!   broker that forgets.
//! - A broker has no other word for a message that it refuses than to close the connection (MQTT
//!   3.1.1, section 3.3.5). What it refuses again and again is set aside, and the rest goes on.
//! - A lost connection is told with its reason ([`ConnectionLost`]) and made again after a
//!   [`Backoff`]. A session that the broker keeps is never relied on.
//! - A message that comes is acknowledged when the inbox takes it, so a slow reader makes the
//!   broker wait while signs of life go on. If the broker doesn't wait, 4 MiB are held; after that
//!   the network is not read, and if that lasts, the connection is lost and made again.
//!
//! It speaks MQTT 3.1.1 with QoS 1 over TCP, TLS and WebSocket, and no more of it than mosquitto, NATS JetStream,
//! RabbitMQ, EMQX and AWS IoT Core have in common. Nothing that a broker sends is trusted here, and
//! payloads are neither read nor logged.

mod application;
mod backoff;
mod broker_url;
mod client;
mod complaints;
mod connection;
mod event;
mod login;
mod message;
mod network;
mod outbox;
mod refusals;
mod settings;
mod subscriptions;
mod tls;
mod transport;
mod websocket;

pub use backoff::Backoff;
pub use broker_url::{BrokerUrl, InvalidBrokerUrl, Scheme};
pub use client::{Client, Delivery, start};
pub use event::{ConnectionLost, Event, Inbox};
pub use login::{Login, Password, PasswordInTheOpen, Secret, Signed};
pub use message::{Greeter, Greeting, MAX_PAYLOAD, Message};
pub use outbox::Undelivered;
pub use settings::{KEEP_ALIVE, SessionKind, Settings};
pub use tls::{BadTls, Tls};
