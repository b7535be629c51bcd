//! Whole processes at a broker that lies; and the proof that the judges of that see mistakes.

use clap::Parser;
use herald_tests::hostile::{Mutant, Settings, Sum, campaign};

fn run(arguments: &[&str], mutant: Option<Mutant>) -> Sum {
    let all = ["hostile"].iter().chain(arguments);
    campaign(&Settings::parse_from(all), mutant)
}

#[test]
fn whatever_a_broker_does_no_host_runs_what_nobody_ordered_and_none_is_stuck() {
    let sum = run(&["--seeds", "25"], None);
    eprintln!("{sum}");
    assert!(
        sum.all.is_clean(),
        "{:#?}\nalone: cargo run -p herald-tests --bin hostile -- --seed N",
        sum.all.faults().collect::<Vec<_>>()
    );
    // It did something, or the test says nothing.
    assert!(sum.all.activations >= 40, "{sum}");
    assert!(sum.all.freezes.count > 0, "no seed froze: {sum}");
    assert!(sum.all.withheld.count > 0, "no seed held orders back: {sum}");
}

#[test]
fn an_order_that_no_operator_meant_but_a_stolen_key_signed_is_seen_by_the_judge() {
    let sum = run(&["--seed", "2"], Some(Mutant::SignsPoison));
    assert_eq!(sum.all.unauthorised.len(), 1, "{:?}", sum.all);
    assert!(sum.all.unauthorised[0].contains("which nobody ordered"), "{:?}", sum.all);
}

#[test]
fn a_broker_that_never_behaves_again_is_seen_by_the_judge() {
    let sum = run(&["--seed", "2", "--patience", "5"], Some(Mutant::HoldsForEver));
    assert_eq!(sum.all.stuck.len(), 1, "{:?}", sum.all);
}

#[test]
fn what_somebody_says_with_a_host_s_key_that_the_host_never_did_is_seen_by_the_judge() {
    let sum = run(&["--seed", "2"], Some(Mutant::SpeaksForHost));
    assert!(sum.all.wrong.iter().any(|it| it.contains("it never did")), "{:?}", sum.all);
}

#[test]
fn a_freeze_and_an_order_held_back_that_nobody_notices_are_seen_by_the_judge() {
    let sum = run(&["--seed", "2"], Some(Mutant::HidesNothing));
    assert_eq!(sum.all.unnoticed.len(), 2, "{:?}", sum.all);
}
