//! Requests to enrol and entries of the roster: those that are accepted, and those that are refused,
//! each for one reason.

use super::{
    Expect, Reader, Schema, Vector,
    bad::{Case, DIFFERS, MATCHES, UNSEEN, refused},
    enrol_content,
    forge::{Entries, Forgery, changed, encode},
    hex, roster_content,
};
use crate::common::{
    alice, alpha, beacon, bob, carol, enrol_request, fleet, mallory, parse, release, roster_entry,
    sign_entry, target, token, tree, trust_text,
};
use ciborium::Value;
use herald_proto::{
    codec::{self, Wire as _},
    enrol::{EnrolRequest, RosterEntry},
    key::{BareKey, SecretKey},
    rejection::Code,
    signing::{sign_beacon, sign_enrol_request, sign_release},
};

/// The seeds of the token and of alpha, and of a stranger.
const TOKEN: u8 = 20;
const ALPHA: u8 = 10;
const MALLORY: u8 = 66;

fn knows_token() -> Reader {
    Reader::Enrol { fleet: fleet(), token: token().public().clone() }
}

fn trusts(threshold: usize, keys: &[&SecretKey]) -> Reader {
    Reader::Roster { trust: trust_text(threshold, keys) }
}

fn enrol(payload: Vec<u8>, seeds: &[u8]) -> Forgery {
    Forgery { kind: "enrol", ..Forgery::release(payload, seeds) }
}

fn roster(payload: Vec<u8>) -> Forgery {
    Forgery { kind: "roster", ..Forgery::release(payload, &[1]) }
}

pub(super) fn good() -> Vec<(&'static str, Vector)> {
    let ids = |keys: &[&SecretKey]| keys.iter().map(|key| key.public().id()).collect::<Vec<_>>();
    let case = |about: &str, verify, content, message: &[u8]| Vector {
        about: about.into(),
        verify,
        schema: Some(Schema::Matches),
        expect: Expect::Ok(content),
        message: hex(message),
    };
    let request = enrol_request();
    let asks = |about: &str, payload, seeds: &[u8], keys: &[&SecretKey]| {
        let content = enrol_content(&request, &ids(keys));
        case(about, knows_token(), content, &enrol(payload, seeds).sign())
    };
    let (t, h) = (&token(), &alpha());
    let signed = sign_enrol_request(&request, t, h);
    let plain = codec::encode(&request);
    let newer = changed(&request, |entries| entries.push((40.into(), "new".into())));
    let says = |about: &str, entry: &RosterEntry, threshold, trusted: &[&SecretKey], keys: &[_]| {
        let content = roster_content(entry, &ids(keys));
        case(about, trusts(threshold, trusted), content, &sign_entry(entry, keys))
    };
    let (a, b, c) = (&alice(), &bob(), &carol());
    let full = roster_entry();
    let known = RosterEntry { token: None, ..roster_entry() };
    let invited = RosterEntry { key: None, ..roster_entry() };
    let gone = RosterEntry { key: None, token: None, ..roster_entry() };
    vec![
        ("enrol", {
            let content = enrol_content(&request, &ids(&[t, h]));
            case("signed by the token and the key", knows_token(), content, &signed)
        }),
        ("enrol-turned", asks("the key signed first", plain.clone(), &[ALPHA, TOKEN], &[h, t])),
        (
            "enrol-with-a-stranger",
            asks("a third signature counts for nothing", plain, &[MALLORY, TOKEN, ALPHA], &[t, h]),
        ),
        (
            "enrol-more-fields",
            asks("a field of a newer version is passed over", newer, &[TOKEN, ALPHA], &[t, h]),
        ),
        ("roster-full", says("a key, and a token for another", &full, 2, &[a, b, c], &[c, a])),
        ("roster-key", says("a host that is known", &known, 1, &[a], &[a])),
        ("roster-token", says("a host that may ask", &invited, 1, &[a], &[a])),
        ("roster-gone", says("a host that is in the fleet no more", &gone, 1, &[a], &[a])),
    ]
}

pub(super) fn bad() -> Vec<Case> {
    [requests(), entries()].concat()
}

