//! What the broker carries and keeps.

use bytes::Bytes;

/// A number that each stored retained message gets: later is larger. Never 0, never used again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Revision(u64);

impl Revision {
    /// Older than every message.
    pub const NONE: Self = Self(0);

    /// Names a revision.
    pub fn new(number: u64) -> Self {
        Self(number)
    }

    /// Gives the number.
    pub fn get(self) -> u64 {
        self.0
    }
}

/// A message on its way to subscribers.
#[derive(Debug, Clone)]
pub struct Message {
    /// The topic.
    pub topic: Bytes,
    /// The payload.
    pub payload: Bytes,
    /// The revision of a message that is retained.
    pub revision: Option<Revision>,
}
