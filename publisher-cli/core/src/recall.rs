//! Going back to what a host ran before, as its own latest report names it.

use herald_proto::{report::Report, store_path::StorePath};

/// Where a roll back by the operator goes, and what it replaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WayBack {
    /// The system that was confirmed before the one that runs.
    pub to: StorePath,
    /// The system that runs.
    pub from: StorePath,
}

/// A host that has no way back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoWayBack {
    /// It does not know what runs.
    #[error("it reports no running system")]
    NothingRuns,
    /// Nothing was confirmed before.
    #[error("it reports no previous system: publish the store path that it should run")]
    NoPrevious,
    /// It is back already.
    #[error("its previous system is the one that runs")]
    AlreadyThere,
}

/// Finds the way back of a host.
///
/// # Errors
/// When the report names no other system to go back to.
pub fn way_back(report: &Report) -> Result<WayBack, NoWayBack> {
    let systems = &report.systems;
    let from = systems.running.clone().ok_or(NoWayBack::NothingRuns)?;
    let to = systems.previous.clone().ok_or(NoWayBack::NoPrevious)?;
    if to == from {
        return Err(NoWayBack::AlreadyThere);
    }
    Ok(WayBack { to, from })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{path, report};

    #[test]
    fn the_way_back_is_to_the_previous_system_if_it_is_another_one() {
        let way = |running: Option<&str>, previous: Option<&str>| {
            let mut report = report("a");
            report.systems.running = running.map(path);
            report.systems.previous = previous.map(path);
            way_back(&report)
        };
        let back = WayBack { to: path("old"), from: path("new") };
        assert_eq!(way(Some("new"), Some("old")), Ok(back));
        assert_eq!(way(Some("new"), Some("new")), Err(NoWayBack::AlreadyThere));
        assert_eq!(way(Some("new"), None), Err(NoWayBack::NoPrevious));
        assert_eq!(way(None, Some("old")), Err(NoWayBack::NothingRuns));
    }
}
