//! Orders that the operator's command would never make, for hosts to refuse.

use std::time::Duration;

use herald_proto::{
    WIRE_VERSION, codec,
    codec::Bytes,
    host::ProfileName,
    id::{ReleaseId, Sequence},
    key::SecretKey,
    merkle::TargetTree,
    order::SealedOrder,
    plan::Plan,
    release::Release,
    signing::sign_release,
    target::{Action, Health, Integrity, Limits, Target},
    time::Timestamp,
};

/// A release with one target, every part of which can be changed before it is sealed.
#[derive(Debug, Clone)]
pub struct Forgery {
    /// The release; its root and count are filled in when it is sealed.
    pub release: Release,
    /// The target.
    pub target: Target,
}

impl Forgery {
    /// Makes an order for a host that it would follow.
    ///
    /// # Panics
    /// When a name or path is not one.
    pub fn new(host: &str, toplevel: &str) -> Self {
        let since = std::time::UNIX_EPOCH.elapsed().expect("the clock is after 1970");
        let now = Timestamp::from_millis(since.as_millis().try_into().expect("64 bits last"));
        let arch = std::env::consts::ARCH;
        let target = Target {
            host: host.parse().expect("a host name"),
            profile: ProfileName::system(),
            system: format!("{arch}-linux").parse().expect("a system"),
            toplevel: toplevel.parse().expect("a store path"),
            action: Action::Switch,
            integrity: Integrity::Toplevel,
            limits: Limits::default(),
            health: Health::default(),
            expect_current: Vec::new(),
            tolerated_units: Vec::new(),
            incarnation: None,
            if_reboot_needed: None,
            marks: vec![],
            substituters: vec![],
        };
        let release = Release {
            version: WIRE_VERSION,
            fleet: crate::fleet::NAME.parse().expect("a fleet name"),
            id: ReleaseId::new(now, &[7; 10]),
            sequence: Sequence::new(now.as_millis()),
            issued_at: now,
            not_before: now,
            expires_at: now.plus(Duration::from_secs(3600)),
            targets_root: TargetTree::new([Vec::new()]).root(),
            targets_count: 1,
            plan: Plan::Immediate,
            revision: None,
            reason: None,
        };
        Self { release, target }
    }

    /// Signs it, and gives the message.
    pub fn seal(&self, keys: &[&SecretKey]) -> Vec<u8> {
        let target = codec::encode(&self.target);
        let tree = TargetTree::new([target.clone()]);
        let release = Release {
            targets_root: tree.root(),
            targets_count: tree.count(),
            ..self.release.clone()
        };
        codec::encode(&SealedOrder {
            release: sign_release(&release, keys),
            target: Bytes(target),
            index: 0,
            proof: Vec::new(),
        })
    }
}
