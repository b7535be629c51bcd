//! The codes in herald.cddl are those of the code. Whether the rest of it describes the messages
//! is for `tests/interop/run` to say, which validates the vectors.

use std::fmt::Display;

use herald_proto::{
    log::Program,
    plan::Plan,
    presence::{Hearing, Liveness},
    rejection::Code,
    report::PhaseName,
    target::{Action, IfRebootNeeded, Mark},
};

const SCHEMA: &str = include_str!("../herald.cddl");

/// Gives the lines of an enumeration in the schema.
fn listed(rule: &str) -> Vec<&'static str> {
    let start = format!("\n{rule} = &(\n");
    let (_, rest) = SCHEMA.split_once(&start).expect("the schema has the enumeration");
    let (body, _) = rest.split_once("\n)").expect("the enumeration ends");
    body.lines().map(str::trim).collect()
}

fn lines<T: Display + Copy>(known: &[T], number: fn(T) -> u16) -> Vec<String> {
    known.iter().map(|code| format!("{code}: {},", number(*code))).collect()
}

#[test]
fn the_schema_lists_every_code_with_its_number_and_no_others() {
    assert_eq!(listed("known-plan"), lines(Plan::KNOWN, Plan::code));
    assert_eq!(listed("known-action"), lines(Action::KNOWN, Action::code));
    assert_eq!(
        listed("known-if-reboot-needed"),
        lines(IfRebootNeeded::KNOWN, IfRebootNeeded::code)
    );
    assert_eq!(listed("known-mark"), lines(Mark::KNOWN, Mark::code));
    assert_eq!(listed("known-liveness"), lines(Liveness::KNOWN, Liveness::code));
    assert_eq!(listed("known-hearing"), lines(Hearing::KNOWN, Hearing::code));
    assert_eq!(listed("known-program"), lines(Program::KNOWN, Program::code));
    assert_eq!(listed("known-phase"), lines(PhaseName::KNOWN, PhaseName::code));
    assert_eq!(listed("known-code"), lines(Code::KNOWN, Code::code));
}
