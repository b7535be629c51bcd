//! `herald key`.

use std::{path::PathBuf, process::ExitCode};

use herald_proto::key::KeyName;

use crate::{key_file, output};

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
    Public {
        /// The file of the secret key [default: the only one in the user's keys]
        file: Option<PathBuf>,
    },
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    match &args.command {
        Command::Generate { name, out } => {
            let path = match out {
                Some(path) => path.clone(),
                None => key_file::default_path(name)?,
            };
            let key = key_file::generate(name.clone(), &path)?;
            output::note(&format!("the secret key is in {}: keep it to yourself", path.display()));
            output::line(&key.public().to_string())?;
        }
        Command::Public { file } => {
            let path = match file {
                Some(path) => path.clone(),
                None => key_file::only_key()?,
            };
            output::line(&key_file::load(&path)?.public().to_string())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