fn replaced(at: usize, value: Value) -> impl Fn(&mut Entries) {
    move |entries| entries[at].1 = value.clone()
}

/// Points that are no keys: the neutral element, one of order 4, and y = 2, which no point has.
fn weak_keys() -> [Value; 3] {
    let with_first = |byte| Value::Bytes([&[byte][..], &[0; 31]].concat());
    [with_first(1), with_first(0), with_first(2)]
}

fn requests() -> Vec<Case> {
    let case = |name, about, schema, code, message| {
        refused(name, about, knows_token(), schema, code, message)
    };
    let request = enrol_request();
    let plain = codec::encode(&request);
    let by = |seeds: &[u8]| enrol(plain.clone(), seeds).sign();
    let with = |change: &dyn Fn(&mut Entries)| {
        enrol(changed(&request, |entries| change(entries)), &[TOKEN, ALPHA]).sign()
    };
    let under =
        |name, about, schema, message| case(name, about, schema, Code::UnderSigned, message);
    let own = EnrolRequest { key: BareKey::from(token().public()), ..request.clone() };
    let own = enrol(codec::encode(&own), &[TOKEN, MALLORY]).sign();
    let newer = EnrolRequest { version: 1, ..request.clone() };
    let elsewhere = EnrolRequest { fleet: parse("work"), ..request.clone() };
    // Signed for this fleet, so that only what it says is wrong.
    let says_elsewhere = enrol(codec::encode(&elsewhere), &[TOKEN, ALPHA]).sign();
    let mut flipped = by(&[TOKEN, ALPHA]);
    let last = flipped.len() - 1;
    flipped[last] ^= 1;
    let signed_elsewhere = Forgery { fleet: "work", ..enrol(plain.clone(), &[TOKEN, ALPHA]) };
    let as_release = Forgery { kind: "release", ..enrol(plain.clone(), &[TOKEN, ALPHA]) };
    let [neutral, order_4, no_point] = weak_keys();
    vec![
        under("enrol-by-the-token-alone", "without the key", DIFFERS, by(&[TOKEN])),
        under("enrol-by-the-key-alone", "without the token", DIFFERS, by(&[ALPHA])),
        under("enrol-by-another-key", "not the one it names", MATCHES, by(&[TOKEN, MALLORY])),
        under(
            "enrol-by-another-token",
            "not the one that is known",
            MATCHES,
            by(&[MALLORY, ALPHA]),
        ),
        under("enrol-token-as-key", "the token names itself: one is not two", MATCHES, own),
        case("enrol-signed-twice", "the token, again", MATCHES, Code::BadEnvelope, {
            by(&[TOKEN, TOKEN, ALPHA])
        }),
        case("enrol-flipped-bit", "in the key's signature", MATCHES, Code::BadSignature, flipped),
        case(
            "enrol-signed-for-another-fleet",
            "though it says this one",
            MATCHES,
            Code::BadSignature,
            signed_elsewhere.sign(),
        ),
        case(
            "enrol-signed-as-release",
            "signatures over another kind",
            MATCHES,
            Code::BadSignature,
            as_release.sign(),
        ),
        case(
            "enrol-of-another-fleet",
            "of the fleet work",
            MATCHES,
            Code::WrongFleet,
            says_elsewhere,
        ),
        case("enrol-of-another-version", "version 1", DIFFERS, Code::WrongVersion, {
            enrol(codec::encode(&newer), &[TOKEN, ALPHA]).sign()
        }),
        case("enrol-neutral-key", "the neutral element", UNSEEN, Code::Malformed, {
            with(&replaced(3, neutral))
        }),
        case("enrol-small-order-key", "a point of order 4", UNSEEN, Code::Malformed, {
            with(&replaced(3, order_4))
        }),
        case("enrol-key-off-the-curve", "no point has y = 2", UNSEEN, Code::Malformed, {
            with(&replaced(3, no_point))
        }),
        case("enrol-short-key", "31 bytes", DIFFERS, Code::Malformed, {
            with(&replaced(3, Value::Bytes(vec![1; 31])))
        }),
        case("enrol-without-key", "key 4 is missing", DIFFERS, Code::Malformed, {
            with(&|entries| drop(entries.remove(3)))
        }),
        case("roster-as-enrol", "another kind of message", DIFFERS, Code::Malformed, {
            sign_entry(&roster_entry(), &[&token(), &alpha()])
        }),
    ]
}

