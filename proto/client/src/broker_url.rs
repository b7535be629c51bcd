//! The address of a broker.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
    str::FromStr,
};

use herald_proto::{login::BrokerName, text::Unparsable};

/// Where a broker listens, and how it is spoken to: `mqtt://host[:port]`, `mqtts://host[:port]`,
/// `ws://host[:port][/path]` or `wss://host[:port][/path]`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BrokerUrl {
    scheme: Scheme,
    host: String,
    port: u16,
    /// Empty without WebSocket.
    path: String,
}

/// What carries MQTT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// TCP, which anybody on the way can read and change.
    Mqtt,
    /// TLS.
    Mqtts,
    /// WebSocket, which anybody on the way can read and change.
    Ws,
    /// WebSocket over TLS.
    Wss,
}

impl Scheme {
    const ALL: [Self; 4] = [Self::Mqtt, Self::Mqtts, Self::Ws, Self::Wss];

    /// Gives what stands before `://`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mqtt => "mqtt",
            Self::Mqtts => "mqtts",
            Self::Ws => "ws",
            Self::Wss => "wss",
        }
    }

    /// Gives the port of a broker whose address names none.
    pub fn default_port(self) -> u16 {
        match self {
            Self::Mqtt => 1883,
            Self::Mqtts => 8883,
            Self::Ws => 80,
            Self::Wss => 443,
        }
    }

    /// Tells whether the connection is encrypted and the broker proves who it is.
    pub fn is_tls(self) -> bool {
        matches!(self, Self::Mqtts | Self::Wss)
    }

    /// Tells whether MQTT is carried in WebSocket messages.
    pub fn is_websocket(self) -> bool {
        matches!(self, Self::Ws | Self::Wss)
    }
}

/// A text that is not the address of a broker.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidBrokerUrl {
    /// A way to connect that Herald does not have.
    #[error("{scheme}:// is not supported: expected mqtt, mqtts, ws or wss before ://")]
    NotSupported {
        /// What stood before `://`.
        scheme: String,
    },
    /// A user name or password, which would end up in logs and unit files.
    #[error("a broker's address holds no user name or password: they are settings of their own")]
    Login,
    /// Something behind the port, where MQTT has no path.
    #[error("a broker's address ends after its port: expected {scheme}://host:port")]
    Path {
        /// What stood before `://`.
        scheme: &'static str,
    },
    /// A path that is no plain one.
    #[error("a WebSocket path is plain, such as /mqtt: letters, digits and - . _ ~ / only")]
    BadPath,
    /// Anything else.
    #[error(
        "{text:?} is not a broker's address: expected mqtt://host:port, mqtts://host:port or wss://host:port/path"
    )]
    Malformed {
        /// The text, cut if it was long.
        text: String,
    },
}

impl BrokerUrl {
    /// The path of a broker behind WebSocket whose address names none.
    pub const DEFAULT_PATH: &str = "/mqtt";

    /// Gives what carries MQTT.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Gives the host: a name, an IPv4 address, or an IPv6 address in brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Gives the TCP port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Gives the path of the WebSocket; it is empty where there is none.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Gives the name that the broker has in tokens if it is not told another: its host, without
    /// brackets and in small letters.
    ///
    /// # Errors
    /// When the host is too long for a name.
    pub fn broker_name(&self) -> Result<BrokerName, Unparsable> {
        self.bare_host().to_ascii_lowercase().parse()
    }

    /// Tells whether the host is written as this machine: `localhost` or a loopback address.
    pub fn is_loopback(&self) -> bool {
        let address = self.bare_host().parse::<IpAddr>();
        self.host == "localhost" || address.is_ok_and(|address| address.is_loopback())
    }

    /// Tells whether what is sent can be read by nobody on the way.
    pub fn is_private(&self) -> bool {
        self.scheme.is_tls() || self.is_loopback()
    }

    /// Gives the host without the brackets of an IPv6 address: its name in certificates.
    pub(crate) fn bare_host(&self) -> &str {
        self.host.trim_start_matches('[').trim_end_matches(']')
    }
}

impl fmt::Display for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}://{}:{}{}", self.scheme.name(), self.host, self.port, self.path))
    }
}

impl FromStr for BrokerUrl {
    type Err = InvalidBrokerUrl;

