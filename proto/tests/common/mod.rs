//! A small fleet from fixed seeds and times, which the tests and the benches share.
#![allow(dead_code, reason = "each test takes what it needs")]

use std::{fmt::Debug, str::FromStr};

use herald_proto::{
    WIRE_VERSION,
    beacon::Beacon,
    codec::{self, Bytes},
    enrol::{EnrolRequest, RosterEntry, Token},
    host::{FleetId, HostId, ProfileName},
    id::{BootId, ClosureDigest, Incarnation, ReleaseId, Sequence, TargetHash, TrustDigest},
    key::{PublicKey, SecretKey},
    log::{Log, Program},
    merkle::TargetTree,
    order::{Addressee, SealedOrder},
    plan::Plan,
    presence::{Liveness, Presence},
    release::Release,
    report::{PhaseName, Report, Systems},
    signing::{Gathering, sign_release},
    store_path::StorePath,
    target::{Action, Closure, Health, Integrity, Limits, Target},
    time::Timestamp,
    trust::Trust,
};

/// 2026-01-01T00:00:00Z, the time of everything here.
pub(crate) const NOW: Timestamp = Timestamp::from_millis(1_767_225_600_000);

pub(crate) fn parse<T: FromStr<Err: Debug>>(text: &str) -> T {
    text.parse().expect("a fixed text of the right form")
}

pub(crate) fn fleet() -> FleetId {
    parse("home")
}

/// The key of a person or host, whose seed is 32 times the same byte.
pub(crate) fn secret(name: &str, seed: u8) -> SecretKey {
    SecretKey::from_seed(parse(name), &[seed; 32]).expect("a fixed seed of a usable key")
}

pub(crate) fn alice() -> SecretKey {
    secret("alice", 1)
}

pub(crate) fn bob() -> SecretKey {
    secret("bob", 2)
}

pub(crate) fn carol() -> SecretKey {
    secret("carol", 3)
}

/// A key that no trust file here lists.
pub(crate) fn mallory() -> SecretKey {
    secret("mallory", 66)
}

/// The key of the host alpha.
pub(crate) fn alpha() -> SecretKey {
    secret("alpha", 10)
}

pub(crate) fn trust_text(threshold: usize, keys: &[&SecretKey]) -> String {
    let keys: Vec<_> = keys.iter().map(|key| format!("    \"{}\",\n", key.public())).collect();
    let keys = keys.concat();
    format!("fleet = \"home\"\n\n[release]\nthreshold = {threshold}\nkeys = [\n{keys}]\n")
}

/// A trust file in which carol alone conducts roll-outs, and hosts want a beacon every five minutes.
pub(crate) fn trust_text_with_beacons() -> String {
    let rollout = format!("[rollout]\nthreshold = 1\nkeys = [\"{}\"]\n", carol().public());
    let release = trust_text(1, &[&alice()]);
    format!("{release}\n{rollout}\n[freshness]\ninterval = \"5m\"\n")
}

pub(crate) fn trust_with_beacons() -> Trust {
    Trust::from_toml(&trust_text_with_beacons()).expect("a usable trust file")
}

pub(crate) fn trust(threshold: usize, keys: &[&SecretKey]) -> Trust {
    Trust::from_toml(&trust_text(threshold, keys)).expect("a usable trust file")
}

pub(crate) fn reader(host: &str) -> Addressee {
    Addressee { host: parse(host), profile: ProfileName::system(), system: parse("x86_64-linux") }
}

pub(crate) fn toplevel(host: &str) -> StorePath {
    let hash = "0123456789abcdfghijklmnpqrsvwxyz";
    parse(&format!("/nix/store/{hash}-nixos-system-{host}-26.05.20260101.abcdef1"))
}

