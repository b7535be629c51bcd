//! What the broker counts, and the text in which it tells.
//!
//! Counting is a relaxed atomic addition and never waits, but for the two histograms, which take a
//! lock for an instant. Every series is there from the start, so that a zero is seen as a zero.

use std::fmt;
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::refusal::Refusal;

/// One name and its value.
type Label = [(&'static str, &'static str); 1];

/// Everything that is counted; the broker shares one of it.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    connections: Gauge,
    sessions: Gauge,
    persistent_sessions: Gauge,
    retained_messages: Gauge,
    messages_received: Counter,
    messages_sent: Counter,
    bytes_received: Counter,
    bytes_sent: Counter,
    messages_stored: Counter,
    /// In the order of [`Refusal::ALL`].
    refused: Vec<Counter>,
    reloaded: Counter,
    reload_failed: Counter,
    commit: Histogram,
    relay_lag: Histogram,
}

impl Metrics {
    /// Registers every series, with zeros.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("herald_broker");
        let r = &mut registry;
        let refused = family(r, "refused", "Refused clients, packets and connections, by reason");
        let reloads = family(r, "certificate_reloads", "Certificates read again, by result");
        Self {
            connections: gauge(r, "connections", "Open connections, handshakes included"),
            sessions: gauge(r, "sessions", "Clients whose CONNECT was accepted"),
            persistent_sessions: gauge(
                r,
                "persistent_sessions",
                "Stored sessions (clean_session=false), connected or not",
            ),
            retained_messages: gauge(r, "retained_messages", "Stored retained messages"),
            messages_received: counter(r, "messages_received", "Publishes taken from clients"),
            messages_sent: counter(r, "messages_sent", "Publishes sent to clients"),
            bytes_received: counter(r, "bytes_received", "Bytes of the publishes taken"),
            bytes_sent: counter(
                r,
                "bytes_sent",
                "Bytes sent to clients in sessions, answers included",
            ),
            messages_stored: counter(r, "messages_stored", "Retained messages made durable"),
            refused: Refusal::ALL
                .iter()
                .map(|reason| refused.get_or_create_owned(&[("reason", reason.name())]))
                .collect(),
            reloaded: reloads.get_or_create_owned(&[("result", "ok")]),
            reload_failed: reloads.get_or_create_owned(&[("result", "failed")]),
            commit: seconds(
                r,
                "commit",
                "Time of one group commit of retained messages and sessions",
            ),
            relay_lag: seconds(r, "relay_lag", "Time that a publish took through the relay"),
            registry,
        }
    }

    /// Counts an open connection until the guard is dropped.
    pub fn connection(&self) -> Counted {
        Counted::new(&self.connections)
    }

    /// Counts a session until the guard is dropped.
    pub fn session(&self) -> Counted {
        Counted::new(&self.sessions)
    }

    /// Tells how many connections are open.
    pub fn connections(&self) -> i64 {
        self.connections.get()
    }

    /// Sets how much is stored.
    pub fn set_stored(&self, retained: u64, sessions: u64) {
        self.retained_messages.set(signed(retained));
        self.persistent_sessions.set(signed(sessions));
    }

    /// Counts a publish from a client, of so many bytes.
    pub fn received(&self, bytes: usize) {
        self.messages_received.inc();
        self.bytes_received.inc_by(bytes as u64);
    }

    /// Counts what was sent to a client: so many publishes, and so many bytes with its answers.
    pub fn sent(&self, messages: usize, bytes: usize) {
        self.messages_sent.inc_by(messages as u64);
        self.bytes_sent.inc_by(bytes as u64);
    }

    /// Counts a refusal. A subscriber that was closed as slow is one too.
    pub fn refused(&self, reason: Refusal) {
        if let Some(counter) = self.refused.get(reason as usize) {
            counter.inc();
        }
    }

    /// Tells how often this was the reason.
    pub fn refusals(&self, reason: Refusal) -> u64 {
        self.refused.get(reason as usize).map_or(0, Counter::get)
    }

    /// Counts one group commit: how many messages it made durable, and in what time.
    pub fn committed(&self, messages: usize, took: Duration) {
        self.messages_stored.inc_by(messages as u64);
        self.commit.observe(took.as_secs_f64());
    }

    /// Counts the way of one publish through the relay.
    pub fn relayed(&self, took: Duration) {
        self.relay_lag.observe(took.as_secs_f64());
    }

    /// Counts a listener whose certificate was read again.
    pub fn certificate_reloaded(&self) {
        self.reloaded.inc();
    }

    /// Counts a listener that keeps its old certificate, as the new one is of no use.
    pub fn certificate_reload_failed(&self) {
        self.reload_failed.inc();
    }

    /// Tells how often certificates were read again, and how often that failed.
    pub fn certificate_reloads(&self) -> (u64, u64) {
        (self.reloaded.get(), self.reload_failed.get())
    }

    /// Writes everything as OpenMetrics text.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut text = String::with_capacity(8 * 1024);
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// Something that is counted for as long as this lives.
#[derive(Debug)]
pub struct Counted(Gauge);

