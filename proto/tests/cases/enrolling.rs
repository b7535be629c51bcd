//! Requests to be let into the fleet, and entries of its roster.

use ciborium::Value;
use herald_proto::{
    codec::{self, Wire},
    enrol::{EnrolRequest, RosterEntry},
    rejection::Code,
    signing::{sign_enrol_request, sign_release},
};

use super::{
    Reader, Vector,
    bad::{Case, DIFFERS, MATCHES, UNSEEN, refused},
    enrol_content,
    forge::{Forgery, encode, entries},
    good::good as accepted,
    roster_content,
};
use crate::common::{
    alice, alpha, bob, enrol_request, fleet, mallory, parse, release, roster_entry, sign_entry,
    target, token, tree, trust_text,
};

/// The seeds of the token and of the host's key.
const TOKEN_AND_KEY: [u8; 2] = [20, 10];

fn by_token() -> Reader {
    Reader::Enrol { fleet: fleet(), token: token().public().clone() }
}

fn by_alice() -> Reader {
    Reader::Roster { trust: trust_text(1, &[&alice()]) }
}

pub(super) fn good() -> Vec<(&'static str, Vector)> {
    let request = enrol_request();
    let message = sign_enrol_request(&request, &token(), &alpha());
    let content = enrol_content(&request, &[token().public().id(), alpha().public().id()]);
    let mut all = vec![(
        "enrol",
        accepted("signed by the token and the key that it names", by_token(), content, &message),
    )];
    let entry = roster_entry();
    let member = RosterEntry { token: None, ..entry.clone() };
    let invited = RosterEntry { key: None, ..entry.clone() };
    let gone = RosterEntry { key: None, token: None, ..entry.clone() };
    for (name, about, entry) in [
        ("roster-member", "known by its key", member),
        ("roster-invited", "may ask with a token", invited),
        ("roster-rotating", "known by its key, and may ask for another", entry.clone()),
        ("roster-gone", "in the fleet no more", gone),
    ] {
        let content = roster_content(&entry, &[alice().public().id()]);
        let message = sign_entry(&entry, &[&alice()]);
        all.push((name, accepted(about, by_alice(), content, &message)));
    }
    let two = Reader::Roster { trust: trust_text(2, &[&alice(), &bob()]) };
    let content = roster_content(&entry, &[alice().public().id(), bob().public().id()]);
    let message = sign_entry(&entry, &[&alice(), &bob()]);
    all.push(("roster-2-of-2", accepted("two keys, two signatures", two, content, &message)));
    all
}

fn request(change: impl FnOnce(&mut EnrolRequest)) -> Vec<u8> {
    let mut request = enrol_request();
    change(&mut request);
    codec::encode(&request)
}

fn signed(kind: &'static str, payload: Vec<u8>, seeds: &[u8]) -> Vec<u8> {
    Forgery { kind, ..Forgery::release(payload, seeds) }.sign()
}

/// Encodes a message with other bytes in the place of a key.
fn with_key(message: &impl Wire, bytes: &[u8]) -> Vec<u8> {
    let entries = entries(message).into_iter().map(|(key, value)| {
        let is_key = value.as_bytes().is_some_and(|bytes| bytes.len() == 32);
        (key, if is_key { Value::Bytes(bytes.to_vec()) } else { value })
    });
    encode(&Value::Map(entries.collect()))
}

pub(super) fn bad() -> Vec<Case> {
    let honest = request(|_| {});
    let ask = |name, about, schema, code, message| {
        refused(name, about, by_token(), schema, code, message)
    };
    let by = |seeds: &[u8]| signed("enrol", honest.clone(), seeds);
    let entry = codec::encode(&roster_entry());
    let say = |name, about, schema, code, message| {
        refused(name, about, by_alice(), schema, code, message)
    };
    let release = sign_release(&release(&tree(&[target("alpha")])), &[&alice()]).0;
    let own_token = Reader::Enrol { fleet: fleet(), token: alpha().public().clone() };
    let member = RosterEntry { token: None, ..roster_entry() };
    let identity = [[1; 1].as_slice(), &[0; 31]].concat();
    let no_point = [[2; 1].as_slice(), &[0; 31]].concat();
    let mut extended = entries(&roster_entry());
    extended.push((Value::from(99), Value::from(1)));
    vec![
        ask("enrol-no-token", "signed by the key alone", MATCHES, Code::UnderSigned, by(&[10])),
        ask("enrol-no-key", "signed by the token alone", MATCHES, Code::UnderSigned, by(&[20])),
        ask(
            "enrol-another-key",
            "signed by the token and a key that it does not name",
            MATCHES,
            Code::UnderSigned,
            by(&[20, 66]),
        ),
        ask(
            "enrol-another-token",
            "signed by another token",
            MATCHES,
            Code::UnderSigned,
            by(&[66, 10]),
        ),
        refused(
            "enrol-token-is-key",
            "a token that asks to be known itself",
            own_token,
            MATCHES,
            Code::UnderSigned,
            by(&[10]),
        ),
        ask("enrol-twice", "the token signs twice", UNSEEN, Code::BadEnvelope, by(&[20, 20])),
        ask(
            "enrol-as-roster",
            "signed as an entry of the roster",
            MATCHES,
            Code::BadSignature,
            signed("roster", honest.clone(), &TOKEN_AND_KEY),
        ),
        ask(
            "enrol-other-fleet",
            "for another fleet",
            MATCHES,
            Code::WrongFleet,
            signed("enrol", request(|it| it.fleet = parse("work")), &TOKEN_AND_KEY),
        ),
        ask(
            "enrol-other-version",
            "of another wire version",
            DIFFERS,
            Code::WrongVersion,
            signed("enrol", request(|it| it.version = 9), &TOKEN_AND_KEY),
        ),
        ask(
            "enrol-weak-key",
            "for a key for which anybody can sign",
            UNSEEN,
            Code::Malformed,
            signed("enrol", with_key(&enrol_request(), &identity), &TOKEN_AND_KEY),
        ),
        ask(
            "enrol-no-point",
            "for 32 bytes that are no key",
            UNSEEN,
            Code::Malformed,
            signed("enrol", with_key(&enrol_request(), &no_point), &TOKEN_AND_KEY),
        ),
        ask(
            "enrol-short-key",
            "for a key of 31 bytes",
            DIFFERS,
            Code::Malformed,
            signed("enrol", with_key(&enrol_request(), &[7; 31]), &TOKEN_AND_KEY),
        ),
        say(
            "roster-by-nobody",
            "signed by a key without the role",
            MATCHES,
            Code::UnderSigned,
            sign_entry(&roster_entry(), &[&mallory()]),
        ),
        refused(
            "roster-1-of-2",
            "one signature where two must be",
            Reader::Roster { trust: trust_text(2, &[&alice(), &bob()]) },
            MATCHES,
            Code::UnderSigned,
            sign_entry(&member, &[&alice()]),
        ),
        say(
            "roster-as-enrol",
            "signed as a request",
            MATCHES,
            Code::BadSignature,
            signed("enrol", entry.clone(), &[1]),
        ),
        say("roster-is-release", "a release in its place", DIFFERS, Code::Malformed, release),
        say(
            "roster-unknown-key",
            "with a field that nobody knows",
            DIFFERS,
            Code::Malformed,
            signed("roster", encode(&Value::Map(extended)), &[1]),
        ),
        say(
            "roster-weak-key",
            "with a key for which anybody can sign",
            UNSEEN,
            Code::Malformed,
            signed("roster", with_key(&roster_entry(), &identity), &[1]),
        ),
    ]
}
