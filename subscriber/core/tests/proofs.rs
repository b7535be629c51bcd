//! What a new system must prove before it is committed.

mod kit;

use std::time::Duration;

use ciborium::Value;
use herald_core::{Effect, Event, Evidence};
use herald_proto::{rejection::Code, report::PhaseName, text::Prose};
use kit::{
    SECOND, draft, failure,
    machine::{Host, exited},
    old,
    stop::Stop,
};

#[test]
fn whatever_is_not_proved_in_time_rolls_back_and_says_what_was_missing() {
    type Proof = fn(&mut Host);
    let cases: [(Proof, Code, &str); 6] = [
        (|_| (), Code::Unreachable, "not reached"),
        (|host| drop(host.check(Ok(()))), Code::Unreachable, "not reached"),
        (|host| drop(host.check(Err("sshd is down"))), Code::Unhealthy, "sshd is down"),
        (|host| drop(host.link()), Code::Unhealthy, "no health check ended"),
        (
            |host| {
                host.link();
                host.check(Ok(()));
            },
            Code::Unhealthy,
            "not stable",
        ),
        (
            |host| {
                host.link();
                host.seen.running = None;
                host.check(Ok(()));
            },
            Code::Unhealthy,
            "nothing runs",
        ),
    ];
    for (proof, code, said) in cases {
        let mut host = Stop::Confirming.reach();
        proof(&mut host);
        host.pass_to_wake();
        let effects = host.tick();
        assert_eq!((host.phase(), host.code()), (PhaseName::RollingBack, Some(code)));
        let Some(Effect::Report(body)) = effects.last() else { panic!("{effects:?}") };
        let detail = body.detail.as_ref().map(Prose::to_string).unwrap_or_default();
        assert!(detail.contains(said), "{detail}");
        host.roll_back();
        assert_eq!((host.phase(), host.code()), (PhaseName::RolledBack, Some(code)));
    }
}

#[test]
fn no_link_is_asked_of_a_host_that_had_none() {
    let mut host = Stop::WaitingForPermit.reach();
    host.seen.connected = false;
    host.permit();
    host.arm(Ok(()));
    let effects = host.activate(exited(0));
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::ProveLink { .. })));
    host.trust(Ok(()));
    host.check(Ok(()));
    host.pass(SECOND);
    host.check(Ok(()));
    assert_eq!(host.phase(), PhaseName::Committing);
}

#[test]
fn a_system_that_would_not_trust_its_operators_is_left_at_once_and_one_that_was_not_asked_in_time()
{
    let mut host = Stop::Activating.reach();
    host.activate(exited(0));
    let asked = host.clone();
    let effects = host.trust(Err(failure(Code::LockedOut, false).cause));
    assert!(matches!(effects[..], [Effect::RollBack { .. }, Effect::Report(_)]), "{effects:?}");
    host.roll_back();
    assert_eq!((host.phase(), host.code()), (PhaseName::RolledBack, Some(Code::LockedOut)));

    let mut host = asked;
    host.link();
    host.check(Ok(()));
    host.pass(SECOND);
    host.check(Ok(()));
    let mut late = host.clone();
    assert_eq!(late.phase(), PhaseName::Confirming, "all but the trust is proved");
    late.overrun();
    assert_eq!((late.phase(), late.code()), (PhaseName::RollingBack, Some(Code::LockedOut)));
    host.trust(Ok(()));
    assert_eq!(host.phase(), PhaseName::Committing);
}

#[test]
fn the_message_of_an_order_is_kept_until_its_commit_and_nobody_signed_what_somebody_here_wants() {
    let order = draft(1).verified();
    let mut host = Stop::Activating.reach();
    let effects = host.activate(exited(0));
    let asked = effects.iter().find_map(|effect| match effect {
        Effect::CheckTrust { attempt } => attempt.order.evidence(),
        _ => None,
    });
    assert_eq!(asked.map(Evidence::message), Some(order.sealed.0.as_slice()));

    let mut host = Stop::Idle.reach();
    let seen = host.seen.clone();
    let target = Some(Box::new(draft(7).target));
    host.take(Event::WantedBack { target, seen });
    host.realise();
    host.permit();
    host.arm(Ok(()));
    let effects = host.activate(exited(0));
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::CheckTrust { .. })));
    host.link();
    host.check(Ok(()));
    host.pass(60 * SECOND);
    host.check(Ok(()));
    assert_eq!(host.phase(), PhaseName::Committing);
}

