//! A short, seeded run of what `tests/fuzz/run` does for long.

use herald_tests::fuzz::{Mutator, TARGETS, seeds};

/// The same inputs in each run: whoever finds one that fails adds it to `tests/fuzz/kept`.
const SEED: u64 = 0x6865_7261_6c64;
const INPUTS: usize = 20_000;

fn every_mutation(name: &str) {
    let (_, target) = TARGETS.into_iter().find(|(own, _)| *own == name).expect("a target");
    let inputs = seeds(name);
    inputs.iter().for_each(|input| target(input));
    let mut mutator = Mutator::new(SEED);
    for _ in 0..INPUTS {
        target(&mutator.mutated(&inputs));
    }
}

macro_rules! every {
    ($($test:ident: $target:literal,)*) => {$(
        #[test]
        fn $test() {
            every_mutation($target);
        }
    )*
        #[test]
        fn each_target_is_tried() {
            assert_eq!(TARGETS.map(|(name, _)| name), [$($target),*]);
        }
    };
}

every! {
    mutated_envelopes_keep_the_promises: "envelope",
    mutated_orders_keep_the_promises: "order",
    mutated_reports_presences_and_logs_keep_the_promises: "report",
    mutated_release_files_keep_the_promises: "release_file",
    mutated_trust_files_keep_the_promises: "trust",
    mutated_state_files_keep_the_promises: "state",
    mutated_keys_keep_the_promises: "key",
    mutated_topics_and_names_keep_the_promises: "topic",
}
