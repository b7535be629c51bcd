//! Herald's messages, the signatures on them, the trust that judges those, and the topics that
//! carry them.
//!
//! The crate is pure: it does no IO, reads no clock and draws no randomness; time and seeds are
//! arguments. What comes from the network is parsed here once, into types that need no second
//! check, and [`signing::Verified`] is the only proof that a message was signed by those who may.

#[macro_use]
mod codes;
pub mod beacon;
pub mod check;
pub mod closure;
pub mod codec;
pub mod enrol;
pub mod envelope;
pub mod host;
pub mod http;
pub mod id;
pub mod key;
pub mod log;
pub mod login;
pub mod merkle;
pub mod order;
pub mod plan;
pub mod presence;
pub mod rejection;
pub mod release;
pub mod release_file;
pub mod report;
pub mod roster_file;
pub mod signing;
pub mod store_path;
pub mod substituter;
pub mod target;
pub mod text;
pub mod time;
pub mod topic;
pub mod trust;

/// The version of the wire format that this crate writes, and the only one that it reads.
///
/// It stays 0, with no promise of compatibility, until roll-outs in waves are part of it.
pub const WIRE_VERSION: u16 = 0;
