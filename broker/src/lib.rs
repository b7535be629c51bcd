//! Herald's broker: MQTT 3.1.1 sessions and durable retained messages around rumqttd's router.

pub mod config;
pub mod limits;
pub mod listener;
pub mod log;
pub mod metrics;
pub mod principal;
pub mod refusal;
pub mod scrape;
pub mod stream;
pub mod tls;
pub mod websocket;
