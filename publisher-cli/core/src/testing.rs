//! What the tests of this crate share: keys, a fleet, targets and reports.

use std::time::Duration;

use herald_proto::{
    WIRE_VERSION,
    host::{HostId, ProfileName},
    id::{BootId, Incarnation, ReleaseId, Sequence, TrustDigest},
    key::SecretKey,
    presence::{Liveness, Presence},
    report::{PhaseName, Report, Systems},
    signing::{self, HostMessage, Verified},
    store_path::StorePath,
    target::{Action, Health, Integrity, Limits, Target},
    text::Prose,
    time::Timestamp,
};

use crate::{draft::Draft, fleet::Fleet};

/// The key of the `n`-th host, or of the `n`-th operator from 100 on.
pub(crate) fn host_key(n: u8) -> SecretKey {
    SecretKey::from_seed(format!("host-{n}").parse().unwrap(), &[n; 32]).unwrap()
}

/// The fleet `home`, whose hosts have the keys 1, 2, …
pub(crate) fn fleet(hosts: &[&str]) -> Fleet {
    let mut text = "fleet = \"home\"\nbroker = \"mqtt://127.0.0.1\"\n".to_owned();
    for (host, n) in hosts.iter().zip(1..) {
        text += &format!("[hosts.{host}]\nkey = \"{}\"\n", host_key(n).public());
    }
    Fleet::from_toml(&text).unwrap()
}

pub(crate) fn path(name: &str) -> StorePath {
    format!("/nix/store/0123456789abcdfghijklmnpqrsvwxyz-{name}").parse().unwrap()
}

pub(crate) fn target(host: &str) -> Target {
    Target {
        host: host.parse().unwrap(),
        profile: ProfileName::system(),
        system: "x86_64-linux".parse().unwrap(),
        toplevel: path("new"),
        action: Action::Switch,
        integrity: Integrity::Toplevel,
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

/// An idle host's first report.
pub(crate) fn report(host: &str) -> Report {
    Report {
        version: WIRE_VERSION,
        host: host.parse().unwrap(),
        profile: ProfileName::system(),
        incarnation: Incarnation::from_bytes([1; 16]),
        number: 1,
        time: Timestamp::from_millis(1),
        boot: BootId::from_bytes([2; 16]),
        agent: Prose::lossy("0.1.0"),
        trust: TrustDigest::of(b""),
        phase: PhaseName::Idle,
        code: None,
        detail: None,
        order: None,
        refusal: None,
        progress: None,
        systems: Systems { running: Some(path("old")), ..Systems::default() },
        failed_units: vec![],
        hold: None,
    }
}

pub(crate) fn presence(host: &str, session: u64, liveness: Liveness) -> Presence {
    Presence {
        version: WIRE_VERSION,
        host: host.parse().unwrap(),
        session,
        liveness,
        incarnation: Incarnation::from_bytes([1; 16]),
        boot: BootId::from_bytes([2; 16]),
        time: Timestamp::from_millis(1),
        agent: Prose::lossy("0.1.0"),
        beat: 0,
        beacon: None,
        hearing: None,
        taken: vec![],
    }
}

pub(crate) fn signed(message: &impl HostMessage, key: &SecretKey) -> Vec<u8> {
    signing::sign_as_host(message, &"home".parse().unwrap(), key)
}

pub(crate) fn host(name: &str) -> HostId {
    name.parse().unwrap()
}

/// A draft of 2023, for these targets.
pub(crate) fn draft(targets: Vec<Target>) -> Draft {
    let now = Timestamp::from_millis(1_700_000_000_000);
    Draft {
        fleet: "home".parse().unwrap(),
        id: ReleaseId::new(now, &[3; 10]),
        sequence: Sequence::next(now, None),
        issued_at: now,
        not_before: now,
        expires_at: now.plus(Duration::from_secs(3600)),
        revision: None,
        reason: Some(Prose::lossy("a test")),
        targets,
    }
}

/// A report, verified by the key that it is signed with here.
pub(crate) fn pinned(report: &Report) -> Verified<Report> {
    let (key, fleet) = (host_key(1), "home".parse().unwrap());
    let bytes = signed(report, &key);
    signing::verify_from_host(&bytes, &fleet, &report.host, key.public()).unwrap()
}