fn entries() -> Vec<Case> {
    let case = |name, about, schema, code, message| {
        refused(name, about, trusts(1, &[&alice()]), schema, code, message)
    };
    let malformed = |name, about, schema, change: &dyn Fn(&mut Entries)| {
        let payload = changed(&roster_entry(), |entries| change(entries));
        case(name, about, schema, Code::Malformed, roster(payload).sign())
    };
    let entry = roster_entry();
    let plain = codec::encode(&entry);
    let (a, b, c) = (&alice(), &bob(), &carol());
    let newer = RosterEntry { version: 1, ..entry.clone() };
    let elsewhere = RosterEntry { fleet: parse("work"), ..entry.clone() };
    let says_elsewhere = roster(codec::encode(&elsewhere));
    let signed_elsewhere = Forgery { fleet: "work", ..roster(plain.clone()) };
    let twice = Forgery { seeds: vec![1, 1], ..roster(plain.clone()) };
    let mut flipped = sign_entry(&entry, &[a]);
    let last = flipped.len() - 1;
    flipped[last] ^= 1;
    let token_with = |key: i32, value: Value| {
        let mut token = entry.token.to_owned().expect("it has one").to_value();
        token.as_map_mut().expect("a map").retain(|(known, _)| *known != key.into());
        let entries = token.as_map_mut().expect("a map");
        entries.push((key.into(), value));
        entries.sort_by_key(|(key, _)| encode(key));
        token
    };
    let [neutral, order_4, no_point] = weak_keys();
    let two = trusts(2, &[a, b, c]);
    vec![
        refused("roster-one-of-two", "alice alone", two.clone(), MATCHES, Code::UnderSigned, {
            sign_entry(&entry, &[a])
        }),
        refused(
            "roster-one-of-two-and-a-stranger",
            "mallory does not count",
            two,
            MATCHES,
            Code::UnderSigned,
            sign_entry(&entry, &[a, &mallory()]),
        ),
        case("roster-by-the-host", "a host is no operator", MATCHES, Code::UnderSigned, {
            sign_entry(&entry, &[&alpha(), &token()])
        }),
        case("roster-signed-twice", "alice twice", UNSEEN, Code::BadEnvelope, twice.sign()),
        case("roster-flipped-bit", "in the signature", MATCHES, Code::BadSignature, flipped),
        case(
            "roster-signed-for-another-fleet",
            "though it says this one",
            MATCHES,
            Code::BadSignature,
            signed_elsewhere.sign(),
        ),
        case("roster-of-another-fleet", "of the fleet work", MATCHES, Code::WrongFleet, {
            says_elsewhere.sign()
        }),
        case("roster-of-another-version", "version 1", DIFFERS, Code::WrongVersion, {
            roster(codec::encode(&newer)).sign()
        }),
        case("beacon-as-roster", "another kind of message", DIFFERS, Code::Malformed, {
            sign_beacon(&beacon(), &[a])
        }),
        case("release-as-roster", "another kind of message", DIFFERS, Code::Malformed, {
            sign_release(&release(&tree(&[target("alpha")])), &[a]).0
        }),
        malformed("roster-unknown-key", "key 99", DIFFERS, &|entries| {
            entries.push((99.into(), "new".into()));
        }),
        malformed("roster-unknown-key-in-token", "key 3", DIFFERS, &{
            replaced(5, token_with(3, 1.into()))
        }),
        malformed("roster-null-key", "absent, never null", DIFFERS, &replaced(4, Value::Null)),
        malformed("roster-neutral-key", "the neutral element", UNSEEN, &replaced(4, neutral)),
        malformed("roster-key-off-the-curve", "no point has y = 2", UNSEEN, &replaced(4, no_point)),
        malformed("roster-small-order-token", "a token of order 4", UNSEEN, &{
            replaced(5, token_with(1, order_4))
        }),
        malformed("roster-without-number", "key 4 is missing", DIFFERS, &|entries| {
            drop(entries.remove(3));
        }),
    ]
}
