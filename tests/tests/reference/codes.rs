//! The page of phases, codes and refusals: names and meanings from the code, and beside each what an
//! operator does about it, which the page alone has.

use std::{collections::BTreeMap, fmt::Write as _};

use herald_broker::refusal::Refusal;
use herald_proto::{rejection::Code, report::PhaseName};

use super::page::{self, cell};

const PAGE: &str = "codes.md";
const HEAD: &str = "\
# Phases, codes and refusals

Numbers, names and meanings are written from the code by `tests/tests/reference`; what to do is kept
here, for each of them. [states.md](../states.md) has what leads to what on a host.
";

#[test]
fn every_phase_code_and_refusal_is_in_the_reference_with_what_to_do() {
    let written = page::read(PAGE);
    let advice: BTreeMap<_, _> = page::rows(&written)
        .into_iter()
        .filter_map(|(heading, cells)| match &*cells {
            [.., name, _, advice] => Some(((heading, name.clone()), advice.clone())),
            _ => None,
        })
        .collect();
    let phases = PhaseName::KNOWN.iter();
    let phases = phases.map(|phase| (Some(phase.code()), phase.to_string(), phase.meaning()));
    let codes = Code::KNOWN.iter().map(|it| (Some(it.code()), it.to_string(), it.meaning()));
    let refusals = Refusal::ALL.iter().map(|it| (None, it.name().to_owned(), it.meaning()));
    let sections: [(&str, &str, Vec<_>); 3] = [
        (
            "Phases",
            "Where a host is with its order: in reports, and the column PHASE of `herald status`.",
            phases.collect(),
        ),
        (
            "Codes",
            "Why: in reports, and the column DETAIL. Some are also why an operator's own command \
             refuses something.",
            codes.collect(),
        ),
        (
            "Refusals of the broker",
            "The label `reason` of `herald_broker_refused_total`, and the word in the broker's log.",
            refusals.collect(),
        ),
    ];
    let mut text = HEAD.to_owned();
    let mut silent = Vec::new();
    for (heading, about, rows) in sections {
        let number = if rows.iter().any(|(code, ..)| code.is_some()) { "| number " } else { "" };
        let line = if number.is_empty() { "|---|---|---|" } else { "|---|---|---|---|" };
        write!(text, "\n## {heading}\n\n{about}\n\n").unwrap();
        write!(text, "{number}| name | meaning | what to do |\n{line}\n").unwrap();
        for (code, name, meaning) in rows {
            let name = format!("`{name}`");
            let advice = advice.get(&(heading.to_owned(), name.clone())).cloned();
            let advice = advice.unwrap_or_default();
            if advice.is_empty() {
                silent.push(name.clone());
            }
            let number = code.map(|code| format!("| {code} ")).unwrap_or_default();
            writeln!(text, "{number}| {name} | {} | {} |", cell(meaning), cell(&advice)).unwrap();
        }
    }
    page::check(PAGE, &text);
    assert!(silent.is_empty(), "{PAGE} does not say what to do about {silent:?}");
}
