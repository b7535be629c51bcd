//! What programs at the hosts printed, kept until it is known whether anybody wants to read it.

use std::collections::BTreeMap;

use herald_fleet::outcome::{Exit, Standing};
use herald_proto::{
    host::HostId,
    log::{Log, Program},
    signing::Verified,
};

/// How many outputs of one host are kept: one of each program, and some that came twice.
const KEPT: usize = 2 * Program::KNOWN.len();

/// What programs of the hosts printed.
#[derive(Default)]
pub(crate) struct Printed(BTreeMap<HostId, Host>);

#[derive(Default)]
struct Host {
    kept: Vec<Verified<Log>>,
    has_failed: bool,
}

impl Printed {
    /// Takes an output, and gives the lines that are to be shown now.
    pub(crate) fn take(&mut self, log: Verified<Log>) -> Vec<String> {
        let host = self.0.entry(log.host.clone()).or_default();
        let is_known = host.kept.iter().any(|kept| {
            (kept.incarnation, kept.attempt, kept.program)
                == (log.incarnation, log.attempt, log.program)
        });
        if is_known || host.kept.len() >= KEPT {
            return Vec::new();
        }
        let shown = if host.has_failed { lines(&log) } else { Vec::new() };
        host.kept.push(log);
        shown
    }

    /// Takes note of how a host's order stands, and gives the lines that are to be shown now.
    pub(crate) fn stands(&mut self, host: &HostId, standing: &Standing) -> Vec<String> {
        let failed = standing.outcome().is_some_and(|outcome| outcome.exit() != Exit::Succeeded);
        let host = self.0.entry(host.clone()).or_default();
        if !failed || host.has_failed {
            return Vec::new();
        }
        host.has_failed = true;
        host.kept.iter().flat_map(|log| lines(log)).collect()
    }
}

/// Shows an output, each line with the host's name.
pub(crate) fn lines(log: &Log) -> Vec<String> {
    let cut = if log.cut { " (the end)" } else { "" };
    let head = format!("{}  {} printed{cut}:", log.host, log.program);
    let lines = log.lines.iter().flat_map(|line| line.as_str().split('\n'));
    std::iter::once(head).chain(lines.map(|line| format!("{}  | {line}", log.host))).collect()
}
