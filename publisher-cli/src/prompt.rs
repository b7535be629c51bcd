//! Asking whoever sits there.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use anyhow::bail;

/// Asks a question that only yes agrees to; `done` says what is done then, such as "signed".
///
/// # Errors
/// When nobody can be asked.
pub(crate) fn confirmed(question: &str, done: &str) -> anyhow::Result<bool> {
    if !io::stdin().is_terminal() {
        bail!(
            "nothing was {done}: nobody is there to be asked; go on without being asked with --yes"
        );
    }
    write!(io::stderr(), "{question} [y/N] ")?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
