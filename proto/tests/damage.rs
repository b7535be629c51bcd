//! Whatever happens to a signed message on its way, it is refused, and never with a panic.

mod common;

use common::{
    alice, alpha, beacon, carol, enrol_request, fleet, host, host_key, log, order, presence,
    reader, report, roster_entry, sign_entry, token, trust, trust_with_beacons,
};
use herald_proto::{
    codec,
    log::Log,
    presence::{Liveness, Presence},
    report::Report,
    signing::{
        HostMessage, sign_as_host, sign_beacon, sign_enrol_request, verify_beacon,
        verify_enrol_request, verify_from_host, verify_order, verify_roster_entry,
    },
};

/// Tries the message with each bit flipped, cut after each byte, and with each byte lost or twice.
fn every_damage_is_refused(message: &[u8], accepts: impl Fn(&[u8]) -> bool) {
    assert!(accepts(message), "the message itself must be good");
    let mut damaged = message.to_vec();
    for bit in 0..message.len() * 8 {
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert!(!accepts(&damaged), "bit {bit} flipped");
        damaged[bit / 8] ^= 1 << (bit % 8);
    }
    for at in 0..message.len() {
        let (before, after) = message.split_at(at);
        assert!(!accepts(before), "cut after {at} bytes");
        assert!(!accepts(&[before, &after[1..]].concat()), "byte {at} lost");
        assert!(!accepts(&[before, &after[..1], after].concat()), "byte {at} twice");
    }
}

fn from_host<T: HostMessage>(bytes: &[u8]) -> bool {
    verify_from_host::<T>(bytes, &fleet(), &host(), &host_key()).is_ok()
}

#[test]
fn an_order_is_refused_after_every_single_damage() {
    let key = alice();
    let message = codec::encode(&order(&[&key]));
    let (trust, reader) = (trust(1, &[&key]), reader("alpha"));
    every_damage_is_refused(&message, |bytes| verify_order(bytes, &trust, &reader).is_ok());
}

#[test]
fn a_beacon_is_refused_after_every_single_damage() {
    let trust = trust_with_beacons();
    let message = sign_beacon(&beacon(), &[&carol()]);
    every_damage_is_refused(&message, |bytes| verify_beacon(bytes, &trust).is_ok());
}

#[test]
fn a_request_to_be_let_in_is_refused_after_every_single_damage() {
    let token = token();
    let message = sign_enrol_request(&enrol_request(), &token, &alpha());
    every_damage_is_refused(&message, |bytes| {
        verify_enrol_request(bytes, &fleet(), token.public()).is_ok()
    });
}

#[test]
fn an_entry_of_the_roster_is_refused_after_every_single_damage() {
    let trust = trust(2, &[&alice(), &carol()]);
    let message = sign_entry(&roster_entry(), &[&alice(), &carol()]);
    every_damage_is_refused(&message, |bytes| verify_roster_entry(bytes, &trust).is_ok());
}

#[test]
fn a_report_is_refused_after_every_single_damage() {
    let message = sign_as_host(&report(), &fleet(), &alpha());
    every_damage_is_refused(&message, from_host::<Report>);
}

#[test]
fn a_presence_is_refused_after_every_single_damage() {
    let message = sign_as_host(&presence(Liveness::Offline), &fleet(), &alpha());
    every_damage_is_refused(&message, from_host::<Presence>);
}

#[test]
fn a_log_is_refused_after_every_single_damage() {
    let message = sign_as_host(&log(), &fleet(), &alpha());
    every_damage_is_refused(&message, from_host::<Log>);
}
