//! Signed messages: as they come, and with honest signatures around a hostile content.

use std::{collections::BTreeSet, fmt::Debug, sync::LazyLock};

use herald_proto::{
    WIRE_VERSION,
    beacon::Beacon,
    codec::{self, Bytes, Wire},
    enrol::EnrolRequest,
    id::{MerkleHash, ReleaseId, Sequence},
    key::{PublicKey, SecretKey},
    log::Log,
    merkle::TargetTree,
    order::{Addressee, SealedOrder},
    plan::Plan,
    presence::Presence,
    release::Release,
    release_file::ReleaseFile,
    report::Report,
    signing::{
        Gathering, HostMessage, Verified, sign_as_host, sign_beacon, sign_enrol_request,
        sign_release, verify_any_order, verify_beacon, verify_enrol_request, verify_from_host,
        verify_order, verify_release, verify_roster_entry,
    },
    target::Target,
    time::Timestamp,
    trust::{Role, Trust},
};

use super::mode;

/// The keys of the frozen vectors: alice, bob and carol, and a stranger.
pub(super) static KEYS: LazyLock<[SecretKey; 4]> = LazyLock::new(|| {
    [("alice", 1), ("bob", 2), ("carol", 3), ("mallory", 66)].map(|(name, seed)| secret(name, seed))
});
/// The key of the host alpha.
pub(super) static ALPHA: LazyLock<SecretKey> = LazyLock::new(|| secret("alpha", 10));
/// Alice alone signs releases, carol alone beacons.
pub(super) static ONE: LazyLock<Trust> = LazyLock::new(|| {
    trust(&format!("{}[rollout]\nthreshold = 1\nkeys = [\"{}\"]\n", of(1, 1), KEYS[2].public()))
});
/// Two of alice, bob and carol.
static TWO_OF_THREE: LazyLock<Trust> = LazyLock::new(|| trust(&of(2, 3)));
static READER: LazyLock<Addressee> = LazyLock::new(|| Addressee {
    host: "alpha".parse().expect("a host name"),
    profile: "system".parse().expect("a profile name"),
    system: "x86_64-linux".parse().expect("a system"),
});

fn secret(name: &str, seed: u8) -> SecretKey {
    SecretKey::from_seed(name.parse().expect("a name"), &[seed; 32]).expect("a usable key")
}

pub(super) fn of(threshold: usize, count: usize) -> String {
    let keys: Vec<_> = KEYS[..count].iter().map(|key| key.public().to_string()).collect();
    format!("fleet = \"home\"\n[release]\nthreshold = {threshold}\nkeys = {keys:?}\n")
}

fn trust(text: &str) -> Trust {
    Trust::from_toml(text).expect("a usable trust file")
}

/// Checks that a message has no other form than the one that it was read from.
fn one_form<T: Wire + PartialEq + Debug>(bytes: &[u8]) -> Option<T> {
    let message: T = codec::decode(bytes).ok()?;
    assert_eq!(codec::encode(&message), bytes, "it was accepted in another form");
    Some(message)
}

/// Checks that a message which may tell more than is known here is the same without that.
fn told<T: Wire + PartialEq + Debug>(bytes: &[u8]) -> Option<T> {
    let message: T = codec::decode(bytes).ok()?;
    let again = codec::encode(&message);
    assert!(again.len() <= bytes.len(), "it has grown");
    assert_eq!(codec::decode::<T>(&again).as_ref(), Ok(&message));
    Some(message)
}

/// Checks that enough different keys of a role have signed.
fn signed<T>(message: &Verified<T>, role: &Role) {
    let signers: BTreeSet<_> = message.signers().iter().collect();
    assert_eq!(signers.len(), message.signers().len(), "a key counts twice");
    assert!(signers.len() >= role.threshold(), "too few keys");
    assert!(signers.iter().all(|id| role.key(**id).is_some()), "a key without the role counts");
}

