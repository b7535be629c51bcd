//! What goes to stdout and stderr.

use std::io::{self, Write as _};

use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

/// Nobody reads stdout any more, such as after `| head`: no reason for words.
#[derive(Debug, thiserror::Error)]
#[error("nobody reads the output any more")]
pub(crate) struct ClosedPipe;

/// Writes text and a line feed to stdout at once.
///
/// # Errors
/// [`ClosedPipe`], and whatever else keeps it from being written.
pub(crate) fn line(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    let written = writeln!(out, "{text}").and_then(|()| out.flush());
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(ClosedPipe.into()),
        other => Ok(other?),
    }
}

/// Passes over that nobody reads what was written: the exit code still says how it ended.
///
/// # Errors
/// Whatever else kept it from being written.
pub(crate) fn read_or_not(written: anyhow::Result<()>) -> anyhow::Result<()> {
    match written {
        Err(error) if error.is::<ClosedPipe>() => Ok(()),
        other => other,
    }
}

/// Says something to people, on stderr. If nobody hears it, nothing is lost.
pub(crate) fn note(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Writes a value as one JSON document on a line of its own.
pub(crate) fn json(value: &impl Serialize) -> anyhow::Result<()> {
    line(&serde_json::to_string(value)?)
}

/// Writes a table under these headings, without lines and without blanks at the ends.
pub(crate) fn table<const N: usize>(
    headings: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> anyhow::Result<()> {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(headings)
        .add_rows(rows);
    table.column_iter_mut().for_each(|column| {
        column.set_padding((0, 2));
    });
    let text: Vec<_> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    line(&text.join("\n"))
}

/// Writes an error with its causes, each once: some errors repeat their cause.
pub(crate) fn chain(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        let cause = cause.trim_end();
        if text.is_empty() {
            text = cause.to_owned();
        } else if !text.ends_with(cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context as _;

    #[test]
    fn a_cause_is_said_once() {
        let error: anyhow::Result<()> = Err(anyhow::anyhow!("no space"));
        let error = error.context("writing failed: no space").context("x").unwrap_err();
        assert_eq!(chain(&error), "x: writing failed: no space");
    }
}
