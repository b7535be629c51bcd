//! One attempt from its permit to its end: each action, and every way to fail.

mod kit;

use herald_core::{ActivationEnd, Effect, Event, Phase};
use herald_proto::{
    rejection::Code,
    report::PhaseName,
    target::{Action, IfRebootNeeded},
    text::Prose,
};
use kit::{
    Draft, SECOND, closure, draft, effect_name, failure,
    machine::{Host, exited},
    new, old, other,
    stop::{Ended, Stop},
};

/// Does what the host asks for until it asks for nothing more, and gives what it asked for.
fn run(draft: Draft) -> (Host, String) {
    let mut host = Host::new();
    let mut effects = host.order(draft);
    let mut asked = Vec::new();
    loop {
        let (mut next, phase) = (None, host.phase().to_string());
        for effect in &effects {
            let name = effect_name(effect, &phase);
            if !name.starts_with("report") {
                asked.push(name);
            }
            let answer: fn(&mut Host) -> Vec<Effect> = match effect {
                Effect::Realise { .. } => Host::realise,
                Effect::RequestPermit { .. } => Host::permit,
                Effect::Arm { .. } => |host| host.arm(Ok(())),
                Effect::Activate { .. } => |host| {
                    if host.state.phase.attempt().is_some_and(|a| a.procedure.activates()) {
                        host.activate(exited(0))
                    } else {
                        host.end_activation(exited(0))
                    }
                },
                Effect::ProveLink { .. } => prove,
                Effect::Commit { .. } => |host| match host.state.phase.attempt() {
                    Some(a) if a.procedure == herald_core::Procedure::Test => {
                        host.end_commit(Ok(()))
                    }
                    _ => host.commit(),
                },
                _ => continue,
            };
            next = Some(answer);
        }
        let Some(answer) = next else { return (host, asked.join(" ")) };
        effects = answer(&mut host);
    }
}

/// Proves link, trust and health.
fn prove(host: &mut Host) -> Vec<Effect> {
    host.link();
    host.trust(Ok(()));
    host.check(Ok(()));
    host.pass(SECOND);
    host.check(Ok(()))
}

#[test]
fn each_action_does_its_part_and_no_more() {
    let activated = "realise request-permit arm activate prove-link check-trust check-health commit \
                     release-permit clean-up";
    let cases = [
        (Action::Switch, activated, new(1), new(1)),
        (Action::Test, activated, new(1), old()),
        (Action::Boot, "realise request-permit commit release-permit clean-up", old(), new(1)),
        (
            Action::DryActivate,
            "realise request-permit activate release-permit clean-up",
            old(),
            old(),
        ),
        (Action::Stage, "realise clean-up", old(), old()),
        (Action::None, "", old(), old()),
    ];
    for (action, expected, running, boot_default) in cases {
        let (host, asked) = run(draft(1).to(action));
        assert_eq!(asked, expected, "{action}");
        assert_eq!(host.phase(), PhaseName::Succeeded, "{action}");
        assert_eq!(host.seen.running, Some(running), "{action}");
        assert_eq!(host.seen.boot_default, Some(boot_default), "{action}");
        let recorded = host.state.recorded(&new(1));
        let proved = matches!(action, Action::Switch | Action::Test);
        assert_eq!(recorded, proved.then(|| closure(&new(1))), "{action}");
    }
}

#[test]
fn a_dry_activation_that_fails_or_does_not_end_changes_nothing() {
    let dry = || Stop::Activating.reach_with(draft(1).to(Action::DryActivate));
    let mut host = dry();
    host.end_activation(exited(1));
    assert_eq!((host.phase(), host.code()), (PhaseName::Failed, Some(Code::ActivationFailed)));
    let mut host = dry();
    host.overrun();
    assert_eq!((host.phase(), host.code()), (PhaseName::Failed, Some(Code::Interrupted)));
}

