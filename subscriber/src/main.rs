//! `herald-subscriber`: the daemon that follows signed orders on a NixOS host.

use std::{io::IsTerminal as _, path::PathBuf, process::ExitCode, sync::Arc};

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use herald_subscriber::{
    commit,
    config::{BadConfig, Config},
    daemon, identity,
    os::{Linux, System},
    prepare_reboot, retention, roll_back, runner,
};

/// Follows signed orders: verifies, realises, activates, confirms, and rolls back by itself.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Exit codes: 0 stopped, 1 failed, 2 bad configuration, trust file or arguments.\n\
                  HERALD_LOG sets the level of the log, such as HERALD_LOG=debug."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the daemon.
    Run(ConfigFile),
    /// Prints the host's public key, making the key on the host's first start.
    PublicKey(ConfigFile),
    /// Checks the configuration, the trust file, and the host's own health checks.
    CheckConfig(ConfigFile),
    /// Runs a switch program and writes down how it ended (the subscriber calls this itself).
    #[command(hide = true)]
    Activate(runner::Args),
    /// Has a new system booted once (the subscriber calls this itself).
    #[command(hide = true)]
    PrepareReboot(commit::Args),
    /// Watches over a system that was booted for the first time (a unit of that system calls this).
    #[command(hide = true)]
    DeadMan(roll_back::AfterBoot),
    /// Sets the profile and the boot default (the subscriber calls this itself).
    #[command(hide = true)]
    Commit(commit::Args),
    /// Deletes old generations of a profile (the subscriber calls this itself).
    #[command(hide = true)]
    Prune(retention::Args),
    /// Brings the previous system back (the subscriber calls this itself).
    #[command(hide = true)]
    RollBack(roll_back::Args),
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
        Ok(runtime) => runtime.block_on(run(cli.command)),
        Err(error) => Err(error.into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("herald-subscriber: {error:#}");
            ExitCode::from(if error.is::<BadConfig>() { 2 } else { 1 })
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

async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Run(ConfigFile { config }) => {
            let (config, trust) = Config::load(&config)?;
            daemon::run(config, trust).await
        }
        Command::PublicKey(ConfigFile { config }) => {
            let (config, _) = Config::load(&config)?;
            println!("{}", identity::host_key(&config.state_dir, &config.host)?.public());
            Ok(())
        }
        Command::CheckConfig(ConfigFile { config: path }) => {
            let (config, trust) = Config::load(&path)?;
            config.check_windows(&path).await?;
            let checks = config.check_health()?;
            let (keys, threshold) = (trust.release().keys().count(), trust.release().threshold());
            println!(
                "{}: host {} of fleet {}; releases need {threshold} of {keys} keys; {checks} health \
                 checks of its own",
                path.display(),
                config.host,
                config.fleet
            );
            Ok(())
        }
        Command::Activate(args) => runner::run(session(), args).await,
        Command::PrepareReboot(args) => prepare_reboot::run(session(), args).await,
        Command::DeadMan(args) => roll_back::after_boot(&args),
        Command::Commit(args) => commit::run(session(), args).await,
        Command::Prune(args) => retention::run(session(), args).await,
        Command::RollBack(args) => roll_back::run(session(), args).await,
    }
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
