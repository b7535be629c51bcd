//! What people at the machine run: each command asks the daemon through its control socket.

use std::{
    io::{self, Write as _},
    path::PathBuf,
};

use herald_proto::host::ProfileName;

use crate::{
    config::{BadConfig, Config},
    control::{
        Ask, Denied,
        client::{self, Unmet},
    },
    request::{Refused, Status},
};

pub mod apply;
pub mod consent;
mod follow;
pub mod hold;
pub mod resume;
pub mod roll_back;
pub mod status;
mod words;

/// What the exit codes of all commands mean, for their help.
pub const EXIT_CODES: &str = "\
Exit codes:
  0  done, or stopped
  1  failed
  2  a bad configuration, trust file or argument
  3  the order rolled back
  4  refused, or the order ended in another way than it should
  5  the order reached a limit
  6  the daemon does not run, or does not answer
  7  not allowed

HERALD_LOG sets the level of the log, such as HERALD_LOG=debug.";

/// How a command ended that did what it was for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// What was wanted is so.
    Done,
    /// The order rolled back.
    RolledBack,
    /// The order ended in any other way.
    Failed,
    /// The order reached a limit.
    TimedOut,
}

impl Exit {
    /// Gives the exit code. Those of `herald` are the same.
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::RolledBack => 3,
            Self::Failed => 4,
            Self::TimedOut => 5,
        }
    }
}

/// Says why there is nothing to be done in this phase.
fn if_not_now(error: anyhow::Error, why: &'static str) -> anyhow::Error {
    match error.downcast_ref() {
        Some(Unmet::Refused(Refused::NotNow { .. })) => error.context(why),
        _ => error,
    }
}

/// Gives the exit code for what a command could not do.
pub fn exit_code(error: &anyhow::Error) -> u8 {
    if error.is::<BadConfig>() {
        return 2;
    }
    match error.downcast_ref() {
        None => 1,
        Some(Unmet::NotReachable { .. } | Unmet::Denied(Denied::NotAllowed { .. })) => 7,
        Some(
            Unmet::Refused(_)
            | Unmet::Denied(Denied::UnknownProfile { .. } | Denied::Unreadable { .. }),
        ) => 4,
        Some(
            Unmet::NotThere { .. }
            | Unmet::NoAnswer { .. }
            | Unmet::Denied(Denied::Busy | Denied::NoAnswer | Denied::OtherVersion { .. }),
        ) => 6,
    }
}

/// Whom a command asks, and about what.
#[derive(Debug, clap::Args)]
pub struct About {
    /// Which profile of this host.
    #[arg(long, default_value = "system")]
    profile: ProfileName,
    /// The daemon's configuration file, which says where it listens.
    #[arg(long, value_name = "FILE", default_value = "/etc/herald/subscriber.toml")]
    config: PathBuf,
}

/// A daemon that can be asked.
struct Daemon {
    config: Config,
    socket: PathBuf,
    profile: ProfileName,
}

impl About {
    fn daemon(&self) -> Result<Daemon, BadConfig> {
        let config = Config::parse(&self.config)?;
        Ok(Daemon { socket: config.control(), config, profile: self.profile.clone() })
    }

    /// Asks for something that is done at once.
    async fn ask(&self, ask: Ask) -> anyhow::Result<Status> {
        Ok(self.daemon()?.ask(ask, b"").await?)
    }
}

impl Daemon {
    async fn ask(&self, ask: Ask, order: &[u8]) -> Result<Status, Unmet> {
        client::ask(&self.socket, &self.profile, ask, order).await
    }
}

/// Writes a line to stdout. That nobody reads it, as after `| head`, is no failure.
///
/// # Errors
/// Whatever else keeps it from being written.
pub fn line(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}
