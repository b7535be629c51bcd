//! A reboot into the new system, switches that need one, the last resort of a roll back, and orders
//! that nothing may undo.

mod kit;

use herald_core::{Claim, Effect, Event, Found, Phase, RunnerTrace};
use herald_proto::{
    rejection::Code,
    report::PhaseName,
    target::{Action, IfRebootNeeded, Mark},
    text::Prose,
};
use kit::{
    Draft, SECOND, draft, failure,
    machine::{Host, exited, nothing_found},
    new, old, other, realised,
    stop::Stop,
};

fn armed() -> Found {
    Found { claim: Claim::Armed, runner: RunnerTrace::None }
}

fn reboots(effects: &[Effect]) -> bool {
    effects.iter().any(|effect| matches!(effect, Effect::Reboot { .. }))
}

fn prove(host: &mut Host) {
    host.link();
    host.trust(Ok(()));
    host.check(Ok(()));
    host.pass(SECOND);
    host.check(Ok(()));
}

#[test]
fn a_reboot_into_the_new_system_is_confirmed_and_only_then_the_boot_default() {
    let mut host = Stop::Rebooting.reach();
    assert_eq!(host.seen.boot_default, Some(old()));
    host.reboot_into(new(1));
    let effects = host.start(nothing_found());
    assert_eq!(host.phase(), PhaseName::Confirming);
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Guard { .. })));
    prove(&mut host);
    host.commit();
    assert_eq!((host.phase(), host.seen.boot_default), (PhaseName::Succeeded, Some(new(1))));
}

#[test]
fn a_machine_that_boots_the_old_system_instead_is_rolled_back_and_says_so() {
    let mut host = Stop::Rebooting.reach();
    host.reboot();
    host.start(armed());
    assert_eq!((host.phase(), host.code()), (PhaseName::RollingBack, Some(Code::FellBack)));
    host.roll_back();
    assert_eq!((host.phase(), host.code()), (PhaseName::RolledBack, Some(Code::FellBack)));
}

#[test]
fn a_third_system_that_was_booted_is_left_alone() {
    let mut host = Stop::Rebooting.reach();
    host.reboot_into(other());
    host.start(armed());
    assert_eq!(host.phase(), PhaseName::Overridden);
}

#[test]
fn a_subscriber_that_is_started_again_before_the_machine_restarts_restarts_it_but_not_for_ever() {
    let mut host = Stop::Rebooting.reach();
    for _ in 0..5 {
        assert!(reboots(&host.start(armed())));
        assert_eq!(host.phase(), PhaseName::Rebooting);
    }
    host.start(armed());
    assert_eq!((host.phase(), host.code()), (PhaseName::RollingBack, Some(Code::TooManyStarts)));
}

#[test]
fn a_machine_that_does_not_restart_goes_back() {
    let mut host = Stop::Rebooting.reach();
    host.overrun();
    assert_eq!((host.phase(), host.code()), (PhaseName::RollingBack, Some(Code::LimitReached)));
    host.roll_back();
    assert_eq!(host.phase(), PhaseName::RolledBack);
}

#[test]
fn a_power_cut_while_the_boot_loader_is_told_ends_as_what_boots_says() {
    let arming = || {
        let mut host = Host::new();
        host.can.one_shot_boot = true;
        host.order(draft(1).to(Action::Reboot));
        host.realise();
        host.permit();
        host
    };
    let mut host = arming();
    host.reboot_into(new(1));
    host.start(armed());
    assert_eq!(host.phase(), PhaseName::Confirming);
    let mut host = arming();
    host.reboot();
    host.start(armed());
    assert_eq!((host.phase(), host.code()), (PhaseName::RollingBack, Some(Code::Interrupted)));
    let mut host = arming();
    host.start(armed());
    assert_eq!(host.phase(), PhaseName::RollingBack, "whether it was told is not known");
    let mut host = arming();
    host.arm(Err(failure(Code::ArmFailed, false)));
    assert_eq!((host.phase(), host.code()), (PhaseName::RollingBack, Some(Code::ArmFailed)));
}

#[test]
fn a_booted_system_that_does_not_prove_itself_goes_back_through_another_reboot() {
    let mut host = Stop::Rebooting.reach();
    host.reboot_into(new(1));
    host.start(armed());
    host.overrun();
    assert_eq!((host.phase(), host.code()), (PhaseName::RollingBack, Some(Code::Unreachable)));
    host.reboot();
    host.start(Found { claim: Claim::Rollback, runner: RunnerTrace::None });
    assert_eq!(host.phase(), PhaseName::RollingBack);
    host.roll_back();
    assert_eq!((host.phase(), host.code()), (PhaseName::RolledBack, Some(Code::Unreachable)));
}