fn holds(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// What several keys sign: releases, beacons, requests to be let in, and entries of the roster.
///
/// # Panics
/// Where a promise is broken.
pub fn envelope(bytes: &[u8]) {
    let (mode, rest) = mode(bytes);
    match mode % 5 {
        0 => {
            for trust in [&*ONE, &*TWO_OF_THREE] {
                if let Ok(release) = verify_release(rest, trust) {
                    signed(&release, trust.release());
                    assert!(holds(rest, &codec::encode(&*release)), "another payload");
                }
            }
            if let Ok(gathering) = Gathering::<Release>::open(rest) {
                assert_eq!(gathering.seal().0, rest, "an envelope has one form");
            }
        }
        1 => {
            let Some(rollout) = ONE.rollout() else { unreachable!("carol has the role") };
            if let Ok(beacon) = verify_beacon(rest, &ONE) {
                signed(&beacon, rollout);
                assert!(holds(rest, &codec::encode(&*beacon)), "another payload");
            }
            if let Some(beacon) = one_form::<Beacon>(rest) {
                let ours = beacon.version == WIRE_VERSION && beacon.fleet == *ONE.fleet();
                for (key, may) in [(&KEYS[2], true), (&KEYS[0], false)] {
                    let message = sign_beacon(&beacon, &[key]);
                    assert_eq!(verify_beacon(&message, &ONE).is_ok(), ours && may);
                }
            }
        }
        2 => {
            let Some(release) = one_form::<Release>(rest) else { return };
            let ours = release.version == WIRE_VERSION && release.fleet == *ONE.fleet();
            let message = sign_release(&release, &[&KEYS[0]]).0;
            assert_eq!(verify_release(&message, &ONE).is_ok(), ours, "a release that alice signed");
            assert!(verify_beacon(&message, &ONE).is_err(), "a release is no beacon");
        }
        3 => signers(rest),
        _ => {
            if let Ok(entry) = verify_roster_entry(rest, &TWO_OF_THREE) {
                signed(&entry, TWO_OF_THREE.release());
                assert!(holds(rest, &codec::encode(&*entry)), "another payload");
            }
            if let Some(request) = one_form::<EnrolRequest>(rest) {
                let ours = request.version == WIRE_VERSION && request.fleet == *ONE.fleet();
                let names_it = request.key == KEYS[1].public().into();
                let message = sign_enrol_request(&request, &KEYS[0], &KEYS[1]);
                let verified = verify_enrol_request(&message, ONE.fleet(), KEYS[0].public());
                assert_eq!(verified.is_ok(), ours && names_it, "the key that it names has signed");
            }
        }
    }
}

/// A release that some keys have signed, by the bits of who has.
static SIGNED: LazyLock<[Vec<u8>; 16]> = LazyLock::new(|| {
    std::array::from_fn(|who| {
        let keys: Vec<_> = (0..4).filter(|bit| who & 1 << bit != 0).map(|n| &KEYS[n]).collect();
        let message = sign_release(&release(&TargetTree::new([Vec::new()])), &keys).0;
        let known = keys.iter().filter(|key| key.public() != KEYS[3].public()).count();
        let enough = verify_release(&message, &TWO_OF_THREE);
        assert_eq!(enough.is_ok(), known >= 2, "{} keys have signed", keys.len());
        if let Ok(release) = enough {
            signed(&release, TWO_OF_THREE.release());
        }
        message
    })
});

/// Damages one byte of what some keys have signed, or none.
fn signers(bytes: &[u8]) {
    let [who, at, flip, ..] = *bytes else { return };
    let mut damaged = SIGNED[usize::from(who % 16)].clone();
    let at = usize::from(at) * damaged.len() / 256;
    damaged[at] ^= flip;
    if let Ok(release) = verify_release(&damaged, &TWO_OF_THREE) {
        signed(&release, TWO_OF_THREE.release());
    }
}

/// Orders: as they come, around a hostile target, and with a hostile proof.
///
/// # Panics
/// Where a promise is broken.
pub fn order(bytes: &[u8]) {
    let (mode, rest) = mode(bytes);
    match mode % 3 {
        0 => {
            if let Ok(order) = verify_order(rest, &ONE, &READER) {
                signed(&order, ONE.release());
                assert_eq!(order.target.host, READER.host);
                assert_eq!(order.sealed.0, rest);
            }
            if let Some(sealed) = one_form::<SealedOrder>(rest) {
                let whole = verify_any_order(rest, &ONE).is_ok();
                let release = verify_release(&sealed.release.0, &ONE).is_ok();
                assert!(release || !whole, "an order without a verified release");
            }
        }
        1 => {
            let target = one_form::<Target>(rest);
            // Most bytes are no target: one key's signature is not worth the time then.
            if let Some(target) = target {
                let message = around(rest);
                if let Ok(order) = verify_any_order(&message, &ONE) {
                    assert_eq!(order.target, target);
                } else {
                    assert!(message.len() > codec::MAX_MESSAGE, "a target that alice signed");
                }
            } else if rest.len() % 64 == 0 {
                assert!(verify_any_order(&around(rest), &ONE).is_err(), "what is no target");
            }
        }
        _ => proof(rest),
    }
}

pub(super) fn release(tree: &TargetTree) -> Release {
    let now = Timestamp::from_millis(1_767_225_600_000);
    Release {
        version: WIRE_VERSION,
        fleet: ONE.fleet().clone(),
        id: ReleaseId::new(now, &[7; 10]),
        sequence: Sequence::new(7),
        issued_at: now,
        not_before: now,
        expires_at: now,
        targets_root: tree.root(),
        targets_count: tree.count(),
        plan: Plan::Immediate,
        revision: None,
        reason: None,
    }
}

/// An order of one target, whatever its bytes.
fn around(target: &[u8]) -> Vec<u8> {
    let release = release(&TargetTree::new([target.to_vec()]));
    codec::encode(&SealedOrder {
        release: sign_release(&release, &[&KEYS[0]]),
        target: Bytes(target.to_vec()),
        index: 0,
        proof: Vec::new(),
    })
}

/// Five leaves of which one is asked for with any index and any nodes: only its own will do.
fn proof(bytes: &[u8]) {
    static FIVE: LazyLock<TargetTree> =
        LazyLock::new(|| TargetTree::new((0..5u8).map(|n| vec![n])));
    let [leaf, index, which @ ..] = bytes else { return };
    let honest: Vec<_> = FIVE.proofs().map(|(_, proof)| proof).collect();
    let pool: Vec<MerkleHash> = honest.iter().flatten().copied().collect();
    let proof: Vec<_> = which.iter().take(8).map(|n| pool[usize::from(*n) % pool.len()]).collect();
    let taken = herald_proto::merkle::proves(
        &FIVE.root(),
        FIVE.count(),
        u64::from(*index),
        &[*leaf],
        &proof,
    );
    let own = honest.get(usize::from(*index)).is_some_and(|honest| *honest == proof);
    assert_eq!(taken, own && leaf == index, "{leaf} at {index}");
}

/// What hosts sign: reports, presences and logs.
///
/// # Panics
/// Where a promise is broken.
pub fn report(bytes: &[u8]) {
    let (mode, rest) = mode(bytes);
    match mode % 4 {
        0 => {
            from_host::<Report>(rest);
            from_host::<Presence>(rest);
            from_host::<Log>(rest);
        }
        1 => content::<Report>(rest),
        2 => content::<Presence>(rest),
        _ => content::<Log>(rest),
    }
}

fn verified<T: HostMessage>(bytes: &[u8], key: &PublicKey) -> Option<Verified<T>> {
    verify_from_host::<T>(bytes, ONE.fleet(), &READER.host, key).ok()
}

fn from_host<T: HostMessage>(bytes: &[u8]) {
    if let Some(message) = verified::<T>(bytes, ALPHA.public()) {
        assert_eq!(message.signers(), [ALPHA.public().id()]);
        assert_eq!(*message.host(), READER.host);
    }
}

fn content<T: HostMessage + PartialEq + Debug>(bytes: &[u8]) {
    let Some(message) = told::<T>(bytes) else { return };
    let signed = sign_as_host(&message, ONE.fleet(), &ALPHA);
    if let Some(read) = verified::<T>(&signed, ALPHA.public()) {
        assert_eq!(*read, message);
    }
    assert!(verified::<T>(&signed, KEYS[0].public()).is_none(), "another key is pinned");
}

/// Release files: as they come, and with honest signatures around hostile targets.
///
/// # Panics
/// Where a promise is broken.
pub fn release_file(bytes: &[u8]) {
    let (mode, rest) = mode(bytes);
    if mode % 2 == 0 {
        file(rest);
        return;
    }
    // Pieces of the lengths that the bytes say.
    let mut targets = Vec::new();
    let mut left = rest;
    while let [high, low, more @ ..] = left {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(more.len());
        let (target, more) = more.split_at(length);
        targets.push(target.to_vec());
        left = more;
    }
    let targets = targets.iter().map(|target| codec::decode::<Target>(target).ok());
    let Some(targets) = targets.collect::<Option<Vec<_>>>().filter(|all| !all.is_empty()) else {
        return;
    };
    let names: BTreeSet<_> = targets.iter().map(|one| (&one.host, &one.profile)).collect();
    let twice = names.len() < targets.len();
    let tree = TargetTree::new(targets.iter().map(codec::encode));
    let mut made = ReleaseFile::unsigned(targets.clone(), |_, _| release(&tree));
    made.gathering_mut().sign(&KEYS[0]).expect("alice signs once");
    let read = ReleaseFile::read(&made.to_bytes());
    assert_eq!(read.is_err(), twice, "only what names a host twice is refused");
    if let Ok(read) = read {
        assert_eq!(read.targets(), targets);
        for (target, order) in read.orders().take(4) {
            match verify_any_order(&codec::encode(&order), &ONE) {
                Ok(order) => assert_eq!(order.target, *target),
                Err(error) => assert_eq!(error.code().to_string(), "too-large"),
            }
        }
    }
}

fn file(bytes: &[u8]) {
    let Ok(file) = ReleaseFile::read(bytes) else { return };
    assert!(ReleaseFile::is_one(bytes), "it does not begin as one");
    assert_eq!(file.to_bytes(), bytes, "a file has one form");
    assert_eq!(file.targets().len() as u64, file.release().targets_count);
    let names: BTreeSet<_> = file.targets().iter().map(|one| (&one.host, &one.profile)).collect();
    assert_eq!(names.len(), file.targets().len(), "a host twice");
}
