//! What is done about a closure that is in the store and is not what was signed.
//!
//! Nix never fetches a path again that it has, so wrong bytes would be in the way of the right ones
//! for good. What no root keeps could be collected as garbage at any time: that is deleted, whoever
//! brought it. What something keeps is left alone, and named.

use std::{collections::BTreeSet, fmt, time::Duration};

use super::{
    command::{self, CommandFailed},
    nix::PATHS_AT_ONCE,
};
use crate::os::Os;

/// How long finding or deleting garbage may take in a large store.
const GARBAGE_LIMIT: Duration = Duration::from_secs(30 * 60);
/// How many paths that are in use a report names.
const NAMED: usize = 3;

/// What became of the paths.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Disposed {
    deleted: usize,
    kept: Vec<String>,
}

impl Disposed {
    /// Deletes of a closure, given with a path on each line and what a path needs before it, all that
    /// nothing uses; and what needs that, which nothing uses then either.
    pub(super) async fn of(os: &dyn Os, closure: &str) -> Result<Self, CommandFailed> {
        let mut ask = command::program("nix-store");
        let dead = os.run(ask.args(["--gc", "--print-dead"]), GARBAGE_LIMIT).await?;
        let dead: BTreeSet<&str> = dead.lines().collect();
        let (unused, kept): (Vec<&str>, Vec<&str>) =
            closure.lines().rev().partition(|path| dead.contains(path));
        let own: BTreeSet<&str> = unused.iter().copied().collect();
        let mut needing = BTreeSet::new();
        for some in unused.chunks(PATHS_AT_ONCE) {
            let mut ask = command::program("nix-store");
            ask.args(["--query", "--referrers-closure"]).args(some);
            let found = command::output(os, &mut ask).await?;
            needing.extend(found.lines().map(str::to_owned));
        }
        needing.retain(|path| dead.contains(path.as_str()) && !own.contains(path.as_str()));
        let all: Vec<&str> =
            needing.iter().map(String::as_str).chain(unused.iter().copied()).collect();
        for some in all.chunks(PATHS_AT_ONCE) {
            let mut delete = command::program("nix-store");
            os.run(delete.arg("--delete").args(some), GARBAGE_LIMIT).await?;
        }
        Ok(Self { deleted: unused.len(), kept: kept.into_iter().map(str::to_owned).collect() })
    }
}

/// Says what was done, and what is left to do.
impl fmt::Display for Disposed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { deleted, kept } = self;
        write!(f, "{deleted} of its paths were deleted, so that a good cache can bring them")?;
        if kept.is_empty() {
            return Ok(());
        }
        write!(
            f,
            "; {} are in use here and stay: compare them with the operator's, and repair those that \
             differ (nix-store --repair-path), or build what was signed from them: ",
            kept.len()
        )?;
        f.write_str(&kept[..kept.len().min(NAMED)].join(" "))?;
        if kept.len() > NAMED { f.write_str(" …") } else { Ok(()) }
    }
}
