//! What the broker's program does beside serving.

use std::{
    io::{self, BufRead},
    path::Path,
};

use clap_complete::Shell;
use herald_broker::{
    config::{self, Config},
    passwords,
    retained::{self, RepairError, Repaired},
    server::STORE_FILE,
};
use herald_proto::login::LoginName;

use crate::serve::{self, Unusable};

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failed {
    #[error(transparent)]
    Config(#[from] config::Error),
    #[error(transparent)]
    Files(#[from] Unusable),
    #[error(transparent)]
    Password(#[from] passwords::Unusable),
    #[error(transparent)]
    Repair(#[from] RepairError),
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl Failed {
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) | Self::Files(_) | Self::Password(_) | Self::Io(_) => 2,
            Self::Repair(_) => 5,
        }
    }
}

/// Reads everything that serving would read, and prints the settings in effect.
pub(crate) fn check_config(config: &Config) -> Result<(), Failed> {
    let authenticator = serve::authenticator(config)?;
    for login in authenticator.idle_passwords() {
        tracing::warn!(%login, "there is a password for a login that no file of logins has");
    }
    serve::transports(config)?;
    config.require_all()?;
    Ok(serve::say(&config.to_string())?)
}

/// Prints a completion script of the program for a shell.
pub(crate) fn completions(shell: Shell, program: &mut clap::Command) -> Result<(), Failed> {
    let mut script = Vec::new();
    clap_complete::generate(shell, program, "herald-broker", &mut script);
    Ok(serve::say(&String::from_utf8_lossy(&script))?)
}

/// Reads a password from the first line of stdin, and prints its line of the password file.
pub(crate) fn hash_password(login: &LoginName) -> Result<(), Failed> {
    let mut line = zeroize::Zeroizing::new(String::new());
    io::stdin().lock().read_line(&mut line)?;
    let mut salt = [0; 16];
    getrandom::fill(&mut salt).map_err(io::Error::other)?;
    let hash = passwords::hash(line.trim_end_matches(['\r', '\n']), &salt)?;
    Ok(serve::say(&format!("{login}:{hash}\n"))?)
}

/// Saves what can be saved of a damaged store.
pub(crate) fn repair(state: &Path) -> Result<(), Failed> {
    let path = state.join(STORE_FILE);
    let Repaired { kept, lost, damaged } = retained::repair(&path)?;
    let kept = format!("{} retained messages and {} sessions", kept.messages, kept.sessions);
    let told = match (damaged, lost) {
        (None, _) => format!("{} is sound, with {kept}; nothing was changed\n", path.display()),
        (Some(damaged), lost) => {
            let lost = match lost {
                Some(lost) => format!("{} messages and {} sessions", lost.messages, lost.sessions),
                None => "an unknown number of messages and sessions".to_owned(),
            };
            format!(
                "kept {kept}; lost {lost}; the damaged file is now {}\nstart the broker; then `herald \
                 host announce` says again who is in the fleet, hosts say their state again by \
                 themselves, and orders that `herald status` does not show are to be published again\n",
                damaged.display()
            )
        }
    };
    Ok(serve::say(&told)?)
}
