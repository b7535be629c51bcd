//! What a start leads to, by the phase in which the subscriber or the machine stopped.

mod kit;

use herald_core::{Claim, Effect, Event, Found, Phase, RunnerTrace, Wait, Wake};
use herald_proto::{rejection::Code, report::PhaseName, target::Action};
use kit::{
    HOUR, SECOND, closure, draft, effect_name,
    machine::{Host, exited, nothing_found},
    new, old, other,
    stop::Stop,
};

/// Starts the host after each way in which it can have stopped: in the same boot or a new one,
/// whoever holds the armed record, whatever there is of the runner, and whatever runs. Each case
/// must lead to what the first row says that fits it, and every row must fit some case.
///
/// A row is: boot, claim, runner, what runs : the next phase : the effects.
fn check(stopped: &Host, table: &str) {
    let rows: Vec<Vec<&str>> = table
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(|line| line.split(" : ").map(str::trim).collect())
        .collect();
    let mut used = vec![false; rows.len()];
    for (host, found, case) in cases(stopped) {
        let fits = |row: &Vec<&str>| {
            row[0]
                .split_whitespace()
                .zip(case)
                .all(|(pattern, is)| pattern == "*" || pattern.split('|').any(|one| one == is))
        };
        let row = rows.iter().position(fits).expect("a row for every case");
        used[row] = true;
        let mut host = host;
        let before = host.state.wake();
        let effects = host.start(found);
        let phase = host.phase().to_string();
        let names: Vec<_> = effects.iter().map(|effect| effect_name(effect, &phase)).collect();
        assert_eq!([phase.as_str(), &names.join(" ")], rows[row][1..], "{case:?}");

        assert!(names.iter().any(|name| name.starts_with("report")), "{case:?}: {names:?}");
        assert_eq!(host.state.boot, host.now.boot);
        if let Some(Wake::Monotonic(at)) = host.state.wake() {
            let left = at.since(host.now.monotonic);
            assert!(!left.is_zero() && left < HOUR, "{case:?}: it waits for {left:?}");
            let goes_on = matches!(phase.as_str(), "realising" | "activating" | "confirming")
                && phase == stopped.phase().to_string();
            if case[0] == "same" && goes_on {
                assert_eq!(host.state.wake(), before, "{case:?}: the deadline goes on");
            }
        }
    }
    let unused: Vec<_> = rows.iter().zip(used).filter(|(_, used)| !used).collect();
    assert!(unused.is_empty(), "these rows are about nothing: {unused:?}");
}

