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
    Token(token::Args),
    Enrol(Box<enrol::Args>),
    List(list::Args),
    Rotate(rotate::Args),
    Remove(remove::Args),
    Announce(announce::Args),
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
