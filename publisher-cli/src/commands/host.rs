//! `herald host`.

mod announce;
mod cosign;
mod enrol;
mod list;
mod remove;
mod rotate;
mod token;

use std::process::ExitCode;

use crate::cli::Global;

/// Let hosts into the fleet, and out of it.
///
/// The fleet file says which hosts there are, and by which key each is known. These commands change it,
/// and sign what it says for the broker, which lets hosts log in by it: the roster.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Make a one-time token with which a new host may ask to be known
    Token(token::Args),
    /// Show the key with which a host asks to be known, and pin it
    Enrol(Box<enrol::Args>),
    /// Show which hosts there are, and which of them ask
    List(list::Args),
    /// Have a host make a new key
    Rotate(rotate::Args),
    /// Take a host out of the fleet
    Remove(remove::Args),
    /// Sign anew what the fleet file says of hosts, for a broker that has lost or never known it
    Announce(announce::Args),
    /// Add a signature to what another operator wrote to a file, and publish it if that is enough
    Cosign(cosign::Args),
}

pub(crate) async fn run(args: Args, global: &Global) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Token(args) => token::run(&args, global).await,
        Command::Enrol(args) => enrol::run(&args, global).await,
        Command::List(args) => list::run(&args, global).await,
        Command::Rotate(args) => rotate::run(&args, global).await,
        Command::Remove(args) => remove::run(&args, global).await,
        Command::Announce(args) => announce::run(&args, global).await,
        Command::Cosign(args) => cosign::run(&args, global).await,
    }
}
