//! The broker's configuration: a TOML file, checked whole before anything starts.
//!
//! A [`Config`] holds only values that the broker can run with. An error names the file, the line,
//! the key and the remedy. Files that it names are read by whoever needs them.

use std::collections::HashSet;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::quota::Limits;

pub use listener::{ClientCertificate, Kind, Listener, TlsFiles};

mod listener;

/// Connections from one address that are never too many, unless the configuration says so.
const LEAST_PER_ADDRESS: usize = 256;

/// What the operator can set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The folder of the store, which must be given here or on the command line.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "some_path")]
    pub state: Option<PathBuf>,
    /// The names under which clients know this broker: a password is signed for one of them.
    pub names: Vec<String>,
    /// Most bytes of a packet, without its fixed header: topic, payload and 4 more.
    #[serde(deserialize_with = "within::<1_024, 1_048_576, _>")]
    pub max_payload: usize,
    /// Most connections at a time.
    #[serde(deserialize_with = "within::<1, 100_000, _>")]
    pub max_connections: usize,
    /// Most connections at a time from one IPv4 address or IPv6 /64; loopback has no such limit.
    /// Without it, as [`Config::connections_per_address`] says.
    #[serde(deserialize_with = "some_within::<1, 100_000, _>")]
    pub max_connections_per_address: Option<usize>,
    /// Most profiles of a host: of its orders, reports and roll backs, so many are kept.
    #[serde(deserialize_with = "within::<1, 256, _>")]
    pub max_profiles: usize,
    /// From this many retained messages on, none of a new topic is taken, but for hosts' own.
    #[serde(deserialize_with = "within::<1_000, 100_000_000, _>")]
    pub max_retained: usize,
    /// Most persistent sessions of a login that is no host's.
    #[serde(deserialize_with = "within::<0, 10_000, _>")]
    pub max_kept_sessions: usize,
    /// Most filters of a login that is no host's, in all its sessions.
    #[serde(deserialize_with = "within::<16, 10_000_000, _>")]
    pub max_filters: usize,
    /// From the first byte to the end of CONNECT, TLS and WebSocket handshakes included.
    #[serde(serialize_with = "write_duration", deserialize_with = "up_to_a_minute")]
    pub handshake_timeout: Duration,
    /// How long a client may take nothing while messages wait for it.
    #[serde(serialize_with = "write_duration", deserialize_with = "up_to_a_minute")]
    pub slow_after: Duration,
    /// Files of the logins, one for each fleet.
    pub logins: Vec<PathBuf>,
    /// The file of the passwords that are not signed.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "some_path")]
    pub passwords: Option<PathBuf>,
    /// Where the metrics are scraped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics: Option<Loopback>,
    /// Where clients connect.
    #[serde(rename = "listener", deserialize_with = "distinct")]
    pub listeners: Vec<Listener>,
}

impl Config {
    /// Reads the file, or takes the defaults where there is none.
    pub fn load(path: Option<&Path>) -> Result<Self, Error> {
        let Some(path) = path else {
            return Ok(Self::default());
        };
        let text = std::fs::read_to_string(path)
            .map_err(|source| Error::Unreadable { path: path.into(), source })?;
        toml::from_str(&text).map_err(|source| Error::Invalid { path: path.into(), source })
    }

    /// Listens on this loopback address without TLS, instead of where the file says.
    pub fn listen_only(&mut self, address: Loopback, anonymous: bool) {
        self.listeners = vec![Listener::local(address, anonymous)];
    }

    /// Gives the folder of the store.
    pub fn state(&self) -> Result<&Path, Error> {
        self.state.as_deref().ok_or(Error::NoState)
    }

    /// Gives how many connections there may be from one address: if nothing is set, a quarter of all,
    /// so that it takes four addresses to keep the others out, and the hosts of a site behind one
    /// address, which may be most of a fleet, are no attack.
    pub fn connections_per_address(&self) -> usize {
        let quarter = (self.max_connections / 4).max(LEAST_PER_ADDRESS);
        self.max_connections_per_address.unwrap_or(quarter)
    }

    /// Gives what a login may make the broker keep.
    pub fn limits(&self) -> Limits {
        Limits {
            profiles: self.max_profiles,
            retained: self.max_retained,
            sessions: self.max_kept_sessions,
            filters: self.max_filters,
        }
    }

    /// Tells whether anyone on this machine needs no login.
    pub fn lets_in_anonymous(&self) -> bool {
        self.listeners.iter().any(|listener| listener.anonymous)
    }

    /// Refuses a configuration that lacks what serving needs: a store, and a way to connect.
    ///
    /// # Errors
    /// What it lacks.
    pub fn require_all(&self) -> Result<(), Error> {
        self.state()?;
        if self.listeners.is_empty() { Err(Error::NoListener) } else { Ok(()) }
    }
}

