//! What is done about a closure that is in the store and is not what was signed.
//!
//! Nix never fetches a path again that it has, so wrong bytes would be in the way of the right ones
//! for good. What no root keeps could be collected as garbage at any time: that is deleted, whoever
//! brought it. What something keeps is left alone, and named.

use std::{collections::BTreeSet, fmt, time::Duration};

use herald_proto::closure::Differing;

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
    /// Whether all of them differ; otherwise nobody knows which do.
    differ: bool,
}

impl Disposed {
    /// Deletes of a closure, given with a path on each line and what a path needs before it, all that
    /// nothing uses; and what needs that, which nothing uses then either. Where it is known which paths
    /// differ, the others stay.
    pub(super) async fn of(
        os: &dyn Os,
        closure: &str,
        differing: Option<&Differing>,
    ) -> Result<Self, CommandFailed> {
        let differing: Option<BTreeSet<&str>> =
            differing.map(|differing| differing.paths().map(|(path, _)| path.as_str()).collect());
        let differs = |path: &str| differing.as_ref().is_none_or(|paths| paths.contains(path));
        let mut ask = command::program("nix-store");
        let dead = os.run(ask.args(["--gc", "--print-dead"]), GARBAGE_LIMIT).await?;
        let dead: BTreeSet<&str> = dead.lines().collect();
        let (unused, kept): (Vec<&str>, Vec<&str>) = closure
            .lines()
            .rev()
            .filter(|path| differs(path))
            .partition(|path| dead.contains(path));
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
        let kept = kept.into_iter().map(str::to_owned).collect();
        Ok(Self { deleted: unused.len(), kept, differ: differing.is_some() })
    }
}

/// Says what was done, and what is left to do.
impl fmt::Display for Disposed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { deleted, kept, differ } = self;
        let of = if *differ { "these" } else { "its paths" };
        write!(f, "{deleted} of {of} were deleted, so that a good cache can bring them")?;
        if kept.is_empty() {
            return Ok(());
        }
        let compare = match differ {
            true => "repair them",
            false => "compare them with the operator's, and repair those that differ",
        };
        write!(
            f,
            "; {} are in use here and stay: {compare} (nix-store --repair-path), or build what was \
             signed from them: ",
            kept.len()
        )?;
        // Those that differ were named before.
        let named = if *differ { NAMED - 1 } else { NAMED };
        f.write_str(&kept[..kept.len().min(named)].join(" "))?;
        if kept.len() > named { f.write_str(" …") } else { Ok(()) }
    }
}
