//! The adapter of Nix, with real Nix: a signed cache on one side, a host's empty store on the
//! other, and the garbage collector.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test helper fails by panicking")]

#[path = "../common/mod.rs"]
mod common;

mod asked;
mod fetching;
mod manifest;
mod poisoned;