impl Default for Config {
    fn default() -> Self {
        let limits = Limits::default();
        Self {
            state: None,
            names: Vec::new(),
            // An order has at most 16 KiB.
            max_payload: 32 * 1024,
            max_connections: 12_000,
            max_connections_per_address: None,
            max_profiles: limits.profiles,
            max_retained: limits.retained,
            max_kept_sessions: limits.sessions,
            max_filters: limits.filters,
            handshake_timeout: Duration::from_secs(10),
            slow_after: Duration::from_secs(20),
            logins: Vec::new(),
            passwords: None,
            metrics: None,
            listeners: Vec::new(),
        }
    }
}

/// Writes the settings in effect as a file that [`Config::load`] reads.
impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let per_address = Some(self.connections_per_address());
        let in_effect = Self { max_connections_per_address: per_address, ..self.clone() };
        f.write_str(&toml::to_string(&in_effect).map_err(|_| fmt::Error)?)
    }
}

/// An address that only this machine can reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct Loopback(SocketAddr);

impl FromStr for Loopback {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text.parse::<SocketAddr>() {
            Ok(address) if address.ip().to_canonical().is_loopback() => Ok(Self(address)),
            Ok(address) => Err(Error::NotLoopback { address }),
            Err(_) => Err(Error::NotAnAddress { text: text.to_owned() }),
        }
    }
}

impl TryFrom<String> for Loopback {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<Loopback> for SocketAddr {
    fn from(loopback: Loopback) -> Self {
        loopback.0
    }
}

/// Why there is no configuration to run with.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("cannot read the configuration {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file says something that cannot be.
    #[error("bad configuration in {}: {source}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// The line, the key and why.
        source: toml::de::Error,
    },
    /// Not an address with a port.
    #[error("`{text}` is not an address and a port, as in 127.0.0.1:1883")]
    NotAnAddress {
        /// What it is.
        text: String,
    },
    /// An address that others can reach, where that may not be.
    #[error(
        "{address} is not a loopback address: here only 127.0.0.1 and [::1] will do; to listen on \
         another address, give a [[listener]] in the configuration file"
    )]
    NotLoopback {
        /// The address.
        address: SocketAddr,
    },
    /// No folder for the store.
    #[error("no folder for the store: set `state` in the configuration file, or give --state")]
    NoState,
    /// No listener.
    #[error("no listener: add a [[listener]] to the configuration file, or give --listen")]
    NoListener,
}

/// Deserializes a number that must lie in a range.
fn within<'de, const MIN: usize, const MAX: usize, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<usize, D::Error> {
    let value = i64::deserialize(deserializer)?;
    usize::try_from(value)
        .ok()
        .filter(|value| (MIN..=MAX).contains(value))
        .ok_or_else(|| de::Error::custom(format!("{value} is not between {MIN} and {MAX}")))
}

/// Deserializes a number that must lie in a range, if it is there.
fn some_within<'de, const MIN: usize, const MAX: usize, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<usize>, D::Error> {
    within::<MIN, MAX, D>(deserializer).map(Some)
}

/// Deserializes a path that names something.
fn some_path<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<PathBuf>, D::Error> {
    let path = PathBuf::deserialize(deserializer)?;
    if path.as_os_str().is_empty() {
        return Err(de::Error::custom("the path is empty: name it, or leave the key out"));
    }
    Ok(Some(path))
}

/// Deserializes a duration such as `10s`.
fn up_to_a_minute<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    let duration = humantime::parse_duration(&text).map_err(|_| {
        de::Error::custom(format!("`{text}` is not a duration, as in \"10s\" or \"1m\""))
    })?;
    if !(Duration::from_secs(1)..=Duration::from_secs(60)).contains(&duration) {
        return Err(de::Error::custom(format!("{text} is not between 1s and 1m")));
    }
    Ok(duration)
}

fn write_duration<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_duration(*duration))
}

