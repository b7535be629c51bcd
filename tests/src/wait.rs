//! Waiting for a condition, with a bound.

use std::{
    thread,
    time::{Duration, Instant},
};

/// How long a condition may take to come true. It is reached only when a test fails.
pub const LIMIT: Duration = Duration::from_secs(60);

/// Waits until `look` finds something.
///
/// # Panics
/// When it does not within [`LIMIT`]; the message says what was waited for.
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < LIMIT, "waited {LIMIT:?} for {what}");
        thread::sleep(Duration::from_millis(10));
    }
}
