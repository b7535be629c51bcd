//! Real orders: one signed release with a target for each host, and what each host makes of its own.

use std::time::Duration;

use herald_fleet::{compose::compose, draft::Draft};
use herald_proto::{
    host::ProfileName,
    id::{ReleaseId, Sequence},
    key::SecretKey,
    order::Addressee,
    signing::verify_order,
    target::{Action, Health, Integrity, Limits, Target},
    time::Timestamp,
    trust::Trust,
};

use super::{failure::Failure, names, stats::Random};

const SYSTEM: &str = "x86_64-linux";

/// A release's orders, one for each host.
pub(crate) struct Orders {
    trust: Trust,
    /// The messages, as hosts are numbered.
    pub(crate) messages: Vec<Vec<u8>>,
}

impl Orders {
    /// Signs a release for all hosts.
    pub(crate) fn sign(hosts: usize, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let key_seed = random.bytes(32).try_into().expect("32 bytes were drawn");
        let name = "operator".parse().expect("it is a key name");
        let key = SecretKey::from_seed(name, &key_seed).expect("random seeds make good keys");
        let trust = format!(
            "fleet = {:?}\n[release]\nthreshold = 1\nkeys = [\"{}\"]\n",
            names::FLEET,
            key.public()
        );
        let now = Timestamp::from_millis(1_790_000_000_000);
        let draft = Draft {
            fleet: names::FLEET.parse().expect("it is a fleet name"),
            id: ReleaseId::new(now, &[7; 10]),
            sequence: Sequence::next(now, None),
            issued_at: now,
            not_before: now,
            expires_at: now.plus(Duration::from_secs(3600)),
            revision: None,
            reason: None,
            targets: (0..hosts).map(|number| target(number, &mut random)).collect(),
        };
        let composed = compose(&draft, &[&key]).expect("the draft is one that hosts take");
        Self {
            trust: Trust::from_toml(&trust).expect("the trust file is whole"),
            messages: composed.orders.into_iter().map(|order| order.message).collect(),
        }
    }

    /// Does what a host does with what came to it.
    pub(crate) fn verify(&self, number: usize, message: &[u8]) -> Result<(), Failure> {
        let host = names::host(number);
        let reader = Addressee {
            host: host.parse().expect("it is a host name"),
            profile: ProfileName::system(),
            system: SYSTEM.parse().expect("it is a system"),
        };
        match verify_order(message, &self.trust, &reader) {
            Ok(_) => Ok(()),
            Err(source) => Err(Failure::Order { host, source: Box::new(source) }),
        }
    }
}

fn target(number: usize, random: &mut Random) -> Target {
    const DIGITS: &[u8; 32] = b"0123456789abcdfghijklmnpqrsvwxyz";
    let hash: String =
        random.bytes(32).iter().map(|byte| DIGITS[usize::from(byte % 32)] as char).collect();
    let host = names::host(number);
    Target {
        toplevel: format!("/nix/store/{hash}-nixos-system-{host}-26.05")
            .parse()
            .expect("it is a store path"),
        host: host.parse().expect("it is a host name"),
        profile: ProfileName::system(),
        system: SYSTEM.parse().expect("it is a system"),
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
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_host_takes_its_own_order_and_no_other() {
        let orders = Orders::sign(5, 1);
        for (number, message) in orders.messages.iter().enumerate() {
            orders.verify(number, message).unwrap();
            assert!(orders.verify((number + 1) % 5, message).is_err());
        }
        let mut broken = orders.messages[0].clone();
        let middle = broken.len() / 2;
        broken[middle] ^= 1;
        assert!(orders.verify(0, &broken).is_err());
        assert_eq!(orders.messages, Orders::sign(5, 1).messages);
        assert_ne!(orders.messages, Orders::sign(5, 2).messages);
    }
}
