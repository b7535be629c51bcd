//! Messages that are refused, each for one reason. Where a signature could hold, it does: nothing
//! is refused here because the forger did not have the key, unless that is the case's point.

use ciborium::Value;
use herald_proto::{
    codec::{self, Bytes, MAX_DEPTH},
    id::MerkleHash,
    order::SealedOrder,
    presence::Liveness,
    rejection::Code,
    release::Release,
    report::Report,
    signing::sign_as_host,
    target::Target,
};

use super::{
    Expect, Reader, Schema, Vector, as_alpha, bad_form,
    forge::{self, Forgery, around_release, encode, entries, first_signature},
    hex, log_of_alpha, presence_of_alpha, report_of_alpha,
};
use crate::common::{
    alice, alpha, bob, carol, fleet, mallory, order, orders, parse, presence, report, target,
};

pub(super) const DIFFERS: Option<Schema> = Some(Schema::Differs);
pub(super) const MATCHES: Option<Schema> = Some(Schema::Matches);
/// The fault is in the encoding, or in what a schema can't say.
pub(super) const UNSEEN: Option<Schema> = None;

pub(super) type Case = (&'static str, Vector);

/// All of them, each with the name of its file.
pub(crate) fn all() -> Vec<Case> {
    let mut all = bad_form::all();
    all.extend(signatures());
    all.extend(addressees());
    all.extend(proofs());
    all.extend(hosts());
    all.extend(super::files::bad());
    all.extend(super::enrol::bad());
    all
}

pub(super) fn refused(
    name: &'static str,
    about: &str,
    verify: Reader,
    schema: Option<Schema>,
    code: Code,
    message: Vec<u8>,
) -> Case {
    let vector = Vector {
        about: about.into(),
        verify,
        schema,
        expect: Expect::Refused(code.to_string()),
        message: hex(&message),
    };
    (name, vector)
}

/// An order to alpha, which trusts alice alone.
pub(super) fn order_case(
    name: &'static str,
    about: &str,
    schema: Option<Schema>,
    code: Code,
    message: Vec<u8>,
) -> Case {
    refused(name, about, as_alpha(1, &[&alice()]), schema, code, message)
}

pub(super) fn honest(release: &Release) -> Forgery {
    Forgery::release(codec::encode(release), &[1])
}

/// An order whose release has other bytes as its payload.
pub(super) fn with_payload(payload: impl Fn(&Release) -> Vec<u8>) -> Vec<u8> {
    around_release(|release| Forgery::release(payload(release), &[1]).sign())
}

/// An order whose release is signed after a change to the forgery.
pub(super) fn with_forgery(change: impl Fn(&mut Forgery)) -> Vec<u8> {
    around_release(|release| {
        let mut forgery = honest(release);
        change(&mut forgery);
        forgery.sign()
    })
}

/// An order whose signed release is changed as a value: tag, body and signatures.
pub(super) fn with_parts(change: impl Fn(&mut Vec<Value>)) -> Vec<u8> {
    around_release(|release| {
        let Value::Array(mut parts) = honest(release).sign_untagged() else {
            unreachable!("a COSE_Sign is an array");
        };
        change(&mut parts);
        encode(&Value::Tag(98, Box::new(Value::Array(parts))))
    })
}

pub(super) fn plain_order() -> SealedOrder {
    order(&[&alice()])
}

fn signatures() -> Vec<Case> {
    let (a, b, c) = (&alice(), &bob(), &carol());
    let two_of_three = |name, about, message: SealedOrder| {
        let (reader, message) = (as_alpha(2, &[a, b, c]), codec::encode(&message));
        refused(name, about, reader, MATCHES, Code::UnderSigned, message)
    };
    let wrong = |name, about, bytes| order_case(name, about, MATCHES, Code::BadSignature, bytes);
    let flipped = |at_end: usize, keys: &[&herald_proto::key::SecretKey]| {
        let mut sealed = order(keys);
        let at = sealed.release.0.len() - at_end;
        sealed.release.0[at] ^= 1;
        codec::encode(&sealed)
    };
    vec![
        two_of_three("one-of-two", "alice alone", order(&[a])),
        two_of_three(
            "one-of-two-and-a-stranger",
            "mallory does not count",
            order(&[a, &mallory()]),
        ),
        two_of_three("strangers-only", "no key of the role", order(&[&mallory(), &alpha()])),
        wrong("flipped-bit", "in the signature", flipped(40, &[a])),
        refused(
            "one-good-and-one-wrong",
            "alice's would be enough, but bob's is wrong",
            as_alpha(1, &[a, b]),
            MATCHES,
            Code::BadSignature,
            flipped(40, &[a, b]),
        ),
        wrong(
            "another-payload",
            "the signature of another release",
            with_parts(|parts| {
                let later = Release {
                    targets_count: 2,
                    ..crate::common::release(&crate::common::tree(&[target("alpha")]))
                };
                parts[2] = Value::Bytes(codec::encode(&later));
            }),
        ),
        wrong(
            "signed-as-report",
            "a signature of alice over a report",
            with_forgery(|forgery| {
                forgery.kind = "report";
            }),
        ),
        wrong(
            "signed-for-another-fleet",
            "though it says this one",
            with_forgery(|forgery| {
                forgery.fleet = "work";
            }),
        ),
        wrong(
            "malleable-signature",
            "S + L in place of S (RFC 8032, 5.1.7)",
            with_parts(|parts| {
                add_group_order(&mut first_signature(parts)[32..]);
            }),
        ),
    ]
}

/// Adds the order of the group to the scalar of a signature (RFC 8032 §5.1).
fn add_group_order(scalar: &mut [u8]) {
    let mut order = [0u8; 32];
    let low = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde,
        0x14,
    ];
    order[..16].copy_from_slice(&low);
    order[31] = 0x10;
    let mut carry = 0u16;
    for (byte, more) in scalar.iter_mut().zip(order) {
        let sum = u16::from(*byte) + u16::from(more) + carry;
        (*byte, carry) = (sum as u8, sum >> 8);
    }
}

