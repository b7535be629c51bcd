//! The subscriber on a simulated machine, stopped anywhere; and the proof that the checks of that
//! would find mistakes.

#![allow(clippy::panic, reason = "a test helper fails by panicking")]

use clap::Parser;
use herald_proto::{report::PhaseName, target::Action};
use herald_tests::crash::{
    Case, Disturbance, Event, Mutant, Plan, Scenario, Settings, campaign, kept, run,
};

fn settings(runs: usize) -> Settings {
    Settings::parse_from(["crash", "--runs", &runs.to_string(), "--seed", "7"])
}

#[test]
fn a_host_that_is_stopped_anywhere_ends_in_a_running_reachable_system() {
    let settings = settings(500 + kept().len());
    let plan = Plan::new(settings.seed);
    let sum = campaign(&plan, &settings, None);
    assert!(sum.bricked.is_empty(), "{}", sum.faults());
    // It went all the ways, or the test says nothing.
    for ending in [PhaseName::Succeeded, PhaseName::RolledBack, PhaseName::Overridden] {
        assert!(sum.endings.contains_key(&ending), "no run ended as {ending}");
    }
    for what in [Disturbance::KillSubscriber, Disturbance::SoftReboot, Disturbance::PowerCut] {
        for phase in [PhaseName::Realising, PhaseName::Activating, PhaseName::Confirming] {
            assert!(sum.came_in(what, phase), "no {what} while {phase}");
        }
    }
    // The whole plan fits into the campaign that is run by hand.
    assert!(plan.each() <= 18_000, "{} stops", plan.each());
}

#[test]
fn the_same_case_always_leads_to_the_same() {
    let plan = Plan::new(7);
    for number in (0..plan.each() + 50).step_by(500) {
        let case = plan.case(number);
        let [one, two] = [(), ()].map(|()| run(&case, None, true));
        assert_eq!(one.trace, two.trace, "{case}");
        assert!(!one.trace.is_empty());
    }
}

#[test]
fn undisturbed_each_scenario_ends_as_it_must() {
    for scenario in Scenario::all() {
        let outturn = run(&Case { scenario, events: Vec::new(), seed: 7 }, None, false);
        assert_eq!(outturn.violations, [""; 0], "{scenario}");
        assert_eq!(outturn.ending, scenario.undisturbed(), "{scenario}");
    }
}

/// Brings one disturbance to each point of a scenario, with several fates of what was not synced.
fn sweep(scenario: &str, what: Disturbance) {
    let scenario = Scenario::all().into_iter().find(|known| known.to_string() == scenario);
    let scenario = scenario.expect("a scenario of this name");
    let points = run(&Case { scenario, events: Vec::new(), seed: 0 }, None, false).points;
    for point in 1..=points {
        for seed in 0..2 {
            let case = Case { scenario, events: vec![Event { point, what }], seed };
            assert_eq!(run(&case, None, false).violations, [""; 0], "{case}");
        }
    }
}

#[test]
fn after_a_power_cut_the_profile_and_the_boot_default_agree() {
    sweep("switch:good", Disturbance::PowerCut);
    sweep("boot:good", Disturbance::PowerCut);
}

#[test]
fn a_restart_before_the_permit_does_not_hide_that_the_new_system_cuts_the_host_off() {
    sweep("switch:cut-off", Disturbance::KillSubscriber);
}

#[test]
fn the_dead_man_survives_a_soft_reboot_into_a_system_without_a_subscriber() {
    sweep("switch:deaf", Disturbance::SoftReboot);
}

#[test]
fn what_a_person_sets_meanwhile_is_left_alone() {
    sweep("switch:good", Disturbance::PersonSwitches);
    sweep("switch:sick", Disturbance::PersonBoots);
    sweep("switch:good", Disturbance::PersonTests);
}

/// Runs a subscriber or a machine with a mistake, until the checks find it.
fn is_found(mutant: Mutant) {
    let plan = Plan::new(7);
    is_found_in(mutant, (0..plan.each()).map(|number| plan.case(number)));
}

fn is_found_in(mutant: Mutant, mut cases: impl Iterator<Item = Case>) {
    let found = cases.find_map(|case| {
        let outturn = run(&case, Some(mutant), false);
        (!outturn.violations.is_empty()).then_some((case, outturn.violations))
    });
    let (case, violations) = found.unwrap_or_else(|| panic!("{mutant:?} was not found"));
    println!("{mutant:?}: {case}: {}", violations[0]);
}

#[test]
fn folders_that_are_not_synced_are_found() {
    is_found(Mutant::FoldersAreNotSynced);
}

#[test]
fn files_that_are_not_synced_are_found() {
    is_found(Mutant::FilesAreNotSynced);
}

#[test]
fn a_store_that_is_not_synced_is_found() {
    is_found(Mutant::StoreIsNotSynced);
}

#[test]
fn a_dead_man_that_does_nothing_is_found() {
    is_found(Mutant::DeadManSleeps);
}

#[test]
fn proofs_that_are_made_up_are_found() {
    is_found(Mutant::ProofsAreMadeUp);
}

#[test]
fn claims_that_both_sides_win_are_found() {
    // Where the dead-man goes back while the subscriber, which has its proofs, can't store that.
    let (scenario, what) = (Scenario::all()[0], Disturbance::DiskFullLong);
    let case = |point| Case { scenario, events: vec![Event { point, what }], seed: 7 };
    is_found_in(Mutant::ClaimsAreCopies, (1..200).map(case));
}

#[test]
fn a_roll_back_that_only_says_so_is_found() {
    is_found(Mutant::RollBackOnlySaysSo);
}

#[test]
fn a_state_that_is_forgotten_is_found() {
    is_found(Mutant::StateIsForgotten);
}

#[test]
fn a_commit_before_the_proof_is_found() {
    is_found(Mutant::CommitsFirst);
}

/// Runs reboots of a kind with a mistake, until the checks find it.
fn is_found_in_reboots(mutant: Mutant) {
    let plan = Plan::new(7);
    let cases = (0..plan.each()).map(|number| plan.case(number));
    is_found_in(mutant, cases.filter(|case| case.scenario.action == Action::Reboot));
}

#[test]
fn a_boot_loader_that_is_told_to_take_the_new_system_always_is_found() {
    is_found_in_reboots(Mutant::CommitsFirst);
}

#[test]
fn a_boot_loader_that_does_not_forget_what_is_booted_once_is_found() {
    is_found_in_reboots(Mutant::EntryIsNotForgotten);
}

#[test]
fn a_boot_that_nobody_watches_over_is_found() {
    is_found_in_reboots(Mutant::NobodyWatchesTheBoot);
}

#[test]
fn a_boot_that_is_confirmed_without_proof_is_found() {
    is_found_in_reboots(Mutant::ProofsAreMadeUp);
}

#[test]
fn limits_that_never_come_are_found() {
    is_found(Mutant::TimeStandsStill);
}

#[test]
fn what_is_left_over_is_found() {
    is_found(Mutant::NothingIsCleanedUp);
}

#[test]
fn a_disturbance_comes_before_the_point_that_it_names() {
    let scenario = Scenario::all()[0];
    let events = vec![Event { point: 5, what: Disturbance::KillSubscriber }];
    let outturn = run(&Case { scenario, events, seed: 7 }, None, false);
    assert_eq!(outturn.hits.len(), 1);
    assert_eq!(outturn.ending, PhaseName::Succeeded);
}
