//! Every envelope here is put together byte by byte, so that it can be wrong in ways that no COSE
//! library would write.

use super::*;

const AAD: &[u8] = b"aad";
const PAYLOAD: &[u8] = b"payload";
const ALG_EDDSA: [u8; 2] = [0x01, 0x27];
const NIL: [u8; 1] = [0xf6];
const EMPTY_MAP: [u8; 1] = [0xa0];

/// One part more or less, or one in another form, makes a trap.
#[derive(Clone)]
struct Signer {
    head: Vec<u8>,
    protected: Vec<u8>,
    unprotected: Vec<u8>,
    signature: Vec<u8>,
}

#[derive(Clone)]
struct Parts {
    head: Vec<u8>,
    protected: Vec<u8>,
    unprotected: Vec<u8>,
    payload: Vec<u8>,
    /// The signatures of a `COSE_Sign` with their head, or the signature of a `COSE_Sign1`.
    end: Vec<u8>,
}

impl Signer {
    fn bytes(&self) -> Vec<u8> {
        let parts = [&self.head, &self.protected, &self.unprotected, &self.signature];
        parts.map(Vec::as_slice).concat()
    }
}

impl Parts {
    fn bytes(&self) -> Vec<u8> {
        let parts = [&self.head, &self.protected, &self.unprotected, &self.payload, &self.end];
        parts.map(Vec::as_slice).concat()
    }
}

/// A byte string in its shortest form.
fn bstr(bytes: &[u8]) -> Vec<u8> {
    let length = u8::try_from(bytes.len()).expect("short in these tests");
    let head = if length < 24 { vec![0x40 | length] } else { vec![0x58, length] };
    [head, bytes.to_vec()].concat()
}

fn kid(bytes: &[u8]) -> Vec<u8> {
    [vec![0x04], bstr(bytes)].concat()
}

/// A map of entries that are encoded already, as a protected header holds it.
fn protected_map(entries: &[&[u8]]) -> Vec<u8> {
    let count = u8::try_from(entries.len()).expect("few in these tests");
    bstr(&[&[0xa0 | count], entries.concat().as_slice()].concat())
}

fn good_signer(n: u8) -> Signer {
    Signer {
        head: vec![0x83],
        protected: protected_map(&[&ALG_EDDSA, &kid(&[n; 32])]),
        unprotected: EMPTY_MAP.into(),
        signature: bstr(&[n; 64]),
    }
}

fn with_signers(signers: &[Signer]) -> Parts {
    let count = u8::try_from(signers.len()).expect("few in these tests");
    let all: Vec<u8> = signers.iter().flat_map(Signer::bytes).collect();
    Parts {
        head: vec![0xd8, 98, 0x84],
        protected: bstr(&[]),
        unprotected: EMPTY_MAP.into(),
        payload: bstr(PAYLOAD),
        end: [vec![0x80 | count], all].concat(),
    }
}

fn good_sign() -> Parts {
    with_signers(&[good_signer(1)])
}

fn good_sign1() -> Parts {
    let signer = good_signer(1);
    Parts {
        head: vec![0xd2, 0x84],
        protected: signer.protected,
        unprotected: EMPTY_MAP.into(),
        payload: bstr(PAYLOAD),
        end: signer.signature,
    }
}

#[derive(Debug, PartialEq)]
enum Why {
    NotDeterministic,
    NotCbor,
    NotCose,
    NotStrict,
    SignatureCount,
}
use Why::*;

fn why(error: &BadEnvelope) -> Why {
    match error {
        BadEnvelope::Malformed(Malformed::NotDeterministic) => NotDeterministic,
        BadEnvelope::Malformed(Malformed::NotCbor(_)) => NotCbor,
        BadEnvelope::Malformed(other) => panic!("not expected of an envelope: {other}"),
        BadEnvelope::NotCose { .. } => NotCose,
        BadEnvelope::NotStrict => NotStrict,
        BadEnvelope::SignatureCount => SignatureCount,
    }
}

fn all_refused(
    cases: &[(&str, Vec<u8>, Why)],
    open: fn(&[u8], &[u8]) -> Result<Envelope, BadEnvelope>,
) {
    for (what, bytes, expected) in cases {
        let error = open(bytes, AAD).expect_err(what);
        assert_eq!(why(&error), *expected, "{what}: {error}");
    }
}

