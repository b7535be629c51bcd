//! Messages that are refused for their form: the encoding, a field, or the COSE envelope.

use ciborium::Value;
use herald_proto::{
    codec::{self, MAX_MESSAGE},
    rejection::Code,
    target::Target,
};

use super::{
    bad::{
        Case, DIFFERS, UNSEEN, honest, order_case, plain_order, with_forgery, with_parts,
        with_payload,
    },
    forge::{self, Entries, around_release, around_target, changed, encode, first_signature},
};
use crate::common::{alice, orders, target};

/// All of them, each with the name of its file.
pub(super) fn all() -> Vec<Case> {
    [encodings(), contents(), envelopes()].concat()
}

fn encodings() -> Vec<Case> {
    use Code::{Malformed, TooLarge};
    let whole = codec::encode(&plain_order());
    let truncated = whole[..whole.len() - 1].to_vec();
    let trailing = [whole, vec![0]].concat();
    let padding =
        Target { expect_current: vec![crate::common::toplevel("alpha"); 200], ..target("alpha") };
    let large = codec::encode(&orders(&[padding], &[&alice()])[0]);
    assert!(large.len() > MAX_MESSAGE, "large enough to be refused");
    // The version, 0, comes first: in one byte, unless it is made longer.
    let long = with_payload(|release| {
        let bytes = codec::encode(release);
        [&bytes[..2], &[0x18, 0x00], &bytes[3..]].concat()
    });
    let indefinite = around_release(|release| {
        let bytes = honest(release).sign();
        [&bytes[..2], &[0x9f], &bytes[3..], &[0xff]].concat()
    });
    let unsorted = with_payload(|release| changed(release, |entries| entries.swap(3, 4)));
    let twice = around_target(changed(&target("alpha"), |entries| {
        let again = entries[0].clone();
        entries.insert(1, again);
    }));
    let case = |name, about, bytes| order_case(name, about, UNSEEN, Malformed, bytes);
    vec![
        case("truncated", "the last byte is missing", truncated),
        case("trailing-byte", "a byte follows the order", trailing),
        case("long-integer", "the release's version in two bytes", long),
        case("indefinite-length", "the outer array of the COSE_Sign", indefinite),
        case("unsorted-keys", "sequence and issued_at have changed places", unsorted),
        case("duplicate-key", "the target names its host twice", twice),
        order_case("too-large", "more than 16 KiB, and good otherwise", UNSEEN, TooLarge, large),
    ]
}

fn contents() -> Vec<Case> {
    let extra = |entries: &mut Entries| entries.push((99.into(), "new".into()));
    let replace =
        |at: usize, value: Value| move |entries: &mut Entries| entries[at].1 = value.clone();
    let release = |change: &dyn Fn(&mut Entries)| {
        with_payload(|release| changed(release, |entries| change(entries)))
    };
    let in_target = |change: &dyn Fn(&mut Entries)| {
        around_target(changed(&target("alpha"), |entries| change(entries)))
    };
    let empty_list = |entries: &mut Entries| {
        entries.push((9.into(), Value::Array(vec![])));
    };
    let bidi = |entries: &mut Entries| {
        entries.push((12.into(), "safe \u{202e}reversed".into()));
    };
    let check = |check: Vec<Value>| {
        let checks = Value::Array(vec![Value::Array(check)]);
        let health = vec![(1.into(), 0.into()), (2.into(), checks)];
        in_target(&replace(7, Value::Map(health)))
    };
    let substituter = |url: &str| {
        let list = Value::Array(vec![url.into()]);
        in_target(&|entries| entries.push((14.into(), list.clone())))
    };
    let url = || (1.into(), "http://h/".into());
    let statuses = |list: &[u16]| Value::Array(list.iter().map(|one| (*one).into()).collect());
    let http = |entries: Entries| check(vec![4.into(), Value::Map(entries)]);
    let order_with_more = changed(&plain_order(), extra);
    let case = |name, about, bytes| order_case(name, about, DIFFERS, Code::Malformed, bytes);
    vec![
        case("unknown-key-in-order", "key 99", order_with_more),
        case("unknown-key-in-release", "key 99, signed", release(&extra)),
        case("unknown-key-in-target", "key 99, in the tree", in_target(&extra)),
        case("missing-key", "no sequence", release(&|entries| drop(entries.remove(3)))),
        case("float", "the sequence is a float", release(&replace(3, Value::Float(1.0)))),
        case("null", "the plan is null", release(&replace(9, Value::Null))),
        case(
            "tag-inside",
            "a time with tag 1",
            release(&replace(4, Value::Tag(1, Box::new(1.into())))),
        ),
        case("empty-list", "expect_current is empty, not absent", in_target(&empty_list)),
        case("upper-case-host", "names are in lower case", in_target(&replace(0, "Alpha".into()))),
        case(
            "path-below-the-store-path",
            "a file in a system is no system",
            in_target(&replace(3, format!("{}/bin", crate::common::toplevel("alpha")).into())),
        ),
        case("short-digest", "31 bytes", release(&replace(7, Value::Bytes(vec![0; 31])))),
        case("unknown-integrity", "3 is not known", in_target(&replace(5, 3.into()))),
        case("unknown-check", "5 is not known", check(vec![5.into(), "x".into()])),
        case("http-without-url", "a map without key 1", http(vec![])),
        case("http-unknown-key", "key 5", http(vec![url(), (5.into(), 1.into())])),
        case("http-one-status", "a range of one", http(vec![url(), (3.into(), statuses(&[200]))])),
        case("substituter-with-settings", "Nix would take what nobody has signed", {
            substituter("https://cache.example.org?trusted=1")
        }),
        case("substituter-by-ssh", "a program is no cache", substituter("ssh-ng://example.org")),
        order_case("substituter-above", "a folder above", UNSEEN, Code::Malformed, {
            substituter("https://cache.example.org/../a")
        }),
        order_case("http-long-form", "port 80 is left out", UNSEEN, Code::Malformed, {
            http(vec![(1.into(), "http://h:80/".into())])
        }),
        order_case("http-line-feed", "a header in the path", UNSEEN, Code::Malformed, {
            http(vec![(1.into(), "http://h/ HTTP/1.1\r\nX: y".into())])
        }),
        order_case("http-status-order", "from 299 to 200", UNSEEN, Code::Malformed, {
            http(vec![url(), (3.into(), statuses(&[299, 200]))])
        }),
        order_case("http-long-wait", "61 seconds", UNSEEN, Code::Malformed, {
            http(vec![url(), (4.into(), 61_000.into())])
        }),
        case(
            "command-without-program",
            "an empty command",
            check(vec![1.into(), Value::Array(vec![])]),
        ),
        case(
            "span-over-a-year",
            "a limit of ten years",
            in_target(&replace(6, {
                Value::Map(
                    (1..=3).map(|key| (Value::from(key), 315_360_000_000u64.into())).collect(),
                )
            })),
        ),
        order_case("long-form-address", "[::1] in another form", UNSEEN, Code::Malformed, {
            check(vec![3.into(), "[0:0::1]:22".into()])
        }),
        order_case("bidi-reason", "a reason that shows as another", UNSEEN, Code::Malformed, {
            release(&bidi)
        }),
        order_case(
            "nil-payload",
            "not even with a signature over nothing",
            DIFFERS,
            Code::Malformed,
            with_parts(|parts| parts[2] = Value::Null),
        ),
    ]
}

