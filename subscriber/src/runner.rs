//! The process that runs a switch program, outlives the subscriber, and leaves a result.

use std::{ffi::OsString, fs::OpenOptions, io, path::PathBuf, process::Stdio, time::Duration};

use herald_core::{ActivationEnd, Claim, Monotonic};
use herald_proto::text::Prose;

use crate::{
    adapters::{command, own_unit, record::Records},
    commit,
    os::{Os, Program, System},
};

/// How long the journal may take to give what the program printed: the result must not wait.
const JOURNAL_LIMIT: Duration = Duration::from_secs(2);

/// What to run, and until when.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    of: commit::Which,
    /// When to end it, in milliseconds of CLOCK_MONOTONIC.
    #[arg(long)]
    until: u64,
    /// Start it only while nobody has claimed the armed record.
    #[arg(long)]
    if_armed: bool,
    /// Where what it prints goes, if not where this process's output goes.
    #[arg(long)]
    log: Option<PathBuf>,
    /// The program and its arguments.
    #[arg(last = true, required = true)]
    program: Vec<OsString>,
}

/// Runs the program, and writes down how it ended; where that was done already, does nothing.
///
/// # Errors
/// When the result can't be written. Then there is none, which counts as interrupted.
pub async fn run(os: System, args: Args) -> anyhow::Result<()> {
    let records = Records::on(os, &args.of.folder);
    let os = records.os();
    if records.result(args.of.attempt).is_some() {
        return Ok(());
    }
    let end = match not_any_more(&**os, &args, &records).map_or_else(|| start(&**os, &args), Err) {
        Ok(mut child) => {
            let limit = Monotonic::from_millis(args.until).since(os.monotonic());
            match tokio::time::timeout(limit, child.wait()).await {
                Ok(Ok(status)) => ended(&**os, status, &args).await,
                Ok(Err(error)) => unknown(&error),
                Err(_) => {
                    let output = printed(&**os, &args).await;
                    let end = ActivationEnd::Killed { limit_reached: true, output };
                    records.write_result(args.of.attempt, &end)?;
                    // This ends this process too, with all that the switch program started.
                    os.end_group()?;
                    return Ok(());
                }
            }
        }
        Err(error) => unknown(&error),
    };
    records.write_result(args.of.attempt, &end)?;
    if args.if_armed {
        start_new_subscriber(&**os, &args, &records, &end).await;
    }
    Ok(())
}

/// Starts the new system's subscriber, where it is another one. It finds the result, and has to
/// prove that it can do its work; without one that can, the dead-man goes back.
async fn start_new_subscriber(os: &dyn Os, args: &Args, records: &Records, end: &ActivationEnd) {
    let Ok(record) = records.read(args.of.attempt) else { return };
    if let Some(unit) = own_unit::to_restart_after(os, end, &record)
        && let Err(error) = own_unit::restart(os, unit).await
    {
        tracing::error!(%unit, %error, "the new system's subscriber does not start");
    }
}

/// Says why the program must not start: its time is over, or somebody is going back already.
fn not_any_more(os: &dyn Os, args: &Args, records: &Records) -> Option<io::Error> {
    if os.monotonic() >= Monotonic::from_millis(args.until) {
        return Some(io::Error::other("its time was over before it could start"));
    }
    let holder = records.holder(args.of.attempt);
    let problem = || io::Error::other(format!("it is not armed any more, but held by {holder:?}"));
    (args.if_armed && holder != Claim::Armed).then(problem)
}

fn start(os: &dyn Os, args: &Args) -> io::Result<Box<dyn Program>> {
    let (program, rest) = args.program.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let mut command = tokio::process::Command::new(program);
    command.args(rest).stdin(Stdio::null());
    if let Some(log) = &args.log {
        let log = OpenOptions::new().create(true).append(true).open(log)?;
        command.stdout(log.try_clone()?).stderr(log);
    }
    os.start(&mut command)
}

async fn ended(os: &dyn Os, status: std::process::ExitStatus, args: &Args) -> ActivationEnd {
    let output = printed(os, args).await;
    match status.code() {
        Some(status) => ActivationEnd::Exited { status, output },
        None => ActivationEnd::Killed { limit_reached: false, output },
    }
}

/// Gives the end of what the program printed: from the log, or from the journal.
async fn printed(os: &dyn Os, args: &Args) -> Prose {
    let text = match (&args.log, std::env::var("INVOCATION_ID")) {
        (Some(log), _) => os.read(log).unwrap_or_default(),
        (None, Ok(invocation)) => {
            let journal = tokio::time::timeout(JOURNAL_LIMIT, journal(os, &invocation));
            journal.await.unwrap_or_default().into_bytes()
        }
        (None, Err(_)) => Vec::new(),
    };
    Prose::lossy(&command::tail(&text))
}

/// Reads the journal of a unit, once it has taken in what was printed last.
async fn journal(os: &dyn Os, invocation: &str) -> String {
    let _ = command::output(os, command::program("journalctl").arg("--sync")).await;
    let mut read = command::program("journalctl");
    read.args(["--no-pager", "--output=cat", "--lines=20"]);
    read.arg(format!("_SYSTEMD_INVOCATION_ID={invocation}"));
    command::output(os, &mut read).await.unwrap_or_default()
}

fn unknown(error: &io::Error) -> ActivationEnd {
    ActivationEnd::Unknown { reason: Prose::lossy(&error.to_string()) }
}
