//! Herald's broker: MQTT 3.1.1 sessions and durable retained messages around rumqttd's router.

pub mod message;
pub mod principal;
pub mod refusal;
pub mod retained;
