//! A newer order, before and after the point from which the older one is brought to its end.

mod kit;

use herald_core::{Effect, Event};
use herald_proto::{rejection::Code, report::PhaseName, target::Action};
use kit::{
    Draft, HOUR, VALIDITY, draft, failure,
    machine::{Host, exited, nothing_found},
    new, old, other,
    stop::Stop,
};

#[test]
fn before_armed_a_newer_order_takes_the_place_and_later_it_is_kept() {
    for stop in [Stop::Realising, Stop::WaitingForTime, Stop::WaitingForPermit] {
        let mut host = stop.reach();
        let attempt = host.attempt();
        host.order(draft(2));
        assert_eq!((host.under_way(), host.attempt()), (Some(2), attempt + 1), "{stop:?}");
    }
    for stop in [Stop::Armed, Stop::Activating, Stop::Confirming, Stop::Committing] {
        let mut host = stop.reach();
        host.order(draft(3));
        host.order(draft(2));
        assert_eq!(host.refused(), Some(Code::Replayed), "the highest is kept");
        host.order(draft(4));
        assert_eq!(host.under_way(), Some(1), "{stop:?}");
        let next = host.state.phase.attempt().and_then(|attempt| attempt.next.clone());
        assert_eq!(next.map(|next| next.name().sequence), Some(draft(4).release.sequence));
    }
}

#[test]
fn what_an_order_that_is_left_had_fetched_is_not_kept_from_the_garbage_collector() {
    let kept = |effects: &[Effect]| {
        let mut clean_ups = effects.iter().filter_map(|effect| match effect {
            Effect::CleanUp { attempt: 1, keep } => Some(keep.clone()),
            _ => None,
        });
        let kept = clean_ups.next().expect("it is cleaned up after");
        assert_eq!(clean_ups.next(), None, "once");
        kept
    };
    let same = |draft: Draft| draft.with(|_, target| target.toplevel = new(1));
    let surprised = |draft: Draft| draft.with(|_, target| target.expect_current = vec![other()]);
    for stop in [Stop::Realising, Stop::WaitingForTime, Stop::WaitingForPermit] {
        let left = |leave: &dyn Fn(&mut Host) -> Vec<Effect>| {
            let mut host = stop.reach();
            let effects = leave(&mut host);
            kept(&effects)
        };
        assert_eq!(left(&|host| host.order(draft(2))), [old(), new(2)], "{stop:?}");
        assert_eq!(left(&|host| host.order(same(draft(2)))), [old(), new(1)], "{stop:?}");
        assert_eq!(left(&|host| host.order(draft(2).to(Action::None))), [old()], "{stop:?}");
        assert_eq!(left(&|host| host.order(draft(2).to(Action::Unknown(99)))), [old()]);
        assert_eq!(left(&|host| host.order(surprised(same(draft(2))))), [old()], "{stop:?}");
        let expire = |host: &mut Host| {
            host.pass(VALIDITY);
            host.take(Event::Tick { seen: host.seen.clone() })
        };
        assert_eq!(left(&expire), [old()], "{stop:?}");
    }
}

#[test]
fn what_was_only_to_be_staged_is_kept_until_something_else_is() {
    let mut host = Host::new();
    for number in 1..3 {
        host.order(draft(number).to(Action::Stage));
        let effects = host.realise();
        let keep = vec![old(), new(number)];
        assert!(effects.contains(&Effect::CleanUp { attempt: number, keep }), "{effects:?}");
    }
}

#[test]
fn a_kept_order_is_taken_up_however_the_attempt_ends() {
    type End = fn(&mut Host) -> Vec<Effect>;
    let ends: [(Stop, End, PhaseName); 8] = [
        (Stop::Armed, |host| host.arm(Err(failure(Code::ArmFailed, false))), PhaseName::Failed),
        (Stop::Armed, Host::overrun, PhaseName::TimedOut),
        (Stop::Armed, |host| host.start(nothing_found()), PhaseName::Superseded),
        (Stop::Committing, Host::commit, PhaseName::Succeeded),
        (Stop::RollingBack, Host::roll_back, PhaseName::RolledBack),
        (Stop::RollingBack, Host::overrun, PhaseName::Degraded),
        (
            Stop::Activating,
            |host| {
                host.end_activation(exited(1));
                host.roll_back()
            },
            PhaseName::RolledBack,
        ),
        (
            Stop::Confirming,
            |host| {
                host.seen.running = Some(other());
                host.check(Ok(()))
            },
            PhaseName::Overridden,
        ),
    ];
    for (stop, end, ending) in ends {
        let mut host = stop.reach();
        host.order(draft(2));
        let effects = end(&mut host);
        let reported: Vec<_> = effects
            .iter()
            .filter_map(|effect| match effect {
                Effect::Report(body) => Some((body.phase, body.order?.sequence)),
                _ => None,
            })
            .collect();
        let [first, second] = [draft(1), draft(2)].map(|draft| draft.release.sequence);
        let expected =
            [(ending, first), (PhaseName::Accepted, second), (PhaseName::Realising, second)];
        assert_eq!(reported, expected, "{stop:?}");
        assert_eq!((host.under_way(), host.phase()), (Some(2), PhaseName::Realising));
    }
}

#[test]
fn a_kept_order_is_judged_again_by_what_runs_and_what_time_it_is_when_its_turn_comes() {
    let surprised = |draft: Draft| draft.with(|_, target| target.expect_current = vec![old()]);
    let mut host = Stop::Committing.reach();
    host.order(surprised(draft(2)));
    host.commit();
    assert_eq!((host.under_way(), host.phase()), (Some(2), PhaseName::Rejected));
    assert_eq!(host.code(), Some(Code::UnexpectedCurrent));

    let mut host = Stop::RollingBack.reach();
    host.order(surprised(draft(2)));
    host.roll_back();
    assert_eq!((host.under_way(), host.phase()), (Some(2), PhaseName::Realising));

    let mut host = Stop::Committing.reach();
    host.order(draft(2).with(|release, _| release.expires_at = release.issued_at.plus(HOUR)));
    host.pass(HOUR);
    host.commit();
    assert_eq!((host.under_way(), host.phase()), (Some(2), PhaseName::Expired));
}

#[test]
fn an_order_to_do_nothing_cancels_what_was_kept() {
    let mut host = Stop::Confirming.reach();
    host.order(draft(2));
    host.order(draft(3).to(Action::None));
    host.overrun();
    host.roll_back();
    assert_eq!((host.under_way(), host.phase()), (Some(3), PhaseName::Succeeded));
    assert_eq!(host.seen.running, Some(old()));
}

#[test]
fn a_newer_order_that_can_not_be_done_here_takes_the_place_of_the_kept_one_too() {
    let mut host = Stop::Confirming.reach();
    host.order(draft(2));
    host.order(draft(3).to(Action::Reboot));
    assert_eq!((host.phase(), host.refused()), (PhaseName::Confirming, Some(Code::Unsupported)));
    host.overrun();
    host.roll_back();
    assert_eq!((host.under_way(), host.phase()), (Some(1), PhaseName::RolledBack));
    host.order(draft(2));
    assert_eq!(host.refused(), Some(Code::Replayed));
}
