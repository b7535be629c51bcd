//! What every event leads to in every phase: what is not in the table is refused.

mod kit;

use herald_core::{ActivationEnd, Cause, Event, Failure, Seen, Window};
use herald_proto::{
    rejection::Code, report::Progress, store_path::StorePath, target::Action, text::Prose,
};
use kit::{
    Draft, HOUR, VALIDITY, attempt_of, closure, draft, effect_name, failure,
    machine::{Host, exited},
    new, old, other, realised, refusal,
    stop::Stop,
    system,
};

/// Where : what happens : the phase that is stored then (`=`: the same) : what is done, in order.
const TABLE: &str = "
idle ended
    : order : realising : report:accepted report realise
realising waiting-for-time waiting-for-permit held waiting-for-window waiting-for-consent
    : order : realising : report:superseded abandon release-permit clean-up report:accepted report realise
armed rebooting activating confirming almost-proved committing rolling-back reconnecting
    : order order-none order-surprising : = : -
idle
    : order-again order-older order-conflicting : realising : report:accepted report realise
realising waiting-for-time waiting-for-permit held waiting-for-window waiting-for-consent armed rebooting activating confirming almost-proved committing rolling-back reconnecting ended
    : order-again order-older order-conflicting : = : report
idle ended
    : order-unfit order-surprising : rejected : report
realising waiting-for-time waiting-for-permit held waiting-for-window waiting-for-consent
    : order-unfit order-surprising : rejected : report:superseded abandon release-permit clean-up report
armed rebooting activating confirming almost-proved committing rolling-back reconnecting
    : order-unfit : = : report
idle ended
    : order-none : succeeded : report
realising waiting-for-time waiting-for-permit held waiting-for-window waiting-for-consent
    : order-none : succeeded : report:cancelled abandon release-permit clean-up report
idle realising waiting-for-time waiting-for-permit held waiting-for-window waiting-for-consent armed rebooting activating confirming almost-proved committing rolling-back reconnecting ended
    : refused : = : report
idle realising waiting-for-time waiting-for-permit held waiting-for-window waiting-for-consent armed rebooting activating confirming almost-proved committing rolling-back reconnecting ended
    : measured : = : -
idle realising waiting-for-time waiting-for-permit held waiting-for-window waiting-for-consent armed rebooting activating confirming almost-proved committing rolling-back reconnecting ended
    : pruned : = : -
idle realising waiting-for-time waiting-for-permit held waiting-for-window waiting-for-consent armed rebooting activating confirming almost-proved committing rolling-back reconnecting ended
    : not-pruned : = : report

realising : progress : = : report
realising : realised : waiting : report:staged request-permit
realising : realise-failed-for-now : = : report realise
realising : realise-failed : failed : abandon release-permit report clean-up
realising : realise-overran : timed-out : abandon release-permit report clean-up

idle realising armed rebooting activating confirming almost-proved committing rolling-back reconnecting ended : hold : = : report
waiting-for-time waiting-for-permit held waiting-for-window waiting-for-consent
    : hold : = : release-permit report
held : resume : = : request-permit report
waiting-for-window : window-open : = : request-permit
waiting-for-window : window-closed window-unknown : = : report
waiting-for-time waiting-for-permit held waiting-for-window : agreed : = : -
waiting-for-consent : agreed : = : request-permit
waiting-for-consent : postponed : = : release-permit report
idle ended : wanted-back : realising : report:accepted report realise
activating confirming almost-proved : wanted-back wanted-back-at-once : rolling-back : roll-back report

waiting-for-permit : permitted : armed : arm report
waiting-for-permit : permitted-units-unknown : = : release-permit report
waiting-for-permit : permitted-too-late : expired : abandon release-permit report clean-up
waiting-for-permit : permitted-over-nothing : failed : abandon release-permit report clean-up

armed : armed armed-over-target : activating : activate report
armed : armed-over-other : overridden-locally : disarm release-permit report clean-up measure
armed : arm-failed : failed : disarm release-permit report clean-up
armed : switch-refused : rejected : disarm release-permit report clean-up

