//! Which orders a host takes, and when it starts with them.

mod kit;

use herald_core::{Effect, Phase, Standing, State, Wait};
use herald_proto::{
    id::{Incarnation, Sequence},
    plan::Plan,
    rejection::Code,
    release::MAX_AHEAD,
    report::PhaseName,
    target::{Action, Check, Integrity},
    time::Timestamp,
};
use kit::{
    Draft, HOUR, SECOND, VALIDITY, draft, failure,
    machine::Host,
    new, old, other, parse,
    stop::{Ended, Stop},
};

fn taken(state: &State) -> Option<u64> {
    state.taken.map(|taken| taken.sequence.number())
}

#[test]
fn an_older_order_is_refused_as_replayed_in_every_phase() {
    for stop in Stop::ALL.into_iter().skip(1) {
        let mut host = stop.reach();
        let before = host.state.clone();
        host.order(draft(0));
        assert_eq!(host.refused(), Some(Code::Replayed), "{stop:?}");
        assert_eq!((&host.state.phase, host.state.taken), (&before.phase, before.taken));
    }
}

#[test]
fn the_same_order_again_is_answered_by_a_report_and_never_done_again() {
    for stop in Stop::ALL {
        if matches!(stop, Stop::Idle | Stop::Ended(Ended::Rejected)) {
            continue;
        }
        let mut host = stop.reach();
        let before = host.state.clone();
        let same = match stop {
            Stop::Rebooting => draft(1).to(Action::Reboot),
            _ => draft(1),
        };
        let effects = host.order(same);
        assert!(matches!(&effects[..], [Effect::Report(_)]), "{stop:?}: {effects:?}");
        assert_eq!(host.state, State { reports: before.reports + 1, ..before });
    }
}

#[test]
fn the_same_sequence_with_another_target_is_a_conflict() {
    let mut host = Stop::Ended(Ended::Succeeded).reach();
    host.order(draft(1).to(Action::Test));
    assert_eq!(host.refused(), Some(Code::Conflict));
    assert_eq!(host.phase(), PhaseName::Succeeded);
}

#[test]
fn an_order_from_too_far_ahead_is_refused_and_taken_once_the_clock_is_right() {
    let ahead = |draft: Draft, sequence: bool| {
        draft.with(|release, _| {
            let day = release.issued_at.plus(MAX_AHEAD).plus(HOUR);
            release.expires_at = day.plus(VALIDITY);
            if sequence {
                release.sequence = Sequence::new(day.as_millis());
            } else {
                release.issued_at = day;
            }
        })
    };
    for by_sequence in [false, true] {
        let mut host = Host::new();
        host.order(ahead(draft(1), by_sequence));
        assert_eq!(host.refused(), Some(Code::TooFarAhead));
        assert_eq!((host.phase(), taken(&host.state)), (PhaseName::Idle, None));
        assert_eq!(host.state.floor, Timestamp::default());
        host.pass(2 * HOUR);
        host.order(ahead(draft(1), by_sequence));
        assert_eq!((host.phase(), host.refused()), (PhaseName::Realising, None));
    }
}

#[test]
fn a_message_that_is_refused_again_is_said_once_although_time_went_on() {
    let mut host = Host::new();
    let far = || draft(1).with(|release, _| release.issued_at = release.issued_at.plus(48 * HOUR));
    let reports = |effects: Vec<Effect>| effects.len();
    assert_eq!(reports(host.order(far())), 1);
    host.pass(SECOND);
    assert_eq!(reports(host.order(far())), 0);
    let another = far().with(|release, _| release.sequence = Sequence::new(7));
    assert_eq!(reports(host.order(another)), 1);
}