#[test]
fn the_dead_man_of_a_boot_comes_after_the_subscriber_however_late_that_starts() {
    for uptime in [5, 240, 299, 400, 4_000] {
        let mut host = Stop::Rebooting.reach();
        host.reboot_into(new(1));
        host.pass(uptime * SECOND);
        let effects = host.start(armed());
        let dead_man = effects.iter().find_map(|effect| match effect {
            Effect::Guard { dead_man_at, .. } => Some(*dead_man_at),
            _ => None,
        });
        let dead_man = dead_man.expect("a booted system is guarded");
        let Phase::Confirming { deadline, .. } = &host.state.phase else { panic!() };
        assert!(dead_man.since(*deadline) >= 10 * SECOND, "started after {uptime} s");
    }
}

#[test]
fn a_reboot_is_rejected_where_the_boot_loader_can_not_fall_back_or_nothing_may_be_undone() {
    let mut host = Host::new();
    host.order(draft(1).to(Action::Reboot));
    assert_eq!((host.phase(), host.code()), (PhaseName::Rejected, Some(Code::Unsupported)));
    let mut host = Host::new();
    host.can.one_shot_boot = true;
    let marked = |_: &mut _, target: &mut herald_proto::target::Target| {
        target.marks = vec![Mark::Irreversible];
    };
    host.order(draft(1).to(Action::Reboot).with(marked));
    assert_eq!((host.phase(), host.code()), (PhaseName::Rejected, Some(Code::Unsupported)));
}

/// A host with an order whose system has another kernel than the one that was booted.
fn another_kernel(order: Draft) -> (Host, Vec<Effect>) {
    let mut host = Host::new();
    host.order(order);
    let mut outcome = realised(&new(1));
    outcome.reboot_needed = Some(Prose::lossy("the kernel differs"));
    let attempt = host.attempt();
    let effects = host.take(Event::RealiseEnded { attempt, outcome: Ok(outcome) });
    (host, effects)
}

fn asking(action: Action, answer: Option<IfRebootNeeded>) -> Draft {
    draft(1).to(action).with(|_, target| target.if_reboot_needed = answer)
}

#[test]
fn a_switch_to_another_kernel_is_done_or_made_the_boot_default_or_refused_as_the_release_asks() {
    let (mut host, _) = another_kernel(asking(Action::Switch, None));
    host.permit();
    host.arm(Ok(()));
    host.activate(exited(0));
    prove(&mut host);
    host.commit();
    assert_eq!((host.phase(), host.code()), (PhaseName::Succeeded, Some(Code::RebootNeeded)));

    let (mut host, _) = another_kernel(asking(Action::Switch, Some(IfRebootNeeded::Boot)));
    host.permit();
    assert_eq!(host.phase(), PhaseName::Committing, "nothing is activated");
    host.commit();
    assert_eq!((host.phase(), host.code()), (PhaseName::Succeeded, Some(Code::RebootNeeded)));
    assert_eq!(host.seen.running, Some(old()));

    for (action, answer) in [
        (Action::Switch, IfRebootNeeded::Refuse),
        (Action::Test, IfRebootNeeded::Refuse),
        (Action::Test, IfRebootNeeded::Boot),
    ] {
        let (host, _) = another_kernel(asking(action, Some(answer)));
        assert_eq!((host.phase(), host.code()), (PhaseName::Rejected, Some(Code::RebootNeeded)));
    }
}

#[test]
fn a_boot_action_says_that_another_kernel_waits_for_a_reboot_and_the_same_kernel_says_nothing() {
    let (mut host, _) = another_kernel(asking(Action::Boot, None));
    host.permit();
    host.commit();
    assert_eq!((host.phase(), host.code()), (PhaseName::Succeeded, Some(Code::RebootNeeded)));
    let mut host = Stop::WaitingForPermit.reach_with(asking(Action::Boot, None));
    host.permit();
    host.commit();
    assert_eq!((host.phase(), host.code()), (PhaseName::Succeeded, None));
}

#[test]
fn a_reboot_is_needed_until_the_machine_has_booted_what_its_profile_names() {
    let (mut host, _) = another_kernel(asking(Action::Switch, Some(IfRebootNeeded::Boot)));
    host.permit();
    host.commit();
    let still_needs_it = |host: &Host| {
        assert_eq!(host.phase(), PhaseName::Succeeded);
        host.code() == Some(Code::RebootNeeded)
    };
    host.start(nothing_found());
    assert!(still_needs_it(&host), "only the subscriber started anew");
    host.reboot_into(old());
    host.start(nothing_found());
    assert!(still_needs_it(&host), "somebody booted the old system");
    host.reboot_into(new(1));
    host.start(nothing_found());
    assert!(!still_needs_it(&host));
}