activating : exited-0 exited-4 : confirming : prove-link check-trust check-health report
activating
    : exited-0-over-previous exited-0-over-other exited-0-over-nothing exited-1 killed overran unknown
    : rolling-back : roll-back report

confirming almost-proved : linked trusted : = : -
confirming almost-proved : locked-out : rolling-back : roll-back report
confirming almost-proved
    : locked-out-over-other : overridden-locally : disarm release-permit report clean-up measure
reconnecting : linked : rolled-back : release-permit report clean-up
confirming : healthy : = : check-health
confirming almost-proved
    : unhealthy healthy-over-previous healthy-over-nothing : = : check-health
almost-proved : healthy : committing : commit report
confirming almost-proved
    : healthy-over-other : overridden-locally : disarm release-permit report clean-up measure

committing : committed : succeeded : release-permit report clean-up
committing
    : commit-failed committed-no-profile committed-no-default committed-over-previous committed-over-nothing
    : rolling-back : roll-back report
committing
    : committed-over-other commit-failed-over-other : overridden-locally
    : disarm release-permit report clean-up measure

rolling-back reconnecting : undone undone-despite-failure : rolled-back : release-permit report clean-up
rolling-back reconnecting
    : undone-over-target undone-over-nothing undone-no-profile undone-no-default not-undone
    : degraded : release-permit report clean-up
rolling-back reconnecting
    : undone-over-other : overridden-locally : disarm release-permit report clean-up measure

realising waiting-for-time waiting-for-permit held waiting-for-window waiting-for-consent armed rebooting activating confirming almost-proved committing rolling-back reconnecting
    : tick : = : -
realising : tick-late tick-late-over-other : timed-out : abandon release-permit report clean-up
waiting-for-time : tick-late tick-late-over-other : = : request-permit
waiting-for-consent : tick-late tick-late-over-other : = : request-permit
waiting-for-permit held waiting-for-window : tick-late tick-late-over-other : expired : abandon release-permit report clean-up
armed : tick-late tick-late-over-other : timed-out : disarm release-permit report clean-up
reconnecting : tick-late : = : reboot report
activating : tick-late tick-late-over-other : rolling-back : roll-back report
rebooting confirming almost-proved committing : tick-late : rolling-back : roll-back report
rolling-back : tick-late : degraded : release-permit report clean-up
rebooting confirming almost-proved committing rolling-back reconnecting
    : tick-late-over-other : overridden-locally : disarm release-permit report clean-up measure
";

/// Makes an event that happens to a host, and what else has happened until then.
type Happening = fn(&mut Host) -> Event;

