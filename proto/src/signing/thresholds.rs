//! Roles and thresholds in every small case: four keys, each with or without a role, each of whose
//! signatures is absent, good, wrong or there twice, under each threshold.

use super::*;
use crate::{
    envelope::{BadEnvelope, Parts},
    merkle::TargetTree,
    release_file::ReleaseFile,
    time::Timestamp,
};

const KEYS: [u8; 4] = [1, 2, 3, 4];

fn key(n: u8) -> SecretKey {
    SecretKey::from_seed(format!("k{n}").parse().unwrap(), &[n; 32]).unwrap()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Release,
    Rollout,
    Nothing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Signature {
    Absent,
    Good,
    Wrong,
    Twice,
}

/// Gives every way to give each of four keys one of these.
fn each<T: Copy + 'static>(choices: &'static [T]) -> impl Iterator<Item = [T; 4]> {
    let count = choices.len();
    (0..count.pow(4)).map(move |n| [0, 1, 2, 3].map(|at| choices[n / count.pow(at) % count]))
}

fn with_part(parts: [Part; 4], part: Part) -> Vec<u8> {
    KEYS.into_iter().zip(parts).filter(|(_, its)| *its == part).map(|(n, _)| n).collect()
}

/// The trust in which the keys have these parts, if a release needs so many.
fn trust(parts: [Part; 4], threshold: usize) -> Trust {
    let list = |part| {
        let keys = with_part(parts, part).into_iter();
        keys.map(|n| key(n).public().to_string()).collect::<Vec<_>>()
    };
    let release = list(Part::Release);
    let mut text = format!("fleet = \"home\"\n[release]\nthreshold = {threshold}\n");
    text += &format!("keys = {release:?}\n");
    let rollout = list(Part::Rollout);
    if !rollout.is_empty() {
        text += &format!("[rollout]\nthreshold = 1\nkeys = {rollout:?}\n");
    }
    Trust::from_toml(&text).unwrap()
}

/// A release, and for each key its signature.
fn release() -> (Vec<u8>, Vec<[u8; 64]>) {
    let release = tests::release(&crate::merkle::TargetTree::new([vec![0]]));
    let gathering = Gathering::new(release.clone());
    let sign = |n| key(n).sign(&gathering.to_be_signed(key(n).public()));
    (codec::encode(&release), KEYS.map(sign).to_vec())
}

fn sealed(payload: &[u8], good: &[[u8; 64]], signed: [Signature; 4]) -> Vec<u8> {
    let mut signatures = Vec::new();
    for ((n, good), state) in KEYS.into_iter().zip(good).zip(signed) {
        let id = key(n).public().id();
        match state {
            Signature::Absent => {}
            Signature::Good => signatures.push((id, *good)),
            Signature::Wrong => {
                let mut wrong = *good;
                wrong[7] ^= 1;
                signatures.push((id, wrong));
            }
            Signature::Twice => signatures.extend([(id, *good), (id, *good)]),
        }
    }
    Parts { payload: payload.to_vec(), signatures }.build()
}

/// What must come out, in other words than the code's.
fn expected(parts: [Part; 4], threshold: usize, signed: [Signature; 4]) -> Result<usize, u8> {
    if signed.contains(&Signature::Twice) || signed == [Signature::Absent; 4] {
        return Err(0);
    }
    let count = |state| {
        let both = parts.into_iter().zip(signed);
        both.filter(|(part, its)| *part == Part::Release && *its == state).count()
    };
    if count(Signature::Wrong) > 0 {
        return Err(1);
    }
    if count(Signature::Good) < threshold { Err(2) } else { Ok(count(Signature::Good)) }
}

#[test]
fn every_small_set_of_signatures_counts_as_roles_and_threshold_say() {
    const PARTS: &[Part] = &[Part::Release, Part::Rollout, Part::Nothing];
    const SIGNED: &[Signature] =
        &[Signature::Absent, Signature::Good, Signature::Wrong, Signature::Twice];
    let (payload, good) = release();
    let messages: Vec<_> =
        each(SIGNED).map(|signed| (signed, sealed(&payload, &good, signed))).collect();
    let (mut cases, mut accepted) = (0, 0);
    for parts in each(PARTS) {
        for threshold in 1..=with_part(parts, Part::Release).len() {
            let trust = trust(parts, threshold);
            for (signed, message) in &messages {
                let outcome = match verify_release(message, &trust) {
                    Ok(verified) => Ok(verified.signers().len()),
                    Err(Rejection::Envelope(BadEnvelope::SignatureCount)) => Err(0),
                    Err(Rejection::BadSignature { .. }) => Err(1),
                    Err(Rejection::UnderSigned { valid, threshold: asked }) => {
                        assert!(asked == threshold && valid < threshold);
                        Err(2)
                    }
                    Err(other) => panic!("{other}"),
                };
                let case = || format!("{parts:?} {threshold} {signed:?}");
                assert_eq!(outcome, expected(parts, threshold, *signed), "{}", case());
                cases += 1;
                accepted += usize::from(outcome.is_ok());
            }
        }
    }
    assert_eq!(cases, 108 * 256);
    assert!(accepted > 1000, "{accepted}");
}

