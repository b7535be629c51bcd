//! What a driver waits for: a connection that settles, and the time at which its state wakes.

use std::time::Duration;

use herald_core::{Seen, State, Wake};
use tokio::time::{Instant, sleep};

use super::WALL_CLOCK_CHECK;
use crate::ports::Ports;

/// How often a driver looks for a connection.
const CONNECTION_CHECK: Duration = Duration::from_millis(250);
/// The shortest sleep before a tick, so that a clock that stands still costs nothing.
const SHORTEST_SLEEP: Duration = Duration::from_millis(20);

/// Looks at the machine, once it is connected or has had the time for it.
pub(super) async fn settled_look(ports: &Ports, settled: Instant) -> Seen {
    loop {
        let seen = ports.machine.seen().await;
        if seen.connected || Instant::now() >= settled {
            return seen;
        }
        sleep(CONNECTION_CHECK).await;
    }
}

/// Sleeps until the state wants to be woken.
pub(super) async fn until_wake(state: &State, ports: &Ports) {
    let now = (ports.clock)();
    let span = match state.wake() {
        None => return std::future::pending().await,
        Some(Wake::Monotonic(at)) => at.since(now.monotonic),
        Some(Wake::Wall(at)) => at.since(state.time(&now)).min(WALL_CLOCK_CHECK),
    };
    sleep(span.max(SHORTEST_SLEEP)).await;
}
