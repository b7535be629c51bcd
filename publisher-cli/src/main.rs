//! `herald`, the operator's command.

mod access;
mod cli;
mod clock;
mod closure;
mod commands;
mod connection;
mod describe;
mod fleet_file;
mod folders;
mod keys;
mod output;
mod progress;
mod prompt;
mod random;
mod release;
mod release_file;
mod roster;
mod signed_file;
mod wanted;

use std::{process::ExitCode, time::Instant};

use clap::Parser as _;

fn main() -> ExitCode {
    let began = Instant::now();
    if std::env::args_os().any(|argument| keys::is_private(&argument.to_string_lossy())) {
        // Whatever is wrong with the command line, clap would repeat it.
        output::note(
            "error: an argument is a private key itself, where the place of one is expected",
        );
        return ExitCode::from(2);
    }
    let cli = cli::Cli::parse();
    start_log(cli.global.verbose);
    match commands::run(cli, began) {
        Ok(code) => code,
        Err(error) if error.is::<output::ClosedPipe>() => ExitCode::SUCCESS,
        Err(error) => {
            output::note(&format!("error: {}", output::chain(&error)));
            ExitCode::FAILURE
        }
    }
}

/// What went wrong is said by the commands themselves; the log tells how things went, for those
/// who ask.
fn start_log(verbose: u8) {
    use std::io::IsTerminal as _;
    let level = match verbose {
        0 => return,
        1 => tracing::Level::INFO,
        2 => tracing::Level::DEBUG,
        _ => tracing::Level::TRACE,
    };
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_ansi(colour)
        .with_writer(std::io::stderr)
        .init();
}
