//! `docs/states.md` against the code: its arrows, its limits, and the tests that it names.

mod kit;

use std::{collections::BTreeSet, time::Duration};

use herald_core::Wake;
use herald_proto::report::PhaseName;
use kit::{explore::small_worlds, stop::Stop};

const DOCS: &str = include_str!("../../../docs/states.md");

#[test]
fn the_diagram_has_the_steps_that_the_code_takes_and_no_others() {
    let drawn: Vec<_> = diagram().collect();
    let unique: BTreeSet<_> = drawn.iter().cloned().collect();
    assert_eq!(drawn.len(), unique.len(), "an arrow is drawn twice");
    let mut taken = BTreeSet::from([("[*]".to_owned(), "idle".to_owned())]);
    for (from, to) in small_worlds().edges {
        if from.is_terminal() {
            taken.insert((from.to_string(), "ended".into()));
            taken.insert(("ended".into(), to.to_string()));
        } else {
            taken.insert((from.to_string(), to.to_string()));
        }
    }
    let only = |these: &BTreeSet<(String, String)>, those: &BTreeSet<_>| -> Vec<_> {
        these.difference(those).map(|(from, to)| format!("{from} --> {to}")).collect()
    };
    let none: [String; 0] = [];
    assert_eq!(only(&unique, &taken), none, "drawn, but never taken");
    assert_eq!(only(&taken, &unique), none, "taken, but not drawn");
}

#[test]
fn the_diagram_has_every_phase() {
    let drawn: BTreeSet<_> = diagram().map(|(_, to)| to).collect();
    for phase in PhaseName::KNOWN {
        let is_drawn = drawn.contains(&phase.to_string());
        assert!(is_drawn, "{phase}");
        assert!(DOCS.contains(&format!("`{phase}`")), "nothing is said about {phase}");
    }
}

#[test]
fn each_phase_waits_for_as_long_as_the_page_says() {
    let mut checked = Vec::new();
    for stop in Stop::ALL {
        let host = stop.reach();
        // It was reached just now, but for those that are in the middle of their phase.
        let in_the_middle = matches!(stop, Stop::AlmostProved | Stop::Reconnecting);
        let (Some(Wake::Monotonic(deadline)), false) = (host.state.wake(), in_the_middle) else {
            continue;
        };
        let phase = host.phase().to_string();
        let limit: Duration = limits(&phase).into_iter().map(duration).sum();
        assert_eq!(deadline.since(host.now.monotonic), limit, "{phase}");
        checked.push(phase);
    }
    let timed = [
        "realising",
        "armed",
        "activating",
        "confirming",
        "committing",
        "rolling-back",
        "rebooting",
    ];
    assert_eq!(checked, timed);
}

#[test]
fn the_tests_that_the_page_names_are_there() {
    let tests =
        concat!(include_str!("crash.rs"), include_str!("reboot.rs"), include_str!("invariants.rs"));
    let named: Vec<_> = DOCS
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|text| {
            text.matches('_').count() > 3
                && !text.contains(|c: char| !c.is_ascii_lowercase() && c != '_')
        })
        .collect();
    assert!(named.len() > 12, "{named:?}");
    for name in &named {
        assert!(tests.contains(&format!("\nfn {name}(")), "no test has the name {name}");
    }
    let starts = include_str!("crash.rs")
        .lines()
        .filter_map(|line| line.strip_prefix("fn a_start_"))
        .filter_map(|rest| rest.split_once('('));
    for (name, _) in starts {
        let name = format!("a_start_{name}");
        let told = named.contains(&name.as_str())
            || name == "a_start_while_confirming_proves_everything_anew";
        assert!(told, "{name} is in no row of the page");
    }
}

/// Reads the arrows of the page's diagram, with the names that the phases have in reports.
fn diagram() -> impl Iterator<Item = (String, String)> {
    let block = DOCS.split("```mermaid\n").nth(1).and_then(|rest| rest.split("```").next());
    block.expect("the page has a diagram").lines().filter_map(|line| {
        let (from, rest) = line.trim().split_once(" --> ")?;
        let to = rest.split(':').next()?;
        Some((from.replace('_', "-"), to.replace('_', "-")))
    })
}

/// Gives the summands of a phase's limit, from the fourth column of its row.
fn limits(phase: &str) -> Vec<&'static str> {
    let row = DOCS.lines().find(|line| line.starts_with(&format!("| `{phase}` |")));
    let cell = row.and_then(|row| row.split('|').nth(4)).unwrap_or_default();
    cell.split('+').map(str::trim).collect()
}

fn duration(text: &str) -> Duration {
    let limits = kit::draft(1).target.limits;
    match text {
        "`realise`" => limits.realise,
        "`activate`" => limits.activate,
        "`confirm`" => limits.confirm,
        other => {
            let seconds = other.strip_suffix(" s").expect("any other limit is in seconds");
            Duration::from_secs(kit::parse(seconds))
        }
    }
}