fn envelopes() -> Vec<Case> {
    let alg = || (Value::from(1), Value::from(-8));
    let case = |name, about, bytes| order_case(name, about, DIFFERS, Code::BadEnvelope, bytes);
    let untagged = around_release(|release| encode(&honest(release).sign_untagged()));
    let signed_by = |seeds: &[u8]| with_forgery(|forgery| forgery.seeds = seeds.to_vec());
    let seventeen: Vec<u8> = (1..=17).collect();
    vec![
        case("untagged", "a COSE_Sign without its tag", untagged),
        case(
            "unknown-crit",
            "a header that must be understood, and is not",
            with_forgery(|forgery| {
                forgery.header = |kid| {
                    let crit = Value::Array(vec![999.into()]);
                    vec![
                        (1.into(), (-8).into()),
                        (2.into(), crit),
                        (4.into(), kid.into()),
                        (999.into(), 1.into()),
                    ]
                };
            }),
        ),
        case(
            "alg-unprotected",
            "alg stands in the unprotected header only",
            with_forgery(|forgery| {
                forgery.header = |kid| vec![(4.into(), kid.into())];
                forgery.unprotected = vec![alg()];
            }),
        ),
        case(
            "alg-in-both-headers",
            "the same label twice",
            with_forgery(|forgery| {
                forgery.unprotected = vec![alg()];
            }),
        ),
        case(
            "unprotected-header",
            "an unsigned note at the signature",
            with_forgery(|forgery| {
                forgery.unprotected = vec![(99.into(), "note".into())];
            }),
        ),
        case(
            "unprotected-header-in-body",
            "an unsigned note at the release",
            with_forgery(|forgery| {
                forgery.body_unprotected = vec![(99.into(), "note".into())];
            }),
        ),
        case(
            "protected-header-in-body",
            "a signed note at the release",
            with_forgery(|forgery| {
                forgery.body_protected = encode(&Value::Map(vec![(99.into(), "note".into())]));
            }),
        ),
        case(
            "empty-map-in-body",
            "the empty header as a0, not as no bytes",
            with_forgery(|forgery| {
                forgery.body_protected = vec![0xa0];
            }),
        ),
        case(
            "another-algorithm",
            "says ES256 over an Ed25519 signature",
            with_forgery(|forgery| {
                forgery.header = |kid| vec![(1.into(), (-7).into()), (4.into(), kid.into())];
            }),
        ),
        case(
            "no-key-id",
            "a signature by nobody",
            with_forgery(|forgery| {
                forgery.header = |_| vec![(1.into(), (-8).into())];
            }),
        ),
        case(
            "short-key-id",
            "the first 8 bytes of the key id",
            with_forgery(|forgery| {
                forgery.header =
                    |kid| vec![(1.into(), (-8).into()), (4.into(), (&kid[..8]).into())];
            }),
        ),
        order_case(
            "header-not-sorted",
            "kid before alg",
            UNSEEN,
            Code::BadEnvelope,
            with_forgery(|forgery| {
                forgery.header = |kid| forge::honest_header(kid).into_iter().rev().collect();
            }),
        ),
        case("no-signatures", "a COSE_Sign that nobody signed", signed_by(&[])),
        case("17-signatures", "one more than there may be", signed_by(&seventeen)),
        order_case("signed-twice-by-one", "alice twice are not two", UNSEEN, Code::BadEnvelope, {
            signed_by(&[1, 1])
        }),
        case(
            "long-signature",
            "65 bytes",
            with_parts(|parts| {
                first_signature(parts).push(0);
            }),
        ),
    ]
}
