//! Who may sign what: the roles of a fleet, their keys and thresholds.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    beacon::Freshness,
    codec::{self, Bytes, Wire},
    envelope::MAX_SIGNATURES,
    host::FleetId,
    id::TrustDigest,
    key::{KeyId, PublicKey},
};

/// The keys that a host or a person trusts, for one fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trust {
    fleet: FleetId,
    release: Role,
    rollout: Option<Role>,
    freshness: Option<Freshness>,
}

/// The keys of one role, and how many different ones must have signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Role {
    threshold: usize,
    keys: BTreeMap<KeyId, PublicKey>,
    /// Those of the file that count for nothing here.
    revoked: BTreeMap<KeyId, PublicKey>,
}

/// A trust file that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum BadTrust {
    /// Not TOML, or with keys that are not known, or with a key that can't be used.
    #[error("{0}")]
    Syntax(#[from] toml::de::Error),
    /// A threshold that everybody or nobody could reach.
    #[error("[{role}] threshold is {threshold} with {keys} different keys: it must be 1 to {most}")]
    Threshold {
        /// Which role.
        role: &'static str,
        /// What the file asks for.
        threshold: usize,
        /// How many keys there are.
        keys: usize,
        /// The most that it may be: the number of keys, or of signatures in an envelope.
        most: usize,
    },
    /// An interval of beacons that is none, or that nobody could keep.
    #[error("[freshness] interval is {interval:?}: it must be a time from 1s to 7days, such as 5m")]
    Interval {
        /// What the file says.
        interval: String,
    },
    /// Beacons that nobody may sign.
    #[error("[freshness] asks for beacons, but there is no [rollout] with keys to sign them")]
    NoRollout,
    /// A key that is there twice, in one role or in two.
    #[error("the key {name} is listed twice: a key stands once, in one role")]
    DuplicateKey {
        /// The name under which it stands the second time.
        name: String,
    },
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct TrustFile {
    fleet: FleetId,
    release: RoleTable,
    rollout: Option<RoleTable>,
    freshness: Option<FreshnessTable>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct FreshnessTable {
    interval: String,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct RoleTable {
    threshold: usize,
    keys: Vec<PublicKey>,
}

impl Trust {
    /// Reads a trust file (TOML).
    ///
    /// # Errors
    /// When it is not well-formed, has keys that are not known, a key that is weak or stands
    /// twice, or a threshold that is 0 or above the number of keys or of signatures in an envelope.
    pub fn from_toml(text: &str) -> Result<Self, BadTrust> {
        let file: TrustFile = toml::from_str(text)?;
        let mut seen = BTreeMap::new();
        let release = Role::new("release", file.release, &mut seen)?;
        let rollout =
            file.rollout.map(|table| Role::new("rollout", table, &mut seen)).transpose()?;
        let freshness = file.freshness.map(FreshnessTable::read).transpose()?;
        if freshness.is_some() && rollout.is_none() {
            return Err(BadTrust::NoRollout);
        }
        Ok(Self { fleet: file.fleet, release, rollout, freshness })
    }

    /// Gives the fleet that the trust is for.
    pub fn fleet(&self) -> &FleetId {
        &self.fleet
    }

    /// Gives the role that signs releases.
    pub fn release(&self) -> &Role {
        &self.release
    }

    /// Gives the role that paces releases: it sends beacons, can advance, pause and abort a release,
    /// and author none.
    pub fn rollout(&self) -> Option<&Role> {
        self.rollout.as_ref()
    }

    /// Gives how often a beacon is to come, if hosts take orders only by one.
    pub fn freshness(&self) -> Option<Freshness> {
        self.freshness
    }

    /// Leaves out keys that this reader has seen removed: what the file says of them counts for
    /// nothing, although the thresholds stay. The digest is that of the file.
    #[must_use]
    pub fn without(
        mut self,
        is_revoked_release: impl Fn(KeyId) -> bool,
        is_revoked_rollout: impl Fn(KeyId) -> bool,
    ) -> Self {
        self.release.leave_out(is_revoked_release);
        if let Some(rollout) = &mut self.rollout {
            rollout.leave_out(is_revoked_rollout);
        }
        self
    }

    /// Gives the digest of what counts: fleet, roles, thresholds, key ids and the interval of
    /// beacons, but no key names.
    pub fn digest(&self) -> TrustDigest {
        let role = |role: &Role| {
            let mut ids: Vec<_> = role.keys.keys().chain(role.revoked.keys()).collect();
            ids.sort_unstable();
            let ids: Vec<_> = ids.iter().map(|id| Bytes(id.as_bytes().to_vec())).collect();
            codec::Value::Array(vec![(role.threshold as u64).to_value(), ids.to_value()])
        };
        let rollout = self.rollout.iter().map(role).collect();
        let mut content =
            vec![self.fleet.to_value(), role(&self.release), codec::Value::Array(rollout)];
        content.extend(self.freshness.map(|freshness| freshness.interval().to_value()));
        TrustDigest::of(&codec::encode_value(&codec::Value::Array(content)))
    }
}

impl FreshnessTable {
    fn read(self) -> Result<Freshness, BadTrust> {
        let interval: Option<Duration> = humantime::parse_duration(&self.interval).ok();
        let freshness = interval.and_then(Freshness::every);
        freshness.ok_or(BadTrust::Interval { interval: self.interval })
    }
}

impl Role {
    fn new(
        role: &'static str,
        table: RoleTable,
        seen: &mut BTreeMap<KeyId, ()>,
    ) -> Result<Self, BadTrust> {
        let mut keys = BTreeMap::new();
        for key in table.keys {
            if seen.insert(key.id(), ()).is_some() {
                return Err(BadTrust::DuplicateKey { name: key.name().to_string() });
            }
            keys.insert(key.id(), key);
        }
        let (threshold, count) = (table.threshold, keys.len());
        let most = count.min(MAX_SIGNATURES);
        if !(1..=most).contains(&threshold) {
            return Err(BadTrust::Threshold { role, threshold, keys: count, most });
        }
        Ok(Self { threshold, keys, revoked: BTreeMap::new() })
    }

    /// Makes the role of a single pinned key.
    pub(crate) fn of_one(key: PublicKey) -> Self {
        let keys = BTreeMap::from([(key.id(), key)]);
        Self { threshold: 1, keys, revoked: BTreeMap::new() }
    }

    /// Makes the role of two keys that must both have signed. One key for both is never enough.
    pub(crate) fn of_both(one: PublicKey, other: PublicKey) -> Self {
        let keys = BTreeMap::from([(one.id(), one), (other.id(), other)]);
        Self { threshold: 2, keys, revoked: BTreeMap::new() }
    }

    fn leave_out(&mut self, is_revoked: impl Fn(KeyId) -> bool) {
        self.revoked.extend(std::mem::take(&mut self.keys));
        let all = std::mem::take(&mut self.revoked);
        (self.revoked, self.keys) = all.into_iter().partition(|(id, _)| is_revoked(*id));
    }

    /// Gives how many different keys must sign.
    pub fn threshold(&self) -> usize {
        self.threshold
    }

    /// Gives the key with an id, if it has the role.
    pub fn key(&self, id: KeyId) -> Option<&PublicKey> {
        self.keys.get(&id)
    }

    /// Gives all keys that the file has, also those that count for nothing here.
    pub fn listed(&self) -> impl Iterator<Item = &PublicKey> {
        self.keys.values().chain(self.revoked.values())
    }

    /// Gives a key that the file has and that counts for nothing here.
    pub fn revoked(&self, id: KeyId) -> Option<&PublicKey> {
        self.revoked.get(&id)
    }

    /// Gives the keys in the order of their ids.
    pub fn keys(&self) -> impl Iterator<Item = &PublicKey> {
        self.keys.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::SecretKey;

    fn key(n: u8) -> String {
        let name = format!("k{n}").parse().unwrap();
        SecretKey::from_seed(name, &[n; 32]).unwrap().public().to_string()
    }

    fn file(threshold: i64, keys: &[String]) -> String {
        format!("fleet = \"home\"\n[release]\nthreshold = {threshold}\nkeys = {keys:?}\n")
    }

    #[test]
    fn a_threshold_of_zero_or_above_the_number_of_keys_is_refused() {
        let keys = [key(1), key(2)];
        assert!(Trust::from_toml(&file(2, &keys)).is_ok());
        for threshold in [-1, 0, 3] {
            assert!(Trust::from_toml(&file(threshold, &keys)).is_err(), "{threshold}");
        }
    }

    #[test]
    fn a_threshold_that_no_envelope_has_room_for_is_refused() {
        let keys: Vec<_> = (1..=20).map(key).collect();
        assert!(Trust::from_toml(&file(16, &keys)).is_ok());
        let error = Trust::from_toml(&file(17, &keys)).unwrap_err().to_string();
        assert!(error.ends_with("it must be 1 to 16"), "{error}");
    }

    #[test]
    fn a_key_that_stands_twice_is_refused_whatever_its_name_or_role() {
        let renamed = key(1).replace("k1", "other");
        let twice = file(1, &[key(1), renamed.clone()]);
        assert!(matches!(Trust::from_toml(&twice), Err(BadTrust::DuplicateKey { .. })));
        let roles = format!("{}[rollout]\nthreshold = 1\nkeys = [{renamed:?}]", file(1, &[key(1)]));
        assert!(matches!(Trust::from_toml(&roles), Err(BadTrust::DuplicateKey { .. })));
    }

    #[test]
    fn weak_keys_and_unknown_settings_are_refused_with_their_place() {
        let weak = "x:AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=".to_owned();
        let error = Trust::from_toml(&file(1, &[weak])).unwrap_err().to_string();
        assert!(error.contains("weak") && error.contains("line 4"), "{error}");
        let unknown = format!("tresholds = 1\n{}", file(1, &[key(1)]));
        assert!(Trust::from_toml(&unknown).unwrap_err().to_string().contains("tresholds"));
    }

    /// Gives every list of at most `longest` of three keys, with repeats.
    fn lists(longest: u32) -> impl Iterator<Item = Vec<usize>> {
        (0..=longest).flat_map(|length| {
            (0..3_usize.pow(length))
                .map(move |n| (0..length).map(|at| n / 3_usize.pow(at) % 3).collect())
        })
    }

    #[test]
    fn every_small_trust_file_is_taken_or_refused_as_the_rules_say() {
        let keys = [1, 2, 3].map(key);
        let written = |role: &str, threshold: usize, list: &[usize]| {
            let list: Vec<_> = list.iter().map(|n| &keys[*n]).collect();
            format!("[{role}]\nthreshold = {threshold}\nkeys = {list:?}\n")
        };
        let mut rollouts = vec![None];
        rollouts.extend(lists(2).flat_map(|list| (0..=3).map(move |n| Some((n, list.clone())))));
        let (mut taken, mut refused) = (0, 0);
        for (release, threshold) in
            lists(3).flat_map(|list| (0..=4).map(move |n| (list.clone(), n)))
        {
            for rollout in &rollouts {
                let mut text =
                    format!("fleet = \"home\"\n{}", written("release", threshold, &release));
                let mut all = release.clone();
                let mut possible = (1..=release.len()).contains(&threshold);
                if let Some((threshold, list)) = rollout {
                    text += &written("rollout", *threshold, list);
                    all.extend(list);
                    possible &= (1..=list.len()).contains(threshold);
                }
                let count = all.len();
                all.sort_unstable();
                all.dedup();
                let good = possible && all.len() == count;
                let read = Trust::from_toml(&text);
                assert_eq!(read.is_ok(), good, "{text}");
                if let Ok(trust) = read {
                    assert_eq!(trust.release().threshold(), threshold);
                    assert_eq!(trust.release().keys().count(), release.len());
                    let rollout =
                        rollout.as_ref().map(|(threshold, list)| (*threshold, list.len()));
                    let read = trust.rollout().map(|role| (role.threshold(), role.keys().count()));
                    assert_eq!(read, rollout);
                    taken += 1;
                } else {
                    refused += 1;
                }
            }
        }
        assert!(taken > 50 && taken + refused == 10_600, "{taken} {refused}");
    }

    #[test]
    fn beacons_need_an_interval_that_can_be_kept_and_somebody_to_sign_them() {
        let rollout = format!("[rollout]\nthreshold = 1\nkeys = [{:?}]\n", key(9));
        let with = |rollout: &str, interval: &str| {
            let base = file(1, &[key(1)]);
            Trust::from_toml(&format!("{base}{rollout}[freshness]\ninterval = {interval:?}\n"))
        };
        let trust = with(&rollout, "5m").unwrap();
        assert_eq!(trust.freshness().unwrap().interval(), Duration::from_secs(300));
        assert_ne!(trust.digest(), with(&rollout, "6m").unwrap().digest());
        assert!(matches!(with("", "5m"), Err(BadTrust::NoRollout)));
        for bad in ["", "0s", "999ms", "8days", "5", "often", "99999999999999999999years"] {
            assert!(matches!(with(&rollout, bad), Err(BadTrust::Interval { .. })), "{bad}");
        }
    }

    #[test]
    fn a_key_that_was_removed_counts_for_nothing_and_the_digest_is_still_the_file_s() {
        let text = file(2, &[key(1), key(2), key(3)]);
        let (whole, first) = (Trust::from_toml(&text).unwrap(), key(1).parse::<PublicKey>());
        let gone = first.unwrap().id();
        let without = whole.clone().without(|id| id == gone, |_| false);
        assert_eq!(without.digest(), whole.digest());
        assert_ne!(without, whole);
        let role = without.release();
        assert_eq!((role.threshold(), role.keys().count()), (2, 2));
        assert!(role.key(gone).is_none() && role.revoked(gone).is_some());
        assert_eq!(without.without(|_| false, |_| false), whole, "nothing is forgotten");
    }

    #[test]
    fn the_digest_is_of_what_counts() {
        let digest = |text: &str| Trust::from_toml(text).unwrap().digest();
        let two = digest(&file(1, &[key(1), key(2)]));
        assert_eq!(two, digest(&file(1, &[key(2).replace("k2", "bob"), key(1)])));
        assert_ne!(two, digest(&file(2, &[key(1), key(2)])));
        assert_ne!(two, digest(&file(1, &[key(1)])));
    }
}
