//! What people at the host can do, and what else a staged order waits for: windows and consent.

mod kit;

use std::time::Duration;

use herald_core::{Effect, Event, Phase, ReportBody, Wait, Window};
use herald_proto::{
    rejection::Code,
    report::PhaseName,
    target::{Action, Mark},
    text::Prose,
};
use kit::{
    Draft, HOUR, SECOND, VALIDITY, draft, failure,
    machine::{Host, nothing_found},
    new, old,
    stop::{Ended, Stop},
};

fn hold(host: &mut Host) -> Vec<Effect> {
    host.take(Event::Held { reason: Prose::lossy("the backup runs") })
}

fn answer(host: &mut Host, agrees: bool) -> Vec<Effect> {
    host.take(Event::Answered { attempt: host.attempt(), agrees })
}

fn window(host: &mut Host, window: Window) -> Vec<Effect> {
    host.take(Event::WindowSeen { attempt: host.attempt(), window: Ok(window) })
}

fn wait_of(host: &Host) -> Option<Wait> {
    match &host.state.phase {
        Phase::Waiting { wait, .. } => Some(*wait),
        _ => None,
    }
}

fn last_report(effects: &[Effect]) -> &ReportBody {
    let reports = effects.iter().rev().filter_map(|effect| match effect {
        Effect::Report(body) => Some(body),
        _ => None,
    });
    reports.into_iter().next().expect("a report")
}

/// The order of somebody at the host for what ran before.
fn want_back(host: &mut Host) -> Vec<Effect> {
    let seen = host.seen.clone();
    let back = host.state.previous(seen.running.as_ref()).cloned();
    let target =
        back.map(|back| Box::new(draft(0).with(|_, target| target.toplevel = back).target));
    host.take(Event::WantedBack { target, seen })
}

#[test]
fn a_held_host_gets_ready_and_waits_and_says_why_until_it_is_let_go() {
    let mut host = Host::new();
    hold(&mut host);
    host.order(draft(1));
    let effects = host.realise();
    let report = last_report(&effects);
    assert_eq!((report.phase, report.code), (PhaseName::Waiting, Some(Code::Held)));
    assert_eq!(report.detail, Some(Prose::lossy("the backup runs")));
    let asks = |effect: &Effect| matches!(effect, Effect::RequestPermit { .. });
    assert!(!effects.iter().any(asks));
    let effects = host.start(nothing_found());
    assert_eq!(last_report(&effects).code, Some(Code::Held), "a start forgets no hold");
    let effects = host.take(Event::Resumed);
    assert!(effects.iter().any(asks));
    assert_eq!(last_report(&effects).code, None);
    host.permit();
    assert_eq!(host.phase(), PhaseName::Armed);
}

#[test]
fn a_hold_leaves_the_queue_and_a_permit_that_comes_late_starts_nothing() {
    let mut host = Stop::WaitingForPermit.reach();
    let effects = hold(&mut host);
    assert!(effects.contains(&Effect::ReleasePermit));
    let (attempt, seen) = (host.attempt(), host.seen.clone());
    assert!(host.try_take(Event::Permitted { attempt, seen }).is_err());
}

#[test]
fn a_hold_interrupts_nothing_from_armed_on_and_holds_up_what_comes_next() {
    for stop in [Stop::Armed, Stop::Activating, Stop::Confirming, Stop::Committing] {
        let mut host = stop.reach();
        let phase = host.phase();
        hold(&mut host);
        assert_eq!(host.phase(), phase);
    }
    let mut host = Stop::Committing.reach();
    hold(&mut host);
    host.order(draft(2));
    host.commit();
    host.realise();
    assert_eq!((host.under_way(), wait_of(&host)), (Some(2), Some(Wait::Hold)));
}

#[test]
fn a_hold_does_not_keep_an_order_beyond_its_time() {
    let mut host = Stop::Held.reach();
    host.pass(VALIDITY);
    host.tick();
    assert_eq!(host.phase(), PhaseName::Expired);
    assert!(host.state.hold.is_some(), "it holds on");
}

