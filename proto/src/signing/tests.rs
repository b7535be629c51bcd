use super::*;
use crate::{
    id::{BootId, ClosureDigest, Incarnation, ReleaseId, Sequence, TrustDigest},
    merkle::TargetTree,
    plan::Plan,
    presence::Liveness,
    rejection::Code,
    release_file::ReleaseFile,
    report::{PhaseName, Systems},
    target::{Action, Closure, Health, Integrity, Limits},
    time::Timestamp,
};

fn key(n: u8) -> SecretKey {
    SecretKey::from_seed(format!("k{n}").parse().unwrap(), &[n; 32]).unwrap()
}

/// The trust in which the keys 1, 2 and 3 sign releases of the fleet `home`.
fn trust(threshold: usize) -> Trust {
    let keys = [1, 2, 3].map(|n| key(n).public().to_string());
    let text = format!("fleet = \"home\"\n[release]\nthreshold = {threshold}\nkeys = {keys:?}");
    Trust::from_toml(&text).unwrap()
}

fn fleet(name: &str) -> FleetId {
    name.parse().unwrap()
}

fn reader() -> Addressee {
    Addressee {
        host: "a".parse().unwrap(),
        profile: "system".parse().unwrap(),
        system: "x86_64-linux".parse().unwrap(),
    }
}

pub(crate) fn target(host: &str) -> Target {
    let Addressee { profile, system, .. } = reader();
    let path = "/nix/store/0123456789abcdfghijklmnpqrsvwxyz-nixos-system";
    Target {
        host: host.parse().unwrap(),
        profile,
        system,
        toplevel: format!("{path}-{host}").parse().unwrap(),
        action: Action::Switch,
        integrity: Integrity::Closure(Closure {
            digest: ClosureDigest::of(host.as_bytes()),
            size: 1,
            paths: 1,
        }),
        limits: Limits::default(),
        health: Health::default(),
        expect_current: vec![],
        tolerated_units: vec![],
        incarnation: None,
        if_reboot_needed: None,
        marks: vec![],
        substituters: vec![],
    }
}

pub(crate) fn release(tree: &TargetTree) -> Release {
    let now = Timestamp::from_millis(1_000);
    Release {
        version: WIRE_VERSION,
        fleet: fleet("home"),
        id: ReleaseId::new(now, &[1; 10]),
        sequence: Sequence::new(1_000),
        issued_at: now,
        not_before: now,
        expires_at: Timestamp::from_millis(2_000),
        targets_root: tree.root(),
        targets_count: tree.count(),
        plan: Plan::Immediate,
        revision: None,
        reason: None,
    }
}

/// A release of one target, which is all of the tree.
pub(crate) fn release_with(root: crate::id::MerkleHash) -> Release {
    Release { targets_root: root, ..release(&TargetTree::new([vec![0]])) }
}

/// Puts the bytes of targets into a release that `change` may change, and gives the first's order.
fn sealed(
    targets: Vec<Vec<u8>>,
    keys: &[&SecretKey],
    change: impl Fn(&mut Release),
) -> SealedOrder {
    let tree = TargetTree::new(targets);
    let mut release = release(&tree);
    change(&mut release);
    let (target, proof) = tree.proofs().next().unwrap();
    SealedOrder {
        release: sign_release(&release, keys),
        target: Bytes(target.to_vec()),
        index: 0,
        proof,
    }
}

/// The order for the host `a` among three.
fn order(keys: &[&SecretKey]) -> SealedOrder {
    let targets = ["a", "b", "c"].map(|host| codec::encode(&target(host)));
    sealed(targets.into(), keys, |_| ())
}

fn verify(order: &SealedOrder, threshold: usize) -> Result<Verified<Order>, Rejection> {
    verify_order(&codec::encode(order), &trust(threshold), &reader())
}

fn report() -> Report {
    Report {
        version: WIRE_VERSION,
        host: "a".parse().unwrap(),
        profile: "system".parse().unwrap(),
        incarnation: Incarnation::from_bytes([1; 16]),
        number: 1,
        time: Timestamp::from_millis(1_000),
        boot: BootId::from_bytes([2; 16]),
        agent: "0".parse().unwrap(),
        trust: TrustDigest::from_bytes([3; 32]),
        phase: PhaseName::Idle,
        code: None,
        detail: None,
        order: None,
        refusal: None,
        progress: None,
        systems: Systems::default(),
        failed_units: vec![],
        hold: None,
    }
}

