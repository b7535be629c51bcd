//! The generations of a fleet's trust: the one that its trust file has now, and older ones that
//! hosts may still have, as they were offline when it changed.
//!
//! A release reaches a host only if the host's own trust accepts it. So a release is signed for
//! each generation that hosts still report.

use std::collections::{BTreeMap, BTreeSet};

use herald_proto::{
    host::{FleetId, HostId},
    id::TrustDigest,
    key::{KeyId, KeyName, PublicKey},
    report::Report,
    trust::{Role, Trust},
};

/// A fleet's trust, now and before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generations {
    current: Trust,
    older: Vec<Trust>,
}

/// Which generations hosts report beside the current one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reported<'a> {
    /// Older ones that are known here, with the hosts that have them.
    pub older: Vec<(&'a Trust, Vec<HostId>)>,
    /// Hosts with a trust that is not known here.
    pub unknown: Vec<HostId>,
}

/// Keys or signatures that are not what hosts ask for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadSigners {
    /// A trust is another fleet's.
    #[error("the trust file is for the fleet {trust}, the fleet file for {fleet}")]
    OtherFleet {
        /// The fleet of the trust.
        trust: FleetId,
        /// The fleet of the fleet file.
        fleet: FleetId,
    },
    /// A key without a role.
    #[error(
        "the key {name} is not in [release] of the trust file: hosts do not count its signature"
    )]
    NotTrusted {
        /// The key.
        name: KeyName,
    },
    /// A key with the other role.
    #[error(
        "the key {name} is in [rollout] of the trust file: it can pace releases, and never sign \
         one; sign with a key of [release]"
    )]
    Rollout {
        /// The key.
        name: KeyName,
    },
    /// A key that conducts nothing.
    #[error("the key {name} is not in [rollout] of the trust file: hosts do not count its beacons")]
    NotConducting {
        /// The key.
        name: KeyName,
    },
    /// Nobody conducts.
    #[error("the trust file has no [rollout] with keys: nobody may sign beacons")]
    NoRollout,
    /// Too few keys.
    #[error(
        "{keys} of the {threshold} keys that the trust file asks for: give more keys, or let others \
         sign too with `herald sign` and `herald cosign`; as it is every host refuses the release"
    )]
    TooFew {
        /// How many different keys there are.
        keys: usize,
        /// How many must sign.
        threshold: usize,
    },
    /// Too few keys of an older trust that hosts still have.
    #[error(
        "{keys} of the {threshold} keys of the older trust that these hosts still have: {}; let \
         those who could sign then sign too, or leave these hosts out",
        names(hosts)
    )]
    TooFewOlder {
        /// How many different keys there are.
        keys: usize,
        /// How many must sign.
        threshold: usize,
        /// The hosts.
        hosts: Vec<HostId>,
    },
}

impl Generations {
    /// Puts them together, for a fleet.
    ///
    /// # Errors
    /// When one of them is another fleet's.
    pub fn new(fleet: &FleetId, current: Trust, older: Vec<Trust>) -> Result<Self, BadSigners> {
        for trust in older.iter().chain([&current]) {
            if trust.fleet() != fleet {
                let (trust, fleet) = (trust.fleet().clone(), fleet.clone());
                return Err(BadSigners::OtherFleet { trust, fleet });
            }
        }
        Ok(Self { current, older })
    }

    /// Gives the trust as it is now.
    pub fn current(&self) -> &Trust {
        &self.current
    }

    /// Gives all of them, the current one first.
    pub fn all(&self) -> impl Iterator<Item = &Trust> {
        [&self.current].into_iter().chain(&self.older)
    }

    /// Gives all keys that may sign under any of them, each once; those of now first.
    pub fn keys(&self) -> impl Iterator<Item = &PublicKey> {
        let mut seen = Vec::<KeyId>::new();
        self.all().flat_map(|trust| trust.release().keys()).filter(move |key| {
            let new = !seen.contains(&key.id());
            seen.push(key.id());
            new
        })
    }

    /// Gives the most signatures that a release needs for all of them.
    pub fn most_signatures(&self) -> usize {
        let older: usize = self.older.iter().map(|trust| trust.release().threshold()).sum();
        self.current.release().threshold() + older
    }