#[test]
fn a_failing_check_begins_the_time_of_being_healthy_anew() {
    let mut host = Stop::AlmostProved.reach();
    host.check(Err("sshd is down"));
    host.check(Ok(()));
    host.pass(SECOND / 2);
    host.check(Ok(()));
    assert_eq!(host.phase(), PhaseName::Confirming);
    host.pass(SECOND / 2);
    host.check(Ok(()));
    assert_eq!(host.phase(), PhaseName::Committing);
}

#[test]
fn one_long_round_of_checks_is_no_proof_of_being_stable() {
    let mut host = Stop::Confirming.reach();
    host.link();
    let (attempt, began) = (host.attempt(), host.now.monotonic);
    host.pass(5 * SECOND);
    let seen = host.seen.clone();
    host.take(Event::HealthChecked { attempt, began, verdict: Ok(()), seen });
    assert_eq!(host.phase(), PhaseName::Confirming);
    host.check(Ok(()));
    assert_eq!(host.phase(), PhaseName::Committing);
}

#[test]
fn health_is_watched_until_the_link_is_proved_too() {
    let mut host = Stop::Confirming.reach();
    for _ in 0..5 {
        let effects = host.check(Ok(()));
        let again = |effect: &Effect| matches!(effect, Effect::CheckHealth { .. });
        assert!(effects.iter().any(again), "{effects:?}");
        host.pass(SECOND);
    }
    let mut sick = host.clone();
    sick.check(Err("sshd is down"));
    sick.link();
    assert_eq!(sick.phase(), PhaseName::Confirming, "it was stable once, and is not any more");
    host.link();
    assert_eq!(host.phase(), PhaseName::Committing);
}

#[test]
fn a_round_of_checks_begins_at_most_half_a_second_after_the_last() {
    let slow = draft(1).with(|_, target| target.health.stable_for = 9 * SECOND / 8);
    let mut host = Stop::Confirming.reach_with(slow);
    let delay = |effects: Vec<Effect>| match effects[..] {
        [Effect::CheckHealth { delay, .. }] => delay,
        _ => panic!("{effects:?}"),
    };
    host.link();
    assert_eq!(delay(host.check(Err("sshd is down"))), SECOND / 2);
    let first = host.now.monotonic;
    assert_eq!(delay(host.check(Ok(()))), SECOND / 2);
    host.pass(SECOND);
    let left = first.plus(9 * SECOND / 8).since(host.now.monotonic) - Duration::from_millis(1);
    assert_eq!(delay(host.check(Ok(()))), left, "the last one begins when it can be the last");
}

#[test]
fn a_link_commits_nothing_before_a_round_of_checks_has_shown_that_it_is_stable() {
    let mut host = Stop::Confirming.reach();
    host.check(Ok(()));
    host.pass(5 * SECOND);
    host.link();
    assert_eq!(host.phase(), PhaseName::Confirming, "the round that is under way may fail yet");
    host.check(Ok(()));
    assert_eq!(host.phase(), PhaseName::Committing);
}

#[test]
fn an_order_that_asks_for_no_stable_time_is_confirmed_by_one_round() {
    let hasty = draft(1).with(|_, target| target.health.stable_for = Duration::ZERO);
    let mut host = Stop::Confirming.reach_with(hasty);
    host.link();
    host.check(Ok(()));
    assert_eq!(host.phase(), PhaseName::Committing);
}

#[test]
fn the_health_of_another_system_confirms_nothing() {
    let mut host = Stop::AlmostProved.reach();
    host.seen.running = Some(old());
    host.check(Ok(()));
    assert_eq!(host.phase(), PhaseName::Confirming);
    host.overrun();
    assert_eq!((host.phase(), host.code()), (PhaseName::RollingBack, Some(Code::Unhealthy)));
}

#[test]
fn a_state_of_a_version_that_kept_no_messages_is_read_and_asks_for_no_trust() {
    let host = Stop::Activating.reach();
    let mut state = Value::serialized(&host.state).unwrap();
    forget(&mut state, "evidence");
    let mut older = host.clone();
    older.state = state.deserialized().unwrap();
    assert_ne!(older.state, host.state);
    let effects = older.activate(exited(0));
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::CheckTrust { .. })));
    older.link();
    older.check(Ok(()));
    older.pass(SECOND);
    older.check(Ok(()));
    assert_eq!(older.phase(), PhaseName::Committing);
}

/// Takes a field away, wherever it stands.
fn forget(value: &mut Value, field: &str) {
    match value {
        Value::Map(entries) => {
            entries.retain(|(key, _)| key.as_text() != Some(field));
            entries.iter_mut().for_each(|(_, value)| forget(value, field));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| forget(item, field)),
        _ => {}
    }
}
