//! Waiting for what nothing tells, with a bound.

use std::{
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

/// How long anything may take. It is reached only when a test fails.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// Waits until a condition is true.
#[track_caller]
pub(crate) fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < LIMIT, "never: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Does what may block for ever.
#[track_caller]
pub(crate) fn within_limit<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, result) = mpsc::channel();
    thread::spawn(move || done.send(work()));
    result.recv_timeout(LIMIT).expect("an end within the limit")
}