fn cases(stopped: &Host) -> impl Iterator<Item = (Host, Found, [&'static str; 4])> {
    let boots = ["same", "new"];
    let claims = [
        ("none", Claim::None),
        ("armed", Claim::Armed),
        ("commit", Claim::Commit),
        ("rollback", Claim::Rollback),
    ];
    let runners = [
        ("gone", RunnerTrace::None),
        ("running", RunnerTrace::Running),
        ("exited-0", RunnerTrace::Ended(exited(0))),
        ("exited-1", RunnerTrace::Ended(exited(1))),
    ];
    let systems = [
        ("target", Some(new(1))),
        ("previous", Some(old())),
        ("other", Some(other())),
        ("nothing", None),
    ];
    let mut cases = Vec::new();
    for boot in boots {
        for (claimed, claim) in claims {
            for (ran, runner) in &runners {
                for (runs, running) in &systems {
                    let mut host = stopped.clone();
                    if boot == "new" {
                        host.reboot();
                    }
                    host.seen.running.clone_from(running);
                    let found = Found { claim, runner: runner.clone() };
                    cases.push((host, found, [boot, claimed, *ran, *runs]));
                }
            }
        }
    }
    cases.into_iter()
}

#[test]
fn a_start_while_idle_adopts_what_runs() {
    check(
        &Stop::Idle.reach(),
        "* * * previous|nothing : idle : clean-up report
         * * * target|other     : idle : measure clean-up report",
    );
}

#[test]
fn a_start_after_the_end_reports_it_again_and_clears_up() {
    for stop in &Stop::ALL[15..] {
        let mut host = stop.reach();
        // All that can run here is known already, so that nothing needs to be measured.
        for path in [new(1), other(), old()] {
            host.seen.running = Some(path.clone());
            host.start(nothing_found());
            let closure = closure(&path);
            host.take(Event::Measured { toplevel: path, closure });
        }
        let phase = host.phase();
        check(&host, &format!("* * * * : {phase} : clean-up report"));
    }
}

#[test]
fn a_start_while_realising_goes_on() {
    check(&Stop::Realising.reach(), "* * * * : realising : realise report");
}

#[test]
fn a_start_while_waiting_queues_again_and_after_a_boot_looks_at_the_closure_again() {
    let table = "same * * * : waiting   : request-permit report
                 new  * * * : realising : realise report";
    check(&Stop::WaitingForPermit.reach(), table);
    let table = "same * * * : waiting   : report
                 new  * * * : realising : realise report";
    check(&Stop::WaitingForTime.reach(), table);
    let staged = Stop::WaitingForTime.reach();
    let mut host = staged.clone();
    host.reboot();
    host.start(nothing_found());
    host.realise();
    assert_eq!(host.state.wake(), staged.state.wake(), "it waits for the same time");
}

#[test]
fn a_start_while_armed_takes_the_record_away_and_queues_again() {
    check(
        &Stop::Armed.reach(),
        "*    rollback * other : overridden-locally : disarm release-permit report clean-up measure
         *    rollback * *     : rolling-back       : roll-back report
         same *        * *     : waiting            : disarm request-permit report
         new  *        * *     : realising          : disarm realise report",
    );
}

#[test]
fn a_start_while_activating_goes_on_only_under_the_same_guard() {
    check(
        &Stop::Activating.reach(),
        "*    *     *        other    : overridden-locally : disarm release-permit report clean-up measure
         same armed running  *        : activating   : activate report
         same armed exited-0 target   : confirming   : prove-link check-trust check-health report
         *    *     *        *        : rolling-back : roll-back report",
    );
}

#[test]
fn a_start_while_saying_what_an_activation_would_do_goes_on_or_fails() {
    check(
        &Stop::Activating.reach_with(draft(1).to(Action::DryActivate)),
        "same * running  * : activating : activate report
         same * exited-0 * : succeeded  : release-permit report clean-up
         *    * *        * : failed     : release-permit report clean-up",
    );
}

#[test]
fn a_start_while_confirming_goes_on_only_under_the_same_guard() {
    for stop in [Stop::Confirming, Stop::AlmostProved] {
        check(
            &stop.reach(),
            "*    *     * other  : overridden-locally : disarm release-permit report clean-up measure
             same armed * target : confirming   : prove-link check-trust check-health report
             *    *     * *      : rolling-back : roll-back report",
        );
    }
}

#[test]
fn a_start_while_confirming_proves_everything_anew() {
    let mut host = Stop::AlmostProved.reach();
    host.start(Found { claim: Claim::Armed, runner: RunnerTrace::None });
    host.check(Ok(()));
    assert_eq!(host.phase(), PhaseName::Confirming);
    host.link();
    host.check(Ok(()));
    assert_eq!(host.phase(), PhaseName::Confirming, "one round is not stable");
    host.pass(SECOND);
    host.check(Ok(()));
    assert_eq!(host.phase(), PhaseName::Confirming, "the trust is looked at again");
    host.trust(Ok(()));
    assert_eq!(host.phase(), PhaseName::Committing);
}

#[test]
fn a_start_while_committing_finishes_where_the_target_runs_and_goes_back_elsewhere() {
    let table =
        "* *                 * other  : overridden-locally : disarm release-permit report clean-up measure
         * none|armed|commit * target : committing   : commit report
         * *                 * *      : rolling-back : roll-back report";
    check(&Stop::Committing.reach(), table);
    check(&Stop::Committing.reach_with(draft(1).to(Action::Test)), table);
}

#[test]
fn a_start_while_making_a_boot_default_makes_it_again() {
    let mut host = Stop::WaitingForPermit.reach_with(draft(1).to(Action::Boot));
    host.permit();
    check(
        &host,
        "* *                 * other            : overridden-locally : disarm release-permit report clean-up measure
         * none|armed|commit * target           : committing   : commit report
         * *                 * previous|nothing : committing   : commit report
         * rollback          * target           : rolling-back : roll-back report",
    );
}

#[test]
fn a_start_while_rolling_back_rolls_back_again() {
    check(
        &Stop::RollingBack.reach(),
        "* * * other : overridden-locally : disarm release-permit report clean-up measure
         * * * *     : rolling-back : roll-back report",
    );
}

#[test]
fn the_cause_of_a_roll_back_after_a_start_says_who_stopped() {
    let cases = [
        (Claim::Rollback, false, Code::DeadMan),
        (Claim::Rollback, true, Code::DeadMan),
        (Claim::Armed, true, Code::Interrupted),
        (Claim::None, false, Code::Interrupted),
    ];
    for stop in [Stop::Activating, Stop::Confirming] {
        for (claim, rebooted, code) in cases {
            let mut host = stop.reach();
            if rebooted {
                host.reboot();
            }
            host.start(Found { claim, runner: RunnerTrace::None });
            assert_eq!(host.code(), Some(code), "{stop:?}, {claim:?}");
        }
    }
    let mut host = Stop::RollingBack.reach();
    host.reboot();
    host.start(nothing_found());
    assert_eq!(host.code(), Some(Code::Unreachable), "it keeps its first cause");
}

/// Starts again and again, each time in the phase that `back` leads back to.
fn starts_until(mut host: Host, back: impl Fn(&mut Host), rebooted: bool) -> (u32, Host) {
    let (phase, mut starts) = (host.phase(), 0);
    loop {
        if rebooted {
            host.reboot();
            host.seen.running = Some(host.target());
        }
        host.start(Found { claim: Claim::Armed, runner: RunnerTrace::None });
        back(&mut host);
        if host.phase() != phase {
            return (starts, host);
        }
        starts += 1;
        assert!(starts < 100, "it starts for ever while {phase}");
    }
}

#[test]
fn starts_are_counted_and_bounded_in_every_phase_that_begins_again() {
    let queue = |host: &mut Host| {
        if host.phase() == PhaseName::Realising {
            host.realise();
        }
        if host.phase() == PhaseName::Waiting {
            host.permit();
        }
    };
    let nothing = |_: &mut Host| ();
    for rebooted in [false, true] {
        let (starts, host) = starts_until(Stop::Realising.reach(), nothing, rebooted);
        assert_eq!((starts, host.phase()), (5, PhaseName::TimedOut));
        assert_eq!(host.code(), Some(Code::TooManyStarts));

        let (starts, host) = starts_until(Stop::Armed.reach(), queue, rebooted);
        assert_eq!((starts, host.phase()), (5, PhaseName::Failed));
        assert_eq!(host.code(), Some(Code::TooManyStarts));

        let (starts, host) = starts_until(Stop::Committing.reach(), nothing, rebooted);
        assert_eq!((starts, host.phase()), (5, PhaseName::RollingBack));
        assert_eq!(host.code(), Some(Code::TooManyStarts));

        let (starts, host) = starts_until(Stop::RollingBack.reach(), nothing, rebooted);
        assert_eq!((starts, host.phase()), (5, PhaseName::Degraded));
    }
}

#[test]
fn starts_count_on_from_one_phase_to_the_next_before_anything_is_activated() {
    let mut host = Stop::Realising.reach();
    for _ in 0..3 {
        host.start(nothing_found());
    }
    host.realise();
    host.permit();
    let permit = |host: &mut Host| {
        if host.phase() == PhaseName::Waiting {
            host.permit();
        }
    };
    let (starts, _) = starts_until(host, permit, false);
    assert_eq!(starts, 2);
}

#[test]
fn waiting_long_through_many_starts_is_no_failure() {
    let mut host = Stop::WaitingForTime.reach();
    for _ in 0..20 {
        host.start(nothing_found());
    }
    assert!(matches!(host.state.phase, Phase::Waiting { wait: Wait::NotBefore, .. }));
    for _ in 0..20 {
        host.reboot();
        host.start(nothing_found());
        host.realise();
    }
    assert!(matches!(host.state.phase, Phase::Waiting { wait: Wait::NotBefore, .. }));
}

#[test]
fn starting_too_often_while_rolling_back_is_judged_by_what_runs() {
    let last = |running| {
        let mut host = Stop::RollingBack.reach();
        for _ in 0..5 {
            host.start(nothing_found());
        }
        host.seen.running = running;
        host.start(nothing_found());
        host.phase()
    };
    assert_eq!(last(Some(old())), PhaseName::RolledBack);
    assert_eq!(last(Some(other())), PhaseName::Overridden);
    assert_eq!(last(Some(new(1))), PhaseName::Degraded);
    assert_eq!(last(None), PhaseName::Degraded);
}

#[test]
fn a_third_system_that_was_the_boot_default_before_is_left_alone_after_a_power_cut() {
    let mut host = Stop::WaitingForPermit.reach();
    host.seen.boot_default = Some(other());
    host.permit();
    host.arm(Ok(()));
    host.activate(exited(0));
    host.reboot();
    let effects = host.start(Found { claim: Claim::Armed, runner: RunnerTrace::None });
    assert_eq!((host.phase(), host.seen.running), (PhaseName::Overridden, Some(other())));
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::RollBack { .. })));
}

#[test]
fn a_kept_order_is_not_lost_by_a_start() {
    for stop in [Stop::Activating, Stop::Confirming, Stop::Committing, Stop::RollingBack] {
        let mut host = stop.reach();
        host.order(draft(2));
        host.reboot();
        host.start(nothing_found());
        host.roll_back();
        let sequence = host.state.phase.order().map(|order| order.sequence);
        assert_eq!(sequence, Some(draft(2).release.sequence), "{stop:?}");
        assert_eq!(host.phase(), PhaseName::Realising);
    }
}
