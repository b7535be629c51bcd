//! Files: trust, the state of a host, keys in Nix's and OpenSSH's formats, and an agent's answers.

use std::{collections::BTreeSet, fmt::Write as _};

use herald_fleet::openssh::{self, agent};
use herald_proto::{
    key::{PublicKey, SecretKey},
    presence::Presence,
    signing::{sign_as_host, verify_from_host},
    trust::{Role, Trust},
};
use herald_subscriber::adapters::state_store;

use super::{messages::ONE, mode, seeds::presence};

/// Trust files.
///
/// # Panics
/// Where a promise is broken.
pub fn trust(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(trust) = Trust::from_toml(text) else { return };
    let mut seen = BTreeSet::new();
    let mut again = format!("fleet = \"{}\"\n", trust.fleet());
    let roles = [("release", Some(trust.release())), ("rollout", trust.rollout())];
    for (name, role) in roles.iter().filter_map(|(name, role)| Some((*name, (*role)?))) {
        let count = role.keys().count();
        assert!((1..=count.min(16)).contains(&role.threshold()), "{} of {count}", role.threshold());
        assert!(role.keys().all(|key| seen.insert(key.id())), "a key stands twice");
        write_role(&mut again, name, role);
    }
    if let Some(freshness) = trust.freshness() {
        assert!(trust.rollout().is_some(), "nobody can send the beacons");
        let nanos = freshness.interval().as_nanos();
        again += &format!("[freshness]\ninterval = \"{nanos}ns\"\n");
    }
    let read = Trust::from_toml(&again).expect("what was read can be written");
    assert_eq!(read, trust);
    assert_eq!(read.digest(), trust.digest());
}

fn write_role(text: &mut String, name: &str, role: &Role) {
    let keys: Vec<_> = role.keys().map(ToString::to_string).collect();
    // Writing to a String can't fail.
    let _ = writeln!(text, "[{name}]\nthreshold = {}\nkeys = {keys:?}", role.threshold());
}

/// State files: as they come, and with a good checksum over a hostile content.
///
/// # Panics
/// Where a promise is broken.
pub fn state(bytes: &[u8]) {
    let (mode, rest) = mode(bytes);
    let state = match mode % 2 {
        0 => state_store::decode(rest),
        _ => state_store::decode(&state_store::framed(rest)),
    };
    let Some(state) = state else { return };
    let content = state_store::encode(&state);
    let again = state_store::decode(&state_store::framed(&content));
    let again = again.expect("what was read can be written");
    assert_eq!(again, state);
    assert_eq!(state_store::encode(&again), content, "a state has one form");
    let mut damaged = state_store::framed(&content);
    let at = rest.len() % damaged.len();
    damaged[at] ^= 1 << (rest.len() % 5);
    // Digits of the checksum may be in upper case; nothing else may be other than it was.
    assert!(state_store::decode(&damaged).is_none_or(|read| read == state), "damage at {at}");
}

/// Keys: public and secret, in Nix's format and OpenSSH's, and what an agent answers.
///
/// # Panics
/// Where a promise is broken.
pub fn key(bytes: &[u8]) {
    if let Ok(identities) = agent::identities(bytes) {
        identities.iter().for_each(|identity| public(&identity.key));
    }
    let _ = agent::signature(bytes);
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(key) = text.parse::<PublicKey>() {
        assert_eq!(key.to_string(), text.trim_end(), "a key has one form");
        public(&key);
    }
    if let Ok(key) = text.parse::<SecretKey>() {
        assert_eq!(key.to_secret_text().as_str(), text.trim_end(), "a key has one form");
        secret(&key);
    }
    if let Ok(key) = openssh::read_public(text) {
        assert!(openssh::is_public(text));
        public(&key);
    }
    if let Ok(key) = openssh::read_private(text) {
        assert!(openssh::is_private(text));
        secret(&key);
    }
}

fn public(key: &PublicKey) {
    let again: PublicKey = key.to_string().parse().expect("a key can be read as it is shown");
    assert_eq!(again, *key);
    assert!(openssh::fingerprint(key).starts_with("SHA256:"));
}

fn secret(key: &SecretKey) {
    public(key.public());
    let presence = presence();
    let message = sign_as_host(&presence, ONE.fleet(), key);
    let read = verify_from_host::<Presence>(&message, ONE.fleet(), &presence.host, key.public());
    assert!(read.is_ok(), "its halves do not belong together");
    let again: SecretKey = key.to_secret_text().parse().expect("a key can be read as it is kept");
    assert_eq!(again.public(), key.public());
}
