//! `herald-subscriber resume`.

use super::{About, Exit, if_not_now, line};
use crate::control::Ask;

/// Whose hold is to end.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    about: About,
}

/// Ends a hold.
///
/// # Errors
/// When the daemon can't be asked, or there is no hold.
pub async fn run(args: Args) -> anyhow::Result<Exit> {
    let status = args.about.ask(Ask::Resume).await;
    let status = status.map_err(|error| if_not_now(error, "nobody holds this host"))?;
    line(&format!("not held any more; the host is {}", status.phase))?;
    Ok(Exit::Done)
}