#[test]
fn an_order_that_changes_nothing_here_is_not_held() {
    for action in [Action::Stage, Action::DryActivate] {
        let mut host = Host::new();
        hold(&mut host);
        host.order(draft(1).to(action));
        host.realise();
        assert_ne!(last_report(&host.start(nothing_found())).code, Some(Code::Held), "{action}");
    }
}

#[test]
fn outside_of_the_windows_an_order_waits_for_the_next_one_to_open() {
    let mut host = Stop::WaitingForWindow.reach();
    let opens = host.now.wall.plus(HOUR);
    let effects = window(&mut host, Window::Closed { opens });
    assert_eq!(last_report(&effects).code, Some(Code::OutsideWindow));
    let effects = host.overrun();
    assert!(matches!(effects.as_slice(), [Effect::LookAtWindows { at, .. }] if *at >= opens));
    let closes = host.now.wall.plus(HOUR);
    let effects = window(&mut host, Window::Open { closes });
    assert!(matches!(effects.as_slice(), [Effect::RequestPermit { .. }]));
    host.permit();
    assert_eq!(host.phase(), PhaseName::Armed);
}

#[test]
fn a_window_that_closes_before_the_permit_comes_is_over() {
    let mut host = Stop::WaitingForWindow.reach();
    let closes = host.now.wall.plus(HOUR);
    window(&mut host, Window::Open { closes });
    host.pass(HOUR);
    let effects = host.permit();
    assert!(matches!(effects.as_slice(), [Effect::ReleasePermit, Effect::LookAtWindows { .. }]));
}

#[test]
fn a_calendar_that_can_not_be_read_is_looked_at_again_and_the_order_says_so() {
    let mut host = Stop::WaitingForWindow.reach();
    let attempt = host.attempt();
    let window = Err(failure(Code::OutsideWindow, true));
    let effects = host.take(Event::WindowSeen { attempt, window });
    assert_eq!(last_report(&effects).detail, Some(Prose::lossy("as the test wants")));
    let effects = host.overrun();
    assert!(matches!(effects.as_slice(), [Effect::LookAtWindows { .. }]));
}

#[test]
fn an_urgent_order_waits_for_no_window() {
    let mut host = Host::new();
    host.can.windows = true;
    host.order(draft(1).with(|_, target| target.marks = vec![Mark::Urgent]));
    let effects = host.realise();
    assert!(effects.iter().any(|effect| matches!(effect, Effect::RequestPermit { .. })));
}

#[test]
fn whoever_uses_the_host_is_asked_and_without_an_answer_it_goes_on_at_the_deadline() {
    let mut host = Host::new();
    host.can.consent = Some(HOUR);
    host.order(draft(1));
    let effects = host.realise();
    assert!(effects.iter().any(|effect| matches!(effect, Effect::AskConsent { .. })));
    assert_eq!(last_report(&effects).code, Some(Code::AwaitingConsent));
    let effects = host.overrun();
    assert!(matches!(effects.as_slice(), [Effect::RequestPermit { .. }]));
    host.permit();
    assert_eq!(host.phase(), PhaseName::Armed);
}

#[test]
fn whoever_uses_the_host_can_agree_at_once_or_want_it_later() {
    let mut host = Stop::WaitingForConsent.reach();
    answer(&mut host, true);
    assert_eq!(wait_of(&host), Some(Wait::Permit));

    let mut host = Stop::WaitingForConsent.reach();
    let before = host.state.wake();
    let effects = answer(&mut host, false);
    assert_eq!(last_report(&effects).code, Some(Code::Postponed));
    assert_eq!(host.state.wake(), before, "the deadline stays");
    let effects = host.start(nothing_found());
    let asked = effects.iter().any(|effect| matches!(effect, Effect::AskConsent { .. }));
    assert!(!asked, "nobody is asked twice");
    host.overrun();
    assert_eq!(wait_of(&host), Some(Wait::Permit));
}

