//! One `[[listener]]` of the configuration, whose settings are checked against each other.
//!
//! Nobody is anonymous but on loopback, and no password travels in the clear to another machine
//! unless the file says that it may.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Loopback;

/// The path of MQTT over WebSocket where none is given: what clients try by default.
const PATH: &str = "/mqtt";

/// An address where clients connect, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Table", into = "Table")]
pub struct Listener {
    /// Where it listens.
    pub address: SocketAddr,
    /// What carries MQTT there.
    pub kind: Kind,
    /// Whether clients need no login. Only on a loopback address.
    pub anonymous: bool,
    /// Whether passwords may come in the clear from other machines.
    pub plaintext: bool,
    /// The path of the WebSocket, for those kinds that have one.
    pub path: String,
    /// The files for TLS: there if, and only if, the kind has TLS.
    pub tls: Option<TlsFiles>,
}

impl Listener {
    /// Makes a listener without TLS for this machine only.
    pub fn local(address: Loopback, anonymous: bool) -> Self {
        let (address, path) = (address.into(), PATH.to_owned());
        Self { address, kind: Kind::Tcp, anonymous, plaintext: false, path, tls: None }
    }

    /// Tells whether clients may show certificates.
    pub fn asks_for_certificates(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.client_certificate != ClientCertificate::None)
    }
}

/// What carries MQTT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// TCP.
    Tcp,
    /// TLS.
    Tls,
    /// WebSocket.
    #[serde(rename = "websocket")]
    WebSocket,
    /// WebSocket in TLS.
    #[serde(rename = "secure-websocket")]
    SecureWebSocket,
}

impl Kind {
    /// Tells whether it is encrypted, and the server known to be the right one.
    pub fn has_tls(self) -> bool {
        matches!(self, Self::Tls | Self::SecureWebSocket)
    }

    /// Tells whether MQTT comes in WebSocket frames.
    pub fn has_websocket(self) -> bool {
        matches!(self, Self::WebSocket | Self::SecureWebSocket)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::WebSocket => "websocket",
            Self::SecureWebSocket => "secure-websocket",
        })
    }
}

/// The files that a listener with TLS needs, all PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The server's certificate, and those between it and its root.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The roots of client certificates: there if these are asked for.
    pub client_ca: Option<PathBuf>,
    /// Whether clients show certificates.
    pub client_certificate: ClientCertificate,
}

/// Whether clients show certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClientCertificate {
    /// They are not asked for one.
    #[default]
    None,
    /// Those who have one show it. One that is not from the client CA is refused.
    Optional,
    /// Nobody connects without.
    Required,
}

/// The table as it is written, not yet checked.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    address: String,
    transport: Kind,
    #[serde(default)]
    anonymous: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    plaintext: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    certificate: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    client_ca: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    client_certificate: Option<ClientCertificate>,
}

fn is_false(value: &bool) -> bool {
    !value
}

/// Why the settings of a listener do not go together.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("`address`: `{text}` is not an address and a port, as in 127.0.0.1:1883 or [::]:8883")]
    Address { text: String },
    #[error(
        "`anonymous`: {address} is not a loopback address, and clients of other machines must log \
         in; remove `anonymous`, or listen on 127.0.0.1 or [::1]"
    )]
    AnonymousFromAfar { address: SocketAddr },
    #[error(
        "`transport`: {kind} on {address}, which is not a loopback address, would carry passwords \
         in the clear; choose {}, or set `plaintext = true` if the network in between is trusted",
        if .kind.has_websocket() { Kind::SecureWebSocket } else { Kind::Tls }
    )]
    Plaintext { kind: Kind, address: SocketAddr },
    #[error("`{key}` is missing, which {kind} needs: give the path of a PEM file")]
    Missing { key: &'static str, kind: Kind },
    #[error("`{key}` is of no use for {kind}: remove it, or choose another `transport`")]
    Useless { key: &'static str, kind: Kind },
    #[error("`{key}`: the path is empty: name it, or leave the key out")]
    EmptyPath { key: &'static str },
    #[error("`path`: `{path}` does not begin with /, as in {PATH}")]
    Path { path: String },
    #[error(
        "`client_ca` is missing: set it to the PEM file of those who sign client certificates, or \
         `client_certificate = \"none\"`"
    )]
    NoClientCa,
    #[error(
        "`client_ca` is not used: set `client_certificate` to \"required\" or \"optional\", or \
         remove it"
    )]
    UnusedClientCa,
}

impl TryFrom<Table> for Listener {
    type Error = Error;

