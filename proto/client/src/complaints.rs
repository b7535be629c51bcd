//! What the log says of connections that are not made: why, in full, and then only that it is still so.

use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

use crate::ConnectionLost;

/// After how long the reason is said in full again: a log that begins later has it too.
const AGAIN: Duration = Duration::from_secs(60 * 60);

/// What was said last.
#[derive(Debug, Default)]
pub(crate) struct Complaints {
    /// The reason, and when it was said in full.
    said: Option<(String, Instant)>,
}

impl Complaints {
    /// Says why there is no connection, and when the next attempt is.
    pub(crate) fn report(&mut self, connection: u64, reason: &ConnectionLost, delay: Duration) {
        if matches!(reason, ConnectionLost::Reconnecting) {
            info!(connection, "connecting afresh");
        } else if self.is_news(reason, Instant::now()) {
            warn!(
                connection,
                error = reason as &(dyn std::error::Error + 'static),
                retry_in = ?delay,
                "no connection to the broker"
            );
        } else {
            info!(connection, retry_in = ?delay, "still no connection, for the same reason");
        }
    }

    /// Forgets what was said, as a connection was made since.
    pub(crate) fn connected(&mut self) {
        self.said = None;
    }

    fn is_news(&mut self, reason: &ConnectionLost, now: Instant) -> bool {
        let reason = without_time(reason);
        let is_known = self.said.as_ref().is_some_and(|(said, at)| {
            *said == reason && now.saturating_duration_since(*at) < AGAIN
        });
        if !is_known {
            self.said = Some((reason, now));
        }
        !is_known
    }
}

/// Writes a reason so that two attempts which fail alike give the same text.
fn without_time(reason: &ConnectionLost) -> String {
    match reason {
        ConnectionLost::TokenRefused { user, broker, code, .. } => {
            format!("{user} {broker} {code}")
        }
        ConnectionLost::ClockBehind { .. } => "clock".to_owned(),
        reason => match std::error::Error::source(reason) {
            Some(source) => format!("{reason}: {source}"),
            None => reason.to_string(),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use herald_proto::time::Timestamp;

    use super::*;

    fn token_refused(time: u64) -> ConnectionLost {
        ConnectionLost::TokenRefused {
            user: "home/alpha".parse().unwrap(),
            broker: "broker.lan".parse().unwrap(),
            code: 4,
            time: Timestamp::from_millis(time),
        }
    }

    #[test]
    fn a_reason_is_said_in_full_once_whatever_the_clock_says() {
        let (mut complaints, now) = (Complaints::default(), Instant::now());
        assert!(complaints.is_news(&token_refused(1_000), now));
        assert!(!complaints.is_news(&token_refused(2_000), now));
        assert!(!complaints.is_news(&token_refused(3_000), now + AGAIN / 2));
    }

    #[test]
    fn another_reason_another_connection_and_another_hour_are_news() {
        let (mut complaints, now) = (Complaints::default(), Instant::now());
        let failed = |kind: io::ErrorKind| ConnectionLost::Network(kind.into());
        assert!(complaints.is_news(&failed(io::ErrorKind::ConnectionReset), now));
        assert!(complaints.is_news(&failed(io::ErrorKind::TimedOut), now));
        assert!(complaints.is_news(&ConnectionLost::Closed, now));
        assert!(!complaints.is_news(&ConnectionLost::Closed, now));
        assert!(complaints.is_news(&ConnectionLost::Closed, now + AGAIN));
        complaints.connected();
        assert!(complaints.is_news(&ConnectionLost::Closed, now + AGAIN));
    }
}
