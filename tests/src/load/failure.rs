//! Why a run ended without figures.

use std::{io, path::PathBuf, time::Duration};

use herald_proto::rejection::Rejection;

use super::packet::Malformed;
use crate::built::NotBuilt;

/// Why a run ended.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The operating system refused something.
    #[error("cannot {what}: {source}")]
    System {
        /// What was tried.
        what: String,
        /// Its answer.
        source: io::Error,
    },
    /// A limit on open files that is too low for so many hosts.
    #[error(
        "{needed} open files are needed, and {limit} are allowed: raise it, or use fewer hosts"
    )]
    Files {
        /// How many are needed.
        needed: u64,
        /// How many are allowed.
        limit: u64,
    },
    /// A broker that is not there, and can't be built.
    #[error(transparent)]
    NotBuilt(#[from] NotBuilt),
    /// A broker that ended, or never listened.
    #[error("{program} {what}; its last lines:\n{log}", program = program.display())]
    Broker {
        /// Which program.
        program: PathBuf,
        /// What happened.
        what: &'static str,
        /// The end of its output.
        log: String,
    },
    /// Something that did not come in time.
    #[error("waited {limit:?} for {what}: {missing}")]
    Late {
        /// What was waited for.
        what: String,
        /// For how long.
        limit: Duration,
        /// What did not come.
        missing: String,
    },
    /// A connection that ended when it should not have.
    #[error("{client} lost its connection: {reason}")]
    Lost {
        /// Which client.
        client: String,
        /// How.
        reason: String,
    },
    /// A client, subscription or ping that the broker answered wrongly.
    #[error("{client}: {what}")]
    Answer {
        /// Which client.
        client: String,
        /// What the broker did.
        what: String,
    },
    /// Bytes that are no packet.
    #[error("{client}: {source}")]
    Packet {
        /// Which client.
        client: String,
        /// What is wrong.
        source: BadPacket,
    },
    /// An order that its host refused.
    #[error("{host} refused its order: {source}")]
    Order {
        /// Which host.
        host: String,
        /// Why.
        source: Box<Rejection>,
    },
    /// SIGINT or SIGTERM.
    #[error("interrupted")]
    Interrupted,
}

/// Bytes that are no packet.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct BadPacket(#[from] Malformed);

impl Failure {
    /// Says what the operating system refused.
    pub(crate) fn system(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        |source| Self::System { what: what.into(), source }
    }
}
