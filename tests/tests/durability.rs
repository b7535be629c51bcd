//! What the broker has acknowledged survives `kill -9`, whenever it comes.

use clap::Parser;
use herald_tests::{
    binary,
    durability::{self, Settings},
};

#[test]
fn a_broker_that_is_killed_keeps_all_that_it_acknowledged() {
    let program = binary("herald-broker");
    let program = program.to_str().expect("the paths of tests are text");
    let settings = Settings::parse_from([
        "durability",
        "--times=10",
        "--publishers=50",
        "--storm-ms=1000",
        "--bulk-every=3",
        "--seed=10",
        "--broker-bin",
        program,
    ]);
    let outcome = durability::run(&settings).unwrap_or_else(|failure| panic!("{failure}"));
    assert!(outcome.faults.is_empty(), "{:?}", outcome.faults);
    // It was under load, or the test says nothing.
    assert_eq!(outcome.kills, 10);
    assert!(outcome.acked > 1_000 && outcome.resumed > 10, "{outcome:?}");
    assert!(outcome.kills_at_start > 0 && outcome.compactions > 0, "{outcome:?}");
}
