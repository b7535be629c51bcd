//! The command as its users run it: the real binary, against a real broker, with hosts that answer
//! as a test tells them to.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test helper fails by panicking")]

mod access;
mod closure;
mod generations;
mod keys;
mod listening;
mod mistakes;
mod offline;
mod overtaken;
mod publish;
mod rollback;
mod secrets;
mod sequence;
mod signing;
mod support;
mod verify;
