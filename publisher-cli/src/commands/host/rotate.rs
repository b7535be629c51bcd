//! `herald host rotate`.

use std::process::ExitCode;

use herald_proto::host::HostId;

use super::token::{InvitationOptions, invite};
use crate::{
    cli::Global,
    roster::{Registrar, RosterOptions},
};

/// Have a host make a new key.
///
/// It gets a token as a new host does, and asks with it to be known by another key; `herald host enrol`
/// then pins that in place of the one that it has.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The host
    host: HostId,
    /// Take the old key away at once, as it was stolen: until it is enrolled again, the host can't log
    /// in, and nothing that is signed with that key is believed
    #[arg(long)]
    now: bool,
    #[command(flatten)]
    invitation: InvitationOptions,
    #[command(flatten)]
    roster: RosterOptions,
}

pub(crate) async fn run(args: &Args, global: &Global) -> anyhow::Result<ExitCode> {
    let mut registrar = Registrar::load(global, &args.roster, &args.host).await?;
    registrar.operator.file.require([&args.host])?;
    invite(&mut registrar, &args.host, &args.invitation, &args.roster, !args.now).await?;
    registrar.close().await;
    Ok(ExitCode::SUCCESS)
}