    /// Sorts what hosts report.
    pub fn reported<'a>(&self, reports: impl IntoIterator<Item = &'a Report>) -> Reported<'_> {
        let current = self.current.digest();
        let older: Vec<_> = self.older.iter().map(|trust| (trust.digest(), trust)).collect();
        let mut by_digest = BTreeMap::<TrustDigest, BTreeSet<HostId>>::new();
        for report in reports {
            by_digest.entry(report.trust).or_default().insert(report.host.clone());
        }
        by_digest.remove(&current);
        let mut reported = Reported::default();
        for (digest, hosts) in by_digest {
            let hosts = hosts.into_iter().collect();
            match older.iter().find(|(known, _)| *known == digest) {
                Some((_, trust)) => reported.older.push((trust, hosts)),
                None => reported.unknown.extend(hosts),
            }
        }
        reported
    }

    /// Checks that keys may sign a release, be they enough or not.
    ///
    /// # Errors
    /// When a key has no part in releases under any of the generations.
    pub fn check_role<'a>(
        &self,
        keys: impl IntoIterator<Item = &'a PublicKey>,
    ) -> Result<(), BadSigners> {
        for key in keys {
            if self.keys().any(|known| known.id() == key.id()) {
                continue;
            }
            let name = key.name().clone();
            let rollout = self.current.rollout().and_then(|role| role.key(key.id()));
            return Err(match rollout {
                Some(_) => BadSigners::Rollout { name },
                None => BadSigners::NotTrusted { name },
            });
        }
        Ok(())
    }

    /// Checks that hosts take the beacons that the keys sign together.
    ///
    /// # Errors
    /// When nobody has the rollout role, a key has no part in it, or they are too few.
    pub fn check_conductors(&self, keys: &[&PublicKey]) -> Result<(), BadSigners> {
        let role = self.current.rollout().ok_or(BadSigners::NoRollout)?;
        if let Some(stranger) = keys.iter().find(|key| role.key(key.id()).is_none()) {
            return Err(BadSigners::NotConducting { name: stranger.name().clone() });
        }
        let ids: Vec<_> = keys.iter().map(|key| key.id()).collect();
        let (keys, threshold) = (count(role, &ids), role.threshold());
        if keys < threshold { Err(BadSigners::TooFew { keys, threshold }) } else { Ok(()) }
    }

    /// Checks that signatures by these keys are enough, for the current generation and for those
    /// that hosts report.
    ///
    /// # Errors
    /// When they are too few for one of them.
    pub fn check_enough(&self, signers: &[KeyId], reported: &Reported) -> Result<(), BadSigners> {
        let threshold = self.current.release().threshold();
        let keys = count(self.current.release(), signers);
        if keys < threshold {
            return Err(BadSigners::TooFew { keys, threshold });
        }
        for (trust, hosts) in &reported.older {
            let threshold = trust.release().threshold();
            let keys = count(trust.release(), signers);
            if keys < threshold {
                return Err(BadSigners::TooFewOlder { keys, threshold, hosts: hosts.clone() });
            }
        }
        Ok(())
    }
}

/// Counts the different keys of a role among those that signed.
pub fn count(role: &Role, signers: &[KeyId]) -> usize {
    role.keys().filter(|key| signers.contains(&key.id())).count()
}

/// Makes the trust of an operator who has no trust file: each of the keys alone may sign. It is
/// for reading back what this operator published, and says nothing about what hosts trust.
pub fn implied_trust<'a>(
    fleet: &FleetId,
    keys: impl IntoIterator<Item = &'a PublicKey>,
) -> Option<Trust> {
    let mut listed = Vec::<&PublicKey>::new();
    for key in keys {
        if !listed.iter().any(|earlier| earlier.id() == key.id()) {
            listed.push(key);
        }
    }
    // Neither a fleet's name nor a key's text has a quote or a backslash, so TOML needs no escapes.
    let keys: Vec<_> = listed.iter().map(|key| format!("\"{key}\"")).collect();
    let text =
        format!("fleet = \"{fleet}\"\n[release]\nthreshold = 1\nkeys = [{}]\n", keys.join(", "));
    Trust::from_toml(&text).ok()
}