/// Everything that can happen but a start, which `crash.rs` is about.
const EVENTS: &[(&str, Happening)] = &[
    ("order", |host| order(host, draft(2))),
    ("order-again", |host| order(host, draft(1))),
    ("order-older", |host| order(host, draft(0))),
    ("order-conflicting", |host| {
        order(host, draft(1).with(|_, target| target.toplevel = system('c')))
    }),
    ("order-unfit", |host| order(host, draft(2).to(Action::Unknown(99)))),
    ("order-surprising", |host| {
        order(host, draft(2).with(|_, target| target.expect_current = vec![system('c')]))
    }),
    ("order-none", |host| order(host, draft(2).to(Action::None))),
    ("refused", |_| Event::MessageRefused(refusal("a message that nobody signed"))),
    ("measured", |_| measured(old())),
    ("measured-unknown", |_| measured(system('c'))),
    ("progress", |host| Event::RealiseProgress {
        attempt: host.attempt(),
        progress: Progress { done: 1, total: 2 },
    }),
    ("realised", |host| realise_ended(host, Ok(()))),
    ("realise-failed-for-now", |host| realise_ended(host, Err(failure(Code::RealiseFailed, true)))),
    ("realise-failed", |host| realise_ended(host, Err(failure(Code::ClosureMismatch, false)))),
    ("realise-overran", |host| realise_ended(host, Err(failure(Code::LimitReached, false)))),
    ("hold", |_| Event::Held { reason: Prose::lossy("a backup runs") }),
    ("resume", |_| Event::Resumed),
    ("window-open", |host| {
        window_seen(host, Ok(Window::Open { closes: host.now.wall.plus(HOUR) }))
    }),
    ("window-closed", |host| {
        window_seen(host, Ok(Window::Closed { opens: host.now.wall.plus(HOUR) }))
    }),
    ("window-unknown", |host| window_seen(host, Err(failure(Code::OutsideWindow, true)))),
    ("agreed", |host| Event::Answered { attempt: host.attempt(), agrees: true }),
    ("postponed", |host| Event::Answered { attempt: host.attempt(), agrees: false }),
    ("wanted-back", |host| Event::WantedBack {
        target: Some(Box::new(draft(7).target)),
        seen: host.seen.clone(),
    }),
    ("wanted-back-at-once", |host| Event::WantedBack { target: None, seen: host.seen.clone() }),
    ("permitted", |host| permitted(host, Some(old()))),
    ("permitted-too-late", |host| {
        host.pass(VALIDITY);
        permitted(host, Some(old()))
    }),
    ("permitted-units-unknown", |host| {
        let seen = Seen { failed_units: None, ..host.seen.clone() };
        Event::Permitted { attempt: host.attempt(), seen }
    }),
    ("permitted-over-nothing", |host| permitted(host, None)),
    ("armed", |host| arm_ended(host, Ok(()), old())),
    ("armed-over-target", |host| arm_ended(host, Ok(()), new(1))),
    ("armed-over-other", |host| arm_ended(host, Ok(()), other())),
    ("arm-failed", |host| arm_ended(host, Err(failure(Code::ArmFailed, false)), old())),
    ("switch-refused", |host| arm_ended(host, Err(failure(Code::RebootNeeded, false)), old())),
    ("exited-0", |host| activation_ended(host, exited(0), Some(new(1)))),
    ("exited-4", |host| activation_ended(host, exited(4), Some(new(1)))),
    ("exited-0-over-previous", |host| activation_ended(host, exited(0), Some(old()))),
    ("exited-0-over-other", |host| activation_ended(host, exited(0), Some(other()))),
    ("exited-0-over-nothing", |host| activation_ended(host, exited(0), None)),
    ("exited-1", |host| activation_ended(host, exited(1), Some(new(1)))),
    ("killed", |host| {
        let end = ActivationEnd::Killed { limit_reached: false, output: Prose::lossy("") };
        activation_ended(host, end, Some(new(1)))
    }),
    ("overran", |host| {
        let end = ActivationEnd::Killed { limit_reached: true, output: Prose::lossy("") };
        activation_ended(host, end, Some(new(1)))
    }),
    ("unknown", |host| {
        let end = ActivationEnd::Unknown { reason: Prose::lossy("no result") };
        activation_ended(host, end, Some(new(1)))
    }),
    ("linked", |host| Event::LinkProved { attempt: host.attempt(), seen: host.seen.clone() }),
    ("trusted", |host| trust_seen(host, Ok(()), new(1))),
    ("locked-out", |host| trust_seen(host, Err(locked_out()), new(1))),
    ("locked-out-over-other", |host| trust_seen(host, Err(locked_out()), other())),
    ("healthy", |host| checked(host, Ok(()), Some(new(1)))),
    ("unhealthy", |host| checked(host, Err(Prose::lossy("no")), Some(new(1)))),
    ("healthy-over-previous", |host| checked(host, Ok(()), Some(old()))),
    ("healthy-over-nothing", |host| checked(host, Ok(()), None)),
    ("healthy-over-other", |host| checked(host, Ok(()), Some(other()))),
    ("committed", |host| commit_ended(host, Ok(()), Some(new(1)), new(1), new(1))),
    ("committed-no-profile", |host| commit_ended(host, Ok(()), Some(new(1)), old(), new(1))),
    ("committed-no-default", |host| commit_ended(host, Ok(()), Some(new(1)), new(1), old())),
    ("committed-over-previous", |host| commit_ended(host, Ok(()), Some(old()), new(1), new(1))),
    ("committed-over-nothing", |host| commit_ended(host, Ok(()), None, new(1), new(1))),
    ("committed-over-other", |host| commit_ended(host, Ok(()), Some(other()), new(1), new(1))),
    ("commit-failed", |host| {
        let outcome = Err(failure(Code::CommitFailed, false));
        commit_ended(host, outcome, Some(new(1)), new(1), new(1))
    }),
    ("commit-failed-over-other", |host| {
        let outcome = Err(failure(Code::CommitFailed, false));
        commit_ended(host, outcome, Some(other()), other(), other())
    }),
    ("undone", |host| undone(host, Ok(()), Some(old()), old(), old())),
    ("undone-despite-failure", |host| {
        undone(host, Err(failure(Code::RollbackFailed, false)), Some(old()), old(), old())
    }),
    ("undone-over-target", |host| undone(host, Ok(()), Some(new(1)), old(), old())),
    ("undone-over-nothing", |host| undone(host, Ok(()), None, old(), old())),
    ("undone-over-other", |host| undone(host, Ok(()), Some(other()), old(), old())),
    ("undone-no-profile", |host| undone(host, Ok(()), Some(old()), new(1), old())),
    ("undone-no-default", |host| undone(host, Ok(()), Some(old()), old(), new(1))),
    ("not-undone", |host| {
        undone(host, Err(failure(Code::RollbackFailed, false)), Some(new(1)), new(1), new(1))
    }),
    ("pruned", |_| Event::Pruned { outcome: Ok(()) }),
    ("not-pruned", |_| Event::Pruned { outcome: Err(failure(Code::NotPruned, false)) }),
    ("tick", |host| Event::Tick { seen: host.seen.clone() }),
    ("tick-late", |host| {
        host.pass_to_wake();
        Event::Tick { seen: host.seen.clone() }
    }),
    ("tick-late-over-other", |host| {
        host.pass_to_wake();
        host.seen.running = Some(other());
        Event::Tick { seen: host.seen.clone() }
    }),
];

