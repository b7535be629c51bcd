//! What systemd is told: that the daemon is ready, and, where the unit has a watchdog, that it lives.
//!
//! Everything of the daemon takes turns on one thread. This takes its turn there too, so the watchdog
//! is fed only while nothing holds that thread up. A systemd that does not listen holds nothing up.

use sd_notify::NotifyState;
use tokio::{task::spawn_blocking, time::interval};

/// Says that the daemon is ready, then feeds the watchdog for as long as it lives.
pub(crate) async fn feed() {
    tell(NotifyState::Ready).await;
    let Some(patience) = sd_notify::watchdog_enabled() else { return };
    let mut beat = interval(patience / 4);
    loop {
        beat.tick().await;
        tell(NotifyState::Watchdog).await;
    }
}

async fn tell(state: NotifyState<'static>) {
    if let Ok(Err(error)) = spawn_blocking(move || sd_notify::notify(&[state])).await {
        tracing::warn!(%error, "cannot tell systemd");
    }
}
