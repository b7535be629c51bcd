//! What is published to the host.

use std::{collections::BTreeMap, sync::LazyLock, time::Duration};

use herald_proto::{
    WIRE_VERSION,
    codec::{self, Bytes},
    host::ProfileName,
    id::{ReleaseId, Sequence},
    key::SecretKey,
    merkle::TargetTree,
    order::{Addressee, SealedOrder},
    plan::Plan,
    release::Release,
    signing::sign_release,
    store_path::StorePath,
    target::{Action, Check, Health, Integrity, Limits, Target},
    time::Timestamp,
};

use super::{
    scenario::Scenario,
    systems::{NEWER, TARGET, closure, dump},
};

/// When every run begins: 2026-01-01T00:00:00Z.
pub(crate) const BEGAN: Timestamp = Timestamp::from_millis(1_767_225_600_000);
/// For how long a new system must be healthy.
pub(crate) const STABLE_FOR: Duration = Duration::from_secs(1);
/// The program that checks health.
pub(crate) const HEALTH_CHECK: &str = "/run/current-system/sw/bin/check-health";

/// A signed order.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) bytes: Vec<u8>,
    pub(crate) sequence: u64,
}

static KEY: LazyLock<SecretKey> = LazyLock::new(|| {
    SecretKey::from_seed("operator".parse().expect("a key's name"), &[1; 32])
        .expect("a usable seed")
});

static STRANGER: LazyLock<SecretKey> = LazyLock::new(|| {
    SecretKey::from_seed("stranger".parse().expect("a key's name"), &[2; 32])
        .expect("a usable seed")
});

static OLDER: LazyLock<Message> = LazyLock::new(|| message(1, &TARGET, Action::Switch));
static ORDERS: LazyLock<BTreeMap<Action, Message>> = LazyLock::new(|| {
    let actions = Scenario::all().into_iter().map(|scenario| scenario.action);
    actions.map(|action| (action, message(2, &TARGET, action))).collect()
});
static NEWEST: LazyLock<Message> = LazyLock::new(|| message(3, &NEWER, Action::Switch));
static CORRUPT: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut bytes = NEWEST.bytes.clone();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    bytes
});

/// Gives the order of a scenario.
pub(crate) fn first(action: Action) -> &'static Message {
    &ORDERS[&action]
}

/// Gives an order that is newer than that of any scenario.
pub(crate) fn newer() -> &'static Message {
    &NEWEST
}

/// Gives one that is older.
pub(crate) fn older() -> &'static [u8] {
    &OLDER.bytes
}

/// Gives one that is damaged.
pub(crate) fn corrupt() -> &'static [u8] {
    &CORRUPT
}

/// Gives the content of a trust file: with the key that signs the orders, or another.
pub(crate) fn trust_file(locks_out: bool) -> String {
    let key = if locks_out { &STRANGER } else { &KEY }.public();
    format!("fleet = \"home\"\n[release]\nthreshold = 1\nkeys = [\"{key}\"]")
}

/// Gives who the host is.
pub(crate) fn reader() -> Addressee {
    Addressee {
        host: "alpha".parse().expect("a host's name"),
        profile: ProfileName::system(),
        system: "x86_64-linux".parse().expect("a system"),
    }
}

fn message(number: u64, toplevel: &StorePath, action: Action) -> Message {
    let Addressee { host, profile, system } = reader();
    let manifest = herald_proto::closure::Manifest::from_dump_db(&dump(&closure(toplevel)));
    let seconds = Duration::from_secs;
    let target = Target {
        host,
        profile,
        system,
        toplevel: toplevel.clone(),
        action,
        integrity: Integrity::Closure(manifest.expect("a whole closure").closure()),
        limits: Limits {
            realise: seconds(60),
            activate: seconds(20),
            confirm: seconds(10),
            wait: None,
        },
        health: Health {
            stable_for: STABLE_FOR,
            checks: vec![Check::Command(vec![HEALTH_CHECK.to_owned()])],
        },
        expect_current: Vec::new(),
        tolerated_units: Vec::new(),
        incarnation: None,
        if_reboot_needed: None,
        marks: Vec::new(),
        substituters: vec![],
    };
    let bytes = codec::encode(&target);
    let tree = TargetTree::new([bytes.clone()]);
    let sequence = BEGAN.as_millis() + number;
    let release = Release {
        version: WIRE_VERSION,
        fleet: "home".parse().expect("a fleet's name"),
        id: ReleaseId::new(BEGAN.plus(Duration::from_millis(number)), &[7; 10]),
        sequence: Sequence::new(sequence),
        issued_at: BEGAN,
        not_before: BEGAN,
        expires_at: BEGAN.plus(seconds(24 * 3600)),
        targets_root: tree.root(),
        targets_count: tree.count(),
        plan: Plan::Immediate,
        revision: None,
        reason: None,
    };
    let sealed = SealedOrder {
        release: sign_release(&release, &[&KEY]),
        target: Bytes(bytes),
        index: 0,
        proof: Vec::new(),
    };
    Message { bytes: codec::encode(&sealed), sequence }
}
