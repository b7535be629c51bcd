//! Whatever happens to a signed message on its way, it is refused, and never with a panic. The files
//! that no signature protects, those with keys, are refused or still let nobody in.

mod common;

use common::{
    alice, alpha, beacon, bob, carol, enrol_request, fleet, host, host_key, log, mallory, order,
    presence, reader, release, report, roster_entry, sign_entry, target, token, tree, trust,
    trust_text, trust_with_beacons,
};
use herald_proto::{
    codec,
    key::SecretKey,
    log::Log,
    presence::{Liveness, Presence},
    report::Report,
    signing::{
        HostMessage, sign_as_host, sign_beacon, sign_enrol_request, sign_release, verify_beacon,
        verify_enrol_request, verify_from_host, verify_order, verify_release, verify_roster_entry,
    },
    trust::Trust,
};

/// Hands over the bytes with each bit flipped, cut after each byte, and with each byte lost or twice,
/// and says which of these it is.
fn damages(bytes: &[u8], mut judge: impl FnMut(&[u8], &str)) {
    let mut damaged = bytes.to_vec();
    for bit in 0..bytes.len() * 8 {
        damaged[bit / 8] ^= 1 << (bit % 8);
        judge(&damaged, &format!("bit {bit} flipped"));
        damaged[bit / 8] ^= 1 << (bit % 8);
    }
    for at in 0..bytes.len() {
        let (before, after) = bytes.split_at(at);
        judge(before, &format!("cut after {at} bytes"));
        judge(&[before, &after[1..]].concat(), &format!("byte {at} lost"));
        judge(&[before, &after[..1], after].concat(), &format!("byte {at} twice"));
    }
}

fn every_damage_is_refused(message: &[u8], accepts: impl Fn(&[u8]) -> bool) {
    assert!(accepts(message), "the message itself must be good");
    damages(message, |damaged, how| assert!(!accepts(damaged), "{how}"));
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

#[test]
fn a_release_is_refused_after_every_single_damage() {
    let (alice, bob) = (alice(), bob());
    let message = sign_release(&release(&tree(&[target("alpha")])), &[&alice, &bob]);
    let trust = trust(2, &[&alice, &bob]);
    every_damage_is_refused(&message.0, |bytes| verify_release(bytes, &trust).is_ok());
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

/// Its two halves vouch for each other. Nothing vouches for its name, which counts for nothing.
#[test]
fn a_key_file_is_refused_after_every_single_damage_or_has_the_same_key() {
    let key = alice();
    let mut renamed = 0;
    damages(format!("{}\n", key.to_secret_text().as_str()).as_bytes(), |damaged, how| {
        let read = std::str::from_utf8(damaged).ok().and_then(|text| text.parse().ok());
        if let Some::<SecretKey>(read) = read {
            assert_eq!(read.public().id(), key.public().id(), "{how}");
            renamed += 1;
        }
    });
    assert!(renamed < 64, "more than its name and its line feed can change: {renamed}");
}

/// Nothing vouches for a trust file but what brought it there. A cut one can lack the tables at its
/// end; whatever it is, it lets nobody in who was not.
#[test]
fn a_trust_file_is_refused_after_every_single_damage_or_lets_nobody_else_in() {
    let (alice, bob, carol) = (alice(), bob(), carol());
    let roles = trust_text(2, &[&alice, &bob]);
    let text = format!(
        "{roles}\n[rollout]\nthreshold = 1\nkeys = [\"{}\"]\n[freshness]\ninterval = \"5m\"\n",
        carol.public()
    );
    let content = release(&tree(&[target("alpha")]));
    let good = sign_release(&content, &[&alice, &bob]);
    let bad = [
        sign_release(&content, &[&alice]),
        sign_release(&content, &[&bob]),
        sign_release(&content, &[&carol, &alice]),
        sign_release(&content, &[&mallory(), &alice]),
    ];
    let beacon = sign_beacon(&beacon(), &[&alice]);
    let (mut read, mut as_before) = (0, 0);
    damages(text.as_bytes(), |damaged, how| {
        let text = std::str::from_utf8(damaged).ok();
        let Some(trust) = text.and_then(|text| Trust::from_toml(text).ok()) else { return };
        for release in &bad {
            assert!(verify_release(&release.0, &trust).is_err(), "{how}");
        }
        assert!(verify_beacon(&beacon, &trust).is_err(), "{how}");
        read += 1;
        as_before += u32::from(verify_release(&good.0, &trust).is_ok());
    });
    // Other names, other fleets, and keys that nobody has.
    assert!(read > as_before && as_before > 0, "{read} could be read, {as_before} as before");
}
