//! `herald-subscriber rollback`.

use herald_proto::report::PhaseName;

use super::{
    About, Exit,
    follow::{Wanted, follow},
    line, words,
};
use crate::control::Ask;

/// What to bring back, and whether to wait for it.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// End as soon as the daemon has taken it on.
    #[arg(long)]
    no_wait: bool,
    #[command(flatten)]
    about: About,
}

/// Brings the system of before back: ends what is being activated or confirmed, or begins an order
/// of the host's own.
///
/// # Errors
/// When the daemon can't be asked, or there is nothing to go back to.
pub async fn run(args: Args) -> anyhow::Result<Exit> {
    let daemon = args.about.daemon()?;
    let status = daemon.ask(Ask::RollBack, b"").await?;
    if args.no_wait {
        line(&words::phase(&status))?;
        return Ok(Exit::Done);
    }
    let wanted = match status.phase {
        PhaseName::RollingBack | PhaseName::RolledBack => Wanted::RollBack,
        _ => Wanted::Success,
    };
    let target = status.order.map(|order| order.target);
    follow(&daemon, status, target, wanted).await
}
