//! The broker's configuration: a TOML file, checked whole before anything starts.
//!
//! A [`Config`] holds only values that the broker can run with. An error names the file, the line
//! and the key.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, de};

/// What the operator can set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// Where clients connect.
    pub(crate) listen: Loopback,
    /// Most bytes of a packet, without its fixed header: topic, payload and 4 more.
    #[serde(deserialize_with = "within::<1_024, 1_048_576, _>")]
    pub(crate) max_payload: usize,
    /// Most clients at a time.
    #[serde(deserialize_with = "within::<1, 100_000, _>")]
    pub(crate) max_connections: usize,
    /// Most packets taken from one client at a time. (The window *to* a client is fixed at 100.)
    #[serde(deserialize_with = "within::<1, 1_000, _>")]
    pub(crate) max_inflight: usize,
}

impl Config {
    /// Reads the file, or takes the defaults where there is none.
    pub(crate) fn load(path: Option<&Path>) -> Result<Self, Error> {
        let Some(path) = path else {
            return Ok(Self::default());
        };
        let text = std::fs::read_to_string(path)
            .map_err(|source| Error::Unreadable { path: path.into(), source })?;
        toml::from_str(&text).map_err(|source| Error::Invalid { path: path.into(), source })
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: Loopback(SocketAddr::from(([127, 0, 0, 1], 1883))),
            // An order has at most 16 KiB.
            max_payload: 32 * 1024,
            max_connections: 1_000,
            max_inflight: 100,
        }
    }
}

/// Writes the configuration as a file that [`Config::load`] reads.
impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&toml::to_string(self).map_err(|_| fmt::Error)?)
    }
}

/// An address that only this machine can reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Loopback(SocketAddr);

impl FromStr for Loopback {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text.parse::<SocketAddr>() {
            Ok(address) if address.ip().is_loopback() => Ok(Self(address)),
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
pub(crate) enum Error {
    #[error("cannot read the configuration {}: {source}", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("bad configuration in {}: {source}", path.display())]
    Invalid { path: PathBuf, source: toml::de::Error },
    #[error("`{text}` is not an address and a port, as in 127.0.0.1:1883")]
    NotAnAddress { text: String },
    #[error(
        "{address} is not a loopback address; this release of the broker listens on loopback \
         only: it has no authentication yet; use mosquitto with ACLs, or tunnel"
    )]
    NotLoopback { address: SocketAddr },
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
        assert_eq!(SocketAddr::from(config.listen).to_string(), "127.0.0.1:1883");
        assert_eq!(config.max_payload, 32_768);
    }

    #[test]
    fn printed_configuration_is_read_back_unchanged() {
        let config = parse("listen = \"[::1]:0\"\nmax_payload = 20000\n").unwrap();
        assert_eq!(parse(&config.to_string()), Ok(config));
    }

    #[test]
    fn every_refusal_names_the_line_the_key_and_the_reason() {
        for (text, key, reason) in [
            ("max_payloads = 1", "max_payloads", "unknown field"),
            ("listen = \"0.0.0.0:1883\"", "listen", "listens on loopback only"),
            ("listen = \"192.168.1.2:1883\"", "listen", "use mosquitto with ACLs, or tunnel"),
            ("listen = \"[::]:1883\"", "listen", "no authentication yet"),
            ("listen = \"127.0.0.1:65536\"", "listen", "not an address and a port"),
            ("listen = \"127.0.0.1\"", "listen", "not an address and a port"),
            ("listen = \"localhost:1883\"", "listen", "not an address and a port"),
            ("listen = 1883", "listen", "invalid type"),
            ("max_payload = 1023", "max_payload", "not between 1024 and 1048576"),
            ("max_payload = -1", "max_payload", "-1 is not between"),
            ("max_connections = 0", "max_connections", "not between 1 and 100000"),
            ("max_inflight = 1001", "max_inflight", "not between 1 and 1000"),
            ("max_inflight = \"many\"", "max_inflight", "invalid type"),
        ] {
            let error = parse(&format!("# a comment\n{text}\n")).unwrap_err();
            assert!(error.contains("line 2"), "{text}: {error}");
            assert!(error.contains(key) && error.contains(reason), "{text}: {error}");
        }
    }
}
