//! One round of health checks on a real machine.

use std::{future::poll_fn, path::PathBuf, task::Poll, time::Duration};

use herald_core::Attempt;
use herald_proto::{http::Patience, target::Check, text::Prose};
use tokio::{net::TcpStream, time::timeout};

use super::{command, health_folder, http_status, launcher::systemctl, systems::failed_units};
use crate::{
    config::Runner,
    link::chain,
    os::{Os, System},
    ports::{Health, Pending},
};

/// How long one check may take, if it does not say itself.
const CHECK_LIMIT: Duration = Duration::from_secs(10);
/// How many bytes there are for all that fails in a round, and how many failures are named.
const SAID: usize = 980;
const NAMED: usize = 16;

/// Runs the checks that a release and the host itself ask for, and looks at the units.
pub struct Checks {
    /// The system that is checked.
    pub os: System,
    /// Whether there is a systemd to ask.
    pub runner: Runner,
    /// Where the host's own checks are.
    pub folder: PathBuf,
}

/// One check that is under way, or that ended: what failed, if anything did.
type Part<'a> = Pending<'a, Result<(), String>>;

impl Health for Checks {
    fn check<'a>(&'a self, attempt: &'a Attempt) -> Pending<'a, Result<(), Prose>> {
        Box::pin(async move {
            let target = attempt.order.target();
            let os = &*self.os;
            let own = health_folder::read(os, &self.folder).unwrap_or_else(|bad| vec![Err(bad)]);
            let mut parts: Vec<Part> = vec![Box::pin(self.check_units(attempt))];
            for check in &target.health.checks {
                parts.push(Box::pin(run(os, check.to_string(), check, target.toplevel.as_str())));
            }
            let mut bad = Vec::new();
            for one in &own {
                match one {
                    Ok((file, check)) => {
                        let name = format!("{}: {check}", file.display());
                        parts.push(Box::pin(run(os, name, check, target.toplevel.as_str())));
                    }
                    Err(error) => bad.push(chain(error)),
                }
            }
            let mut failed: Vec<_> = all(parts).await.into_iter().filter_map(Result::err).collect();
            failed.extend(bad);
            if failed.is_empty() { Ok(()) } else { Err(said(&failed)) }
        })
    }
}

impl Checks {
    async fn check_units(&self, attempt: &Attempt) -> Result<(), String> {
        let tolerated = &attempt.order.target().tolerated_units;
        let failed = match self.runner {
            Runner::Direct => Vec::new(),
            // A systemd that does not answer is no healthy one.
            Runner::Systemd => failed_units(&*self.os).await.map_err(|error| error.to_string())?,
        };
        let excused =
            |unit| attempt.baseline.failed_units.contains(unit) || tolerated.contains(unit);
        let failed: Vec<_> = failed.iter().filter(|unit| !excused(unit)).collect();
        if failed.is_empty() {
            return Ok(());
        }
        let names: Vec<_> = failed.iter().map(|unit| unit.as_str()).collect();
        Err(format!("failed units: {}", names.join(", ")))
    }
}

/// Names all that failed, the more briefly the more there is.
fn said(failed: &[String]) -> Prose {
    let most = SAID / failed.len().clamp(1, NAMED) - "…; ".len();
    let brief = |text: &String| {
        let end = (0..=most.min(text.len())).rfind(|at| text.is_char_boundary(*at));
        let kept = text.get(..end.unwrap_or_default()).unwrap_or_default();
        if kept.len() < text.len() { format!("{kept}…") } else { kept.to_owned() }
    };
    let mut named: Vec<_> = failed.iter().take(NAMED).map(brief).collect();
    if failed.len() > NAMED {
        named.push(format!("and {} more", failed.len() - NAMED));
    }
    Prose::lossy(&named.join("; "))
}

/// Does all of it at once, and waits for all.
async fn all<T>(mut parts: Vec<Pending<'_, T>>) -> Vec<T> {
    let mut ended: Vec<Option<T>> = parts.iter().map(|_| None).collect();
    poll_fn(|context| {
        for (part, end) in parts.iter_mut().zip(&mut ended) {
            if end.is_none()
                && let Poll::Ready(value) = part.as_mut().poll(context)
            {
                *end = Some(value);
            }
        }
        if ended.iter().all(Option::is_some) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    ended.into_iter().flatten().collect()
}

async fn run(os: &dyn Os, name: String, check: &Check, toplevel: &str) -> Result<(), String> {
    look(os, check, toplevel).await.map_err(|problem| format!("{name}: {problem}"))
}

async fn look(os: &dyn Os, check: &Check, toplevel: &str) -> Result<(), String> {
    match check {
        Check::Command(argv) => {
            let (program, args) = argv.split_first().ok_or("it names no program")?;
            let mut command = command::program(program);
            command.args(args).current_dir("/").env("HERALD_TOPLEVEL", toplevel);
            let outcome = os.run(&mut command, CHECK_LIMIT).await;
            outcome.map(drop).map_err(|error| error.to_string())
        }
        Check::Unit(unit) => {
            let ask = ["show", "--property=ActiveState", "--value", "--", unit.as_str()];
            let asked = timeout(CHECK_LIMIT, systemctl(os, &ask)).await;
            let asked =
                asked.map_err(|_| format!("systemd said nothing within {CHECK_LIMIT:?}"))?;
            match asked.map_err(|error| error.to_string())?.trim() {
                "active" => Ok(()),
                other => Err(format!("it is {other}")),
            }
        }
        Check::Tcp(address) => match timeout(CHECK_LIMIT, TcpStream::connect(address)).await {
            Ok(connected) => connected.map(drop).map_err(|error| error.to_string()),
            Err(_) => Err(format!("no connection within {CHECK_LIMIT:?}")),
        },
        Check::Http(check) => {
            let limit = check.within.map_or(CHECK_LIMIT, Patience::get);
            match timeout(limit, http_status::status(check)).await {
                Ok(Ok(status)) if check.good().contains(status) => Ok(()),
                Ok(Ok(status)) => Err(format!("it answers {status}, not {}", check.good())),
                Ok(Err(error)) => Err(error.to_string()),
                Err(_) => Err(format!("no answer within {limit:?}")),
            }
        }
    }
}

#[cfg(test)]
mod tests;
