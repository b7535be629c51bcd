//! Sends hostile streams to a real `herald-broker`: it lives, serves everyone else, keeps to its
//! memory, and counts what it refuses.

#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "hostile/harness.rs"]
mod harness;
#[path = "hostile/packets.rs"]
mod packets;
#[path = "hostile/table.rs"]
mod table;