#[test]
fn the_form_that_the_traps_vary_is_accepted_in_both_kinds() {
    let sign = with_signers(&[good_signer(1), good_signer(2)]).bytes();
    let envelope = open_sign(&sign, AAD).unwrap();
    assert_eq!(envelope.payload, PAYLOAD);
    let found: Vec<_> =
        envelope.signatures.iter().map(|one| (*one.key.as_bytes(), one.signature)).collect();
    assert_eq!(found, [([1; 32], [1; 64]), ([2; 32], [2; 64])]);

    let envelope = open_sign1(&good_sign1().bytes(), AAD).unwrap();
    assert_eq!(envelope.payload, PAYLOAD);
    assert_eq!(envelope.signatures[0].key.as_bytes(), &[1; 32]);
    assert_eq!(envelope.signatures[0].signature, [1; 64]);
}

/// RFC 9052 §4.4, written out by hand.
#[test]
fn what_is_signed_is_the_sig_structure_of_the_standard() {
    let header = &good_signer(1).protected;
    let expected =
        [&[0x85, 0x69], b"Signature".as_slice(), &bstr(&[]), header, &bstr(AAD), &bstr(PAYLOAD)];
    let envelope = open_sign(&good_sign().bytes(), AAD).unwrap();
    assert_eq!(envelope.signatures[0].signed_bytes, expected.concat());

    let expected = [&[0x84, 0x6a], b"Signature1".as_slice(), header, &bstr(AAD), &bstr(PAYLOAD)];
    let envelope = open_sign1(&good_sign1().bytes(), AAD).unwrap();
    assert_eq!(envelope.signatures[0].signed_bytes, expected.concat());
}