fn addressees() -> Vec<Case> {
    let case = |name, about, code, target: Target| {
        let message = codec::encode(&orders(&[target], &[&alice()])[0]);
        order_case(name, about, MATCHES, code, message)
    };
    let of_fleet = with_forgery(|forgery| {
        let tree = crate::common::tree(&[target("alpha")]);
        forgery.payload =
            codec::encode(&Release { fleet: parse("work"), ..crate::common::release(&tree) });
        forgery.fleet = "work";
    });
    let newer = with_payload(|release| codec::encode(&Release { version: 1, ..release.clone() }));
    let with_more = with_payload(|release| {
        let newer = Release { version: 1, ..release.clone() };
        forge::changed(&newer, |entries| entries.push((13.into(), "new".into())))
    });
    vec![
        case("wrong-host", "beta's order on alpha's topic", Code::WrongHost, target("beta")),
        case("wrong-profile", "for the profile web", Code::WrongProfile, {
            Target { profile: parse("web"), ..target("alpha") }
        }),
        case("wrong-system", "for aarch64-linux", Code::WrongSystem, {
            Target { system: parse("aarch64-linux"), ..target("alpha") }
        }),
        order_case("wrong-fleet", "of the fleet work", MATCHES, Code::WrongFleet, of_fleet),
        order_case("wrong-version", "version 1", DIFFERS, Code::WrongVersion, newer),
        order_case(
            "wrong-version-with-more",
            "a field of version 1",
            DIFFERS,
            Code::WrongVersion,
            with_more,
        ),
    ]
}

fn proofs() -> Vec<Case> {
    let case = |name, about, order: SealedOrder| {
        order_case(name, about, MATCHES, Code::NotInRelease, codec::encode(&order))
    };
    let good = plain_order();
    let others = ["alpha", "delta", "epsilon"].map(target);
    let other = orders(&others, &[&alice()]).remove(0);
    let mut flipped = good.clone();
    let mut hash = *flipped.proof[0].as_bytes();
    hash[0] ^= 1;
    flipped.proof[0] = MerkleHash::from_bytes(hash);
    let mut turned = good.clone();
    turned.proof.reverse();
    let target_changed = Target { action: herald_proto::target::Action::Reboot, ..target("alpha") };
    let changed = SealedOrder { target: Bytes(codec::encode(&target_changed)), ..good.clone() };
    vec![
        case("target-changed", "switch has become reboot", changed),
        case(
            "proof-of-another-release",
            "the same target, elsewhere",
            SealedOrder { proof: other.proof, ..good.clone() },
        ),
        case(
            "another-index",
            "alpha in the place of beta",
            SealedOrder { index: 1, ..good.clone() },
        ),
        case("index-outside", "the fourth of three", SealedOrder { index: 3, ..good.clone() }),
        case("proof-flipped", "a bit of the first hash", flipped),
        case("proof-turned", "from the root downwards", turned),
        case("no-proof", "three targets and no hash", SealedOrder { proof: vec![], ..good }),
    ]
}

fn hosts() -> Vec<Case> {
    let signed = |report: &Report| sign_as_host(report, &fleet(), &alpha());
    let case = |name, about, schema, code, bytes| {
        refused(name, about, report_of_alpha(), schema, code, bytes)
    };
    let good = signed(&report());
    let mut flipped = good.clone();
    let last = flipped.len() - 1;
    flipped[last] ^= 0x40;
    let by_another = sign_as_host(&report(), &fleet(), &mallory());
    let of_beta = signed(&Report { host: parse("beta"), ..report() });
    let newer = signed(&Report { version: 1, ..report() });
    let elsewhere = sign_as_host(&report(), &parse("work"), &alpha());
    let noted = Forgery {
        unprotected: vec![(99.into(), "note".into())],
        ..forge::report(codec::encode(&report()))
    };
    let as_sign =
        Forgery { seeds: vec![10], ..forge::report(encode(&Value::Map(entries(&report())))) };
    let late = presence(Liveness::Online);
    let late = sign_as_host(&late, &fleet(), &alpha());
    vec![
        case("report-nested-too-deep", "13 levels", MATCHES, Code::Malformed, {
            forge::report_with_more_fields(&report(), MAX_DEPTH)
        }),
        case("report-by-another-key", "not the pinned one", MATCHES, Code::UnderSigned, by_another),
        case("report-flipped-bit", "in the signature", MATCHES, Code::BadSignature, flipped),
        case("report-of-another-host", "signed by alpha", MATCHES, Code::WrongHost, of_beta),
        case("report-of-another-version", "version 1", DIFFERS, Code::WrongVersion, newer),
        case(
            "report-of-another-fleet",
            "the same key there",
            MATCHES,
            Code::BadSignature,
            elsewhere,
        ),
        case(
            "report-with-a-note",
            "an unprotected header",
            DIFFERS,
            Code::BadEnvelope,
            noted.sign1(),
        ),
        case("report-in-a-sign", "a COSE_Sign", DIFFERS, Code::Malformed, as_sign.sign()),
        case("presence-as-report", "another kind of message", DIFFERS, Code::BadSignature, late),
        refused(
            "report-as-presence",
            "another kind of message",
            presence_of_alpha(),
            DIFFERS,
            Code::BadSignature,
            good.clone(),
        ),
        refused(
            "report-as-log",
            "another kind of message",
            log_of_alpha(),
            DIFFERS,
            Code::BadSignature,
            good,
        ),
    ]
}