#[test]
fn the_rollout_role_can_never_author_a_release() {
    let (payload, good) = release();
    let all = sealed(&payload, &good, [Signature::Good; 4]);
    let parts = [Part::Release, Part::Rollout, Part::Rollout, Part::Rollout];
    let verified = verify_release(&all, &trust(parts, 1)).unwrap();
    assert_eq!(verified.signers(), [key(1).public().id()], "the others count for nothing");
    let rollout = [Signature::Absent, Signature::Good, Signature::Good, Signature::Good];
    let alone = sealed(&payload, &good, rollout);
    assert_eq!(
        verify_release(&alone, &trust(parts, 1)),
        Err(Rejection::UnderSigned { valid: 0, threshold: 1 })
    );
    let two = [Part::Release, Part::Release, Part::Rollout, Part::Rollout];
    let one_of_each = [Signature::Good, Signature::Absent, Signature::Good, Signature::Good];
    assert_eq!(
        verify_release(&sealed(&payload, &good, one_of_each), &trust(two, 2)),
        Err(Rejection::UnderSigned { valid: 1, threshold: 2 })
    );
}

#[test]
fn signatures_are_gathered_one_after_another_and_each_key_signs_once() {
    let host = tests::target("a");
    let mut file = ReleaseFile::unsigned(vec![host], |root, _| tests::release_with(root));
    let trust = trust([Part::Release; 4], 2);
    file.gathering_mut().sign(&key(1)).unwrap();
    let seal = |file: &ReleaseFile| file.gathering().seal().0;
    assert!(matches!(
        verify_release(&seal(&file), &trust),
        Err(Rejection::UnderSigned { valid: 1, threshold: 2 })
    ));
    assert_eq!(signers_so_far(&seal(&file), &trust), Ok(vec![key(1).public().id()]));
    let before = seal(&file);
    assert!(matches!(file.gathering_mut().sign(&key(1)), Err(BadSignature::Again { .. })));

    let elsewhere = key(2);
    let signature = elsewhere.sign(&file.gathering().to_be_signed(elsewhere.public()));
    let wrong = file.gathering_mut().add(key(3).public(), signature);
    assert!(matches!(wrong, Err(BadSignature::Wrong { .. })));
    assert_eq!(seal(&file), before, "what is refused changes nothing");
    file.gathering_mut().add(elsewhere.public(), signature).unwrap();
    let verified = verify_release(&seal(&file), &trust).unwrap();
    assert_eq!(verified.signers().len(), 2);
    assert_eq!(seal(&file), sign_release(file.release(), &[&key(1), &key(2)]).0);
}

#[test]
fn an_envelope_takes_16_signatures_and_no_more() {
    let mut gathering =
        Gathering::new(tests::release_with(crate::id::MerkleHash::from_bytes([0; 32])));
    for n in 1..=16 {
        gathering.sign(&key(n)).unwrap();
    }
    assert_eq!(gathering.sign(&key(17)), Err(BadSignature::Full));
    assert_eq!(Gathering::open(&gathering.seal().0), Ok(gathering));
}

#[test]
fn two_copies_become_one_with_the_signatures_of_those_who_are_trusted() {
    let begin = || Gathering::new(tests::release_with(crate::id::MerkleHash::from_bytes([0; 32])));
    let signed_by = |keys: &[u8]| {
        let mut copy = begin();
        keys.iter().for_each(|n| copy.sign(&key(*n)).unwrap());
        copy
    };
    let trust = trust([Part::Release, Part::Release, Part::Release, Part::Nothing], 2);
    let mut ours = signed_by(&[1, 2]);
    ours.merge(&signed_by(&[2, 3, 4]), trust.release().keys()).unwrap();
    let ids: Vec<_> = ours.key_ids().collect();
    assert_eq!(ids, [1, 2, 3].map(|n| key(n).public().id()));

    let wrong = Parts {
        payload: codec::encode(begin().message()),
        signatures: vec![(key(3).public().id(), [1; 64])],
    };
    let mut ours = signed_by(&[1]);
    let wrong = Gathering::open(&wrong.build()).unwrap();
    assert!(matches!(ours.merge(&wrong, trust.release().keys()), Err(BadSignature::Wrong { .. })));
}

#[test]
fn a_beacon_is_signed_by_the_rollout_role_and_a_release_never_is() {
    let text = |release: &SecretKey, rollout: &SecretKey| {
        let role =
            |key: &SecretKey| format!("threshold = 1\nkeys = [{:?}]\n", key.public().to_string());
        format!("fleet = \"home\"\n[release]\n{}[rollout]\n{}", role(release), role(rollout))
    };
    let trust = Trust::from_toml(&text(&key(1), &key(2))).unwrap();
    let beacon = Beacon {
        version: WIRE_VERSION,
        fleet: "home".parse().unwrap(),
        issued_at: Timestamp::from_millis(9),
    };
    assert_eq!(*verify_beacon(&sign_beacon(&beacon, &[&key(2)]), &trust).unwrap(), beacon);
    let by_release = verify_beacon(&sign_beacon(&beacon, &[&key(1)]), &trust);
    assert!(matches!(by_release, Err(Rejection::UnderSigned { valid: 0, .. })));
    let release = sign_release(
        &tests::release(&TargetTree::new([codec::encode(&tests::target("a"))])),
        &[&key(2)],
    )
    .0;
    let by_rollout = verify_release(&release, &trust);
    assert!(matches!(by_rollout, Err(Rejection::UnderSigned { valid: 0, .. })));
    // One is not the other, whoever signed it.
    assert!(verify_beacon(&release, &trust).is_err());

    let nobody = Trust::from_toml(&format!(
        "fleet = \"home\"\n[release]\nthreshold = 1\nkeys = [{:?}]\n",
        key(1).public().to_string()
    ));
    let signed = sign_beacon(&beacon, &[&key(1)]);
    let refused = verify_beacon(&signed, &nobody.unwrap());
    assert!(matches!(refused, Err(Rejection::NoRole { role: "rollout" })));
}
