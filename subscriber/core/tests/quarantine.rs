//! A system that rolled back here is not put to use again before somebody who knew it says so.

mod kit;

use herald_proto::{rejection::Code, report::PhaseName, target::Action};
use kit::{
    Draft, draft,
    machine::{Host, exited},
    new, old,
    stop::{Ended, Stop},
    system,
};

/// An order with this number about the system of the first.
fn same(number: u64) -> Draft {
    draft(number).with(|_, target| target.toplevel = new(1))
}

#[test]
fn the_order_that_rolled_back_is_not_done_again() {
    let mut host = Stop::Ended(Ended::RolledBack).reach();
    assert_eq!(host.state.quarantine, [new(1)]);
    host.order(draft(1));
    assert_eq!(host.phase(), PhaseName::RolledBack);
}

#[test]
fn a_new_release_that_names_it_ends_the_quarantine() {
    let mut host = Stop::Ended(Ended::RolledBack).reach();
    host.order(same(2));
    assert_eq!((host.phase(), host.state.quarantine.len()), (PhaseName::Realising, 0));
}

#[test]
fn an_order_that_only_gets_it_ready_or_does_nothing_does_not_end_the_quarantine() {
    for action in [Action::Stage, Action::None, Action::DryActivate] {
        let mut host = Stop::Ended(Ended::RolledBack).reach();
        host.order(same(2).to(action));
        assert_eq!(host.state.quarantine, [new(1)], "{action}");
    }
}

#[test]
fn an_order_that_came_before_the_roll_back_is_rejected_when_its_turn_comes() {
    for stop in [Stop::Activating, Stop::Confirming, Stop::RollingBack] {
        let mut host = stop.reach();
        host.order(same(2));
        if stop == Stop::Activating {
            host.end_activation(exited(1));
        } else if stop == Stop::Confirming {
            host.overrun();
        }
        host.roll_back();
        assert_eq!((host.under_way(), host.phase()), (Some(2), PhaseName::Rejected));
        assert_eq!(host.code(), Some(Code::Quarantined));
        host.order(same(3));
        assert_eq!(host.phase(), PhaseName::Realising, "one that came after is done");
    }
}

#[test]
fn a_system_in_quarantine_is_nothing_to_go_back_to() {
    let mut host = Stop::Ended(Ended::Succeeded).reach();
    host.order(draft(2));
    host.realise();
    host.permit();
    host.arm(Ok(()));
    host.activate(exited(1));
    host.roll_back();
    assert_eq!(host.seen.running, Some(new(1)));
    host.seen.running = Some(system('c'));
    assert_eq!(host.state.previous(host.seen.running.as_ref()), Some(&new(1)));
    host.state.quarantine.push(new(1));
    assert_eq!(host.state.previous(host.seen.running.as_ref()), Some(&old()));
}

#[test]
fn the_quarantine_survives_starts_and_forgets_the_oldest_of_many() {
    let mut host = Host::new();
    for number in 1..=20u32 {
        let letter = char::from_digit(number, 36).map_or('z', |c| if c == 'e' { 'w' } else { c });
        let draft = draft(u64::from(number)).with(|_, target| target.toplevel = system(letter));
        host.order(draft);
        host.realise();
        host.permit();
        host.arm(Ok(()));
        host.activate(exited(1));
        host.roll_back();
    }
    assert_eq!(host.state.quarantine.len(), 16);
    assert!(!host.state.quarantine.contains(&system('1')));
    let before = host.state.quarantine.clone();
    host.start(kit::machine::nothing_found());
    assert_eq!(host.state.quarantine, before);
}
