//! Herald's broker: MQTT 3.1.1 sessions and durable retained messages around rumqttd's router.

pub mod acl;
pub mod auth;
pub mod broker;
pub mod dispatch;
pub mod handshake;
pub mod journal;
pub mod limits;
pub mod listener;
mod log_limit;
pub mod logins;
pub mod mailbox;
pub mod message;
pub mod metrics;
pub mod packet;
pub mod passwords;
pub mod principal;
pub mod refusal;
pub mod registry;
pub mod relay;
pub mod retained;
pub mod server;
pub mod session;
pub mod stream;
pub mod subscription;