impl Counted {
    fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

fn gauge(registry: &mut Registry, name: &str, help: &str) -> Gauge {
    let gauge = Gauge::default();
    registry.register(name, help, gauge.clone());
    gauge
}

fn counter(registry: &mut Registry, name: &str, help: &str) -> Counter {
    let counter = Counter::default();
    registry.register(name, help, counter.clone());
    counter
}

fn family(registry: &mut Registry, name: &str, help: &str) -> Family<Label, Counter> {
    let family = Family::default();
    registry.register(name, help, family.clone());
    family
}

/// A histogram from 0.1 ms to 1.6 s.
fn seconds(registry: &mut Registry, name: &str, help: &str) -> Histogram {
    let histogram = Histogram::new(exponential_buckets(0.0001, 2.0, 15));
    registry.register_with_unit(name, help, Unit::Seconds, histogram.clone());
    histogram
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_zero_before_it_is_ever_the_reason() {
        let text = Metrics::new().encode().unwrap();
        for reason in Refusal::ALL {
            let line = format!("herald_broker_refused_total{{reason=\"{reason}\"}} 0\n");
            assert!(text.contains(&line), "{line} is not in {text}");
        }
        for line in [
            "herald_broker_connections 0\n",
            "herald_broker_sessions 0\n",
            "herald_broker_persistent_sessions 0\n",
            "herald_broker_retained_messages 0\n",
            "herald_broker_messages_received_total 0\n",
            "herald_broker_bytes_sent_total 0\n",
            "herald_broker_commit_seconds_count 0\n",
            "herald_broker_relay_lag_seconds_count 0\n",
            "herald_broker_certificate_reloads_total{result=\"failed\"} 0\n",
        ] {
            assert!(text.contains(line), "{line} is not in {text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn each_refusal_is_counted_under_its_own_name() {
        let metrics = Metrics::new();
        for (times, reason) in Refusal::ALL.iter().enumerate() {
            (0..times).for_each(|_| metrics.refused(*reason));
        }
        let text = metrics.encode().unwrap();
        for (times, reason) in Refusal::ALL.iter().enumerate() {
            assert_eq!(metrics.refusals(*reason), times as u64);
            assert!(text.contains(&format!("{{reason=\"{reason}\"}} {times}\n")), "{text}");
        }
    }

    #[test]
    fn what_is_open_is_counted_until_it_is_dropped() {
        let metrics = Metrics::new();
        let (first, second) = (metrics.connection(), metrics.connection());
        assert_eq!(metrics.connections(), 2);
        drop((first, second));
        assert_eq!(metrics.connections(), 0);
    }

    #[test]
    fn messages_bytes_and_commits_add_up() {
        let metrics = Metrics::new();
        metrics.received(100);
        metrics.received(20);
        metrics.sent(1, 7);
        metrics.committed(30, Duration::from_millis(3));
        let text = metrics.encode().unwrap();
        for line in [
            "herald_broker_messages_received_total 2\n",
            "herald_broker_bytes_received_total 120\n",
            "herald_broker_bytes_sent_total 7\n",
            "herald_broker_messages_stored_total 30\n",
            "herald_broker_commit_seconds_bucket{le=\"0.0032\"} 1\n",
            "herald_broker_commit_seconds_bucket{le=\"0.0016\"} 0\n",
        ] {
            assert!(text.contains(line), "{line} is not in {text}");
        }
    }
}
