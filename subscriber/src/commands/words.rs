//! A status in words.

use herald_core::Wait;
use herald_proto::store_path::StorePath;

use crate::request::Status;

/// Says where a host is, and why.
pub(super) fn phase(status: &Status) -> String {
    match &status.cause {
        Some(cause) => format!("{}: {}: {}", status.phase, cause.code, cause.detail),
        None => match status.wait {
            Some(wait) => format!("{} for {}", status.phase, waits_for(wait)),
            None => status.phase.to_string(),
        },
    }
}

/// Says all that there is to say, each with its name.
pub(super) fn all(status: &Status) -> Vec<(&'static str, String)> {
    let system = |path: &Option<StorePath>| match path {
        Some(path) => path.to_string(),
        None => "none is known".to_owned(),
    };
    let since = match status.since {
        Some(since) => since.to_string(),
        None => "before the daemon started".to_owned(),
    };
    let mut lines = vec![("phase", phase(status)), ("since", since)];
    if let Some(wait) = status.wait {
        lines.push(("waits for", waits_for(wait).to_owned()));
    }
    if let Some(hold) = &status.hold {
        lines.push(("held", format!("since {}: {}", hold.since, hold.reason)));
    }
    if let Some(order) = &status.order {
        lines.push(("order", format!("{}, sequence {}", order.release, order.sequence)));
    }
    if let Some(refusal) = &status.refusal {
        lines.push(("refused", format!("a message: {}: {}", refusal.code, refusal.detail)));
    }
    let systems = &status.systems;
    lines.extend([
        ("running", system(&systems.running)),
        ("boot default", system(&systems.boot_default)),
        ("previous", system(&systems.previous)),
    ]);
    let broker = if status.connected {
        "connected"
    } else {
        "not connected: `journalctl -u herald-subscriber` says why"
    };
    lines.push(("broker", broker.to_owned()));
    lines
}

fn waits_for(wait: Wait) -> &'static str {
    match wait {
        Wait::NotBefore => "its time",
        Wait::Hold => "herald-subscriber resume",
        Wait::Window { .. } => "a maintenance window",
        Wait::Consent { .. } => "herald-subscriber consent now, or its deadline",
        Wait::Permit => "its turn",
        Wait::Units { .. } => "systemd, to say which units are failed",
    }
}
