//! The address of a broker.

use std::{fmt, str::FromStr};

/// Where a broker listens: `mqtt://host` or `mqtt://host:port`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BrokerUrl {
    host: String,
    port: u16,
}

/// A text that is not the address of a broker.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidBrokerUrl {
    /// A way to connect that this version does not have.
    #[error("{scheme}:// is not supported yet: expected mqtt://host or mqtt://host:port")]
    NotSupported {
        /// What stood before `://`.
        scheme: String,
    },
    /// A user name or password, which would end up in logs and unit files.
    #[error("a broker's address holds no user name or password: expected mqtt://host:port")]
    Login,
    /// Something behind the port.
    #[error("a broker's address ends after its port: expected mqtt://host:port")]
    Path,
    /// Anything else.
    #[error("{text:?} is not a broker's address: expected mqtt://host or mqtt://host:port")]
    Malformed {
        /// The text, cut if it was long.
        text: String,
    },
}

impl BrokerUrl {
    /// The port of a broker whose address names none.
    pub const DEFAULT_PORT: u16 = 1883;

    /// Gives the host: a name, an IPv4 address, or an IPv6 address in brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Gives the TCP port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl fmt::Display for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("mqtt://{}:{}", self.host, self.port))
    }
}

impl FromStr for BrokerUrl {
    type Err = InvalidBrokerUrl;

    fn from_str(text: &str) -> Result<Self, InvalidBrokerUrl> {
        let malformed = || InvalidBrokerUrl::Malformed { text: text.chars().take(120).collect() };
        let (scheme, rest) = text.split_once("://").ok_or_else(malformed)?;
        if matches!(scheme, "mqtts" | "ssl" | "tls" | "ws" | "wss" | "unix") {
            let scheme = scheme.to_owned();
            return Err(InvalidBrokerUrl::NotSupported { scheme });
        }
        if scheme != "mqtt" {
            return Err(malformed());
        }
        if rest.contains('@') {
            return Err(InvalidBrokerUrl::Login);
        }
        if rest.contains(['/', '?', '#']) {
            return Err(InvalidBrokerUrl::Path);
        }
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, parse_port(port)),
            _ => (rest, Some(Self::DEFAULT_PORT)),
        };
        match port {
            Some(port) if is_host(host) => Ok(Self { host: host.to_owned(), port }),
            _ => Err(malformed()),
        }
    }
}

/// Reads digits only: the standard parser admits a sign too.
fn parse_port(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|c| c.is_ascii_digit());
    let port = digits.then(|| text.parse().ok()).flatten()?;
    (port != 0).then_some(port)
}

fn is_host(text: &str) -> bool {
    if let Some(address) = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')) {
        return address.parse::<std::net::Ipv6Addr>().is_ok();
    }
    let name = |c: u8| c.is_ascii_alphanumeric() || b".-_".contains(&c);
    (1..=253).contains(&text.len()) && text.bytes().all(name)
}

impl serde::Serialize for BrokerUrl {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for BrokerUrl {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_as_it_is_written_and_has_a_default_port() {
        for (text, host, port) in [
            ("mqtt://broker.example.org", "broker.example.org", 1883),
            ("mqtt://localhost:18830", "localhost", 18830),
            ("mqtt://192.0.2.7:1", "192.0.2.7", 1),
            ("mqtt://[2001:db8::1]:1884", "[2001:db8::1]", 1884),
            ("mqtt://[::1]", "[::1]", 1883),
        ] {
            let url: BrokerUrl = text.parse().unwrap();
            assert_eq!((url.host(), url.port()), (host, port), "{text}");
            assert_eq!(url.to_string().parse::<BrokerUrl>().unwrap(), url);
            let json = serde_json::to_string(&url).unwrap();
            assert_eq!(serde_json::from_str::<BrokerUrl>(&json).unwrap(), url);
        }
    }

    #[test]
    fn what_this_version_cannot_do_is_named() {
        let error = |text: &str| text.parse::<BrokerUrl>().unwrap_err();
        for text in ["mqtts://broker", "wss://broker/mqtt", "unix:///run/mqtt"] {
            let error = error(text);
            assert!(matches!(error, InvalidBrokerUrl::NotSupported { .. }));
            assert!(error.to_string().contains("not supported yet"), "{error}");
        }
        assert_eq!(error("mqtt://me:secret@broker"), InvalidBrokerUrl::Login);
        assert!(!error("mqtt://me:secret@broker").to_string().contains("secret"));
        assert_eq!(error("mqtt://broker/fleet"), InvalidBrokerUrl::Path);
        assert_eq!(error("mqtt://broker:1883?id=1"), InvalidBrokerUrl::Path);
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for bad in [
            "",
            "broker",
            "broker:1883",
            "://broker",
            "http://broker",
            "MQTT://broker",
            "mqtt://",
            "mqtt://:1883",
            "mqtt://broker:",
            "mqtt://broker:0",
            "mqtt://broker:65536",
            "mqtt://broker:+1",
            "mqtt://a b",
            "mqtt://a:1:2",
            "mqtt://::1",
            "mqtt://[::1",
            "mqtt://[broker]",
            "mqtt://br\u{f6}ker",
        ] {
            let error = bad.parse::<BrokerUrl>().unwrap_err();
            assert!(matches!(error, InvalidBrokerUrl::Malformed { .. }), "{bad}");
        }
    }
}
