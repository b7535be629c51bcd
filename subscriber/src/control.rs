//! The control socket: how people at the machine speak to the daemon.
//!
//! A connection carries one request. Whoever asks sends a line of JSON ([`Head`]), after it the
//! bytes of an order where they want one applied, and closes their half; the daemon answers with a
//! line of JSON ([`Answer`]) and closes. It is JSON and not the CBOR of the fleet's messages, as
//! nothing here is signed or kept, the answer is what `status --json` prints, and a shell script can
//! speak it. The version comes first: while a system is replaced, a command and a daemon of
//! different versions meet.

use herald_proto::{host::ProfileName, text::Prose};

use crate::request::{Refused, Request, Status};

pub mod client;
pub mod server;

/// The version of what is said on the socket.
pub const VERSION: u16 = 1;
/// The most bytes of a request's first line: a reason has at most 1024 before it is escaped.
pub const HEAD_LIMIT: usize = 4 * 1024;
/// The most bytes of an order. It is more than an order may have, so that one that is a little too
/// large is refused by its own rule.
pub const ORDER_LIMIT: usize = 24 * 1024;

/// The first line of a request.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Head {
    /// The version that is spoken.
    pub version: u16,
    /// Which profile it is about.
    pub profile: ProfileName,
    /// What is wanted.
    pub ask: Ask,
}

/// What is wanted.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Ask {
    /// [`Request::Status`].
    Status,
    /// [`Request::Hold`].
    Hold {
        /// Why.
        reason: Prose,
    },
    /// [`Request::Resume`].
    Resume,
    /// [`Request::Consent`].
    Consent {
        /// Whether it may go on now; otherwise later.
        agrees: bool,
    },
    /// [`Request::RollBack`].
    RollBack,
    /// [`Request::Apply`]; the order follows.
    Apply,
}

/// The daemon's answer.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// It is done, and durable; the profile is there now.
    Done(Box<Status>),
    /// It is not done, for a reason of the profile's own.
    Refused(Refused),
    /// The daemon did not look at it.
    Denied(Denied),
}

/// Why the daemon does not look at a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Denied {
    /// Whoever asks may not.
    #[error("{what} is not for the user {uid}: {}", remedy(what))]
    NotAllowed {
        /// What they asked for.
        what: String,
        /// Who they are.
        uid: u32,
    },
    /// The host has no such profile.
    #[error("this host has no profile {profile}; it has {}", names(.known))]
    UnknownProfile {
        /// Which was named.
        profile: ProfileName,
        /// Which there are.
        known: Vec<ProfileName>,
    },
    /// Another version is spoken.
    #[error(
        "the daemon speaks version {own} of the control socket, not {spoken}: use the herald-subscriber of the system that runs"
    )]
    OtherVersion {
        /// Which was spoken.
        spoken: u16,
        /// The daemon's.
        own: u16,
    },
    /// It is no request.
    #[error("the daemon can't read the request: {problem}")]
    Unreadable {
        /// What is wrong with it.
        problem: String,
    },
    /// Too many ask at once.
    #[error("too many ask at once: try again")]
    Busy,
    /// There was no answer in time. What was asked for may still be done.
    #[error(
        "the profile does not answer, as when the disk is full: look at the log of the daemon, and ask for the status again"
    )]
    NoAnswer,
}

impl Head {
    /// Names a request of this version.
    pub fn new(profile: ProfileName, ask: Ask) -> Self {
        Self { version: VERSION, profile, ask }
    }

    /// Gives what is sent.
    pub fn encode(&self, order: &[u8]) -> Vec<u8> {
        let mut bytes = line(self);
        bytes.extend(order);
        bytes
    }