fn presence() -> Presence {
    Presence {
        version: WIRE_VERSION,
        host: "a".parse().unwrap(),
        session: 1,
        liveness: Liveness::Online,
        incarnation: Incarnation::from_bytes([1; 16]),
        boot: BootId::from_bytes([2; 16]),
        time: Timestamp::from_millis(1_000),
        agent: "0".parse().unwrap(),
        beat: 0,
        beacon: None,
        hearing: None,
        taken: vec![],
    }
}

/// Verifies what the key 9 signed as the host `a`.
fn from_host<T: HostMessage>(bytes: &[u8]) -> Result<Verified<T>, Rejection> {
    let host = "a".parse().unwrap();
    verify_from_host(bytes, &fleet("home"), &host, key(9).public())
}

#[test]
fn a_verified_order_says_what_was_signed_and_by_whom() {
    let sealed = order(&[&key(1)]);
    let message = codec::encode(&sealed);
    let order = verify_order(&message, &trust(1), &reader()).unwrap();
    assert_eq!(order.signers(), [key(1).public().id()]);
    assert_eq!(order.target, target("a"));
    assert_eq!(order.release.sequence, Sequence::new(1_000));
    assert_eq!(order.hash, TargetHash::of(&sealed.target.0));
    assert_eq!((*order).message, MessageDigest::of(&message));
}

#[test]
fn two_of_three_are_two_different_keys_of_the_role() {
    let (one, two, three, stranger) = (key(1), key(2), key(3), key(4));
    let short = |valid| Err(Rejection::UnderSigned { valid, threshold: 2 });
    let signers = |keys: &[&SecretKey]| {
        let verified = verify(&order(keys), 2);
        verified.map(|order| order.signers().to_vec())
    };
    assert_eq!(signers(&[&one]), short(1));
    assert_eq!(signers(&[&stranger]), short(0));
    assert_eq!(signers(&[&stranger, &one]), short(1));
    assert_eq!(
        signers(&[&one, &one]),
        Err(Rejection::Envelope(envelope::BadEnvelope::SignatureCount))
    );
    for pair in [[&one, &two], [&two, &one], [&three, &one]] {
        let ids = pair.map(|key| key.public().id()).to_vec();
        assert_eq!(signers(&pair), Ok(ids.clone()));
        assert_eq!(signers(&[pair[0], &stranger, pair[1]]), Ok(ids));
    }
    assert_eq!(signers(&[&one, &two, &three]).unwrap().len(), 3);
}

#[test]
fn a_wrong_signature_by_a_trusted_key_refuses_whatever_else_is_signed() {
    let keys = [key(1), key(2), key(3)];
    let all: Vec<_> = keys.iter().collect();
    let good = order(&all);
    for (n, key) in keys.iter().enumerate() {
        let mut bad = good.clone();
        let aad = associated_data(Release::KIND, &fleet("home"));
        let signature = envelope::open_sign(&bad.release.0, &aad).unwrap().signatures[n].signature;
        let windows = bad.release.0.windows(64);
        let at = windows.enumerate().find(|(_, w)| *w == signature).unwrap().0;
        bad.release.0[at + 40] ^= 1;
        let key = key.public().name().clone();
        assert_eq!(verify(&bad, 1), Err(Rejection::BadSignature { key }));
    }
}

#[test]
fn a_wrong_signature_by_an_unknown_key_counts_for_nothing_and_harms_nothing() {
    let mut order = order(&[&key(1), &key(4)]);
    let last = order.release.0.len() - 30;
    order.release.0[last] ^= 1;
    assert_eq!(verify(&order, 1).unwrap().signers(), [key(1).public().id()]);
    assert!(verify(&order, 2).is_err());
}

