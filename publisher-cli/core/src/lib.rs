//! The operator's side, without effects: which hosts there are and how their messages are
//! verified, how a release is composed and signed, what came of it, and how the fleet stands.
//!
//! The crate does no IO, reads no clock and draws no randomness; time and keys are arguments.

pub mod compose;
pub mod draft;
pub mod editing;
pub mod fleet;
pub mod generations;
pub mod heard;
pub mod json;
pub mod openssh;
pub mod outcome;
pub mod packages;
pub mod readback;
pub mod recall;
pub mod roster;
pub mod view;
pub mod watch;

#[cfg(test)]
mod testing;
