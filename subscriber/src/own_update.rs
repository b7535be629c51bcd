//! Starting the subscriber anew where somebody else's switch has changed its unit.
//!
//! A switch program leaves the subscriber alone, so that it can wait for one that it has begun
//! itself. After a switch that somebody else began, nobody but the subscriber knows when nothing is
//! under way. Where it is in the middle of an attempt, it waits for its end.

use std::{io, path::PathBuf, time::Duration};

use herald_proto::host::UnitName;
use tokio::time::sleep;

use crate::{
    adapters::{
        link_watch::LinkWatch, own_unit, record::Records, switch_folder::SwitchFolder,
        systems::store_path_at,
    },
    os::System,
};

/// How long a switch is waited for: systemd reads units again only towards its end.
const SWITCH_LIMIT: Duration = Duration::from_secs(10 * 60);
/// How often an attempt is looked at whose end is waited for.
const LOOK: Duration = Duration::from_secs(1);

/// What is watched.
pub struct OwnUpdate {
    /// The system that it runs on.
    pub os: System,
    /// The subscriber's unit.
    pub unit: UnitName,
    /// The link to what runs.
    pub current: PathBuf,
    /// The attempts of all profiles.
    pub records: Vec<Records>,
}

impl OwnUpdate {
    /// Watches for as long as the subscriber lives.
    pub async fn follow(self) {
        if let Err(error) = self.watch().await {
            let unit = &self.unit;
            tracing::error!(%unit, %error, "cannot watch what runs: restart it after a switch");
        }
    }

    async fn watch(&self) -> io::Result<()> {
        let watch = LinkWatch::new(&self.current)?;
        let started_with = store_path_at(&*self.os, &self.current);
        loop {
            watch.replaced().await?;
            SwitchFolder::beside(&self.current).wait_until_free(&*self.os, SWITCH_LIMIT).await;
            while self.is_busy() {
                sleep(LOOK).await;
            }
            let (Some(before), Some(now)) =
                (&started_with, store_path_at(&*self.os, &self.current))
            else {
                continue;
            };
            if own_unit::differs(&*self.os, &self.unit, before, &now) {
                tracing::info!(unit = %self.unit, system = %now, "starting anew, as its unit changed");
                if let Err(error) = own_unit::request_restart(&*self.os, &self.unit).await {
                    tracing::error!(unit = %self.unit, %error, "cannot start anew");
                }
            }
        }
    }

    fn is_busy(&self) -> bool {
        self.records.iter().any(|records| !records.attempts().is_empty())
    }
}