#[test]
fn what_is_signed_for_another_kind_version_or_fleet_is_refused() {
    let one = key(1);
    let release_of = |order: &SealedOrder| {
        let aad = associated_data(Release::KIND, &fleet("home"));
        envelope::open_sign(&order.release.0, &aad).unwrap().payload
    };
    let good = order(&[&one]);
    let payload = release_of(&good);
    let with_aad = |aad: &[u8]| {
        let release = Bytes(envelope::seal_sign(payload.clone(), aad, &[&one]));
        verify(&SealedOrder { release, ..good.clone() }, 1).map(|_| ())
    };
    let aad = |kind: &str, version: u64, fleet: &str| {
        let text = |text: &str| Value::Text(text.into());
        let parts = [text("herald"), text(kind), Value::from(version), text(fleet)];
        codec::encode_value(&Value::Array(parts.into()))
    };
    let wrong = Err(Rejection::BadSignature { key: one.public().name().clone() });
    assert_eq!(with_aad(&aad("release", 0, "home")), Ok(()));
    assert_eq!(with_aad(&aad("report", 0, "home")), wrong);
    assert_eq!(with_aad(&aad("release", 1, "home")), wrong);
    assert_eq!(with_aad(&aad("release", 0, "work")), wrong);
    assert_eq!(with_aad(&[]), wrong);
}

#[test]
fn a_release_for_another_fleet_or_version_is_refused_by_name() {
    let targets = || vec![codec::encode(&target("a"))];
    let other = sealed(targets(), &[&key(1)], |release| release.fleet = fleet("work"));
    let (found, own) = (fleet("work"), fleet("home"));
    assert_eq!(verify(&other, 1), Err(Rejection::Fleet { found, own }));
    let newer = sealed(targets(), &[&key(1)], |release| release.version = 1);
    assert_eq!(verify(&newer, 1), Err(Rejection::Version { found: 1, known: 0 }));
}

#[test]
fn a_host_message_is_taken_for_its_own_kind_and_fleet_only() {
    let host = key(9);
    let home = fleet("home");
    let said = sign_as_host(&report(), &home, &host);
    let lives = sign_as_host(&presence(), &home, &host);
    assert_eq!(from_host::<Report>(&said).unwrap().into_inner(), report());
    assert_eq!(from_host::<Presence>(&lives).unwrap().into_inner(), presence());

    let code = |rejection: Rejection| rejection.code();
    assert_eq!(from_host::<Presence>(&said).map_err(code), Err(Code::BadSignature));
    assert_eq!(from_host::<Report>(&lives).map_err(code), Err(Code::BadSignature));
    let elsewhere = sign_as_host(&report(), &fleet("work"), &host);
    assert_eq!(from_host::<Report>(&elsewhere).map_err(code), Err(Code::BadSignature));

    // Not even a key that signs releases too makes a release of it.
    let by_operator = sign_as_host(&report(), &home, &key(1));
    assert!(verify_release(&by_operator, &trust(1)).is_err());
    let payload = codec::encode(&report());
    let as_release =
        envelope::seal_sign(payload, &associated_data(Release::KIND, &home), &[&key(1)]);
    assert_eq!(verify_release(&as_release, &trust(1)).map_err(code), Err(Code::Malformed));
}

#[test]
fn a_host_speaks_for_itself_with_its_pinned_key_only() {
    let home = fleet("home");
    let by_another = sign_as_host(&report(), &home, &key(8));
    let nobody = Rejection::UnderSigned { valid: 0, threshold: 1 };
    assert_eq!(from_host::<Report>(&by_another), Err(nobody));

    let other: HostId = "b".parse().unwrap();
    let about_another = Report { host: other.clone(), ..report() };
    let own = "a".parse().unwrap();
    assert_eq!(
        from_host::<Report>(&sign_as_host(&about_another, &home, &key(9))),
        Err(Rejection::Host { found: other, own })
    );
    let newer = Report { version: 7, ..report() };
    assert_eq!(
        from_host::<Report>(&sign_as_host(&newer, &home, &key(9))),
        Err(Rejection::Version { found: 7, known: 0 })
    );
}

