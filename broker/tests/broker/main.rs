//! The real `herald-broker`, and raw MQTT 3.1.1.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test helper fails by panicking")]

mod access;
mod certificates;
mod client;
mod disk;
mod durable;
mod fleet_client;
mod handshake;
mod keepalive;
mod login;
mod persistent;
mod pressure;
mod process;
mod quotas;
mod roster;
mod running;
mod scraped;
mod stalled;
mod store;
mod subscriptions;
mod takeover;
mod wait;
mod wills;

const ORDER: &str = "herald/v1/home/desired/web-1/system";
const ORDER_2: &str = "herald/v1/home/desired/web-2/system";
const STATUS: &str = "herald/v1/home/status/web-1/system";
const PRESENCE: &str = "herald/v1/home/presence/web-1";
const EVENT: &str = "herald/v1/home/event/web-1";
const BEACON: &str = "herald/v1/home/beacon";