/// Writes names for people, and of many only the first.
pub fn names(hosts: &[HostId]) -> String {
    const SHOWN: usize = 20;
    let shown: Vec<_> = hosts.iter().take(SHOWN).map(HostId::as_str).collect();
    let more = hosts.len().saturating_sub(SHOWN);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", shown.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{host_key, report};

    fn key(n: u8) -> PublicKey {
        host_key(n).public().clone()
    }

    /// Keys by their numbers; those after 200 are for roll-outs.
    fn trust(threshold: usize, keys: &[u8]) -> Trust {
        let list = |keys: &mut dyn Iterator<Item = u8>| {
            format!("{:?}", keys.map(|n| key(n).to_string()).collect::<Vec<_>>())
        };
        let release = list(&mut keys.iter().copied().filter(|n| *n < 200));
        let rollout: Vec<_> = keys.iter().copied().filter(|n| *n >= 200).collect();
        let mut text =
            format!("fleet = \"home\"\n[release]\nthreshold = {threshold}\nkeys = {release}\n");
        if !rollout.is_empty() {
            text += &format!("[rollout]\nthreshold = 1\nkeys = {}", list(&mut rollout.into_iter()));
        }
        Trust::from_toml(&text).unwrap()
    }

    fn generations(current: Trust, older: Vec<Trust>) -> Generations {
        Generations::new(&"home".parse().unwrap(), current, older).unwrap()
    }

    fn ids(keys: &[u8]) -> Vec<KeyId> {
        keys.iter().map(|n| key(*n).id()).collect()
    }

    #[test]
    fn signers_who_would_be_refused_are_told_before_they_sign() {
        let trust = generations(trust(2, &[101, 102, 103, 201]), vec![]);
        let none = Reported::default();
        assert_eq!(trust.check_role([&key(101), &key(103)]), Ok(()));
        assert_eq!(trust.check_enough(&ids(&[101, 103]), &none), Ok(()));
        for few in [&[101][..], &[101, 101], &[101, 201], &[101, 9], &[]] {
            let refused = trust.check_enough(&ids(few), &none);
            assert!(matches!(refused, Err(BadSigners::TooFew { threshold: 2, .. })), "{few:?}");
        }
        let stranger = trust.check_role([&key(101), &key(9)]);
        assert!(matches!(stranger, Err(BadSigners::NotTrusted { name }) if name == *key(9).name()));
        assert!(matches!(trust.check_role([&key(201)]), Err(BadSigners::Rollout { .. })));
        let other = Generations::new(&"other".parse().unwrap(), trust.current, vec![]);
        assert!(matches!(other, Err(BadSigners::OtherFleet { .. })));
    }

    #[test]
    fn each_generation_that_hosts_still_report_asks_for_its_own_signatures() {
        let old = trust(1, &[101, 102]);
        let new = trust(2, &[102, 103, 104]);
        let unlisted = trust(1, &[105]);
        let both = generations(new.clone(), vec![old.clone()]);
        assert_eq!(both.most_signatures(), 3);
        assert_eq!(both.keys().count(), 4);
        assert_eq!(both.check_role([&key(101), &key(104)]), Ok(()));
        let says = |host: &str, trust: &Trust| {
            let mut report = report(host);
            report.trust = trust.digest();
            report
        };
        let reports = [says("a", &new), says("b", &old), says("c", &unlisted), says("d", &old)];
        let reported = both.reported(&reports);
        let offline = vec!["b".parse().unwrap(), "d".parse().unwrap()];
        assert_eq!(reported.older, [(&old, offline)]);
        assert_eq!(reported.unknown, ["c".parse().unwrap()]);
        assert_eq!(both.check_enough(&ids(&[102, 103]), &reported), Ok(()), "102 is in both");
        let refused = both.check_enough(&ids(&[103, 104]), &reported).unwrap_err();
        assert!(refused.to_string().contains("still have: b, d;"), "{refused}");
        assert_eq!(both.check_enough(&ids(&[103, 104]), &both.reported(&reports[..1])), Ok(()));
        let alone = both.check_enough(&ids(&[101, 102]), &reported);
        assert!(matches!(alone, Err(BadSigners::TooFew { keys: 1, threshold: 2 })));
    }

    #[test]
    fn an_implied_trust_takes_each_key_alone() {
        let home: FleetId = "home".parse().unwrap();
        let trust = implied_trust(&home, [&key(101), &key(102), &key(101)]).unwrap();
        assert_eq!(trust.release().threshold(), 1);
        assert_eq!(trust.release().keys().count(), 2);
        assert!(implied_trust(&home, []).is_none());
    }
}