#[test]
fn a_boot_action_whose_commit_fails_puts_the_old_boot_default_back() {
    let permitted = || {
        let mut host = Stop::WaitingForPermit.reach_with(draft(1).to(Action::Boot));
        host.permit();
        host
    };
    let mut host = permitted();
    host.end_commit(Err(failure(Code::CommitFailed, false)));
    assert_eq!((host.phase(), host.code()), (PhaseName::RollingBack, Some(Code::CommitFailed)));
    host.roll_back();
    assert_eq!(host.phase(), PhaseName::RolledBack);

    let mut host = permitted();
    host.seen.running = Some(other());
    host.commit();
    assert_eq!(host.phase(), PhaseName::Succeeded, "what runs is not what a boot action is about");
}

#[test]
fn failed_units_are_judged_by_the_health_checks_where_there_are_units() {
    let end = |units| {
        let mut host = Stop::Activating.reach();
        host.can.units = units;
        host.activate(exited(4));
        host.phase()
    };
    assert_eq!(end(true), PhaseName::Confirming);
    assert_eq!(end(false), PhaseName::RollingBack);
}

#[test]
fn what_runs_counts_more_than_what_the_switch_program_says() {
    for running in [Some(old()), Some(other()), None] {
        let mut host = Stop::Activating.reach();
        host.seen.running = running;
        host.end_activation(exited(0));
        let end = (host.phase(), host.code());
        assert_eq!(end, (PhaseName::RollingBack, Some(Code::ActivationFailed)));
        host.roll_back();
        assert_eq!(host.phase(), PhaseName::RolledBack);
    }
}

#[test]
fn each_failure_of_the_switch_program_has_its_code() {
    let killed = |limit_reached| ActivationEnd::Killed { limit_reached, output: Prose::lossy("") };
    let unknown = ActivationEnd::Unknown { reason: Prose::lossy("no result") };
    let cases = [
        (exited(1), Code::ActivationFailed),
        (exited(100), Code::ActivationFailed),
        (killed(true), Code::LimitReached),
        (killed(false), Code::ActivationFailed),
        (unknown, Code::Interrupted),
    ];
    for (end, code) in cases {
        let mut host = Stop::Activating.reach();
        host.activate(end);
        assert_eq!(host.code(), Some(code));
    }
}

#[test]
fn a_commit_that_is_read_back_wrong_is_rolled_back() {
    let mut host = Stop::Committing.reach();
    host.seen.profile = Some(new(1));
    host.end_commit(Ok(()));
    assert_eq!((host.phase(), host.code()), (PhaseName::RollingBack, Some(Code::CommitFailed)));
    host.roll_back();
    assert_eq!(host.seen.profile, Some(old()));
    assert_eq!((host.phase(), host.code()), (PhaseName::RolledBack, Some(Code::CommitFailed)));
}

#[test]
fn a_boot_default_that_can_not_be_read_is_taken_on_trust_if_it_never_could_be() {
    let mut host = Stop::WaitingForPermit.reach();
    host.seen.boot_default = None;
    host.permit();
    host.arm(Ok(()));
    host.activate(exited(0));
    prove(&mut host);
    host.seen.profile = Some(new(1));
    host.end_commit(Ok(()));
    assert_eq!(host.phase(), PhaseName::Succeeded);

    let mut host = Stop::Committing.reach();
    host.seen.profile = Some(new(1));
    host.seen.boot_default = None;
    host.end_commit(Ok(()));
    assert_eq!(host.phase(), PhaseName::RollingBack, "it was there before");
}

#[test]
fn a_roll_back_that_does_not_bring_the_old_system_back_is_degraded_and_keeps_the_first_cause() {
    let mut host = Stop::RollingBack.reach();
    host.end_rollback(Ok(()));
    assert_eq!((host.phase(), host.code()), (PhaseName::Degraded, Some(Code::RollbackFailed)));
    let Phase::Ended { ending, .. } = &host.state.phase else { panic!() };
    let detail = ending.cause().map(|cause| cause.detail.to_string()).unwrap_or_default();
    assert!(detail.contains("because: the broker was not reached"), "{detail}");
}

