//! `herald-subscriber hold`.

use herald_proto::text::{Prose, Unparsable};

use super::{About, Exit, line};
use crate::control::Ask;

/// Why nothing is to be activated.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Why, for whoever wonders: operators see it in `herald status`.
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    reason: Prose,
    #[command(flatten)]
    about: About,
}

/// Has the daemon activate nothing until `resume`.
///
/// # Errors
/// When the daemon can't be asked, or refuses.
pub async fn run(args: Args) -> anyhow::Result<Exit> {
    let status = args.about.ask(Ask::Hold { reason: args.reason }).await?;
    if status.phase.is_terminal() || status.wait.is_some() {
        line("held; nothing is activated until herald-subscriber resume")?;
    } else {
        line(&format!("held; what is {} goes on, and nothing after it", status.phase))?;
    }
    Ok(Exit::Done)
}

fn reason(text: &str) -> Result<Prose, Unparsable> {
    match text.trim() {
        "" => Err(Unparsable::new("reason", text, "words")),
        words => words.parse(),
    }
}
