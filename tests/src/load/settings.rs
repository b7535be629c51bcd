//! What a run does.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

/// Holds a fleet of simulated hosts on Herald's broker and on mosquitto, and compares the two.
#[derive(Debug, Clone, Parser)]
#[command(version, name = "load")]
pub struct Settings {
    /// Simulated hosts, each with a TCP connection and an MQTT session of its own
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) hosts: u32,
    /// The broker beside which ours is measured
    #[arg(long, value_enum, default_value_t = Versus::Mosquitto)]
    pub(crate) versus: Versus,
    /// Measure only one of the two
    #[arg(long, value_enum, value_name = "SIDE")]
    pub(crate) only: Option<Side>,
    /// What to measure; connections and memory always are
    #[arg(long, value_enum, value_delimiter = ',', value_name = "LIST",
          default_values_t = Scenario::ALL)]
    pub(crate) scenario: Vec<Scenario>,
    /// Rounds; in each both brokers are started afresh, one after the other
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rounds: u32,
    /// Fan-outs in a round
    #[arg(long, default_value_t = 20)]
    pub(crate) fanouts: u32,
    /// TCP and MQTT handshakes in flight
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) handshakes: u32,
    /// Messages of one publisher in flight
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) window: u16,
    /// Seconds of durable publishing
    #[arg(long, default_value_t = 5.0, value_name = "SECONDS")]
    pub(crate) durable_seconds: f64,
    /// Connections over TLS
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) tls_connections: u32,
    /// Seconds of idling
    #[arg(long, default_value_t = 25.0, value_name = "SECONDS")]
    pub(crate) idle_seconds: f64,
    /// The hosts' sessions; real hosts' are persistent
    #[arg(long, value_enum, default_value_t = Sessions::Persistent)]
    pub(crate) sessions: Sessions,
    /// Also 1,000 fan-outs, 100,000 connections and 100,000 subscriptions, to see memory grow
    #[arg(long)]
    pub(crate) soak: bool,
    /// How much of the soak, in percent
    #[arg(long, default_value_t = 100, value_name = "PERCENT")]
    pub(crate) soak_percent: u32,
    /// Seed of payloads, keys and delays
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Say nothing but the JSON
    #[arg(long)]
    pub(crate) json_only: bool,
    /// Our broker; without it, herald-broker is built in the profile of this program
    #[arg(long, value_name = "PATH")]
    pub(crate) broker_bin: Option<PathBuf>,
    /// The other broker
    #[arg(long, value_name = "PATH", default_value = "/usr/sbin/mosquitto")]
    pub(crate) mosquitto_bin: PathBuf,
}

/// What ours is measured beside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Versus {
    /// Eclipse mosquitto, without persistence.
    Mosquitto,
    /// Nothing.
    None,
}

/// One of the two brokers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Side {
    /// Herald's.
    Ours,
    /// The other.
    Theirs,
}

/// How long a broker remembers a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Sessions {
    /// Over connections.
    Persistent,
    /// For one connection.
    Clean,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// One message to all hosts.
    Fanout,
    /// A different signed order to each host.
    Orders,
    /// Three statuses of each host, retained, to one wildcard subscription.
    Retained,
    /// Publishers that wait for each acknowledgement.
    Durable,
    /// Hosts that only ping.
    Idle,
    /// Our broker stopped and killed, and the hosts' return.
    Restart,
    /// Hosts that are connected over TLS and say nothing.
    Tls,
}

impl Scenario {
    const ALL: [Self; 7] = [
        Self::Fanout,
        Self::Orders,
        Self::Retained,
        Self::Durable,
        Self::Idle,
        Self::Restart,
        Self::Tls,
    ];
}

impl std::fmt::Display for Scenario {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.to_possible_value().map_or(Ok(()), |value| f.write_str(value.get_name()))
    }
}

impl Settings {
    /// Tells whether something is measured.
    pub(crate) fn has(&self, scenario: Scenario) -> bool {
        self.scenario.contains(&scenario)
    }

    /// Gives the brokers that are measured.
    pub(crate) fn sides(&self) -> Vec<Side> {
        let both = [Side::Ours, Side::Theirs];
        let wanted = |side: &Side| match (self.only, self.versus, side) {
            (Some(only), _, side) => only == *side,
            (None, Versus::None, side) => *side == Side::Ours,
            (None, Versus::Mosquitto, _) => true,
        };
        both.into_iter().filter(wanted).collect()
    }

    /// Says something on stderr.
    pub(crate) fn say(&self, what: impl std::fmt::Display) {
        if !self.json_only {
            eprintln!("{what}");
        }
    }
}