#[test]
fn a_roll_back_stands_down_where_somebody_activated_another_system() {
    let mut host = Stop::RollingBack.reach();
    host.seen.running = Some(other());
    host.end_rollback(Ok(()));
    assert_eq!((host.phase(), host.code()), (PhaseName::Overridden, Some(Code::OtherSystemRuns)));
    let latest = host.state.history.last().map(|known| known.toplevel.clone());
    assert_eq!(latest, Some(other()), "what somebody chose is what there is to go back to");
}

#[test]
fn what_ran_before_is_where_an_operator_can_go_back_to_also_if_herald_did_not_choose_it() {
    let mut host = Host::new();
    for path in [&mut host.seen.running, &mut host.seen.profile, &mut host.seen.boot_default] {
        *path = Some(other());
    }
    host.order(draft(1));
    host.realise();
    host.permit();
    host.arm(Ok(()));
    host.activate(exited(0));
    prove(&mut host);
    let effects = host.commit();
    assert_eq!(host.state.previous(host.seen.running.as_ref()), Some(&other()));
    assert!(effects.contains(&Effect::Measure(other())));
    let kept = effects.iter().find_map(|effect| match effect {
        Effect::CleanUp { keep, .. } => Some(keep.clone()),
        _ => None,
    });
    assert_eq!(kept, Some(vec![old(), other(), new(1)]));
}

#[test]
fn a_switch_that_the_new_systems_check_refuses_becomes_what_the_order_says() {
    let refused = |action, decision| {
        let mut host = Host::new();
        host.order(draft(1).with(|_, target| {
            (target.action, target.if_reboot_needed) = (action, decision);
        }));
        host.realise();
        host.permit();
        let effects = host.arm(Err(failure(Code::RebootNeeded, false)));
        assert!(matches!(effects[0], Effect::Disarm { .. }));
        host
    };
    let mut host = refused(Action::Switch, Some(IfRebootNeeded::Boot));
    assert_eq!(host.phase(), PhaseName::Committing);
    host.commit();
    assert_eq!((host.phase(), host.code()), (PhaseName::Succeeded, Some(Code::RebootNeeded)));
    assert_eq!((host.seen.running, host.seen.boot_default), (Some(old()), Some(new(1))));
    for (action, decision) in [
        (Action::Switch, None),
        (Action::Switch, Some(IfRebootNeeded::Refuse)),
        (Action::Test, Some(IfRebootNeeded::Boot)),
    ] {
        let host = refused(action, decision);
        assert_eq!(host.phase(), PhaseName::Rejected, "{action} {decision:?}");
        assert_eq!(host.code(), Some(Code::RebootNeeded));
    }
}

#[test]
fn nothing_is_activated_while_systemd_does_not_say_which_units_are_failed() {
    let mut host = Stop::WaitingForPermit.reach();
    host.seen.failed_units = None;
    for _ in 0..10 {
        let began = host.now.wall;
        host.take(Event::Permitted { attempt: host.attempt(), seen: host.seen.clone() });
        assert_eq!(host.phase(), PhaseName::Waiting);
        assert_eq!(host.state.cause().map(|cause| cause.code), Some(Code::UnitsUnknown));
        host.pass_to_wake();
        assert!(host.now.wall.since(began) <= 31 * SECOND);
        let effects = host.take(Event::Tick { seen: host.seen.clone() });
        assert!(matches!(effects[..], [Effect::RequestPermit { .. }]), "{effects:?}");
    }
    let mut answered = host.clone();
    answered.seen.failed_units = Some(vec![]);
    answered.permit();
    assert_eq!(answered.phase(), PhaseName::Armed);
    host.take(Event::Permitted { attempt: host.attempt(), seen: host.seen.clone() });
    assert_eq!((host.phase(), host.code()), (PhaseName::Failed, Some(Code::UnitsUnknown)));

    let mut boot = Host::new();
    boot.order(draft(1).to(Action::Boot));
    boot.realise();
    boot.seen.failed_units = None;
    boot.permit();
    assert_eq!(boot.phase(), PhaseName::Committing, "it breaks no unit");
}

