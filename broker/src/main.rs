//! `herald-broker`: carries Herald's signed messages between operators and hosts.
//!
//! Reads the configuration, starts the relay, says when clients are served, and gives every end an
//! exit code. It knows no MQTT, and nothing that it carries is trusted for having passed here.

mod probe;
mod relay;

use std::io::{self, IsTerminal, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use herald_broker::config::{self, Config, Kind, Loopback};
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

/// A relay that does not answer its first CONNECT in this time is given up.
const START_LIMIT: Duration = Duration::from_secs(10);

/// File descriptors that the broker needs beside one for each connection.
const OWN_FILES: u64 = 24;

const HELP: &str = "\
Exit codes:
  0  stopped by SIGTERM or SIGINT
  2  bad arguments or configuration
  3  the address is in use, or cannot be listened on
  4  the router or its listener died: start the broker again

`listening on ADDR` is printed, and systemd told, once clients are served.
HERALD_LOG sets what is logged to stderr (default: warn,herald=info).";

/// Carries Herald's signed orders and reports between operators and hosts, over MQTT 3.1.1.
#[derive(Debug, Parser)]
#[command(version, after_help = HELP)]
struct Args {
    /// Configuration file (TOML); a setting that it leaves out has its default
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Loopback address to listen on, instead of the configured one; port 0 picks a free port
    #[arg(long, value_name = "ADDR")]
    listen: Option<Loopback>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Checks the configuration and prints all the settings in effect
    CheckConfig,
}

/// Why the broker ended without being told to.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Config(#[from] config::Error),
    #[error(
        "HERALD_LOG is not a log filter: {0}; use a level or target=level, as in warn,herald=debug"
    )]
    LogFilter(#[from] ParseError),
    #[error(
        "cannot listen on {address}: {source}; stop what uses it (`ss -ltnp` names it), or choose \
         another address with --listen or the key `listen`"
    )]
    Listen { address: SocketAddr, source: io::Error },
    #[error("cannot start: {0}")]
    Start(#[source] io::Error),
    #[error(
        "the relay did not answer on {address} within {} s; start the broker again, with \
         HERALD_LOG=debug to see why",
        START_LIMIT.as_secs()
    )]
    NoAnswer { address: SocketAddr },
    #[error(
        "the relay's listener on {address} ended, its reason is in the log; start the broker again"
    )]
    RelayEnded { address: SocketAddr },
}

impl Failure {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) | Self::LogFilter(_) => 2,
            Self::Listen { .. } => 3,
            Self::Start(_) | Self::NoAnswer { .. } | Self::RelayEnded { .. } => relay::DIED,
        }
    }
}

fn main() -> ExitCode {
    match run(Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let _ = writeln!(io::stderr(), "herald-broker: {failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}

fn run(args: Args) -> Result<(), Failure> {
    let mut config = Config::load(args.config.as_deref())?;
    if let Some(listen) = args.listen {
        config.listen_only(listen, true);
    }
    if let Some(Command::CheckConfig) = args.command {
        return say(&config.to_string()).map_err(Failure::Start);
    }
    let address = listen(&config)?;
    start_logging()?;
    allow_connections(config.max_connections);
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::Start)?
        .block_on(serve(address, &config))
}

/// Gives the one address that the relay can serve.
fn listen(config: &Config) -> Result<SocketAddr, Failure> {
    config.require_listener()?;
    match &*config.listeners {
        [listener] if listener.kind == Kind::Tcp && listener.anonymous => Ok(listener.address),
        _ => Err(Failure::Start(io::Error::other(
            "this release serves one listener: tcp, on loopback, anonymous",
        ))),
    }
}

/// Runs the relay until a signal asks for its end.
async fn serve(address: SocketAddr, config: &Config) -> Result<(), Failure> {
    let mut terminate = signal(SignalKind::terminate()).map_err(Failure::Start)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Failure::Start)?;
    let address = claim(address)?;
    let mut ended = relay::start(address, config).map_err(Failure::Start)?;
    let life = async {
        tokio::select! {
            biased;
            _ = &mut ended => return Failure::RelayEnded { address },
            answer = tokio::time::timeout(START_LIMIT, probe::answers(address)) => if answer.is_err() {
                return Failure::NoAnswer { address };
            },
        }
        announce(address);
        let _ = ended.await;
        Failure::RelayEnded { address }
    };
    tokio::select! {
        failure = life => Err(failure),
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    }
}

/// Finds out whether the address can be listened on, and which port 0 stands for.
///
/// The relay binds for itself and only logs when it can't. Another program that takes the port in
/// the instant between is noticed by the end of the relay.
fn claim(address: SocketAddr) -> Result<SocketAddr, Failure> {
    TcpListener::bind(address)
        .and_then(|listener| listener.local_addr())
        .map_err(|source| Failure::Listen { address, source })
}

fn announce(address: SocketAddr) {
    if let Err(error) = say(&format!("listening on {address}\n")) {
        tracing::warn!(%error, "cannot write to stdout");
    }
    if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Ready]) {
        tracing::warn!(%error, "cannot tell systemd that the broker is ready");
    }
}

fn say(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
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

/// Raises the soft limit of open files as far as these connections need: at the limit, the
/// relay spins on `accept`.
fn allow_connections(connections: usize) {
    let needed = connections as u64 + OWN_FILES;
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= needed) {
        return;
    }
    limit.current = Some(limit.maximum.map_or(needed, |maximum| maximum.min(needed)));
    if setrlimit(Resource::Nofile, limit).is_err() || limit.current < Some(needed) {
        tracing::warn!(
            "max_connections needs {needed} open files, and the limit is lower; raise LimitNOFILE"
        );
    }
}