    fn try_from(table: Table) -> Result<Self, Error> {
        let kind = table.transport;
        let address: SocketAddr =
            table.address.parse().map_err(|_| Error::Address { text: table.address.clone() })?;
        let local = address.ip().to_canonical().is_loopback();
        if table.anonymous && !local {
            return Err(Error::AnonymousFromAfar { address });
        }
        if table.plaintext && kind.has_tls() {
            return Err(Error::Useless { key: "plaintext", kind });
        }
        if !kind.has_tls() && !local && !table.plaintext {
            return Err(Error::Plaintext { kind, address });
        }
        let path = match table.path {
            Some(_) if !kind.has_websocket() => return Err(Error::Useless { key: "path", kind }),
            Some(path) if !path.starts_with('/') => return Err(Error::Path { path }),
            path => path.unwrap_or_else(|| PATH.to_owned()),
        };
        let client_certificate = table.client_certificate;
        let files = [
            ("certificate", &table.certificate),
            ("key", &table.key),
            ("client_ca", &table.client_ca),
        ];
        for (key, file) in files {
            match file {
                Some(_) if !kind.has_tls() => return Err(Error::Useless { key, kind }),
                Some(path) if path.as_os_str().is_empty() => return Err(Error::EmptyPath { key }),
                _ => {}
            }
        }
        let tls = if kind.has_tls() {
            let missing = |key| Error::Missing { key, kind };
            let files = TlsFiles {
                certificate: table.certificate.ok_or_else(|| missing("certificate"))?,
                key: table.key.ok_or_else(|| missing("key"))?,
                client_ca: table.client_ca,
                client_certificate: client_certificate.unwrap_or_default(),
            };
            match (&files.client_ca, files.client_certificate) {
                (Some(_), ClientCertificate::None) => return Err(Error::UnusedClientCa),
                (None, ClientCertificate::Optional | ClientCertificate::Required) => {
                    return Err(Error::NoClientCa);
                }
                _ => Some(files),
            }
        } else if client_certificate.is_some() {
            return Err(Error::Useless { key: "client_certificate", kind });
        } else {
            None
        };
        let (anonymous, plaintext) = (table.anonymous, table.plaintext);
        Ok(Self { address, kind, anonymous, plaintext, path, tls })
    }
}

impl From<Listener> for Table {
    fn from(listener: Listener) -> Self {
        let Listener { address, kind, anonymous, plaintext, path, tls } = listener;
        let mut table = Self {
            address: address.to_string(),
            transport: kind,
            anonymous,
            plaintext,
            path: kind.has_websocket().then_some(path),
            certificate: None,
            key: None,
            client_ca: None,
            client_certificate: None,
        };
        if let Some(files) = tls {
            table.certificate = Some(files.certificate);
            table.key = Some(files.key);
            table.client_ca = files.client_ca;
            table.client_certificate = Some(files.client_certificate);
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    const FILES: &str = "certificate = \"c.pem\"\nkey = \"k.pem\"\n";

    fn refusal(address: &str, transport: &str, rest: &str) -> String {
        let text = format!(
            "max_payload = 2048\n[[listener]]\naddress = \"{address}\"\n\
             transport = \"{transport}\"\n{rest}"
        );
        toml::from_str::<Config>(&text).unwrap_err().to_string()
    }

    #[test]
    fn listener_that_would_be_unsafe_or_makes_no_sense_is_refused_with_the_remedy() {
        let anywhere = "0.0.0.0:1883";
        for (address, transport, rest, key, remedy) in [
            (anywhere, "tcp", "", "transport", "choose tls, or set `plaintext = true`"),
            (anywhere, "websocket", "", "transport", "choose secure-websocket, or set"),
            ("[::]:1883", "tcp", "anonymous = true", "anonymous", "listen on 127.0.0.1 or [::1]"),
            (anywhere, "tcp", "anonymous = true\nplaintext = true", "anonymous", "must log in"),
            (anywhere, "tls", &format!("{FILES}anonymous = true"), "anonymous", "must log in"),
            (anywhere, "tls", "", "certificate", "give the path of a PEM file"),
            (anywhere, "tls", "certificate = \"c.pem\"", "key", "give the path of a PEM file"),
            (anywhere, "tls", "certificate = \"\"\nkey = \"k\"", "certificate", "path is empty"),
            (anywhere, "tls", &format!("{FILES}plaintext = true"), "plaintext", "remove it"),
            (anywhere, "tls", &format!("{FILES}path = \"/mqtt\""), "path", "remove it"),
            (
                anywhere,
                "tls",
                &format!("{FILES}client_certificate = \"required\""),
                "client_ca",
                "set it to the PEM file",
            ),
            (
                anywhere,
                "secure-websocket",
                &format!("{FILES}client_ca = \"ca.pem\""),
                "client_ca",
                "set `client_certificate`",
            ),
            ("127.0.0.1:1883", "tcp", FILES, "certificate", "of no use for tcp"),
            (
                "127.0.0.1:1883",
                "websocket",
                "client_certificate = \"none\"",
                "client_certificate",
                "of no use for websocket",
            ),
            ("127.0.0.1:1883", "websocket", "path = \"mqtt\"", "path", "as in /mqtt"),
            ("localhost:1883", "tcp", "", "address", "as in 127.0.0.1:1883"),
        ] {
            let error = refusal(address, transport, rest);
            assert!(error.contains("line 2"), "{rest}: {error}");
            let named = error.contains(&format!("`{key}`")) && error.contains(remedy);
            assert!(named, "{address} {transport} {rest}: {error}");
        }
    }

    #[test]
    fn unknown_and_missing_keys_of_a_listener_are_named() {
        let error = refusal("127.0.0.1:1883", "tcp", "keyfile = \"k.pem\"");
        assert!(error.contains("unknown field `keyfile`"), "{error}");
        let error = refusal("127.0.0.1:1883", "quic", "");
        assert!(error.contains("unknown variant `quic`") && error.contains("line 4"), "{error}");
        let error = toml::from_str::<Config>("[[listener]]\n").unwrap_err().to_string();
        assert!(error.contains("missing field `address`"), "{error}");
    }
}