/// A target as `deploy` makes it where nothing is configured.
pub(crate) fn target(host: &str) -> Target {
    Target {
        host: parse(host),
        profile: ProfileName::system(),
        system: parse("x86_64-linux"),
        toplevel: toplevel(host),
        action: Action::Switch,
        integrity: Integrity::Closure(Closure {
            digest: ClosureDigest::of(host.as_bytes()),
            size: 3_221_225_472,
            paths: 1_800,
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

pub(crate) fn tree(targets: &[Target]) -> TargetTree {
    TargetTree::new(targets.iter().map(codec::encode))
}

/// A release of the targets in a tree, valid for a day.
pub(crate) fn release(tree: &TargetTree) -> Release {
    Release {
        version: WIRE_VERSION,
        fleet: fleet(),
        id: ReleaseId::new(NOW, &[7; 10]),
        sequence: Sequence::next(NOW, None),
        issued_at: NOW,
        not_before: NOW,
        expires_at: NOW.plus(std::time::Duration::from_secs(24 * 60 * 60)),
        targets_root: tree.root(),
        targets_count: tree.count(),
        plan: Plan::Immediate,
        revision: None,
        reason: None,
    }
}

/// Makes the order for each target of a tree.
pub(crate) fn seal(release: &Bytes, tree: &TargetTree) -> Vec<SealedOrder> {
    let orders = (0..).zip(tree.proofs()).map(|(index, (target, proof))| SealedOrder {
        release: release.clone(),
        target: Bytes(target.to_vec()),
        index,
        proof,
    });
    orders.collect()
}

/// Signs one release of all the targets, and makes the order for each.
pub(crate) fn orders(targets: &[Target], keys: &[&SecretKey]) -> Vec<SealedOrder> {
    let tree = tree(targets);
    seal(&sign_release(&release(&tree), keys), &tree)
}

/// The order for alpha among three hosts.
pub(crate) fn order(keys: &[&SecretKey]) -> SealedOrder {
    let targets = ["alpha", "beta", "gamma"].map(target);
    orders(&targets, keys).swap_remove(0)
}

/// What alpha says when it has no order.
pub(crate) fn report() -> Report {
    Report {
        version: WIRE_VERSION,
        host: host(),
        profile: ProfileName::system(),
        incarnation: Incarnation::from_bytes([0x11; 16]),
        number: 1,
        time: NOW,
        boot: BootId::from_bytes([0x22; 16]),
        agent: parse("0.1.0"),
        trust: TrustDigest::from_bytes([0x33; 32]),
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

pub(crate) fn presence(liveness: Liveness) -> Presence {
    Presence {
        version: WIRE_VERSION,
        host: host(),
        session: 42,
        liveness,
        incarnation: Incarnation::from_bytes([0x11; 16]),
        boot: BootId::from_bytes([0x22; 16]),
        time: NOW,
        agent: parse("0.1.0"),
        beat: 0,
        beacon: None,
        hearing: None,
        taken: vec![],
    }
}

pub(crate) fn beacon() -> Beacon {
    Beacon { version: WIRE_VERSION, fleet: fleet(), issued_at: NOW }
}

/// The token with which the host alpha asks.
pub(crate) fn token() -> SecretKey {
    secret("alpha", 20)
}

pub(crate) fn enrol_request() -> EnrolRequest {
    EnrolRequest {
        version: WIRE_VERSION,
        fleet: fleet(),
        host: host(),
        key: alpha().public().into(),
        time: NOW,
        agent: parse("0.1.0"),
        system: parse("x86_64-linux"),
    }
}

/// The host alpha, which is known by its key and may ask for another.
pub(crate) fn roster_entry() -> RosterEntry {
    let token = Token { key: token().public().into(), expires_at: NOW };
    RosterEntry {
        version: WIRE_VERSION,
        fleet: fleet(),
        host: host(),
        number: Sequence::next(NOW, None),
        key: Some(alpha().public().into()),
        token: Some(token),
    }
}

/// An entry that these keys have signed.
pub(crate) fn sign_entry(entry: &RosterEntry, keys: &[&SecretKey]) -> Vec<u8> {
    let mut gathering = Gathering::new(entry.clone());
    for key in keys {
        gathering.sign(key).expect("each key signs once");
    }
    gathering.seal().0
}

pub(crate) fn log() -> Log {
    Log {
        version: WIRE_VERSION,
        host: host(),
        profile: parse("system"),
        incarnation: Incarnation::from_bytes([0x11; 16]),
        attempt: 7,
        target: TargetHash::from_bytes([0x44; 32]),
        time: NOW,
        program: Program::Activate,
        cut: true,
        lines: vec![parse("stopping web.service"), parse("  größer")],
    }
}

pub(crate) fn host() -> HostId {
    parse("alpha")
}

pub(crate) fn host_key() -> PublicKey {
    alpha().public().clone()
}

/// The targets of a large fleet, with the names that such fleets have.
pub(crate) fn large_fleet(count: usize) -> Vec<Target> {
    (0..count).map(|n| target(&format!("edge-eu-west-{n:05}"))).collect()
}