#[test]
fn an_order_for_another_host_profile_or_system_is_refused_by_name() {
    let message = codec::encode(&order(&[&key(1)]));
    let refused = |reader: Addressee| verify_order(&message, &trust(1), &reader).unwrap_err();
    let (own, found) = ("b".parse().unwrap(), "a".parse().unwrap());
    assert_eq!(
        refused(Addressee { host: "b".parse().unwrap(), ..reader() }),
        Rejection::Host { found, own }
    );
    let (own, found) = ("web".parse().unwrap(), "system".parse().unwrap());
    assert_eq!(
        refused(Addressee { profile: "web".parse().unwrap(), ..reader() }),
        Rejection::Profile { found, own }
    );
    let system: crate::host::System = "aarch64-linux".parse().unwrap();
    let found = "x86_64-linux".parse().unwrap();
    assert_eq!(
        refused(Addressee { system: system.clone(), ..reader() }),
        Rejection::System { found, own: system }
    );
    assert!(verify_any_order(&message, &trust(1)).is_ok());
}

#[test]
fn a_target_stands_in_its_own_release_at_its_own_place_with_its_own_proof() {
    let one = key(1);
    let good = order(&[&one]);
    let mut changed = target("a");
    changed.action = Action::Boot;
    let others = [&changed, &target("b"), &target("c")].map(codec::encode);
    let newer = sealed(others.into(), &[&one], |_| ());
    assert!(verify(&good, 1).is_ok() && verify(&newer, 1).is_ok());

    let swapped = SealedOrder { target: newer.target, ..good.clone() };
    let proof_too = SealedOrder { proof: newer.proof, ..swapped.clone() };
    let release_only = SealedOrder { release: newer.release, ..good.clone() };
    let mut bit = good.clone();
    let mut bytes = *bit.proof[1].as_bytes();
    bytes[31] ^= 1;
    bit.proof[1] = crate::id::MerkleHash::from_bytes(bytes);
    let mut turned = good.clone();
    turned.proof.reverse();
    let mut longer = good.clone();
    longer.proof.push(longer.proof[0]);
    let mut shorter = good.clone();
    shorter.proof.pop();
    let none = SealedOrder { proof: vec![], ..good.clone() };
    let wrong = [swapped, proof_too, release_only, bit, turned, longer, shorter, none];
    for (n, order) in wrong.iter().enumerate() {
        assert_eq!(verify(order, 1), Err(Rejection::NotInRelease), "case {n}");
    }
    for index in [1, 2, 3, 4, 1 << 20, 1 << 63, u64::MAX] {
        let moved = SealedOrder { index, ..good.clone() };
        assert_eq!(verify(&moved, 1), Err(Rejection::NotInRelease), "index {index}");
    }
}

/// RFC 9162 tells leaves from nodes, or a node could be taken for a target.
#[test]
fn an_inner_node_of_the_tree_is_no_target() {
    let good = order(&[&key(1)]);
    let leaf = |bytes: &[u8]| TargetTree::new([bytes.to_vec()]).root();
    let children = [leaf(&good.target.0), good.proof[0]];
    let node: Vec<u8> = children.iter().flat_map(|hash| *hash.as_bytes()).collect();
    let forged = SealedOrder { target: Bytes(node), proof: vec![good.proof[1]], ..good };
    assert_eq!(verify(&forged, 1), Err(Rejection::NotInRelease));
}

#[test]
fn a_count_that_the_tree_does_not_have_is_refused() {
    let targets = || ["a", "b", "c"].map(|host| codec::encode(&target(host))).to_vec();
    for count in [0, 1, 2, 5, 1 << 21, u64::MAX] {
        let order = sealed(targets(), &[&key(1)], |release| release.targets_count = count);
        assert_eq!(verify(&order, 1), Err(Rejection::NotInRelease), "{count}");
    }
}

fn with_unknown_key(message: &impl Wire) -> Vec<u8> {
    let Value::Map(mut entries) = message.to_value() else {
        panic!("a message is a map");
    };
    entries.push((Value::from(99), Value::from("new")));
    codec::encode_value(&Value::Map(entries))
}

