//! `herald-subscriber`: the daemon that follows signed orders on a NixOS host.

use std::{io::IsTerminal as _, path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use clap::{CommandFactory as _, Parser, Subcommand};
use clap_complete::{Shell, generate};
use tracing_subscriber::EnvFilter;

use herald_proto::time::Timestamp;
use herald_subscriber::{
    adapters::nix_settings,
    clock,
    commands::{self, Exit},
    commit,
    config::Config,
    daemon,
    enrolment::{EnrolConfig, Enrolment},
    identity,
    os::{Linux, System},
    prepare_reboot, retention, roll_back, runner,
};

/// How long the end waits for what threads are at: one may wait for a systemd that does not listen.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Follows signed orders: verifies, realises, activates, confirms, and rolls back by itself.
#[derive(Debug, Parser)]
#[command(version, after_help = commands::EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the daemon.
    Run(ConfigFile),
    /// Prints the host's public key, making the key on the host's first start.
    PublicKey(PublicKey),
    /// Checks the configuration, the trust file, and the host's own health checks.
    CheckConfig(ConfigFile),
    /// Shows where this host is, what it waits for, and which systems there are.
    Status(commands::status::Args),
    /// Has nothing activated until `resume`; what has begun goes on to its end.
    Hold(commands::hold::Args),
    /// Ends a hold.
    Resume(commands::resume::Args),
    /// Answers for whoever uses this host, where its configuration has them asked.
    Consent(commands::consent::Args),
    /// Brings the system of before back.
    #[command(name = "rollback")]
    BringBack(commands::roll_back::Args),
    /// Follows a signed order from a file, without a broker.
    Apply(commands::apply::Args),
    /// Prints a completion script for a shell.
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Runs a switch program and writes down how it ended (the subscriber calls this itself).
    #[command(hide = true)]
    Activate(runner::Args),
    /// Has a new system booted once (the subscriber calls this itself).
    #[command(hide = true)]
    PrepareReboot(commit::Which),
    /// Watches over a system that was booted for the first time (a unit of that system calls this).
    #[command(hide = true)]
    DeadMan(roll_back::AfterBoot),
    /// Sets the profile and the boot default (the subscriber calls this itself).
    #[command(hide = true)]
    Commit(commit::Which),
    /// Deletes old generations of a profile (the subscriber calls this itself).
    #[command(hide = true)]
    Prune(retention::Args),
    /// Brings the previous system back (the subscriber calls this itself).
    #[command(hide = true)]
    RollBack(roll_back::Args),
}

#[derive(Debug, clap::Args)]
struct PublicKey {
    #[command(flatten)]
    config: ConfigFile,
    /// Prints what operators compare when they enrol the host, instead of the key.
    #[arg(long)]
    fingerprint: bool,
}

#[derive(Debug, clap::Args)]
struct ConfigFile {
    /// The configuration file.
    #[arg(long, value_name = "FILE", default_value = "/etc/herald/subscriber.toml")]
    config: PathBuf,
}

fn main() -> ExitCode {
    end_on_panic();
    let cli = Cli::parse();
    start_log();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => {
            let outcome = runtime.block_on(run(cli.command));
            runtime.shutdown_timeout(LAST_WORDS);
            outcome
        }
        Err(error) => Err(error.into()),
    };
    match outcome {
        Ok(exit) => ExitCode::from(exit.code()),
        Err(error) => {
            eprintln!("herald-subscriber: {error:#}");
            ExitCode::from(commands::exit_code(&error))
        }
    }
}

/// Ends the process at a panic in any task: started again, it looks at the machine and goes on, while
/// without one of its tasks it would only seem to be there.
fn end_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::abort();
    }));
}

async fn run(command: Command) -> anyhow::Result<Exit> {
    match command {
        Command::Run(ConfigFile { config }) => {
            let (config, trust) = Config::load(&config)?;
            daemon::run(config, trust).await?;
        }
        Command::PublicKey(PublicKey { config: ConfigFile { config }, fingerprint }) => {
            let (config, _) = Config::load(&config)?;
            // A host that asks to be enrolled is pinned by the key that it asks with.
            let key = match Enrolment::open(&config)? {
                Some(enrolment) => enrolment.key().public().clone(),
                None => identity::host_key(&config.state_dir, &config.host)?.public().clone(),
            };
            if fingerprint {
                println!("{}", key.id().fingerprint());
            } else {
                println!("{key}");
            }
        }
        Command::CheckConfig(ConfigFile { config: path }) => {
            let (config, trust) = Config::load(&path)?;
            config.check_windows(&path).await?;
            let checks = config.check_health()?;
            config.enrol.as_ref().map(EnrolConfig::token).transpose()?;
            for (setting, file) in config.absent() {
                eprintln!(
                    "warning: {setting} names {}, which is not there now: the daemon does not \
                     connect without it",
                    file.display()
                );
            }
            for warning in nix_settings::warnings(&Linux).await {
                eprintln!("warning: {warning}");
            }
            let (keys, threshold) = (trust.release().keys().count(), trust.release().threshold());
            if clock::BUILT_AT > Timestamp::default() {
                println!(
                    "no clock is believed before {}, when this program was built",
                    clock::BUILT_AT
                );
            }
            println!(
                "{}: host {} of fleet {}; releases need {threshold} of {keys} keys; {checks} health \
                 checks of its own",
                path.display(),
                config.host,
                config.fleet
            );
        }
        Command::Status(args) => return commands::status::run(args).await,
        Command::Hold(args) => return commands::hold::run(args).await,
        Command::Resume(args) => return commands::resume::run(args).await,
        Command::Consent(args) => return commands::consent::run(args).await,
        Command::BringBack(args) => return commands::roll_back::run(args).await,
        Command::Apply(args) => return commands::apply::run(args).await,
        Command::Completions { shell } => {
            let mut script = Vec::new();
            generate(shell, &mut Cli::command(), "herald-subscriber", &mut script);
            commands::line(String::from_utf8_lossy(&script).trim_end())?;
        }
        Command::Activate(args) => runner::run(session(), args).await?,
        Command::PrepareReboot(args) => prepare_reboot::run(session(), args).await?,
        Command::DeadMan(args) => roll_back::after_boot(&args)?,
        Command::Commit(args) => commit::run(session(), args).await?,
        Command::Prune(args) => retention::run(session(), args).await?,
        Command::RollBack(args) => roll_back::run(session(), args).await?,
    }
    Ok(Exit::Done)
}

/// Gives the system to a process that outlives the daemon. In a session of its own, a signal to the
/// daemon's group does not reach it; the leader of one already, as under systemd, needs none.
fn session() -> System {
    let _ = rustix::process::setsid();
    Arc::new(Linux)
}

fn start_log() {
    let filter = EnvFilter::try_from_env("HERALD_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(colour)
        .init();
}
