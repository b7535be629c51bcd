//! `herald-subscriber consent`.

use super::{About, Exit, if_not_now, line, words};
use crate::control::Ask;

/// The answer.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Whether what the host asks for may begin.
    answer: Answer,
    #[command(flatten)]
    about: About,
}

/// An answer to what whoever uses the host was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Answer {
    /// It may go on.
    Now,
    /// At the deadline, and not before.
    Later,
}

/// Answers for whoever uses the host.
///
/// # Errors
/// When the daemon can't be asked, or asks for nothing.
pub async fn run(args: Args) -> anyhow::Result<Exit> {
    let status = args.about.ask(Ask::Consent { agrees: args.answer == Answer::Now }).await;
    let status = status.map_err(|error| if_not_now(error, "no update waits for an answer"))?;
    line(&words::phase(&status))?;
    Ok(Exit::Done)
}
