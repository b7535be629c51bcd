//! A limit on the log lines that clients can cause: who may connect may not fill the disk.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Each limit is for this time.
const WINDOW: Duration = Duration::from_secs(1);

/// Admits so many lines of each kind in a second, and counts the others.
///
/// A kind is a name in the source, so there are few. What was left out is told with the next line
/// of the same kind.
#[derive(Debug)]
pub struct RateLimited {
    per_second: u32,
    kinds: Mutex<HashMap<&'static str, Kind>>,
}

#[derive(Debug)]
struct Kind {
    /// When the current window began.
    since: Instant,
    /// Lines admitted in it.
    admitted: u32,
    /// Lines left out since the last one that was admitted.
    suppressed: u64,
}

impl RateLimited {
    /// Makes a limit of so many lines in a second, for each kind.
    pub fn new(per_second: u32) -> Self {
        Self { per_second, kinds: Mutex::default() }
    }

    /// Says whether a line may be logged now: then with how many were left out before it.
    pub fn admit(&self, kind: &'static str, now: Instant) -> Option<u64> {
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        let kind = kinds.entry(kind).or_insert(Kind { since: now, admitted: 0, suppressed: 0 });
        if now.saturating_duration_since(kind.since) >= WINDOW {
            kind.since = now;
            kind.admitted = 0;
        }
        if kind.admitted >= self.per_second {
            kind.suppressed += 1;
            return None;
        }
        kind.admitted += 1;
        Some(std::mem::take(&mut kind.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_so_many_lines_of_a_kind_are_admitted_in_a_second() {
        let limit = RateLimited::new(2);
        let start = Instant::now();
        let admitted = |kind, millis| limit.admit(kind, start + Duration::from_millis(millis));
        assert_eq!(admitted("tls", 0), Some(0));
        assert_eq!(admitted("tls", 1), Some(0));
        assert_eq!(admitted("tls", 2), None);
        assert_eq!(admitted("tls", 999), None);
        assert_eq!(admitted("login", 999), Some(0), "another kind has a limit of its own");
        assert_eq!(admitted("tls", 1_000), Some(2), "says how many were left out");
        assert_eq!(admitted("tls", 1_001), Some(0), "and says it once");
        assert_eq!(admitted("tls", 1_002), None);
        assert_eq!(admitted("tls", 60_000), Some(1));
    }

    #[test]
    fn clock_that_seems_to_go_back_admits_no_more_than_the_limit() {
        let limit = RateLimited::new(1);
        let later = Instant::now() + Duration::from_secs(10);
        assert_eq!(limit.admit("tls", later), Some(0));
        assert_eq!(limit.admit("tls", later - Duration::from_secs(5)), None);
    }
}
