//! Time as the core sees it: three clocks, read by the driver when an event happens.

use std::time::Duration;

use herald_proto::{id::BootId, time::Timestamp};

/// A reading of the clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// The wall clock. It may jump; orders expire by it.
    pub wall: Timestamp,
    /// The monotonic clock of this boot. Limits are measured by it.
    pub monotonic: Monotonic,
    /// Which boot the monotonic clock belongs to.
    pub boot: BootId,
}

impl Now {
    /// Gives when this boot began by the wall clock as it is now; later by as long as the machine
    /// was suspended.
    pub fn start(&self) -> Timestamp {
        let up = self.monotonic.as_millis();
        Timestamp::from_millis(self.wall.as_millis().saturating_sub(up))
    }
}

/// Milliseconds of `CLOCK_MONOTONIC`, comparable within one boot.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Default,
    serde::Serialize,
    serde::Deserialize,
)]
#[serde(transparent)]
pub struct Monotonic(u64);

impl Monotonic {
    /// Makes it from milliseconds since the clock's start.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Gives the milliseconds since the clock's start.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// Gives the time that is `span` later.
    pub fn plus(self, span: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(span.as_millis()).unwrap_or(u64::MAX)))
    }

    /// Gives how long after `earlier` this is; zero if it is before.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}
