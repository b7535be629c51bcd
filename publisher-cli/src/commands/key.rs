//! `herald key`.

use std::{path::PathBuf, process::ExitCode};

use herald_proto::key::{KeyName, PublicKey};

use crate::{
    keys::{self, KeySource, file},
    output,
};

/// Make keys, and show their public halves.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Make a key: its secret half goes to a file, its public half to stdout
    Generate {
        /// The key's name, for people: who has it, or what it is for
        name: KeyName,
        /// The new file [default: keys/NAME.key in the user's data of herald]
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Print the public half of a key, to be put into trust files
    ///
    /// It reads keys as Herald and Nix write them, and OpenSSH's: a public line, a private file
    /// without a passphrase, or a key of ssh-agent.
    Public {
        /// Where the key is: a file, agent:NAME, env:VARIABLE or credential:NAME [default: the only
        /// one in the user's keys]
        #[arg(value_name = "SOURCE")]
        source: Option<KeySource>,
        /// Name it so, whatever it was called
        #[arg(long)]
        name: Option<KeyName>,
    },
}

pub(crate) async fn run(args: &Args) -> anyhow::Result<ExitCode> {
    match &args.command {
        Command::Generate { name, out } => {
            let path = match out {
                Some(path) => path.clone(),
                None => file::default_path(name)?,
            };
            let key = file::generate(name.clone(), &path)?;
            output::note(&format!("the secret key is in {}: keep it to yourself", path.display()));
            output::line(&key.public().to_string())?;
        }
        Command::Public { source, name } => {
            let source = match source {
                Some(source) => source.clone(),
                None => KeySource::File(file::only_key()?),
            };
            let mut key = keys::public(&source).await?;
            if let Some(name) = name {
                key = PublicKey::from_bytes(name.clone(), key.as_bytes())?;
            }
            output::line(&key.to_string())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
