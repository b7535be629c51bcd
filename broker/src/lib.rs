//! Herald's broker: MQTT 3.1.1 sessions and durable retained messages around rumqttd's router.

pub mod acl;
pub mod auth;
pub mod logins;
pub mod passwords;
pub mod principal;
pub mod refusal;
