//! `herald host remove`.

use std::process::ExitCode;

use anyhow::bail;
use herald_proto::host::HostId;

use crate::{
    cli::Global,
    output, prompt,
    roster::{self, Registrar, RosterOptions},
};

/// Take a host out of the fleet.
///
/// Its key and its token are taken out of the fleet file, and the broker lets it in no more. The host
/// itself is not touched: it goes on with the system that it has.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The host
    host: HostId,
    /// Do it without being asked
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    roster: RosterOptions,
}

pub(crate) async fn run(args: &Args, global: &Global) -> anyhow::Result<ExitCode> {
    let host = &args.host;
    let mut registrar = Registrar::load(global, &args.roster, host).await?;
    let fleet = &registrar.operator.file.fleet;
    let token = fleet.token(host).map(|token| token.key().id());
    let is_there = fleet.host(host).is_some() || token.is_some();
    let is_announced =
        registrar.board.of(host).entry.is_some_and(|it| it.key.is_some() || it.token.is_some());
    if !is_there && !is_announced {
        bail!("neither the fleet file nor the roster has a host {host}");
    }
    if !args.yes && !prompt::confirmed(&format!("Take {host} out of the fleet?"), "removed")? {
        bail!("nothing was removed");
    }
    if is_there {
        registrar.operator.file.edit(|file| {
            file.unpin(host);
            file.uninvite(host);
            Ok(())
        })?;
        output::note(&format!("{host} is no more in {}", registrar.operator.file.path.display()));
    }
    let told =
        registrar.tell(std::slice::from_ref(host), args.roster.roster_out.as_deref()).await?;
    roster::note(&told, &format!("the broker lets {host} in no more"));
    if let Some(token) = token {
        registrar.clear_request(token).await;
    }
    registrar.close().await;
    Ok(ExitCode::SUCCESS)
}
