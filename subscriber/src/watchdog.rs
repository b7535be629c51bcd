//! systemd's watchdog, where the unit has one.
//!
//! Everything of the daemon takes turns on one thread. This takes its turn there too, so the watchdog
//! is fed only while nothing holds that thread up.

use sd_notify::NotifyState;
use tokio::time::interval;

/// Feeds the watchdog for as long as the daemon lives.
pub(crate) async fn feed() {
    let Some(patience) = sd_notify::watchdog_enabled() else { return };
    let mut beat = interval(patience / 4);
    loop {
        beat.tick().await;
        if let Err(error) = sd_notify::notify(&[NotifyState::Watchdog]) {
            tracing::warn!(%error, "cannot feed systemd's watchdog");
        }
    }
}
