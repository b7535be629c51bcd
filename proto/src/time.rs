//! Points in time as the messages carry them.

use std::{
    fmt,
    time::{Duration, UNIX_EPOCH},
};

use crate::{
    codec::{Malformed, Value, Wire},
    text::Unparsable,
};

/// A point in time: milliseconds since 1970-01-01T00:00:00Z.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    serde::Serialize,
    serde::Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(u64);

impl Timestamp {
    /// Makes it from milliseconds since the epoch.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Gives the milliseconds since the epoch.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// Gives the time that is `span` later, or the last one there is.
    pub fn plus(self, span: Duration) -> Self {
        Self(self.0.saturating_add(millis(span)))
    }

    /// Gives how long after `earlier` this is; zero if it is before.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// Written as RFC 3339 has it, in UTC and whole seconds, such as `2026-12-24T18:00:00Z`.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Beyond the year 9999 there is no RFC 3339, and a signed message may say anything.
        const LAST: u64 = 253_402_300_799_000;
        let time = UNIX_EPOCH + Duration::from_millis(self.0.min(LAST));
        humantime::format_rfc3339_seconds(time).fmt(f)
    }
}

impl std::str::FromStr for Timestamp {
    type Err = Unparsable;

    fn from_str(text: &str) -> Result<Self, Unparsable> {
        let unparsable = || Unparsable::new("time", text, "UTC, such as 2026-12-24T18:00:00Z");
        let time = humantime::parse_rfc3339(text).map_err(|_| unparsable())?;
        let since = time.duration_since(UNIX_EPOCH).map_err(|_| unparsable())?;
        Ok(Self(millis(since)))
    }
}

impl Wire for Timestamp {
    fn to_value(&self) -> Value {
        self.0.to_value()
    }

    fn from_value(value: Value) -> Result<Self, Malformed> {
        u64::from_value(value).map(Self)
    }
}

/// Spans are milliseconds on the wire, at most a year.
impl Wire for Duration {
    fn to_value(&self) -> Value {
        millis(*self).to_value()
    }

    fn from_value(value: Value) -> Result<Self, Malformed> {
        const YEAR_MS: u64 = 366 * 24 * 60 * 60 * 1000;
        match u64::from_value(value)? {
            span if span <= YEAR_MS => Ok(Self::from_millis(span)),
            _ => Err(Malformed::invalid(&"a span is at most a year")),
        }
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_in_rfc_3339_and_the_last_one_that_there_is_stays_one() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (1_798_135_200_999, "2026-12-24T18:00:00Z"),
            (u64::MAX, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(Timestamp::from_millis(millis).to_string(), text);
        }
    }
}
