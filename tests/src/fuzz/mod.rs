//! Arbitrary bytes for everything that reads what somebody else wrote, with what must hold of it.
//!
//! Each target takes any bytes, and panics where a promise is broken: what is accepted has one form,
//! and what is verified has the signatures that it takes. `tests/fuzz` gives the targets to libFuzzer;
//! `tests/tests/fuzz.rs` gives them the seeds, what was kept, and mutations of both.

mod files;
mod messages;
mod mutate;
mod names;
mod seeds;

pub use files::{key, state, trust};
pub use messages::{envelope, order, release_file, report};
pub use mutate::Mutator;
pub use names::topic;
pub use seeds::seeds;

/// A function that is given arbitrary bytes.
pub type Target = fn(&[u8]);

/// Every target with its name.
pub const TARGETS: [(&str, Target); 8] = [
    ("envelope", envelope),
    ("order", order),
    ("report", report),
    ("release_file", release_file),
    ("trust", trust),
    ("state", state),
    ("key", key),
    ("topic", topic),
];

/// Takes the first byte off, which says how the rest is used.
fn mode(bytes: &[u8]) -> (u8, &[u8]) {
    bytes.split_first().map_or((0, bytes), |(first, rest)| (*first, rest))
}
