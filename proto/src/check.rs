//! What a health check looks at.

use std::net::SocketAddr;

use crate::{
    codec::{self, Malformed, Value, Wire},
    host::UnitName,
    http::HttpCheck,
};

/// One health check.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Check {
    /// A program exits with 0; its first element is its path or name, the rest are arguments.
    Command(Vec<String>),
    /// A unit is active.
    Unit(UnitName),
    /// A TCP connection to an address is accepted.
    Tcp(SocketAddr),
    /// A web server answers with a status that is expected.
    Http(HttpCheck),
}

impl std::fmt::Display for Check {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Command(argv) => write!(f, "command {argv:?}"),
            Self::Unit(unit) => write!(f, "unit {unit}"),
            Self::Tcp(address) => write!(f, "tcp {address}"),
            Self::Http(check) => write!(f, "http {check}"),
        }
    }
}

/// On the wire a check is an array: its kind, and what it checks.
impl Wire for Check {
    fn to_value(&self) -> Value {
        let (kind, subject) = match self {
            Self::Command(argv) => (1u16, argv.to_value()),
            Self::Unit(unit) => (2, unit.to_value()),
            Self::Tcp(address) => (3, address.to_string().to_value()),
            Self::Http(check) => (4, check.to_value()),
        };
        Value::Array(vec![kind.to_value(), subject])
    }

    fn from_value(value: Value) -> Result<Self, Malformed> {
        let parts = <[Value; 2]>::try_from(codec::array(value)?);
        let [kind, subject] =
            parts.map_err(|_| Malformed::invalid(&"a check is a kind and a subject"))?;
        match u16::from_value(kind)? {
            1 => match Vec::<String>::from_value(subject)? {
                argv if argv.is_empty() || argv.iter().any(|part| part.contains('\0')) => {
                    Err(Malformed::invalid(&"a command has a program, and no NUL"))
                }
                argv => Ok(Self::Command(argv)),
            },
            2 => UnitName::from_value(subject).map(Self::Unit),
            3 => {
                let address = codec::text(subject)?;
                let parsed =
                    address.parse::<SocketAddr>().map_err(|error| Malformed::invalid(&error))?;
                if parsed.to_string() != address {
                    return Err(Malformed::invalid(&"an address in its shortest form is expected"));
                }
                Ok(Self::Tcp(parsed))
            }
            4 => HttpCheck::from_value(subject).map(Self::Http),
            other => Err(Malformed::invalid(&format!("check kind {other} is not known"))),
        }
    }
}