#[test]
fn the_table_has_every_event_that_a_phase_takes_and_all_others_change_nothing() {
    let rows = rows();
    let mut used = vec![false; rows.len()];
    for stop in Stop::ALL {
        let reached = stop.reach();
        for (event_name, make) in EVENTS {
            let mut host = reached.clone();
            let event = make(&mut host);
            let found: Vec<_> = (0..rows.len())
                .filter(|row| rows[*row].is_about(stop.name(), event_name))
                .collect();
            let place = format!("{stop:?}, {event_name}");
            match (host.try_take(event), found.as_slice()) {
                (Err(illegal), []) => {
                    assert_eq!(illegal.phase, reached.phase(), "{place}");
                }
                (Ok(step), [row]) => {
                    used[*row] = true;
                    let phase = step.state.phase.name().to_string();
                    let next = match rows[*row].next {
                        "=" => reached.phase().to_string(),
                        next => next.into(),
                    };
                    assert_eq!(phase, next, "{place}");
                    let effects: Vec<_> =
                        step.effects.iter().map(|effect| effect_name(effect, &phase)).collect();
                    assert_eq!(effects.join(" "), rows[*row].effects, "{place}");
                }
                (taken, rows) => panic!("{place}: {} rows, but {taken:?}", rows.len()),
            }
        }
    }
    let unused: Vec<_> = rows.iter().zip(used).filter(|(_, used)| !used).collect();
    assert!(unused.is_empty(), "these rows are about nothing: {unused:?}");
}

#[test]
fn an_event_of_another_attempt_is_refused_in_every_phase() {
    let mut tried = 0;
    for stop in Stop::ALL {
        for (name, make) in EVENTS {
            for shift in [u64::MAX, 1] {
                let mut host = stop.reach();
                let mut event = make(&mut host);
                let Some(attempt) = attempt_of(&mut event) else { continue };
                *attempt = attempt.wrapping_add(shift);
                assert!(host.try_take(event).is_err(), "{stop:?}, {name} of another attempt");
                tried += 1;
            }
        }
    }
    assert!(tried > 1000, "{tried}");
}

#[derive(Debug)]
struct Row {
    stops: Vec<&'static str>,
    events: Vec<&'static str>,
    next: &'static str,
    effects: String,
}

impl Row {
    fn is_about(&self, stop: &str, event: &str) -> bool {
        self.stops.contains(&stop) && self.events.contains(&event)
    }
}

