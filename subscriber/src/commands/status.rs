//! `herald-subscriber status`.

use herald_core::Wait;
use herald_proto::{
    host::{FleetId, HostId, ProfileName},
    id::{MessageDigest, ReleaseId, Sequence, TargetHash},
    rejection::Code,
    report::PhaseName,
    store_path::StorePath,
    text::Prose,
    time::Timestamp,
};

use super::{About, Daemon, Exit, line, words};
use crate::{control::Ask, request::Status};

/// What to show of a host, and how.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    about: About,
}

/// Shows where a profile of the host is.
///
/// # Errors
/// When the daemon can't be asked.
pub async fn run(args: Args) -> anyhow::Result<Exit> {
    let daemon = args.about.daemon()?;
    let status = daemon.ask(Ask::Status, b"").await?;
    if args.json {
        line(&serde_json::to_string(&Shown::of(&daemon, &status))?)?;
    } else {
        let Daemon { config, profile, .. } = &daemon;
        line(&format!("{} of fleet {}, profile {profile}", config.host, config.fleet))?;
        for (name, text) in words::all(&status) {
            line(&format!("{name:<13}{text}"))?;
        }
    }
    Ok(Exit::Done)
}

/// A status for programs. Keys are only ever added; one without a value is `null`.
#[derive(serde::Serialize)]
struct Shown<'a> {
    fleet: &'a FleetId,
    host: &'a HostId,
    profile: &'a ProfileName,
    phase: PhaseName,
    since_ms: Option<Timestamp>,
    waits_for: Option<&'static str>,
    code: Option<Code>,
    detail: Option<&'a Prose>,
    release: Option<ReleaseId>,
    target: Option<TargetHash>,
    sequence: Option<Sequence>,
    hold: Option<ShownHold<'a>>,
    refusal: Option<ShownRefusal<'a>>,
    running: Option<&'a StorePath>,
    booted: Option<&'a StorePath>,
    boot_default: Option<&'a StorePath>,
    profile_points_to: Option<&'a StorePath>,
    previous: Option<&'a StorePath>,
    connected: bool,
}

#[derive(serde::Serialize)]
struct ShownHold<'a> {
    reason: &'a Prose,
    since_ms: Timestamp,
}

#[derive(serde::Serialize)]
struct ShownRefusal<'a> {
    message: MessageDigest,
    code: Code,
    detail: &'a Prose,
}

impl<'a> Shown<'a> {
    fn of(daemon: &'a Daemon, status: &'a Status) -> Self {
        let order = status.order.as_ref();
        let hold = status.hold.as_ref();
        let refusal = status.refusal.as_ref();
        Self {
            fleet: &daemon.config.fleet,
            host: &daemon.config.host,
            profile: &daemon.profile,
            phase: status.phase,
            since_ms: status.since,
            waits_for: status.wait.map(waits_for),
            code: status.cause.as_ref().map(|cause| cause.code),
            detail: status.cause.as_ref().map(|cause| &cause.detail),
            release: order.map(|order| order.release),
            target: order.map(|order| order.target),
            sequence: order.map(|order| order.sequence),
            hold: hold.map(|hold| ShownHold { reason: &hold.reason, since_ms: hold.since }),
            refusal: refusal.map(|refusal| ShownRefusal {
                message: refusal.message,
                code: refusal.code,
                detail: &refusal.detail,
            }),
            running: status.systems.running.as_ref(),
            booted: status.systems.booted.as_ref(),
            boot_default: status.systems.boot_default.as_ref(),
            profile_points_to: status.systems.profile.as_ref(),
            previous: status.systems.previous.as_ref(),
            connected: status.connected,
        }
    }
}

fn waits_for(wait: Wait) -> &'static str {
    match wait {
        Wait::NotBefore => "not-before",
        Wait::Hold => "hold",
        Wait::Window { .. } => "window",
        Wait::Consent { .. } => "consent",
        Wait::Permit => "permit",
        Wait::Units { .. } => "units",
    }
}
