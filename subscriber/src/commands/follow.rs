//! Waiting for the end of what was asked for.

use std::time::{Duration, Instant};

use herald_proto::{id::TargetHash, report::PhaseName};
use tokio::time::sleep;

use super::{Daemon, Exit, line, words};
use crate::{
    control::{Ask, client::Unmet},
    request::Status,
};

/// How often the daemon is asked, at first and later.
const FIRST_LOOK: Duration = Duration::from_millis(50);
const LAST_LOOK: Duration = Duration::from_secs(1);
/// For how long it may be away: a new system brings a new one.
const AWAY: Duration = Duration::from_secs(120);

/// Which end is the one that was wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// That the order succeeds.
    Success,
    /// That it rolls back.
    RollBack,
}

/// Shows each step on stderr and the end on stdout, and gives the end.
pub(super) async fn follow(
    daemon: &Daemon,
    mut status: Status,
    target: Option<TargetHash>,
    wanted: Wanted,
) -> anyhow::Result<Exit> {
    let (mut said, mut interval) = (String::new(), FIRST_LOOK);
    let is_ours = |status: &Status| status.order.map(|order| order.target) == target;
    loop {
        if status.phase.is_terminal() {
            return end(&status, is_ours(&status), wanted);
        }
        let words = if is_ours(&status) {
            words::phase(&status)
        } else {
            format!("after another order, which is {}", words::phase(&status))
        };
        if words != said {
            eprintln!("{words}");
            (said, interval) = (words, FIRST_LOOK);
        }
        sleep(interval).await;
        interval = (interval * 2).min(LAST_LOOK);
        status = look(daemon).await?;
    }
}

async fn look(daemon: &Daemon) -> Result<Status, Unmet> {
    let began = Instant::now();
    loop {
        match daemon.ask(Ask::Status, b"").await {
            Err(unmet) if unmet.may_pass() && began.elapsed() < AWAY => sleep(LAST_LOOK).await,
            answer => return answer,
        }
    }
}

fn end(status: &Status, is_ours: bool, wanted: Wanted) -> anyhow::Result<Exit> {
    if !is_ours {
        line(&format!("another order took its place: {}", words::phase(status)))?;
        return Ok(Exit::Failed);
    }
    line(&words::phase(status))?;
    Ok(match (status.phase, wanted) {
        (PhaseName::Succeeded, Wanted::Success) => Exit::Done,
        (PhaseName::RolledBack, Wanted::RollBack) => Exit::Done,
        (PhaseName::RolledBack, Wanted::Success) => Exit::RolledBack,
        (PhaseName::TimedOut, _) => Exit::TimedOut,
        _ => Exit::Failed,
    })
}