#[test]
fn what_can_not_be_done_here_is_rejected_and_its_sequence_counts() {
    type Change = fn(Draft) -> Draft;
    let cases: [(Code, Change); 10] = [
        (Code::BadValidity, |draft| {
            draft.with(|release, _| release.not_before = release.expires_at)
        }),
        (Code::BadValidity, |draft| {
            draft.with(|release, _| {
                release.issued_at = release.issued_at.plus(HOUR);
                release.expires_at = release.issued_at;
            })
        }),
        (Code::Expired, |draft| {
            draft.with(|release, _| {
                release.expires_at = release.issued_at;
                (release.not_before, release.issued_at) = Default::default();
            })
        }),
        (Code::Unsupported, |draft| draft.with(|release, _| release.plan = Plan::Unknown(9))),
        (Code::Unsupported, |draft| draft.to(Action::Reboot)),
        (Code::Unsupported, |draft| draft.to(Action::Unknown(99))),
        (Code::Unsupported, |draft| {
            draft.with(|_, target| target.substituters = vec![parse("https://cache"); 9])
        }),
        (Code::WrongStore, |draft| {
            draft.with(|_, target| {
                let path = target.toplevel.as_str().replace("/nix/store", "/gnu/store");
                target.toplevel = parse(&path);
            })
        }),
        (Code::NotRecorded, |draft| draft.with(|_, target| target.integrity = Integrity::Recorded)),
        (Code::UnexpectedCurrent, |draft| {
            draft.with(|_, target| target.expect_current = vec![new(5), other()])
        }),
    ];
    for (code, unfit) in cases {
        let mut host = Host::new();
        host.order(unfit(draft(1)));
        assert_eq!((host.phase(), host.code()), (PhaseName::Rejected, Some(code)));
        assert_eq!(taken(&host.state), Some(draft(1).release.sequence.number()), "{code}");
        host.order(draft(0));
        assert_eq!(host.refused(), Some(Code::Replayed), "{code}: an older one came after it");
    }
    let unit = || Check::Unit(parse("sshd.service"));
    let mut host = Host::new();
    host.can.units = false;
    host.order(draft(1).with(|_, target| target.health.checks = vec![unit()]));
    assert_eq!(host.code(), Some(Code::Unsupported));
    let mut host = Host::new();
    host.order(draft(1).with(|_, target| target.health.checks = vec![unit()]));
    assert_eq!(host.phase(), PhaseName::Realising);
}

#[test]
fn a_system_that_was_measured_here_can_be_ordered_by_its_record() {
    let mut host = Host::new();
    let back = draft(1).with(|_, target| {
        target.toplevel = old();
        target.integrity = Integrity::Recorded;
    });
    host.order(back);
    assert_eq!(host.phase(), PhaseName::Realising);
}

#[test]
fn what_runs_is_compared_with_what_the_operator_expects_at_arrival_and_at_the_permit() {
    let careful = || draft(1).with(|_, target| target.expect_current = vec![new(5), old()]);
    let mut host = Stop::WaitingForPermit.reach_with(careful());
    host.permit();
    assert_eq!(host.phase(), PhaseName::Armed);

    let mut host = Stop::WaitingForPermit.reach_with(careful());
    host.seen.running = Some(other());
    host.tick();
    assert_eq!(host.phase(), PhaseName::Waiting, "it may run again when it matters");
    host.permit();
    assert_eq!((host.phase(), host.code()), (PhaseName::Rejected, Some(Code::UnexpectedCurrent)));

    let mut host = Host::new();
    host.seen.running = None;
    host.order(careful());
    assert_eq!((host.phase(), host.code()), (PhaseName::Rejected, Some(Code::UnexpectedCurrent)));
}