/// Unprotected headers, and protected ones with a place for them, are wrong in the same ways in a
/// signer of a `COSE_Sign` as in a `COSE_Sign1`.
fn header_traps() -> Vec<(&'static str, Vec<u8>, Vec<u8>, Why)> {
    let protected = good_signer(1).protected;
    let map = protected_map;
    let id = kid(&[1; 32]);
    let unknown_crit = [0x02, 0x81, 0x19, 0x03, 0xe7];
    let nested = [[0x05].as_slice(), &[0x81; 200]].concat();
    let lie = [0x05, 0x5b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
    let in_map_of_one = |entry: &[u8]| [&[0xa1], entry].concat();
    let protected_cases = [
        ("unknown crit", map(&[&ALG_EDDSA, &unknown_crit, &id]), NotStrict),
        ("known crit", map(&[&ALG_EDDSA, &[0x02, 0x81, 0x01], &id]), NotStrict),
        ("empty crit", map(&[&ALG_EDDSA, &[0x02, 0x80], &id]), NotStrict),
        ("another header", map(&[&ALG_EDDSA, &id, &[0x05, 0x41, 0]]), NotStrict),
        ("a header of our own", map(&[&ALG_EDDSA, &id, &[0x18, 99, 0]]), NotStrict),
        ("alg twice", map(&[&ALG_EDDSA, &ALG_EDDSA, &id]), NotStrict),
        ("kid twice", map(&[&ALG_EDDSA, &id, &id]), NotStrict),
        ("kid before alg", map(&[&id, &ALG_EDDSA]), NotStrict),
        ("another alg (ES256)", map(&[&[0x01, 0x26], &id]), NotStrict),
        ("another name of it (Ed25519)", map(&[&[0x01, 0x32], &id]), NotStrict),
        ("alg as text", map(&[b"\x01\x65EdDSA", &id]), NotStrict),
        ("alg missing", map(&[&id]), NotStrict),
        ("kid missing", map(&[&ALG_EDDSA]), NotStrict),
        ("kid empty", map(&[&ALG_EDDSA, &kid(&[])]), NotCose),
        ("kid short", map(&[&ALG_EDDSA, &kid(&[1; 31])]), NotStrict),
        ("kid long", map(&[&ALG_EDDSA, &kid(&[1; 33])]), NotStrict),
        ("empty header", bstr(&[]), NotStrict),
        ("a long-form alg", map(&[&[0x01, 0x38, 0x07], &id]), NotStrict),
        ("a long-form map", bstr(&[&[0xb8, 2], &ALG_EDDSA, id.as_slice()].concat()), NotStrict),
        (
            "an indefinite-length map",
            bstr(&[&[0xbf][..], &ALG_EDDSA, id.as_slice(), &[0xff]].concat()),
            NotStrict,
        ),
        (
            "bytes after the map",
            bstr(&[&[0xa2][..], &ALG_EDDSA, id.as_slice(), &[0]].concat()),
            NotStrict,
        ),
        ("deep nesting", map(&[&ALG_EDDSA, &id, &nested]), NotStrict),
        ("a length that is a lie", map(&[&ALG_EDDSA, &id, &lie]), NotStrict),
        ("a map that is not wrapped", protected[2..].to_vec(), NotCose),
    ];
    let unprotected_cases = [
        ("alg only unprotected", map(&[&id]), in_map_of_one(&ALG_EDDSA), NotStrict),
        ("kid only unprotected", map(&[&ALG_EDDSA]), in_map_of_one(&id), NotStrict),
        ("alg in both headers", protected.clone(), in_map_of_one(&ALG_EDDSA), NotStrict),
        ("kid in both headers", protected.clone(), in_map_of_one(&id), NotStrict),
        ("an unprotected header", protected.clone(), vec![0xa1, 0x18, 99, 0], NotStrict),
        ("unprotected crit", protected.clone(), vec![0xa1, 0x02, 0x81, 0x01], NotStrict),
        (
            "an unprotected header twice",
            protected.clone(),
            vec![0xa2, 0x18, 99, 0, 0x18, 99, 1],
            NotDeterministic,
        ),
        ("a long-form empty map", protected.clone(), vec![0xb8, 0], NotDeterministic),
        ("an indefinite empty map", protected, vec![0xbf, 0xff], NotDeterministic),
    ];
    let protected_cases =
        protected_cases.map(|(what, header, why)| (what, header, EMPTY_MAP.to_vec(), why));
    protected_cases.into_iter().chain(unprotected_cases).collect()
}

#[test]
fn headers_with_anything_but_alg_and_kid_are_refused_in_a_signature() {
    let cases = header_traps().into_iter().map(|(what, protected, unprotected, why)| {
        let signer = Signer { protected, unprotected, ..good_signer(1) };
        (what, with_signers(&[good_signer(2), signer]).bytes(), why)
    });
    all_refused(&cases.collect::<Vec<_>>(), open_sign);
}

#[test]
fn headers_with_anything_but_alg_and_kid_are_refused_in_a_sign1() {
    let cases = header_traps().into_iter().map(|(what, protected, unprotected, why)| {
        let parts = Parts { protected, unprotected, ..good_sign1() };
        (what, parts.bytes(), why)
    });
    all_refused(&cases.collect::<Vec<_>>(), open_sign1);
}

#[test]
fn the_body_of_a_sign_has_no_headers_at_all() {
    let body = |protected: Vec<u8>, unprotected: &[u8]| {
        let parts = Parts { protected, unprotected: unprotected.to_vec(), ..good_sign() };
        parts.bytes()
    };
    let cases = [
        ("alg in the body", body(protected_map(&[&ALG_EDDSA]), &EMPTY_MAP), NotStrict),
        ("kid in the body", body(protected_map(&[&kid(&[1; 32])]), &EMPTY_MAP), NotStrict),
        ("the empty map wrapped", body(bstr(&EMPTY_MAP), &EMPTY_MAP), NotStrict),
        ("the empty map not wrapped", body(EMPTY_MAP.into(), &EMPTY_MAP), NotCose),
        ("unknown crit", body(bstr(&[0xa1, 2, 0x81, 0x19, 3, 0xe7]), &EMPTY_MAP), NotCose),
        ("alg unprotected", body(bstr(&[]), &[0xa1, 0x01, 0x27]), NotStrict),
        ("a header unprotected", body(bstr(&[]), &[0xa1, 0x18, 99, 0]), NotStrict),
        ("a counter-signature", body(bstr(&[]), &[0xa1, 0x0b, 0x41, 0]), NotStrict),
        ("a header twice", body(bstr(&[]), &[0xa2, 4, 0x41, 0, 4, 0x41, 0]), NotDeterministic),
        ("nil for protected", body(NIL.into(), &EMPTY_MAP), NotDeterministic),
    ];
    all_refused(&cases, open_sign);
}

/// What is wrong in the same way in both kinds: the tag, the array, the payload and the end.
fn frame_traps(good: &Parts, tag: &[u8]) -> Vec<(&'static str, Vec<u8>, Why)> {
    let head = |head: &[u8]| Parts { head: head.to_vec(), ..good.clone() }.bytes();
    let payload = |payload: Vec<u8>| Parts { payload, ..good.clone() }.bytes();
    let whole = good.bytes();
    let retag = |tag: &[u8]| head(&[tag, &[0x84]].concat());
    let long_tag = [[0xd9, 0].as_slice(), &[if tag == [0xd2] { 18 } else { 98 }]].concat();
    let chunks = [vec![0x5f], bstr(&PAYLOAD[..3]), bstr(&PAYLOAD[3..]), vec![0xff]].concat();
    vec![
        ("no tag", head(&[0x84]), NotCose),
        ("the tag twice", retag(&[tag, tag].concat()), NotDeterministic),
        ("a COSE_Encrypt0 tag", retag(&[0xd0]), NotDeterministic),
        ("a COSE_Mac0 tag", retag(&[0xd1]), NotDeterministic),
        (
            "a self-described CBOR tag around",
            retag(&[&[0xd9, 0xd9, 0xf7], tag].concat()),
            NotDeterministic,
        ),
        ("a long-form tag", retag(&long_tag), NotDeterministic),
        ("nil payload", payload(NIL.into()), NotDeterministic),
        ("undefined payload", payload(vec![0xf7]), NotDeterministic),
        ("text payload", payload(b"\x67payload".to_vec()), NotCose),
        ("detached payload", payload(vec![]), NotCbor),
        ("a long-form payload", payload([&[0x58, 7], PAYLOAD].concat()), NotDeterministic),
        ("a payload in chunks", payload(chunks), NotDeterministic),
        (
            "an indefinite-length array",
            [head(&[tag, &[0x9f]].concat()), vec![0xff]].concat(),
            NotDeterministic,
        ),
        ("a long-form array", head(&[tag, &[0x98, 4]].concat()), NotDeterministic),
        ("an array of three", head(&[tag, &[0x83]].concat()), NotDeterministic),
        ("a fifth part", [head(&[tag, &[0x85]].concat()), vec![0]].concat(), NotCose),
        ("bytes after the envelope", [whole.clone(), vec![0]].concat(), NotDeterministic),
        ("nothing", vec![], NotCbor),
        ("the last byte missing", whole[..whole.len() - 1].to_vec(), NotCbor),
    ]
}

#[test]
fn a_sign_in_another_frame_is_refused() {
    all_refused(&frame_traps(&good_sign(), &[0xd8, 98]), open_sign);
    let map = Parts { head: vec![0xd8, 98, 0xa2], ..good_sign() };
    let other = [
        ("a COSE_Sign1", good_sign1().bytes(), NotDeterministic),
        ("a map of the same items", map.bytes(), NotDeterministic),
    ];
    all_refused(&other, open_sign);
}

#[test]
fn a_sign1_in_another_frame_is_refused() {
    all_refused(&frame_traps(&good_sign1(), &[0xd2]), open_sign1);
    let other = [("a COSE_Sign", good_sign().bytes(), NotDeterministic)];
    all_refused(&other, open_sign1);
}

#[test]
fn a_signature_has_64_bytes_and_nothing_beside_it() {
    let one = |change: fn(&mut Signer)| {
        let mut signer = good_signer(1);
        change(&mut signer);
        with_signers(&[signer]).bytes()
    };
    let cases = [
        ("63 bytes", one(|s| s.signature = bstr(&[1; 63])), NotStrict),
        ("65 bytes", one(|s| s.signature = bstr(&[1; 65])), NotStrict),
        ("no bytes", one(|s| s.signature = bstr(&[])), NotStrict),
        ("text", one(|s| s.signature[0] = 0x78), NotCose),
        ("nil", one(|s| s.signature = NIL.into()), NotDeterministic),
        (
            "a length of two bytes",
            one(|s| {
                s.signature.splice(..2, [0x59, 0, 64]);
            }),
            NotDeterministic,
        ),
        (
            "a signer of four parts",
            one(|s| {
                s.head = vec![0x84];
                s.signature.push(0);
            }),
            NotCose,
        ),
        (
            "a signer of two parts",
            one(|s| {
                s.head = vec![0x82];
                s.signature.clear();
            }),
            NotCose,
        ),
        (
            "an indefinite signer",
            one(|s| {
                s.head = vec![0x9f];
                s.signature.push(0xff);
            }),
            NotDeterministic,
        ),
    ];
    all_refused(&cases, open_sign);
    let sign1 = |n| Parts { end: bstr(&vec![1; n]), ..good_sign1() }.bytes();
    let cases = [("63 bytes", sign1(63), NotStrict), ("65 bytes", sign1(65), NotStrict)];
    all_refused(&cases, open_sign1);
}

#[test]
fn there_are_1_to_16_signatures_each_by_another_key() {
    let keys = |count: u8| (1..=count).map(good_signer).collect::<Vec<_>>();
    let again = Signer { signature: bstr(&[9; 64]), ..good_signer(1) };
    let none_at_all = Parts { end: NIL.into(), ..good_sign() };
    let bare = Parts { end: good_signer(1).bytes(), ..good_sign() };
    let cases = [
        ("none", with_signers(&[]).bytes(), SignatureCount),
        ("17", with_signers(&keys(17)).bytes(), SignatureCount),
        ("the same twice", with_signers(&[good_signer(1), good_signer(1)]).bytes(), SignatureCount),
        (
            "one key, two signatures, another between",
            with_signers(&[good_signer(1), good_signer(2), again]).bytes(),
            SignatureCount,
        ),
        ("nil for the list", none_at_all.bytes(), NotDeterministic),
        ("a signer that is not in a list", bare.bytes(), NotCose),
    ];
    all_refused(&cases, open_sign);
    let most = open_sign(&with_signers(&keys(16)).bytes(), AAD).unwrap();
    assert_eq!(most.signatures.len(), MAX_SIGNATURES);
}

/// A header whose counter-signature has a header with a counter-signature, and so on, for as many
/// bytes as a message may have: reading it by recursion takes megabytes of stack.
fn nested_header() -> Vec<u8> {
    let long_bstr = |bytes: Vec<u8>| match bytes.len() {
        ..256 => bstr(&bytes),
        length => [vec![0x59], (length as u16).to_be_bytes().to_vec(), bytes].concat(),
    };
    let mut header = bstr(&[]);
    while header.len() < 15_000 {
        // A map of one label, 7 (RFC 8152): protected header, unprotected header, signature.
        header = long_bstr([vec![0xa1, 7, 0x83], header, vec![0xa0, 0x40]].concat());
    }
    header
}

#[test]
fn headers_in_headers_are_refused_without_reading_them() {
    let header = nested_header();
    let unprotected = [vec![0xa1, 7, 0x83], header.clone(), vec![0xa0, 0x40]].concat();
    for (protected, unprotected) in
        [(header, EMPTY_MAP.to_vec()), (protected_map(&[&ALG_EDDSA]), unprotected)]
    {
        let body =
            Parts { protected: protected.clone(), unprotected: unprotected.clone(), ..good_sign() };
        let sign1 = Parts { head: good_sign1().head, end: good_sign1().end, ..body.clone() };
        let signer = Signer { protected, unprotected, ..good_signer(1) };
        all_refused(&[("the body's", body.bytes(), NotStrict)], open_sign);
        all_refused(&[("a signer's", with_signers(&[signer]).bytes(), NotStrict)], open_sign);
        all_refused(&[("a sign1's", sign1.bytes(), NotStrict)], open_sign1);
    }
}

#[test]
fn an_envelope_is_looked_at_only_if_it_is_small_enough() {
    let bytes = vec![0; codec::MAX_MESSAGE + 1];
    for open in [open_sign, open_sign1] {
        let error = open(&bytes, AAD).unwrap_err();
        let too_large = matches!(error, BadEnvelope::Malformed(Malformed::TooLarge { .. }));
        assert!(too_large, "{error}");
    }
}

#[test]
fn what_is_sealed_opens_again_with_valid_signatures_over_the_same_payload() {
    let key = |n: u8| SecretKey::from_seed("k".parse().unwrap(), &[n; 32]).unwrap();
    let (one, two) = (key(1), key(2));
    for payload in [vec![], PAYLOAD.to_vec(), vec![0xa0; 10_000]] {
        let sign = seal_sign(payload.clone(), AAD, &[&one, &two]);
        let sign1 = seal_sign1(payload.clone(), AAD, &two);
        let sign = open_sign(&sign, AAD).unwrap();
        let sign1 = open_sign1(&sign1, AAD).unwrap();
        assert_eq!((&sign.payload, &sign1.payload), (&payload, &payload));
        let pairs = sign.signatures.iter().zip([&one, &two]);
        for (found, key) in pairs.chain(sign1.signatures.iter().zip([&two])) {
            assert_eq!(found.key, key.public().id());
            assert!(key.public().verifies(&found.signed_bytes, &found.signature));
        }
    }
}
