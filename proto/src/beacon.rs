//! A sign of life of the rollout role: who hears it knows that no newer one was held back.

use std::time::Duration;

use crate::{host::FleetId, time::Timestamp};

/// How far ahead of a host's clock a beacon may be signed. For so much longer it vouches than it
/// should, where a host's clock is behind.
pub const MAX_BEACON_AHEAD: Duration = Duration::from_secs(10 * 60);

/// A beacon. Of two, the later one counts.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Beacon {
    /// The wire version.
    pub version: u16,
    /// The fleet that it is for.
    pub fleet: FleetId,
    /// When it was signed.
    pub issued_at: Timestamp,
}

wire_map!(Beacon, unknown keys Refuse:
    1 => version required,
    2 => fleet required,
    3 => issued_at required,
);

/// How often a fleet's beacon comes. A host that has missed two takes no new orders: a broker may be
/// holding back newer ones, or the host slept through months of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Freshness {
    interval: Duration,
}

impl Freshness {
    /// The shortest and the longest interval.
    pub const BOUNDS: (Duration, Duration) =
        (Duration::from_secs(1), Duration::from_secs(7 * 24 * 60 * 60));

    /// Takes an interval that is within the bounds.
    pub fn every(interval: Duration) -> Option<Self> {
        let (shortest, longest) = Self::BOUNDS;
        (shortest..=longest).contains(&interval).then_some(Self { interval })
    }

    /// Gives the time between two beacons.
    pub fn interval(&self) -> Duration {
        self.interval
    }

    /// Gives when a beacon no longer vouches for anything: after two intervals.
    pub fn end_of(&self, beacon: Timestamp) -> Timestamp {
        beacon.plus(self.interval * 2)
    }

    /// Tells whether the last beacon, if there was one, vouches at this time that nobody holds
    /// messages back.
    pub fn vouches(&self, beacon: Option<Timestamp>, time: Timestamp) -> bool {
        beacon.is_some_and(|beacon| time < self.end_of(beacon))
    }
}
