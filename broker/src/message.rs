//! A message on its way to subscribers, and the number that a retained one gets.

use std::fmt;

use bytes::Bytes;

/// The number of a stored retained message: a later one is larger.
///
/// Never reused, also not after its message was cleared, or the broker started again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Revision(u64);

impl Revision {
    /// Before the first: no message has it.
    pub const NONE: Self = Self(0);

    /// Takes a number for a revision.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The one after this. The last number, which a store cannot reach, has itself.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A message on its way to subscribers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Where it was published: UTF-8, parsed as one of Herald's topics before.
    pub topic: Bytes,
    /// What was published.
    pub payload: Bytes,
    /// The revision of a retained message.
    pub revision: Option<Revision>,
}
