//! `herald host announce`.

use std::process::ExitCode;

use anyhow::bail;
use herald_fleet::generations;
use herald_proto::host::HostId;

use crate::{
    cli::Global,
    release::Operator,
    roster::{self, Registrar, RosterOptions},
};

/// Sign anew what the fleet file says of hosts, for a broker that has lost or never known it.
///
/// After the operators' keys have changed, too: entries that only removed keys have signed count for
/// nothing once the broker knows those no more.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The hosts [default: all of the fleet file]
    hosts: Vec<HostId>,
    #[command(flatten)]
    roster: RosterOptions,
}

pub(crate) async fn run(args: &Args, global: &Global) -> anyhow::Result<ExitCode> {
    let operator = Operator::load(global, &args.roster.keys.keys).await?;
    let fleet = &operator.file.fleet;
    let known = fleet.hosts().chain(fleet.tokens().map(|(host, _)| host));
    let mut known: Vec<_> = known.cloned().collect();
    known.sort();
    known.dedup();
    if let Some(unknown) = args.hosts.iter().find(|host| !known.contains(host)) {
        bail!(
            "the fleet file {} has no host {unknown}: to have it let in no more, `herald host \
             remove {unknown}`",
            operator.file.path.display()
        );
    }
    let hosts = if args.hosts.is_empty() { known } else { args.hosts.clone() };
    if hosts.is_empty() {
        bail!("the fleet file {} has no hosts", operator.file.path.display());
    }
    let registrar = Registrar::open(operator, &hosts, args.roster.connect_timeout).await?;
    registrar.check_file(&hosts, args.roster.roster_out.as_deref())?;
    let told = registrar.tell(&hosts, args.roster.roster_out.as_deref()).await?;
    roster::note(
        &told,
        &format!("the broker has the roster's word on {}", generations::names(&hosts)),
    );
    registrar.close().await;
    Ok(ExitCode::SUCCESS)
}