#[test]
fn four_systems_are_remembered() {
    let mut host = Stop::Ended(Ended::Succeeded).reach();
    for number in 2..7 {
        host.order(draft(number));
        host.realise();
        host.permit();
        host.arm(Ok(()));
        host.activate(exited(0));
        prove(&mut host);
        host.commit();
    }
    assert_eq!(host.state.kept(), [new(3), new(4), new(5), new(6)]);
    assert_eq!(host.state.previous(Some(&new(6))), Some(&new(5)));
}

#[test]
fn the_dead_man_comes_after_the_subscriber_however_long_each_part_takes() {
    let mut host = Stop::WaitingForPermit.reach();
    let effects = host.permit();
    let dead_man = effects.iter().find_map(|effect| match effect {
        Effect::Arm { dead_man_at, .. } => *dead_man_at,
        _ => None,
    });
    let dead_man = dead_man.expect("a switch is armed");
    let almost = |host: &mut Host| {
        host.pass_to_wake();
        host.now.monotonic =
            herald_core::Monotonic::from_millis(host.now.monotonic.as_millis() - 1);
    };
    almost(&mut host);
    host.arm(Ok(()));
    almost(&mut host);
    host.activate(exited(0));
    host.pass_to_wake();
    let left = dead_man.since(host.now.monotonic);
    assert!(left >= 10 * SECOND, "the roll back begins {left:?} before the dead-man's");
}

#[test]
fn the_end_of_an_activation_that_is_heard_of_late_does_not_put_off_the_roll_back() {
    let mut host = Stop::Activating.reach();
    host.pass_to_wake();
    let ended = host.now.monotonic;
    host.pass(60 * SECOND);
    host.activate(exited(0));
    let Phase::Confirming { attempt, deadline, .. } = &host.state.phase else { panic!() };
    assert_eq!(*deadline, ended.plus(attempt.order.target().limits.confirm));
    host.overrun();
    assert_eq!(host.phase(), PhaseName::RollingBack);
}

#[test]
fn old_generations_are_deleted_after_a_commit_and_failing_to_is_said_and_no_more() {
    let committing = |action| match action {
        Action::Boot => {
            let mut host = Stop::WaitingForPermit.reach_with(draft(1).to(action));
            host.permit();
            host
        }
        _ => Stop::Committing.reach_with(draft(1).to(action)),
    };
    for (action, prunes, expected) in [
        (Action::Switch, true, true),
        (Action::Boot, true, true),
        (Action::Test, true, false),
        (Action::Switch, false, false),
    ] {
        let mut host = committing(action);
        host.can.prunes = prunes;
        let effects = host.commit();
        let pruned = matches!(effects.last(), Some(Effect::Prune { .. }));
        assert_eq!(pruned, expected, "{action}: {effects:?}");
        assert_eq!(host.phase(), PhaseName::Succeeded);
    }

    let mut host = Stop::Ended(Ended::Succeeded).reach();
    let effects = host.take(Event::Pruned { outcome: Err(failure(Code::NotPruned, false)) });
    let [Effect::Report(body)] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!((body.phase, body.code), (PhaseName::Succeeded, Some(Code::NotPruned)));
    assert_eq!((host.phase(), host.code()), (PhaseName::Succeeded, None));
}

#[test]
fn as_many_confirmed_systems_are_kept_as_the_host_wants() {
    for most in [2, 4, 6] {
        let mut host = Host::new();
        host.can.kept_systems = most;
        for number in 1..=7 {
            host.order(draft(number));
            host.realise();
            host.permit();
            host.arm(Ok(()));
            host.activate(exited(0));
            prove(&mut host);
            host.commit();
            assert_eq!(host.phase(), PhaseName::Succeeded);
        }
        let kept: Vec<_> = host.state.history.iter().map(|known| known.toplevel.clone()).collect();
        let first = 8 - most as u64;
        assert_eq!(kept, (first..=7).map(new).collect::<Vec<_>>());
    }
}
