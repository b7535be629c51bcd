//! `herald completions`.

use std::process::ExitCode;

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::{cli::Cli, output};

/// Print a completion script for a shell.
///
/// Put it where the shell looks: for bash into ~/.local/share/bash-completion/completions/herald, for fish
/// into ~/.config/fish/completions/herald.fish, and for zsh into a file _herald in a folder that is in
/// $fpath before compinit runs. `herald-broker` and `herald-subscriber` have completions of their own.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The shell
    shell: Shell,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "herald", &mut script);
    output::line(String::from_utf8_lossy(&script).trim_end())?;
    Ok(ExitCode::SUCCESS)
}
