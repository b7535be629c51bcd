//! From a draft to a release that is signed, and from that to signed orders, one for each host.

use herald_proto::{
    codec::{self, MAX_MESSAGE},
    envelope::MAX_SIGNATURES,
    host::{HostId, ProfileName},
    id::{MessageDigest, TargetHash},
    key::{KeyId, PublicKey, SecretKey},
    release::Release,
    release_file::ReleaseFile,
};

use crate::draft::{BadDraft, Draft};

/// A signed release with an order for each of its targets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Composed {
    /// The release.
    pub release: Release,
    /// The orders, as the targets were in the draft.
    pub orders: Vec<SignedOrder>,
}

/// One host's order, ready to be published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedOrder {
    /// The host.
    pub host: HostId,
    /// The profile.
    pub profile: ProfileName,
    /// The target's hash, by which reports call it.
    pub hash: TargetHash,
    /// The message's digest, by which refusals call it.
    pub digest: MessageDigest,
    /// The message.
    pub message: Vec<u8>,
}

/// Makes the release that these keys are to sign, and that has room for so many signatures.
///
/// # Errors
/// When hosts would refuse it.
pub fn unsigned<'a>(
    draft: &Draft,
    keys: impl IntoIterator<Item = &'a PublicKey>,
    signatures: usize,
) -> Result<ReleaseFile, BadDraft> {
    let keys = check_keys(keys)?;
    draft.check(signatures.max(keys))?;
    let targets = draft.targets.clone();
    Ok(ReleaseFile::unsigned(targets, |root, _| draft.release(root)))
}

/// Makes each host's order, with the signatures that there are.
pub fn orders(file: &ReleaseFile) -> Composed {
    let orders = file.orders().map(|(target, sealed)| {
        let message = codec::encode(&sealed);
        SignedOrder {
            host: target.host.clone(),
            profile: target.profile.clone(),
            hash: TargetHash::of(&sealed.target.0),
            digest: MessageDigest::of(&message),
            message,
        }
    });
    Composed { orders: orders.collect(), release: file.release().clone() }
}

/// Checks that a release fits into messages with the signatures that it has.
///
/// # Errors
/// The first host whose order would be too large.
pub fn check_sizes(file: &ReleaseFile) -> Result<(), BadDraft> {
    for (target, sealed) in file.orders() {
        let size = codec::encode(&sealed).len();
        if size > MAX_MESSAGE {
            return Err(BadDraft::TooLarge { host: target.host.clone(), size });
        }
    }
    Ok(())
}

/// Signs the draft once with each of the keys, and makes each host's order.
///
/// # Errors
/// When hosts would refuse it; nothing was signed then.
pub fn compose(draft: &Draft, keys: &[&SecretKey]) -> Result<Composed, BadDraft> {
    let mut file = unsigned(draft, keys.iter().map(|key| key.public()), keys.len())?;
    for key in keys {
        let signed = file.gathering_mut().sign(key);
        signed.map_err(|_| BadDraft::SameKey { name: key.public().name().clone() })?;
    }
    Ok(orders(&file))
}

/// Counts the keys, if an envelope takes all of them.
fn check_keys<'a>(keys: impl IntoIterator<Item = &'a PublicKey>) -> Result<usize, BadDraft> {
    let mut seen = Vec::<KeyId>::new();
    for key in keys {
        if seen.contains(&key.id()) {
            return Err(BadDraft::SameKey { name: key.name().clone() });
        }
        seen.push(key.id());
    }
    match seen.len() {
        0 => Err(BadDraft::NoKeys),
        count if count > MAX_SIGNATURES => Err(BadDraft::TooManyKeys { count }),
        count => Ok(count),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{draft, host_key, target};
    use herald_proto::{signing, trust::Trust};

    fn trust(keys: &[&SecretKey]) -> Trust {
        let keys: Vec<_> = keys.iter().map(|key| key.public().to_string()).collect();
        let count = keys.len();
        let text = format!("fleet = \"home\"\n[release]\nthreshold = {count}\nkeys = {keys:?}");
        Trust::from_toml(&text).unwrap()
    }

    #[test]
    fn each_host_gets_an_order_that_verifies_with_its_own_target() {
        let (a, b) = (host_key(101), host_key(102));
        let targets = ["a", "b", "c", "d", "e"].map(target);
        let draft = draft(targets.to_vec());
        let composed = compose(&draft, &[&a, &b]).unwrap();
        assert_eq!(composed.orders.len(), targets.len());
        for (signed, target) in composed.orders.iter().zip(&targets) {
            let order = signing::verify_any_order(&signed.message, &trust(&[&a, &b])).unwrap();
            assert_eq!(order.target, *target);
            assert_eq!(order.release, composed.release);
            assert_eq!(order.hash, signed.hash);
            assert_eq!(order.message, signed.digest);
            assert_eq!((&signed.host, &signed.profile), (&target.host, &target.profile));
        }
    }

    #[test]
    fn the_size_that_is_checked_before_signing_is_never_below_the_real_one() {
        let keys: Vec<_> = (101..117).map(host_key).collect();
        for (hosts, signers) in [(1, 1), (1, 16), (2, 1), (3, 2), (100, 3)] {
            let keys: Vec<_> = keys.iter().take(signers).collect();
            let targets = (0..hosts).map(|n| target(&format!("host-{n}")));
            let draft = draft(targets.collect());
            let orders = compose(&draft, &keys).unwrap().orders;
            let largest = orders.iter().map(|order| order.message.len()).max().unwrap();
            let bound = draft.most_bytes(signers)(&draft.targets[0]);
            assert!((largest..largest + 64).contains(&bound), "{largest} and {bound}");
        }
    }

    #[test]
    fn keys_that_no_envelope_takes_are_refused() {
        let draft = draft(vec![target("a")]);
        let keys: Vec<_> = (101..118).map(host_key).collect();
        let all: Vec<_> = keys.iter().collect();
        assert_eq!(compose(&draft, &[]), Err(BadDraft::NoKeys));
        assert_eq!(compose(&draft, &all), Err(BadDraft::TooManyKeys { count: 17 }));
        assert!(matches!(
            compose(&draft, &[all[0], all[1], all[0]]),
            Err(BadDraft::SameKey { .. })
        ));
    }
}
