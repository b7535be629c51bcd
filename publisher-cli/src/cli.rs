//! The command line.

use std::path::PathBuf;

use crate::access::AccessOptions;
use crate::commands::{
    beacon, completions, cosign, host, key, listen, manifest, publish, rollback, sign, status,
    verify,
};

/// What the exit codes mean, for `--help`.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0  done; with --watch: every host succeeded
  1  an error that is said on stderr
  2  a command line that can't be understood
  3  with --watch: a host rolled back
  4  with --watch: a host refused, rejected or failed the order, gave it up or is degraded
  5  with --watch: a host did not end in time
Of several, 4 counts over 5, and 5 over 3.";

/// Deploys signed NixOS systems to a fleet over MQTT.
///
/// An operator makes a key (`key generate`), lets hosts in (`host token`, `host enrol`), deploys to them
/// (`publish`), and sees how they stand (`status`). Times are given as 30s, 5m, 2h or 7d.
#[derive(Debug, clap::Parser)]
#[command(name = "herald", version, after_help = EXIT_CODES, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every subcommand takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Global {
    /// The fleet file [default: fleet.toml here, else in the user's configuration of herald]
    #[arg(long, global = true, env = "HERALD_FLEET", hide_env_values = true, value_name = "FILE")]
    pub(crate) fleet_file: Option<PathBuf>,
    /// Say more about what happens, on stderr; twice or thrice for still more
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    #[command(flatten)]
    pub(crate) access: AccessOptions,
}

/// What each is for is said where its options are.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    Key(key::Args),
    Host(Box<host::Args>),
    Publish(Box<publish::Args>),
    Sign(Box<sign::Args>),
    Cosign(Box<cosign::Args>),
    Manifest(manifest::Args),
    Status(status::Args),
    Listen(listen::Args),
    Rollback(Box<rollback::Args>),
    Beacon(beacon::Args),
    Verify(verify::Args),
    Completions(completions::Args),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn every_command_line_is_one_that_can_be_parsed() {
        super::Cli::command().debug_assert();
    }
}