/// A server whose roll back is about to end.
fn server() -> Host {
    let mut host = Stop::RollingBack.reach();
    host.can.last_resort = true;
    host
}

#[test]
fn a_roll_back_that_fails_reboots_into_the_old_default_once_and_is_degraded_if_that_does_not_help()
{
    let mut host = server();
    host.seen.running = Some(new(1));
    assert!(reboots(&host.end_rollback(Err(failure(Code::RollbackFailed, false)))));
    assert_eq!(host.phase(), PhaseName::RollingBack);
    host.reboot();
    host.start(Found { claim: Claim::Rollback, runner: RunnerTrace::None });
    host.roll_back();
    assert_eq!((host.phase(), host.code()), (PhaseName::RolledBack, Some(Code::Unreachable)));

    let mut host = server();
    assert!(reboots(&host.end_rollback(Err(failure(Code::RollbackFailed, false)))));
    host.reboot_into(new(1));
    host.start(nothing_found());
    assert!(!reboots(&host.end_rollback(Ok(()))), "once");
    assert_eq!(host.phase(), PhaseName::Degraded);
}

#[test]
fn a_roll_back_that_takes_too_long_reboots_and_a_reboot_that_does_not_come_is_degraded() {
    let mut host = server();
    assert!(reboots(&host.overrun()));
    assert!(!reboots(&host.overrun()));
    assert_eq!(host.phase(), PhaseName::Degraded);
}

#[test]
fn a_reboot_is_no_resort_where_the_new_system_is_what_boots_or_the_policy_is_against_it() {
    let mut host = server();
    host.seen.boot_default = Some(new(1));
    assert!(!reboots(&host.end_rollback(Ok(()))));
    assert_eq!(host.phase(), PhaseName::Degraded);
    let mut host = Stop::RollingBack.reach();
    assert!(!reboots(&host.end_rollback(Ok(()))));
    assert_eq!(host.phase(), PhaseName::Degraded);
}

#[test]
fn an_old_system_that_does_not_reach_the_broker_as_it_did_before_is_rebooted_once() {
    let mut host = Stop::Reconnecting.reach();
    host.link();
    assert_eq!(host.phase(), PhaseName::RolledBack);

    let mut host = Stop::Reconnecting.reach();
    assert!(reboots(&host.overrun()));
    host.reboot();
    host.start(nothing_found());
    let effects = host.roll_back();
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::ProveLink { .. })));
    assert_eq!(host.phase(), PhaseName::RolledBack, "it has helped if this is heard");
}

fn irreversible() -> Draft {
    draft(1).with(|_, target| target.marks = vec![Mark::Irreversible])
}

#[test]
fn an_irreversible_order_has_no_dead_man_and_stops_where_it_fails() {
    let mut host = Stop::WaitingForPermit.reach_with(irreversible());
    let effects = host.permit();
    assert!(effects.iter().any(|e| matches!(e, Effect::Arm { dead_man_at: None, .. })));

    type Fails = fn(&mut Host) -> Vec<Effect>;
    let cases: [(Stop, Fails, Code); 5] = [
        (Stop::Activating, |host| host.activate(exited(1)), Code::ActivationFailed),
        (Stop::Confirming, Host::overrun, Code::Unreachable),
        (
            Stop::Committing,
            |host| host.end_commit(Err(failure(Code::CommitFailed, false))),
            Code::CommitFailed,
        ),
        (Stop::Activating, |host| host.start(nothing_found()), Code::Interrupted),
        (
            Stop::Confirming,
            |host| {
                host.reboot();
                host.start(nothing_found())
            },
            Code::Interrupted,
        ),
    ];
    for (stop, fails, code) in cases {
        let mut host = stop.reach_with(irreversible());
        let effects = fails(&mut host);
        assert_eq!((host.phase(), host.code()), (PhaseName::Degraded, Some(code)), "{stop:?}");
        assert!(!effects.iter().any(|effect| matches!(effect, Effect::RollBack { .. })));
        assert!(host.state.quarantine.is_empty(), "it did not roll back");
    }
}

#[test]
fn an_irreversible_order_goes_on_over_a_start_without_a_dead_man() {
    let mut host = Stop::Confirming.reach_with(irreversible());
    host.start(nothing_found());
    assert_eq!(host.phase(), PhaseName::Confirming);
    prove(&mut host);
    host.commit();
    assert_eq!(host.phase(), PhaseName::Succeeded);
    let host = Stop::Confirming.reach_with(irreversible());
    let event = Event::WantedBack { target: None, seen: host.seen.clone() };
    assert!(host.try_take(event).is_err(), "nobody takes it back");
}