#[test]
fn unknown_keys_are_refused_in_everything_that_is_ordered() {
    let one = key(1);
    let refused = |message: &[u8], inside: &str| {
        let error = verify_order(message, &trust(1), &reader()).unwrap_err();
        assert_eq!(error.code(), Code::Malformed, "{inside}");
        assert!(error.to_string().contains("99"), "{inside}: {error}");
    };
    let good = order(&[&one]);
    refused(&with_unknown_key(&good), "the order");

    let tree = TargetTree::new([good.target.0.clone()]);
    let payload = with_unknown_key(&release(&tree));
    let aad = associated_data(Release::KIND, &fleet("home"));
    let release = Bytes(envelope::seal_sign(payload, &aad, &[&one]));
    refused(&codec::encode(&SealedOrder { release, ..good }), "the release");

    let in_target = sealed(vec![with_unknown_key(&target("a"))], &[&one], |_| ());
    refused(&codec::encode(&in_target), "the target");
}

#[test]
fn unknown_keys_are_passed_over_in_what_hosts_tell() {
    let aad = |kind| associated_data(kind, &fleet("home"));
    let said = envelope::seal_sign1(with_unknown_key(&report()), &aad("report"), &key(9));
    assert_eq!(from_host::<Report>(&said).unwrap().into_inner(), report());
    let lives = envelope::seal_sign1(with_unknown_key(&presence()), &aad("presence"), &key(9));
    assert_eq!(from_host::<Presence>(&lives).unwrap().into_inner(), presence());
}

/// A newer program signs other bytes, with fields that are not known here.
#[test]
fn a_newer_message_is_refused_for_its_version_and_not_as_a_forgery() {
    let parts = |kind: &str| {
        let text = |text: &str| Value::Text(text.into());
        let parts = vec![text("herald"), text(kind), Value::from(1), text("home")];
        codec::encode_value(&Value::Array(parts))
    };
    let newer = Err(Rejection::Version { found: 1, known: 0 });
    let report = Report { version: 1, ..report() };
    let said = envelope::seal_sign1(with_unknown_key(&report), &parts("report"), &key(9));
    assert_eq!(from_host::<Report>(&said), newer);

    let release = Release { version: 1, ..release(&TargetTree::new([vec![0]])) };
    let payload = with_unknown_key(&release);
    let signed = envelope::seal_sign(payload, &parts("release"), &[&key(1)]);
    let read = verify_release(&signed, &trust(1));
    assert_eq!(read.map(|_| ()), Err(Rejection::Version { found: 1, known: 0 }));
}

/// Whoever reads a report must be able to say which code a newer host gave.
#[test]
fn codes_of_a_newer_version_are_kept_as_they_are() {
    let newer =
        Report { phase: PhaseName::Unknown(500), code: Some(Code::Unknown(501)), ..report() };
    let said = sign_as_host(&newer, &fleet("home"), &key(9));
    assert_eq!(from_host::<Report>(&said).unwrap().into_inner(), newer);
}

#[test]
fn orders_that_follow_each_other_are_judged_as_each_alone() {
    let (good, trust) = (key(1), trust(1));
    let orders = |sequence: u64, signer: &SecretKey| -> Vec<Vec<u8>> {
        let mut file = ReleaseFile::unsigned(["a", "b"].map(target).to_vec(), |root, count| {
            let of_two = Release { targets_count: count, ..release_with(root) };
            Release { sequence: Sequence::new(sequence), ..of_two }
        });
        file.gathering_mut().sign(signer).unwrap();
        file.orders().map(|(_, order)| codec::encode(&order)).collect()
    };
    let [older, newer] = [1_000, 1_001].map(|sequence| orders(sequence, &good));
    let mut messages = [older.clone(), newer.clone(), orders(1_002, &key(9)), older].concat();
    for at in 0..newer[0].len() {
        let mut damaged = newer[0].clone();
        damaged[at] ^= 1;
        messages.extend([newer[1].clone(), damaged]);
    }
    let mut reader = OrderReader::new(trust.clone());
    let mut taken = 0;
    for message in &messages {
        let alone = verify_any_order(message, &trust);
        assert_eq!(reader.verify(message), alone);
        taken += usize::from(alone.is_ok());
    }
    assert_eq!(taken, 6 + newer[0].len(), "the damaged ones are refused");
}
