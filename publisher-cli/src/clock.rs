//! The one place where the machine's clock is read, and where its times are written for people.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use herald_proto::time::Timestamp;

/// Reads the clock; a clock before 1970 reads as 1970.
pub(crate) fn now() -> Timestamp {
    from_system(SystemTime::now())
}

/// Reads a time in RFC 3339, such as `2026-12-24T18:00:00Z`.
pub(crate) fn parse_rfc3339(text: &str) -> Result<Timestamp, humantime::TimestampError> {
    humantime::parse_rfc3339_weak(text).map(from_system)
}

/// Writes a span for people.
pub(crate) fn span(span: Duration) -> String {
    humantime::format_duration(span).to_string()
}

/// Writes how long something took, in seconds.
pub(crate) fn seconds(span: Duration) -> String {
    format!("{:.1} s", span.as_secs_f64())
}

/// Writes a span in its greatest whole unit.
pub(crate) fn short(span: Duration) -> String {
    match span.as_secs() {
        seconds @ 0..60 => format!("{seconds} s"),
        seconds @ 60..3600 => format!("{} min", seconds / 60),
        seconds @ 3600..86400 => format!("{} h", seconds / 3600),
        seconds => format!("{} d", seconds / 86400),
    }
}

fn from_system(time: SystemTime) -> Timestamp {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_they_are_written_and_absurd_ones_do_not_panic() {
        let time = parse_rfc3339("2026-12-24T18:00:00Z").unwrap();
        assert_eq!(time.to_string(), "2026-12-24T18:00:00Z");
        assert!(parse_rfc3339("tomorrow").is_err());
    }

    #[test]
    fn a_span_is_short_in_its_greatest_unit() {
        for (seconds, text) in [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (3599, "59 min"),
            (5 * 3600, "5 h"),
            (86399, "23 h"),
            (9 * 86400, "9 d"),
        ] {
            assert_eq!(short(Duration::from_secs(seconds)), text);
        }
    }
}
