//! What came of a publication, for people and for programs.

use std::{collections::BTreeMap, process::ExitCode, time::Duration};

use herald_fleet::{
    json,
    outcome::{Exit, Outcome, Standing},
    watch::Watch,
};
use herald_proto::{
    host::{FleetId, HostId},
    release::Release,
};
use serde::Serialize;

use crate::{clock, output, progress::one_line};

/// What to do about a host of which nothing was heard.
const SILENT: &str =
    "nothing was heard of it: see that it is on, and follows this fleet at this broker";

/// A publication that has ended.
pub(crate) struct Ended {
    pub(crate) release: Release,
    /// How its orders stand, if it was watched.
    pub(crate) watched: bool,
    pub(crate) watch: Watch,
    /// From the start of the program to the last acknowledgement by the broker.
    pub(crate) published: Duration,
    /// From publishing to each host's end.
    pub(crate) took: BTreeMap<HostId, Duration>,
}

#[derive(Serialize)]
struct Shown<'a> {
    fleet: &'a FleetId,
    release: String,
    sequence: u64,
    /// From the start of the program to the broker's last acknowledgement.
    published_ms: u64,
    watched: bool,
    hosts: Vec<json::Published<'a>>,
}

impl Ended {
    /// Gives the program's exit code.
    pub(crate) fn exit(&self) -> ExitCode {
        let exit = if self.watched { self.watch.exit() } else { Exit::Succeeded };
        ExitCode::from(exit.code())
    }

    /// Prints it on stdout.
    pub(crate) fn print(&self, fleet: &FleetId, json: bool) -> anyhow::Result<()> {
        if json {
            return output::json(&self.shown(fleet));
        }
        if !self.watched {
            return output::line(&self.release.id.to_string());
        }
        let rows = self.watch.standings().map(|(host, profile, standing)| {
            let cause = standing.cause().map(ToString::to_string).unwrap_or_default();
            let took = self.took.get(host).copied().map(clock::seconds);
            let cause = cause.trim_start_matches(": ");
            let is_silent = matches!(
                standing,
                Standing::Silent | Standing::Ended(Outcome::Unfinished { phase: None })
            );
            let silent = is_silent.then(|| SILENT.to_owned());
            let problem = self.watch.problem(host, profile).or(silent);
            let parts = [Some(cause.to_owned()).filter(|cause| !cause.is_empty()), problem];
            let cause = one_line(&parts.into_iter().flatten().collect::<Vec<_>>().join("; "));
            [host.to_string(), standing.word(), took.unwrap_or_default(), cause]
        });
        output::table(["HOST", "OUTCOME", "AFTER", "CAUSE"], rows)
    }

    fn shown<'a>(&'a self, fleet: &'a FleetId) -> Shown<'a> {
        let hosts = self.watch.standings().map(|(host, profile, standing)| {
            let standing = self.watched.then_some(standing);
            let problem = standing.and_then(|_| self.watch.problem(host, profile));
            let took = self.took.get(host).copied();
            json::Published::of(host, profile, standing, problem, took)
        });
        Shown {
            fleet,
            release: self.release.id.to_string(),
            sequence: self.release.sequence.number(),
            published_ms: json::millis(self.published),
            watched: self.watched,
            hosts: hosts.collect(),
        }
    }
}