#[test]
fn consent_counts_over_a_reboot_and_is_asked_for_only_where_people_are_interrupted() {
    let mut host = Stop::WaitingForConsent.reach();
    answer(&mut host, true);
    host.reboot();
    host.start(nothing_found());
    host.realise();
    assert_eq!(wait_of(&host), Some(Wait::Permit));
    for action in [Action::Boot, Action::DryActivate] {
        let mut host = Host::new();
        host.can.consent = Some(HOUR);
        host.order(draft(1).to(action));
        host.realise();
        assert_eq!(wait_of(&host), Some(Wait::Permit), "{action}");
    }
}

#[test]
fn a_limit_on_waiting_ends_the_order_whatever_it_waits_for() {
    let patient = |draft: Draft| draft.with(|_, target| target.limits.wait = Some(HOUR));
    for stop in [Stop::WaitingForPermit, Stop::Held, Stop::WaitingForWindow] {
        let mut host = stop.reach_with(patient(draft(1)));
        host.pass(HOUR - SECOND);
        host.tick();
        assert_eq!(host.phase(), PhaseName::Waiting, "{stop:?}");
        host.overrun();
        assert_eq!((host.phase(), host.code()), (PhaseName::TimedOut, Some(Code::LimitReached)));
    }
    let mut host = Stop::WaitingForPermit.reach_with(patient(draft(1)));
    host.pass(HOUR);
    host.permit();
    assert_eq!(host.phase(), PhaseName::TimedOut, "a permit that comes too late");
}

#[test]
fn a_limit_on_waiting_counts_from_when_it_might_have_started_and_over_reboots() {
    let later = |draft: Draft| {
        draft.with(|release, target| {
            release.not_before = release.issued_at.plus(2 * HOUR);
            target.limits.wait = Some(HOUR);
        })
    };
    let mut host = Host::new();
    host.order(later(draft(1)));
    host.realise();
    host.overrun();
    assert_eq!(wait_of(&host), Some(Wait::Permit));
    host.pass(Duration::from_secs(30 * 60));
    let end = host.state.wake();
    host.reboot();
    host.start(nothing_found());
    host.realise();
    assert_eq!(host.state.wake(), end);
}

#[test]
fn a_window_that_opens_after_the_order_has_ended_is_told_with_what_to_do() {
    for (until, is_too_late) in [(VALIDITY - HOUR, false), (VALIDITY + HOUR, true)] {
        let mut host = Stop::WaitingForWindow.reach();
        let opens = host.now.wall.plus(until);
        let effects = window(&mut host, Window::Closed { opens });
        let report = last_report(&effects);
        assert_eq!(report.code, Some(Code::OutsideWindow));
        let detail = report.detail.as_ref().expect("it says when").as_str();
        assert_eq!(detail.contains("valid for longer"), is_too_late, "{detail}");
    }
}

#[test]
fn whoever_wants_the_old_system_back_gets_it_while_the_new_one_proves_itself() {
    for stop in [Stop::Activating, Stop::Confirming] {
        let mut host = stop.reach();
        want_back(&mut host);
        assert_eq!((host.phase(), host.code()), (PhaseName::RollingBack, Some(Code::AskedLocally)));
        host.roll_back();
        assert_eq!((host.phase(), host.code()), (PhaseName::RolledBack, Some(Code::AskedLocally)));
    }
    let host = Stop::Committing.reach();
    let event = Event::WantedBack { target: None, seen: host.seen.clone() };
    assert!(host.try_take(event).is_err(), "it is decided");
}

#[test]
fn whoever_wants_the_old_system_back_later_gets_an_order_for_it_that_waits_for_nobody() {
    let mut host = Stop::Ended(Ended::Succeeded).reach();
    let sequence = host.state.taken;
    (host.can.windows, host.can.consent) = (true, Some(HOUR));
    hold(&mut host);
    want_back(&mut host);
    assert_eq!((host.phase(), host.target()), (PhaseName::Realising, old()));
    host.realise();
    host.permit();
    assert_eq!(host.phase(), PhaseName::Armed);
    assert_eq!(host.state.taken, sequence, "it takes no sequence");
    assert_eq!(host.state.quarantine, [new(1)], "nothing falls back to what was left");
    let order = host.order(draft(1));
    assert_eq!(last_report(&order).phase, PhaseName::Armed, "the retained order changes nothing");
}