/// Reads the table; a row is four cells, over as many lines as it likes.
fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for line in TABLE.lines().filter(|line| !line.is_empty()) {
        if line.starts_with(' ') {
            rows.last_mut().map(|row: &mut String| row.push_str(line)).expect("a row begins it");
        } else {
            rows.push(line.to_owned());
        }
    }
    let words = |cell: &'static str| cell.split_whitespace().collect();
    rows.into_iter()
        .map(|row| {
            let cells: Vec<&'static str> = row.leak().split(" : ").map(str::trim).collect();
            let [stops, events, next, effects] = cells.try_into().expect("a row has four cells");
            let effects = if effects == "-" { String::new() } else { effects.to_owned() };
            Row { stops: words(stops), events: words(events), next, effects }
        })
        .collect()
}

fn order(host: &Host, draft: Draft) -> Event {
    Event::OrderArrived { order: Box::new(draft.verified()), seen: host.seen.clone() }
}

fn measured(toplevel: StorePath) -> Event {
    let closure = closure(&toplevel);
    Event::Measured { toplevel, closure }
}

fn realise_ended(host: &Host, outcome: Result<(), Failure>) -> Event {
    let outcome = outcome.map(|()| realised(&new(1)));
    Event::RealiseEnded { attempt: host.attempt(), outcome }
}

fn window_seen(host: &Host, window: Result<Window, Failure>) -> Event {
    Event::WindowSeen { attempt: host.attempt(), window }
}

fn over(host: &Host, running: Option<StorePath>) -> Seen {
    Seen { running, ..host.seen.clone() }
}

fn permitted(host: &Host, running: Option<StorePath>) -> Event {
    Event::Permitted { attempt: host.attempt(), seen: over(host, running) }
}

fn arm_ended(host: &Host, outcome: Result<(), Failure>, running: StorePath) -> Event {
    Event::ArmEnded { attempt: host.attempt(), outcome, seen: over(host, Some(running)) }
}

fn activation_ended(host: &Host, end: ActivationEnd, running: Option<StorePath>) -> Event {
    Event::ActivationEnded { attempt: host.attempt(), end, seen: over(host, running) }
}

fn trust_seen(host: &Host, verdict: Result<(), Cause>, running: StorePath) -> Event {
    Event::TrustSeen { attempt: host.attempt(), verdict, seen: over(host, Some(running)) }
}

fn locked_out() -> Cause {
    failure(Code::LockedOut, false).cause
}

fn checked(host: &Host, verdict: Result<(), Prose>, running: Option<StorePath>) -> Event {
    let (began, seen) = (host.now.monotonic, over(host, running));
    Event::HealthChecked { attempt: host.attempt(), began, verdict, seen }
}

fn commit_ended(
    host: &Host,
    outcome: Result<(), Failure>,
    running: Option<StorePath>,
    profile: StorePath,
    boot_default: StorePath,
) -> Event {
    let (profile, boot_default) = (Some(profile), Some(boot_default));
    let seen = Seen { profile, boot_default, ..over(host, running) };
    Event::CommitEnded { attempt: host.attempt(), outcome, seen }
}

fn undone(
    host: &Host,
    outcome: Result<(), Failure>,
    running: Option<StorePath>,
    profile: StorePath,
    boot_default: StorePath,
) -> Event {
    let (profile, boot_default) = (Some(profile), Some(boot_default));
    let seen = Seen { profile, boot_default, ..over(host, running) };
    Event::RollbackEnded { attempt: host.attempt(), outcome, seen }
}

#[test]
fn every_stop_is_where_its_name_says() {
    for stop in Stop::ALL {
        let host = stop.reach();
        let phase = host.phase().to_string();
        let name = match stop {
            Stop::WaitingForTime
            | Stop::WaitingForPermit
            | Stop::Held
            | Stop::WaitingForWindow
            | Stop::WaitingForConsent => "waiting",
            Stop::AlmostProved => "confirming",
            Stop::Reconnecting => "rolling-back",
            Stop::Ended(_) => {
                assert!(host.phase().is_terminal(), "{stop:?}: {phase}");
                continue;
            }
            other => other.name(),
        };
        assert_eq!(phase, name, "{stop:?}");
    }
}
