//! The processes that outlive the subscriber, run as such: the runner of activations, the roll
//! back and the dead-man, and what starts and stops them on a machine without systemd.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test helper fails by panicking")]

mod arm;
mod commit;
#[path = "../common/mod.rs"]
mod common;
mod dead_man;
mod launcher;
mod reboot;
mod roll_back;
mod runner;
