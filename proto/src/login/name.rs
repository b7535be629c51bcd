//! Who logs in, and where.

use std::fmt;

use crate::{
    host::{FleetId, HostId},
    text::Unparsable,
};

/// A login's name in its fleet, `<fleet>/<name>`: the user name of an MQTT client. A host's login
/// is its own name, and all names are made of the same characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LoginName {
    /// The fleet.
    pub fleet: FleetId,
    /// The name, unique in the fleet.
    pub name: HostId,
}

impl fmt::Display for LoginName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.fleet, self.name)
    }
}

impl std::str::FromStr for LoginName {
    type Err = Unparsable;

    fn from_str(text: &str) -> Result<Self, Unparsable> {
        let (fleet, name) =
            text.split_once('/').ok_or_else(|| Unparsable::new("login", text, "<fleet>/<name>"))?;
        Ok(Self { fleet: fleet.parse()?, name: name.parse()? })
    }
}

/// A name by which clients know a broker: the host part of its URL, or what its configuration
/// says.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BrokerName(Box<str>);

impl BrokerName {
    /// Gives the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BrokerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl std::str::FromStr for BrokerName {
    type Err = Unparsable;

    fn from_str(text: &str) -> Result<Self, Unparsable> {
        let plain = |c| matches!(c, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b':');
        if (1..=128).contains(&text.len()) && text.bytes().all(plain) {
            Ok(Self(text.into()))
        } else {
            let expected = "1 to 128 of a-z, 0-9, -, _, . and :";
            Err(Unparsable::new("broker name", text, expected))
        }
    }
}

serde_as_text!(BrokerName);