/// Deserializes listeners, no two of which have the same address. (Port 0 is another each time.)
fn distinct<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Listener>, D::Error> {
    let listeners = Vec::<Listener>::deserialize(deserializer)?;
    let mut seen = HashSet::new();
    for Listener { address, .. } in &listeners {
        if address.port() != 0 && !seen.insert(address) {
            let message = format!("two listeners have the address {address}: remove one");
            return Err(de::Error::custom(message));
        }
    }
    Ok(listeners)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, String> {
        toml::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn empty_file_gives_the_defaults() {
        let config = parse("").unwrap();
        assert_eq!(config, Config::load(None).unwrap());
        assert_eq!((config.max_payload, config.max_connections), (32_768, 12_000));
        assert_eq!(config.handshake_timeout, Duration::from_secs(10));
        assert!(matches!(config.state(), Err(Error::NoState)));
        assert!(matches!(config.require_all(), Err(Error::NoState)));
        let config = Config { state: Some("/tmp/state".into()), ..config };
        assert!(matches!(config.require_all(), Err(Error::NoListener)));
    }

    #[test]
    fn arguments_alone_make_a_broker_for_this_machine() {
        let mut config = Config::load(None).unwrap();
        config.state = Some("/tmp/state".into());
        config.listen_only("127.0.0.1:0".parse().unwrap(), true);
        config.require_all().unwrap();
        let [listener] = &*config.listeners else { panic!("{config:?}") };
        assert!(listener.anonymous && listener.kind == Kind::Tcp);
        let printed = parse(&config.to_string()).unwrap();
        assert_eq!(printed, Config { max_connections_per_address: Some(3_000), ..config });
    }

    #[test]
    fn one_address_may_have_a_quarter_of_the_connections_unless_the_file_says_otherwise() {
        for (text, expected) in [
            ("", 3_000),
            ("max_connections = 40000", 10_000),
            ("max_connections = 100", 256),
            ("max_connections_per_address = 12000", 12_000),
            ("max_connections_per_address = 1", 1),
        ] {
            let config = parse(text).unwrap();
            assert_eq!(config.connections_per_address(), expected, "{text}");
            let line = format!("\nmax_connections_per_address = {expected}\n");
            assert!(config.to_string().contains(&line), "{config}");
        }
    }

    const WHOLE: &str = r#"
state = "/var/lib/herald-broker"
names = ["mq.example.org"]
max_payload = 20000
max_connections = 7
max_connections_per_address = 3
handshake_timeout = "1m"
logins = ["/etc/herald/home.toml"]
passwords = "/etc/herald/passwords"
metrics = "127.0.0.1:9464"

[[listener]]
address = "127.0.0.1:1883"
transport = "tcp"
anonymous = true

[[listener]]
address = "[::]:8883"
transport = "tls"
certificate = "/etc/herald/chain.pem"
key = "/etc/herald/key.pem"
client_ca = "/etc/herald/ca.pem"
client_certificate = "optional"

[[listener]]
address = "0.0.0.0:80"
transport = "websocket"
plaintext = true

[[listener]]
address = "0.0.0.0:443"
transport = "secure-websocket"
path = "/"
certificate = "/etc/herald/chain.pem"
key = "/etc/herald/key.pem"
"#;

    #[test]
    fn every_setting_is_read_and_printed_as_it_was() {
        let config = parse(WHOLE).unwrap();
        assert_eq!(config.names, ["mq.example.org"]);
        assert_eq!(config.handshake_timeout, Duration::from_secs(60));
        let kinds: Vec<_> = config.listeners.iter().map(|listener| listener.kind).collect();
        assert_eq!(kinds, [Kind::Tcp, Kind::Tls, Kind::WebSocket, Kind::SecureWebSocket]);
        let tls = config.listeners[1].tls.as_ref().unwrap();
        assert_eq!(tls.client_certificate, ClientCertificate::Optional);
        assert_eq!(config.listeners[2].path, "/mqtt");
        assert_eq!(config.listeners[3].path, "/");
        assert_eq!(parse(&config.to_string()), Ok(config));
    }

    #[test]
    fn every_refusal_names_the_line_the_key_and_the_reason() {
        for (text, key, reason) in [
            ("max_payloads = 1", "max_payloads", "unknown field"),
            ("metrics = \"0.0.0.0:9464\"", "metrics", "is not a loopback address"),
            ("metrics = \"localhost:9464\"", "metrics", "not an address and a port"),
            ("metrics = \"127.0.0.1:65536\"", "metrics", "not an address and a port"),
            ("metrics = 9464", "metrics", "invalid type"),
            ("max_payload = 1023", "max_payload", "not between 1024 and 1048576"),
            ("max_payload = -1", "max_payload", "-1 is not between"),
            ("max_connections = 0", "max_connections", "not between 1 and 100000"),
            ("max_connections_per_address = 0", "max_connections_per_address", "not between 1"),
            ("max_profiles = 0", "max_profiles", "not between 1 and 256"),
            ("max_filters = 15", "max_filters", "not between 16"),
            ("handshake_timeout = \"soon\"", "handshake_timeout", "as in \"10s\""),
            ("handshake_timeout = \"2m\"", "handshake_timeout", "not between 1s and 1m"),
            ("handshake_timeout = 10", "handshake_timeout", "invalid type"),
            ("state = \"\"", "state", "leave the key out"),
        ] {
            let error = parse(&format!("# a comment\n{text}\n")).unwrap_err();
            assert!(error.contains("line 2"), "{text}: {error}");
            assert!(error.contains(key) && error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn two_listeners_on_one_address_are_refused() {
        let listener = "[[listener]]\naddress = \"127.0.0.1:1883\"\ntransport = \"tcp\"\n";
        let error = parse(&format!("{listener}{listener}")).unwrap_err();
        assert!(error.contains("two listeners have the address 127.0.0.1:1883"), "{error}");
        let free = listener.replace("1883", "0");
        assert!(parse(&format!("{free}{free}")).is_ok());
    }
}