    /// Reads a request, with the bytes after its first line.
    ///
    /// # Errors
    /// When it is none of this version.
    pub fn decode(bytes: &[u8]) -> Result<(Self, &[u8]), Denied> {
        /// What a request of any version says of itself.
        #[derive(serde::Deserialize)]
        struct Stated {
            version: u16,
        }
        let unreadable = |problem: &str| Denied::Unreadable { problem: problem.into() };
        if bytes.len() > HEAD_LIMIT + ORDER_LIMIT {
            return Err(unreadable("it is too large"));
        }
        let end = bytes.iter().take(HEAD_LIMIT).position(|byte| *byte == b'\n');
        let (head, order) = bytes.split_at(end.ok_or_else(|| unreadable("it has no first line"))?);
        let bad = |error: serde_json::Error| unreadable(&error.to_string());
        let Stated { version: spoken } = serde_json::from_slice(head).map_err(bad)?;
        if spoken != VERSION {
            return Err(Denied::OtherVersion { spoken, own: VERSION });
        }
        let head: Self = serde_json::from_slice(head).map_err(bad)?;
        let order = &order[1..];
        match (&head.ask, order.len()) {
            (Ask::Apply, 0) => Err(unreadable("no order follows")),
            (Ask::Apply, size) if size > ORDER_LIMIT => Err(unreadable("the order is too large")),
            (Ask::Apply, _) | (_, 0) => Ok((head, order)),
            _ => Err(unreadable("something follows the first line")),
        }
    }
}

impl Ask {
    /// Gives its name for people: the subcommand's.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Hold { .. } => "hold",
            Self::Resume => "resume",
            Self::Consent { .. } => "consent",
            Self::RollBack => "rollback",
            Self::Apply => "apply",
        }
    }

    fn into_request(self, order: &[u8]) -> Request {
        match self {
            Self::Status => Request::Status,
            Self::Hold { reason } => Request::Hold { reason },
            Self::Resume => Request::Resume,
            Self::Consent { agrees } => Request::Consent { agrees },
            Self::RollBack => Request::RollBack,
            Self::Apply => Request::Apply { order: order.to_vec() },
        }
    }
}

/// Writes a value as one line. What is said here has only names and numbers for keys and values.
fn line(value: &impl serde::Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(value).expect("it has no map whose keys are not text");
    line.push(b'\n');
    line
}

/// Says who may do what somebody may not.
fn remedy(what: &str) -> &'static str {
    if what == "consent" {
        "whoever is logged in at this host may answer; else run it as root (sudo)"
    } else {
        "run it as root (sudo)"
    }
}

fn names(profiles: &[ProfileName]) -> String {
    let names: Vec<_> = profiles.iter().map(ProfileName::as_str).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(ask: Ask) -> Head {
        Head::new(ProfileName::system(), ask)
    }

    #[test]
    fn a_request_is_read_as_it_is_written() {
        let reason = "a\nb \"c\" é".parse().unwrap();
        for (ask, order) in [
            (Ask::Status, &b""[..]),
            (Ask::Hold { reason }, b""),
            (Ask::Resume, b""),
            (Ask::Consent { agrees: false }, b""),
            (Ask::RollBack, b""),
            (Ask::Apply, b"\n{\0\n"),
            (Ask::Apply, &[0xff; ORDER_LIMIT]),
        ] {
            let head = head(ask);
            let bytes = head.encode(order);
            assert_eq!(Head::decode(&bytes), Ok((head, order)));
        }
        let longest = head(Ask::Hold { reason: "\n".repeat(Prose::MAX).parse().unwrap() });
        assert!(longest.encode(b"").len() < HEAD_LIMIT);
    }

    #[test]
    fn what_is_no_request_is_refused_and_another_version_is_told_as_such() {
        let order = [0; ORDER_LIMIT + 1];
        for (bytes, expected) in [
            (b"".to_vec(), "no first line"),
            (b"{}".to_vec(), "no first line"),
            (vec![b' '; HEAD_LIMIT + 1], "no first line"),
            (vec![0; HEAD_LIMIT + ORDER_LIMIT + 1], "too large"),
            (b"{}\n".to_vec(), "version"),
            (b"\xff\n".to_vec(), "line 1"),
            (b"{\"version\":2,\"ask\":\"dance\"}\n".to_vec(), "speaks version 1"),
            (b"{\"version\":1,\"profile\":\"system\",\"ask\":\"dance\"}\n".to_vec(), "dance"),
            (b"{\"version\":1,\"profile\":\"a b\",\"ask\":\"status\"}\n".to_vec(), "profile"),
            (head(Ask::Status).encode(b"more"), "something follows"),
            (head(Ask::Apply).encode(b""), "no order follows"),
            (head(Ask::Apply).encode(&order), "order is too large"),
        ] {
            let denied = Head::decode(&bytes).unwrap_err().to_string();
            assert!(denied.contains(expected), "{denied}, not {expected}");
        }
    }
}
