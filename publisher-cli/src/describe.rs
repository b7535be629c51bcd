//! What operators sign, in lines for people.

use std::fmt::Write as _;

use herald_proto::{
    release::Release,
    target::{Integrity, Target},
    time::Timestamp,
};

use crate::clock;

/// A line: what it is about, and what it says.
pub(crate) type Line = (&'static str, String);

/// Describes a release, without its targets.
pub(crate) fn release(release: &Release, now: Timestamp) -> Vec<Line> {
    let over = if release.expires_at <= now { " (it has expired)" } else { "" };
    let mut lines = vec![
        ("release", format!("{} of the fleet {}", release.id, release.fleet)),
        ("sequence", release.sequence.to_string()),
        ("targets", release.targets_count.to_string()),
        ("issued", release.issued_at.to_string()),
        ("starts", release.not_before.to_string()),
        ("expires", format!("{}{over}", release.expires_at)),
    ];
    for (name, prose) in [("revision", &release.revision), ("reason", &release.reason)] {
        if let Some(prose) = prose {
            lines.push((name, prose.as_str().replace('\n', "\n            ")));
        }
    }
    lines
}

/// Describes what a target asks of its host, all of it but the host's name and type of system.
pub(crate) fn target(target: &Target) -> Vec<Line> {
    let limits = [
        ("realise", target.limits.realise),
        ("activate", target.limits.activate),
        ("confirm", target.limits.confirm),
        ("healthy for", target.health.stable_for),
    ];
    let limits = limits.map(|(name, limit)| format!("{name} {}", clock::span(limit)));
    let mut lines = vec![
        ("profile", target.profile.to_string()),
        ("action", target.action.to_string()),
        ("system", target.toplevel.to_string()),
        ("integrity", integrity(&target.integrity)),
        ("limits", limits.join(", ")),
    ];
    lines.extend(target.health.checks.iter().map(|check| ("check", check.to_string())));
    lines.extend(target.tolerated_units.iter().map(|unit| ("tolerates", unit.to_string())));
    lines.extend(target.expect_current.iter().map(|path| ("expects", path.to_string())));
    if let Some(wait) = target.limits.wait {
        lines.push(("waits", format!("for at most {}", clock::span(wait))));
    }
    if let Some(answer) = target.if_reboot_needed {
        lines.push(("reboot", format!("if a switch needs one: {answer}")));
    }
    lines.extend(target.substituters.iter().map(|cache| ("cache", cache.to_string())));
    lines.extend(target.marks.iter().map(|mark| ("marked", mark.to_string())));
    if let Some(incarnation) = target.incarnation {
        lines.push(("recovers", format!("the state {incarnation}")));
    }
    lines
}

/// Writes lines, each with its name in front.
pub(crate) fn write(lines: &[Line], indent: &str) -> String {
    let mut text = String::new();
    for (name, value) in lines {
        // Writing to a string can't fail.
        let _ = writeln!(text, "{indent}{name:12}{value}");
    }
    text
}

fn integrity(integrity: &Integrity) -> String {
    match integrity {
        Integrity::Closure(closure) => {
            let (paths, size) = (closure.paths, closure.size);
            format!("closure {} ({paths} paths, {size} bytes)", closure.digest)
        }
        Integrity::Toplevel => "toplevel: as the host's caches sign it".to_owned(),
        Integrity::Recorded => "recorded: as the host confirmed it before".to_owned(),
    }
}