    fn from_str(text: &str) -> Result<Self, InvalidBrokerUrl> {
        let malformed = || InvalidBrokerUrl::Malformed { text: text.chars().take(120).collect() };
        let (name, rest) = text.split_once("://").ok_or_else(malformed)?;
        if rest.contains('@') {
            return Err(InvalidBrokerUrl::Login);
        }
        let scheme = match Scheme::ALL.into_iter().find(|scheme| scheme.name() == name) {
            Some(scheme) => scheme,
            None if matches!(name, "ssl" | "tls" | "tcp" | "unix") => {
                return Err(InvalidBrokerUrl::NotSupported { scheme: name.to_owned() });
            }
            None => return Err(malformed()),
        };
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let path = match path {
            "" if scheme.is_websocket() => Self::DEFAULT_PATH,
            "" => "",
            _ if !scheme.is_websocket() => {
                return Err(InvalidBrokerUrl::Path { scheme: scheme.name() });
            }
            path if is_path(path) => path,
            _ => return Err(InvalidBrokerUrl::BadPath),
        };
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, parse_port(port)),
            _ => (authority, Some(scheme.default_port())),
        };
        match port {
            Some(port) if is_host(host) => {
                Ok(Self { scheme, host: host.to_owned(), port, path: path.to_owned() })
            }
            _ => Err(malformed()),
        }
    }
}

fn is_path(text: &str) -> bool {
    let plain = |c: u8| c.is_ascii_alphanumeric() || b"-._~/".contains(&c);
    text.len() <= 256 && text.bytes().all(plain)
}

/// Reads digits only: the standard parser admits a sign too.
fn parse_port(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|c| c.is_ascii_digit());
    let port = digits.then(|| text.parse().ok()).flatten()?;
    (port != 0).then_some(port)
}

fn is_host(text: &str) -> bool {
    if let Some(address) = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')) {
        return address.parse::<Ipv6Addr>().is_ok();
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
            ("mqtts://broker.example.org", "broker.example.org", 8883),
            ("ws://broker.example.org", "broker.example.org", 80),
            ("wss://broker.example.org", "broker.example.org", 443),
            ("wss://[2001:db8::1]:8443/a/b", "[2001:db8::1]", 8443),
        ] {
            let url: BrokerUrl = text.parse().unwrap();
            assert_eq!((url.host(), url.port()), (host, port), "{text}");
            assert_eq!(url.to_string().parse::<BrokerUrl>().unwrap(), url);
            let json = serde_json::to_string(&url).unwrap();
            assert_eq!(serde_json::from_str::<BrokerUrl>(&json).unwrap(), url);
        }
    }

    #[test]
    fn a_websocket_has_a_path_and_nothing_else_has() {
        let path = |text: &str| text.parse::<BrokerUrl>().unwrap().path().to_owned();
        assert_eq!(path("ws://broker"), "/mqtt");
        assert_eq!(path("wss://broker:8443/"), "/");
        assert_eq!(path("wss://broker/fleet/mqtt"), "/fleet/mqtt");
        assert_eq!(path("mqtts://broker"), "");
    }

    #[test]
    fn a_broker_is_named_by_its_host() {
        for (text, name) in [
            ("mqtts://Broker.Example.org", "broker.example.org"),
            ("ws://[2001:DB8::1]:80", "2001:db8::1"),
        ] {
            assert_eq!(text.parse::<BrokerUrl>().unwrap().broker_name().unwrap().as_str(), name);
        }
        let long = format!("mqtt://{}", "a".repeat(200)).parse::<BrokerUrl>().unwrap();
        assert!(long.broker_name().is_err());
    }

    #[test]
    fn what_nobody_on_the_way_can_read_is_private() {
        for (text, private) in [
            ("mqtt://localhost", true),
            ("ws://127.8.9.10", true),
            ("mqtt://[::1]", true),
            ("mqtts://broker", true),
            ("wss://broker", true),
            ("mqtt://broker", false),
            ("ws://192.0.2.7", false),
            ("mqtt://localhost.example.org", false),
            ("mqtt://[::2]", false),
        ] {
            assert_eq!(text.parse::<BrokerUrl>().unwrap().is_private(), private, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_done_is_named() {
        let error = |text: &str| text.parse::<BrokerUrl>().unwrap_err();
        for text in ["ssl://broker", "tcp://broker:1883", "unix:///run/mqtt"] {
            let error = error(text);
            assert!(matches!(error, InvalidBrokerUrl::NotSupported { .. }));
            assert!(error.to_string().contains("not supported"), "{error}");
        }
        assert_eq!(error("wss://me:secret@broker"), InvalidBrokerUrl::Login);
        assert!(!error("mqtt://me:secret@broker").to_string().contains("secret"));
        assert_eq!(error("mqtt://broker/fleet"), InvalidBrokerUrl::Path { scheme: "mqtt" });
        assert_eq!(error("mqtts://broker:1883?id=1"), InvalidBrokerUrl::Path { scheme: "mqtts" });
        assert_eq!(error("ws://broker/mqtt?id=1"), InvalidBrokerUrl::BadPath);
        assert_eq!(error("ws://broker?id=1"), InvalidBrokerUrl::BadPath);
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for bad in [
            "",
            "broker",
            "broker:1883",
            "://broker",
            "http://broker",
            "wss:///mqtt",
            "ws://:80/mqtt",
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
