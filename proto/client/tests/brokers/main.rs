//! The client against brokers: a real mosquitto, and one that misbehaves on purpose.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test helper fails by panicking")]

mod fake;
mod hostile;
mod mosquitto;
mod ordinary;
mod outages;
mod refusing;
mod resuming;
mod secure;
mod support;