#[test]
fn a_lost_state_takes_only_what_names_the_new_one() {
    let lost = || {
        let mut host = Host::new();
        host.state.standing = Standing::Lost;
        host
    };
    let named = |draft: Draft, byte: u8| {
        draft.with(|_, target| target.incarnation = Some(Incarnation::from_bytes([byte; 16])))
    };
    for order in [draft(1), named(draft(1), 4)] {
        let mut host = lost();
        host.order(order);
        assert_eq!((host.phase(), host.refused()), (PhaseName::Idle, Some(Code::StateLost)));
        assert_eq!(taken(&host.state), None, "an old order can't shut the door");
    }
    let mut host = lost();
    host.order(named(draft(1), 3));
    assert_eq!((host.phase(), host.state.standing), (PhaseName::Realising, Standing::Known));
    host.order(draft(2));
    assert_eq!(host.under_way(), Some(2), "from then on it needs no name");

    let mut host = lost();
    host.order(named(draft(1), 3).to(Action::Reboot));
    assert_eq!((host.phase(), host.state.standing), (PhaseName::Rejected, Standing::Known));

    let mut host = Host::new();
    host.order(named(draft(1), 4));
    assert_eq!(host.refused(), Some(Code::StateLost), "it was for an earlier life");
}

#[test]
fn a_clock_that_is_set_back_revives_nothing() {
    let mut host = Host::new();
    let signed = kit::EPOCH.plus(HOUR);
    host.order(draft(5).with(|release, _| release.issued_at = signed));
    host.now.wall = Timestamp::default();
    assert_eq!(host.state.time(&host.now), signed);
    host.order(draft(6).with(|release, _| release.expires_at = signed));
    assert_eq!((host.phase(), host.code()), (PhaseName::Rejected, Some(Code::Expired)));
}

#[test]
fn a_slow_clock_does_not_hold_up_what_was_signed_by_a_right_one() {
    let mut host = Host::new();
    host.order(draft(1).with(|release, _| {
        release.issued_at = release.issued_at.plus(HOUR);
        release.not_before = release.issued_at;
    }));
    host.realise();
    assert!(matches!(host.state.phase, Phase::Waiting { wait: Wait::Permit, .. }));
}

#[test]
fn an_early_order_is_staged_and_waits_for_its_time() {
    let mut host = Stop::WaitingForTime.reach();
    let attempt = host.attempt();
    let permitted = herald_core::Event::Permitted { attempt, seen: host.seen.clone() };
    assert!(host.try_take(permitted).is_err(), "nobody asked for a permit");
    host.pass(HOUR - SECOND);
    assert!(host.tick().is_empty());
    host.pass(SECOND);
    assert_eq!(host.tick(), [Effect::RequestPermit { attempt }]);
    host.permit();
    assert_eq!(host.phase(), PhaseName::Armed);
}

#[test]
fn an_order_expires_while_it_waits() {
    for stop in [Stop::WaitingForTime, Stop::WaitingForPermit] {
        let mut host = stop.reach();
        host.pass(VALIDITY);
        host.tick();
        assert_eq!((host.phase(), host.code()), (PhaseName::Expired, Some(Code::Expired)));
    }
    let mut host = Stop::WaitingForPermit.reach();
    host.pass(VALIDITY);
    host.permit();
    assert_eq!(host.phase(), PhaseName::Expired, "the permit came too late");
}

#[test]
fn staging_and_doing_nothing_wait_for_no_time() {
    let early = |action| {
        draft(1).to(action).with(|release, _| release.not_before = release.issued_at.plus(HOUR))
    };
    let mut host = Host::new();
    host.order(early(Action::Stage));
    host.realise();
    assert_eq!(host.phase(), PhaseName::Succeeded);
    let mut host = Host::new();
    host.order(early(Action::None));
    assert_eq!(host.phase(), PhaseName::Succeeded);
}

#[test]
fn realising_is_tried_again_after_growing_delays_and_then_given_up() {
    let mut host = Stop::Realising.reach();
    let mut delays = Vec::new();
    for _ in 0..3 {
        let effects = host.fail_to_realise(failure(Code::RealiseFailed, true));
        delays.extend(effects.iter().filter_map(|effect| match effect {
            Effect::Realise { delay, .. } => Some(delay.as_secs()),
            _ => None,
        }));
    }
    assert_eq!(delays, [2, 8, 32]);
    host.fail_to_realise(failure(Code::RealiseFailed, true));
    assert_eq!((host.phase(), host.code()), (PhaseName::Failed, Some(Code::RealiseFailed)));
}
