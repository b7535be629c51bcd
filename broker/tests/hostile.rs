//! Sends hostile streams to a real `herald-broker`: it lives, serves everyone else, keeps to its
//! memory, and counts what it refuses.

#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "hostile/floods.rs"]
mod floods;
#[path = "hostile/harness.rs"]
mod harness;
#[path = "hostile/kills.rs"]
mod kills;
#[path = "hostile/losses.rs"]
mod losses;
#[path = "hostile/packets.rs"]
mod packets;
#[path = "hostile/table.rs"]
mod table;
#[path = "hostile/transports.rs"]
mod transports;
