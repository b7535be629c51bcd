//! `herald-broker`: carries Herald's signed messages between operators and hosts.
//!
//! Reads the configuration, opens the doors, tells systemd how it is, and gives every end an exit
//! code. Nothing that it carries is trusted for having passed here.

mod commands;
mod serve;

use std::{
    io::{self, IsTerminal, Write},
    panic,
    path::PathBuf,
    process::ExitCode,
};

use clap::{CommandFactory as _, Parser, Subcommand};
use clap_complete::Shell;
use herald_broker::{
    config::{self, Config, Loopback},
    retained,
};
use tracing_subscriber::{EnvFilter, filter::ParseError};

const HELP: &str = "\
Exit codes:
  0  stopped by SIGTERM or SIGINT
  2  bad arguments, configuration, logins, passwords or certificates
  3  an address is in use, or cannot be listened on
  4  the router died, or a thread: start the broker again
  5  the store is damaged, in use, or failed

`listening on ADDR` is printed for each listener, then `metrics on ADDR` if metrics are scraped, and
systemd is told, once clients are served.
SIGHUP reads logins, passwords and certificates again.
HERALD_LOG sets what is logged to stderr (default: warn,herald=info).";

/// Carries Herald's signed orders and reports between operators and hosts, over MQTT 3.1.1.
#[derive(Debug, Parser)]
#[command(version, after_help = HELP)]
struct Args {
    /// Configuration file (TOML); a setting that it leaves out has its default
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Folder of the store, instead of the configured one
    #[arg(long, global = true, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Loopback address to listen on, instead of the configured listeners; port 0 picks a free port
    #[arg(long, value_name = "ADDR")]
    listen: Option<Loopback>,
    /// Let everyone on this machine in without a login
    #[arg(long, requires = "listen")]
    anonymous: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Checks the configuration and all files that it names, and prints the settings in effect
    CheckConfig,
    /// Reads a password from stdin and prints what the password file has for it
    HashPassword {
        /// The login: <fleet>/<name>
        login: herald_proto::login::LoginName,
    },
    /// Saves what can be saved of a damaged store, while the broker is stopped
    Repair,
    /// Prints a completion script for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
}

/// Why the broker ended without being told to.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Config(#[from] config::Error),
    #[error(transparent)]
    Files(#[from] serve::Unusable),
    #[error(
        "HERALD_LOG is not a log filter: {0}; use a level or target=level, as in warn,herald=debug"
    )]
    LogFilter(#[from] ParseError),
    #[error(transparent)]
    Command(#[from] commands::Failed),
    #[error(transparent)]
    Serve(#[from] serve::Ended),
    #[error("cannot start: {0}")]
    Start(#[source] io::Error),
}

impl Failure {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) | Self::Files(_) | Self::LogFilter(_) => 2,
            Self::Command(failed) => failed.exit_code(),
            Self::Serve(ended) => ended.exit_code(),
            Self::Start(_) => 4,
        }
    }
}

fn main() -> ExitCode {
    hush_expected_panics();
    match run(Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let _ = writeln!(io::stderr(), "herald-broker: {failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}

fn run(args: Args) -> Result<(), Failure> {
    start_logging()?;
    let mut config = Config::load(args.config.as_deref())?;
    if let Some(state) = args.state {
        config.state = Some(state);
    }
    if let Some(listen) = args.listen {
        config.listen_only(listen, args.anonymous);
    }
    match args.command {
        Some(Command::CheckConfig) => Ok(commands::check_config(&config)?),
        Some(Command::HashPassword { login }) => Ok(commands::hash_password(&login)?),
        Some(Command::Repair) => Ok(commands::repair(config.state()?)?),
        Some(Command::Completions { shell }) => {
            Ok(commands::completions(shell, &mut Args::command())?)
        }
        None => {
            config.require_all()?;
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .enable_all()
                .build()
                .map_err(Failure::Start)?;
            let ended = runtime.block_on(serve::run(&config));
            // A thread may still wait for systemd to listen.
            runtime.shutdown_background();
            ended
        }
    }
}

/// Says nothing of a panic that damage of the store causes, and that ends as an error in words.
fn hush_expected_panics() {
    let tell = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        if !retained::is_guarded() {
            tell(panic);
        }
    }));
}

fn start_logging() -> Result<(), ParseError> {
    let set = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let filter = set("HERALD_LOG").unwrap_or_else(|| "warn,herald=info".to_owned());
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_new(filter)?)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal() && set("NO_COLOR").is_none())
        .init();
    Ok(())
}
