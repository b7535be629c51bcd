//! Beacons: where a fleet sends them, no order is taken without one.

mod kit;

use std::time::Duration;

use herald_core::{Event, State};
use herald_proto::{
    beacon::{Freshness, MAX_BEACON_AHEAD},
    rejection::Code,
    report::PhaseName,
    time::Timestamp,
};
use kit::{EPOCH, HOUR, SECOND, draft, machine::Host};

const INTERVAL: Duration = Duration::from_secs(300);

fn host() -> Host {
    let mut host = Host::new();
    host.can.freshness = Freshness::every(INTERVAL);
    host
}

/// Tells whether the beacon was news.
fn hear(host: &mut Host, issued_at: Timestamp) -> bool {
    let step = host.try_take(Event::BeaconHeard { issued_at });
    step.map(|step| host.state = step.state).is_ok()
}

#[test]
fn an_order_is_taken_only_by_a_beacon_and_its_sequence_counts_only_then() {
    let mut host = host();
    host.order(draft(1));
    assert_eq!((host.refused(), host.state.taken), (Some(Code::Stale), None));
    assert_eq!(host.phase(), PhaseName::Idle);
    let now = host.now.wall;
    assert!(hear(&mut host, now));
    host.order(draft(1));
    assert_eq!((host.phase(), host.refused()), (PhaseName::Realising, None));
}

#[test]
fn an_old_image_takes_no_order_by_the_beacon_that_it_remembers() {
    let mut host = host();
    let before = host.now.wall;
    assert!(hear(&mut host, before));
    host.pass(2 * INTERVAL);
    host.order(draft(1));
    assert_eq!((host.refused(), host.state.taken), (Some(Code::Stale), None));
    // Nor by one that a broker plays again.
    assert!(!hear(&mut host, before));
    host.order(draft(1));
    assert_eq!(host.refused(), Some(Code::Stale));
}

#[test]
fn a_beacon_vouches_for_two_intervals_and_not_a_millisecond_longer() {
    let mut host = host();
    let heard = host.now.wall;
    assert!(hear(&mut host, heard));
    let vouches = |state: &State, after| {
        state.hears(Freshness::every(INTERVAL).expect("within bounds"), heard.plus(after))
    };
    assert!(vouches(&host.state, 2 * INTERVAL - Duration::from_millis(1)));
    assert!(!vouches(&host.state, 2 * INTERVAL));
}

#[test]
fn an_older_beacon_and_one_from_the_future_change_nothing() {
    let mut host = host();
    let now = host.now.wall;
    assert!(hear(&mut host, now));
    let known = host.state.clone();
    assert!(!hear(&mut host, Timestamp::from_millis(now.as_millis() - 1)));
    assert!(!hear(&mut host, now.plus(MAX_BEACON_AHEAD + SECOND)));
    assert_eq!(host.state, known);
    assert!(hear(&mut host, now.plus(MAX_BEACON_AHEAD)));
}

#[test]
fn a_beacon_never_moves_the_time_by_which_orders_are_judged() {
    let mut host = host();
    let floor = host.state.floor;
    let now = host.now.wall;
    assert!(hear(&mut host, now.plus(MAX_BEACON_AHEAD)));
    assert_eq!(host.state.floor, floor);
}

#[test]
fn what_was_taken_goes_on_without_beacons() {
    let mut host = host();
    let now = host.now.wall;
    assert!(hear(&mut host, now));
    host.order(draft(1));
    host.pass(HOUR);
    host.realise();
    assert_eq!(host.phase(), PhaseName::Waiting);
}

#[test]
fn a_host_that_boots_in_1970_is_not_talked_into_the_past() {
    let mut host = host();
    let now = host.now.wall;
    assert!(hear(&mut host, now));
    host.order(draft(1));
    // Its clock is lost: what was signed last is the earliest that it can be.
    host.now.wall = Timestamp::default();
    assert_eq!(host.state.time(&host.now), EPOCH.max(host.state.floor));
    host.order(draft(0));
    assert_eq!(host.refused(), Some(Code::Replayed));
}

#[test]
fn a_host_whose_clock_is_in_2100_takes_nothing_and_is_well_again_when_it_is_set() {
    let mut host = host();
    let now = host.now.wall;
    assert!(hear(&mut host, now));
    host.now.wall = Timestamp::from_millis(4_102_444_800_000);
    host.order(draft(1));
    assert_eq!((host.refused(), host.state.taken), (Some(Code::Stale), None));
    host.now.wall = now.plus(SECOND);
    host.order(draft(1));
    assert_eq!((host.phase(), host.refused()), (PhaseName::Realising, None));
}

#[test]
fn a_host_that_remembers_nothing_takes_orders_only_by_a_beacon_newer_than_its_start() {
    let mut host = Host::new();
    let start = host.now.wall;
    host.can.forgot_at = Some(start);
    host.pass(HOUR);
    // Without a beacon, and by those that a broker has kept from before, old orders would be new.
    host.order(draft(1));
    assert_eq!((host.refused(), host.state.taken), (Some(Code::Stale), None));
    for kept in [Timestamp::from_millis(start.as_millis() - 1), start] {
        assert!(hear(&mut host, kept));
        host.order(draft(1));
        assert_eq!((host.refused(), host.state.taken), (Some(Code::Stale), None));
    }
    let newer = Timestamp::from_millis(start.as_millis() + 1);
    assert!(hear(&mut host, newer));
    host.order(draft(1));
    assert_eq!((host.phase(), host.refused()), (PhaseName::Realising, None));
}

#[test]
fn a_boot_began_so_long_before_as_the_monotonic_clock_says_and_never_before_1970() {
    let mut now = Host::new().now;
    let up = Duration::from_millis(now.monotonic.as_millis());
    assert_eq!(now.start().plus(up), now.wall);
    now.wall = Timestamp::from_millis(5);
    assert_eq!(now.start(), Timestamp::default());
}

#[test]
fn the_floor_rises_with_what_was_signed_and_never_falls() {
    let mut host = Host::new();
    let issued = |number: u64| EPOCH.plus(Duration::from_secs(number));
    for (number, expected) in [(2, 2), (5, 5), (3, 5), (4, 5), (6, 6)] {
        let (sequence, signed) =
            (host.state.taken.map_or(1, |t| t.sequence.number() + 1), issued(number));
        host.order(draft(1).with(|release, _| {
            release.issued_at = signed;
            release.sequence = herald_proto::id::Sequence::new(sequence.max(EPOCH.as_millis()));
        }));
        assert_eq!(host.state.floor, issued(expected), "after one signed at {signed}");
    }
    // Nor by a clock that goes back, a restart, or an order that is refused.
    host.now.wall = Timestamp::default();
    host.start(kit::machine::nothing_found());
    host.order(draft(0));
    assert_eq!((host.refused(), host.state.floor), (Some(Code::Replayed), issued(6)));
    assert_eq!(host.state.time(&host.now), issued(6));
}

#[test]
fn in_1970_an_order_that_had_expired_when_the_last_was_signed_is_still_expired() {
    let mut host = Host::new();
    // By a program that was built later than the order's end.
    host.state.floor = EPOCH.plus(2 * kit::VALIDITY);
    host.now.wall = Timestamp::default();
    host.order(draft(1));
    assert_eq!((host.phase(), host.code()), (PhaseName::Rejected, Some(Code::Expired)));
}
