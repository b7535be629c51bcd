//! Whether those who are about to sign may, so that nobody signs what every host would refuse.

use herald_proto::{
    host::FleetId,
    key::{KeyId, KeyName, PublicKey},
    trust::{Role, Trust},
};

/// Keys that can't sign a release under a trust.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadSigners {
    /// The trust is another fleet's.
    #[error("the trust file is for the fleet {trust}, the fleet file for {fleet}")]
    OtherFleet {
        /// The fleet of the trust.
        trust: FleetId,
        /// The fleet of the fleet file.
        fleet: FleetId,
    },
    /// A key without the role.
    #[error(
        "the key {name} is not in [{role}] of the trust file: hosts do not count its signature"
    )]
    NotTrusted {
        /// The role that it takes.
        role: &'static str,
        /// The key.
        name: KeyName,
    },
    /// Nobody has the role.
    #[error("the trust file has no [{role}] with keys")]
    NoRole {
        /// The role that it takes.
        role: &'static str,
    },
    /// Too few keys.
    #[error(
        "{keys} of the {threshold} keys that the trust file asks for: give more keys, or every \
         host refuses what they sign"
    )]
    TooFew {
        /// How many different keys there are.
        keys: usize,
        /// How many must sign.
        threshold: usize,
    },
}

/// Checks that hosts with this trust take releases that the keys sign.
///
/// # Errors
/// When the trust is for another fleet, a key is not in it, or the keys are too few.
pub fn check<'a>(
    trust: &Trust,
    fleet: &FleetId,
    keys: impl IntoIterator<Item = &'a PublicKey>,
) -> Result<(), BadSigners> {
    check_role("release", Some(trust.release()), trust, fleet, keys)
}

/// Checks that hosts with this trust take beacons that the keys sign.
///
/// # Errors
/// As [`check`], and when nobody conducts roll-outs.
pub fn check_rollout<'a>(
    trust: &Trust,
    fleet: &FleetId,
    keys: impl IntoIterator<Item = &'a PublicKey>,
) -> Result<(), BadSigners> {
    check_role("rollout", trust.rollout(), trust, fleet, keys)
}

fn check_role<'a>(
    name: &'static str,
    role: Option<&Role>,
    trust: &Trust,
    fleet: &FleetId,
    keys: impl IntoIterator<Item = &'a PublicKey>,
) -> Result<(), BadSigners> {
    let role = role.ok_or(BadSigners::NoRole { role: name })?;
    if trust.fleet() != fleet {
        return Err(BadSigners::OtherFleet { trust: trust.fleet().clone(), fleet: fleet.clone() });
    }
    let mut counted = Vec::<KeyId>::new();
    for key in keys {
        if role.key(key.id()).is_none() {
            return Err(BadSigners::NotTrusted { role: name, name: key.name().clone() });
        }
        if !counted.contains(&key.id()) {
            counted.push(key.id());
        }
    }
    let threshold = role.threshold();
    if counted.len() < threshold {
        return Err(BadSigners::TooFew { keys: counted.len(), threshold });
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::host_key;

    fn trust(threshold: usize) -> Trust {
        let keys: Vec<_> = (101..104).map(|n| host_key(n).public().to_string()).collect();
        let text = format!("fleet = \"home\"\n[release]\nthreshold = {threshold}\nkeys = {keys:?}");
        Trust::from_toml(&text).unwrap()
    }

    #[test]
    fn signers_who_would_be_refused_are_told_before_they_sign() {
        let home: FleetId = "home".parse().unwrap();
        let keys: Vec<_> = [101, 102, 9].map(|n| host_key(n).public().clone()).to_vec();
        let check_with = |threshold, keys: &[PublicKey]| check(&trust(threshold), &home, keys);

        assert_eq!(check_with(2, &keys[..2]), Ok(()));
        let twice = [keys[0].clone(), keys[0].clone()];
        for (threshold, keys) in [(2, &keys[..1]), (3, &keys[..2]), (2, &twice[..])] {
            assert!(matches!(check_with(threshold, keys), Err(BadSigners::TooFew { .. })));
        }
        assert!(matches!(
            check_with(1, &keys),
            Err(BadSigners::NotTrusted { name, .. }) if name == *keys[2].name()
        ));
        assert!(matches!(
            check(&trust(1), &"other".parse().unwrap(), &keys[..1]),
            Err(BadSigners::OtherFleet { .. })
        ));
    }

    #[test]
    fn an_implied_trust_takes_each_key_alone() {
        let home: FleetId = "home".parse().unwrap();
        let (a, b) = (host_key(101), host_key(102));
        let trust = implied_trust(&home, [a.public(), b.public(), a.public()]).unwrap();
        assert_eq!(trust.release().threshold(), 1);
        assert_eq!(check(&trust, &home, [b.public()]), Ok(()));
        assert!(implied_trust(&home, []).is_none());
    }
}
