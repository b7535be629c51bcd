//! The subcommands, a file each.

pub(crate) mod beacon;
pub(crate) mod completions;
pub(crate) mod cosign;
pub(crate) mod host;
pub(crate) mod key;
pub(crate) mod listen;
pub(crate) mod manifest;
pub(crate) mod publish;
pub(crate) mod rollback;
pub(crate) mod sign;
pub(crate) mod status;
pub(crate) mod verify;

use std::{process::ExitCode, time::Instant};

use anyhow::Context as _;

use crate::cli::{Cli, Command};

/// Runs the subcommand; `began` is when the program started.
pub(crate) fn run(cli: Cli, began: Instant) -> anyhow::Result<ExitCode> {
    let global = &cli.global;
    match cli.command {
        Command::Key(args) => block_on(key::run(&args)),
        Command::Host(args) => block_on(host::run(*args, global)),
        Command::Publish(args) => block_on(publish::run(*args, global, began)),
        Command::Sign(args) => block_on(sign::run(*args, global)),
        Command::Cosign(args) => block_on(cosign::run(*args, global)),
        Command::Manifest(args) => block_on(manifest::run(args)),
        Command::Status(args) => block_on(status::run(&args, global)),
        Command::Listen(args) => block_on(listen::run(&args, global)),
        Command::Rollback(args) => block_on(rollback::run(*args, global, began)),
        Command::Beacon(args) => block_on(beacon::run(&args, global)),
        Command::Verify(args) => verify::run(&args, global),
        Command::Completions(args) => completions::run(&args),
    }
}

fn block_on(command: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("cannot start the runtime")?.block_on(command)
}
