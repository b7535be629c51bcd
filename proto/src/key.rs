//! Ed25519 keys in Nix's format, `name:base64`.
//!
//! The name is for people. What counts is the [`KeyId`], which is computed from the public key.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::{
    codec::{self, Malformed, Value, Wire},
    host::HostId,
};

bytes_id!(
    /// What identifies a key: the SHA-256 of its 32 public bytes.
    KeyId, 32
);

/// The name of a key, as people call it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyName(Box<str>);

/// A key that can't be used. The text of a key is never part of the error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadKey {
    /// No `name:` in front.
    #[error("a key is written name:base64")]
    NoName,
    /// A name that is empty, too long, or has blanks or a colon.
    #[error("a key's name is 1 to 64 printable characters without blanks, quotes and colons")]
    BadName,
    /// What follows the name is not base64 of the right length.
    #[error("the key after the name is not base64 of {expected} bytes")]
    BadLength {
        /// How many bytes the kind of key has.
        expected: usize,
    },
    /// The public half of a secret key is not its own.
    #[error("the two halves of the secret key do not belong together")]
    Mismatch,
    /// Not a point of the curve.
    #[error("the key is not an Ed25519 public key")]
    NotAPoint,
    /// A point of small order, for which anybody can make signatures.
    #[error("the key is weak: anybody can sign for it; make a new one")]
    Weak,
}

/// A public key with its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    name: KeyName,
    id: KeyId,
    key: VerifyingKey,
}

impl PublicKey {
    /// Makes a key from its 32 public bytes.
    ///
    /// # Errors
    /// When they are no point of the curve, or one for which anybody can sign.
    pub fn from_bytes(name: KeyName, bytes: &[u8; 32]) -> Result<Self, BadKey> {
        usable(bytes).map(|key| Self::named(name, key))
    }

    /// Gives the 32 public bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.key.as_bytes()
    }

    /// Gives the key's name.
    pub fn name(&self) -> &KeyName {
        &self.name
    }

    /// Gives the key's id.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// Tells whether this key made the signature, by the strict rules: no weak key, no small-order
    /// component, one encoding (dalek's `verify_strict`).
    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        self.key.verify_strict(message, &Signature::from_bytes(signature)).is_ok()
    }

    fn new(name: KeyName, key: VerifyingKey) -> Result<Self, BadKey> {
        strong(key).map(|key| Self::named(name, key))
    }

    fn named(name: KeyName, key: VerifyingKey) -> Self {
        Self { name, id: id_of(&key), key }
    }
}

fn usable(bytes: &[u8; 32]) -> Result<VerifyingKey, BadKey> {
    VerifyingKey::from_bytes(bytes).map_err(|_| BadKey::NotAPoint).and_then(strong)
}

fn strong(key: VerifyingKey) -> Result<VerifyingKey, BadKey> {
    if key.is_weak() { Err(BadKey::Weak) } else { Ok(key) }
}

fn id_of(key: &VerifyingKey) -> KeyId {
    KeyId(Sha256::digest(key.as_bytes()).into())
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name, STANDARD.encode(self.key.as_bytes()))
    }
}

impl std::str::FromStr for PublicKey {
    type Err = BadKey;

    fn from_str(text: &str) -> Result<Self, BadKey> {
        let (name, bytes) = split::<32>(text)?;
        Self::from_bytes(name, &bytes)
    }
}

serde_as_text!(PublicKey);

impl KeyId {
    /// Gives what two people compare: the first 128 bits, in groups of four digits.
    pub fn fingerprint(&self) -> String {
        let groups = self.0[..16].chunks(2).map(|pair| format!("{:02x}{:02x}", pair[0], pair[1]));
        groups.collect::<Vec<_>>().join("-")
    }
}

/// A public key as messages carry it, without the name that people call it by.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct BareKey(VerifyingKey);

impl BareKey {
    /// Gives the key a name.
    pub fn named(&self, name: KeyName) -> PublicKey {
        PublicKey::named(name, self.0)
    }

    /// Gives the key's id.
    pub fn id(&self) -> KeyId {
        id_of(&self.0)
    }
}

impl From<&PublicKey> for BareKey {
    fn from(key: &PublicKey) -> Self {
        Self(key.key)
    }
}

impl fmt::Debug for BareKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BareKey({self})")
    }
}

/// Written as base64 of its 32 bytes.
impl fmt::Display for BareKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0.as_bytes()))
    }
}

impl std::str::FromStr for BareKey {
    type Err = BadKey;

    fn from_str(text: &str) -> Result<Self, BadKey> {
        usable(&decode(text)?).map(Self)
    }
}

serde_as_text!(BareKey);

impl Wire for BareKey {
    fn to_value(&self) -> Value {
        Value::Bytes(self.0.as_bytes().to_vec())
    }

    fn from_value(value: Value) -> Result<Self, Malformed> {
        let bytes = codec::bytes(value)?;
        let bytes = <&[u8; 32]>::try_from(bytes.as_slice())
            .map_err(|_| Malformed::invalid(&"expected the 32 bytes of a public key"))?;
        usable(bytes).map(Self).map_err(|bad| Malformed::invalid(&bad))
    }
}

/// A secret key with its name. It is wiped when dropped, and shows only its name.
pub struct SecretKey {
    public: PublicKey,
    key: SigningKey,
}

impl SecretKey {
    /// Makes a key from 32 bytes that only its owner knows.
    ///
    /// # Errors
    /// Never for random bytes; a weak key is refused as everywhere.
    pub fn from_seed(name: KeyName, seed: &[u8; 32]) -> Result<Self, BadKey> {
        let key = SigningKey::from_bytes(seed);
        Ok(Self { public: PublicKey::new(name, key.verifying_key())?, key })
    }

    /// Gives the public half.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Gives the text to keep in a file that only its owner can read.
    pub fn to_secret_text(&self) -> Zeroizing<String> {
        let pair = Zeroizing::new(self.key.to_keypair_bytes());
        let encoded = Zeroizing::new(STANDARD.encode(pair.as_slice()));
        Zeroizing::new(format!("{}:{}", self.public.name, encoded.as_str()))
    }

    pub(crate) fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.key.sign(message).to_bytes()
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey({})", self.public.name)
    }
}

impl std::str::FromStr for SecretKey {
    type Err = BadKey;

    fn from_str(text: &str) -> Result<Self, BadKey> {
        let (name, bytes) = split::<64>(text)?;
        let bytes = Zeroizing::new(bytes);
        let key = SigningKey::from_keypair_bytes(&bytes).map_err(|_| BadKey::Mismatch)?;
        Ok(Self { public: PublicKey::new(name, key.verifying_key())?, key })
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl std::str::FromStr for KeyName {
    type Err = BadKey;

    fn from_str(text: &str) -> Result<Self, BadKey> {
        let plain = |c: u8| c.is_ascii_graphic() && !b":\"'\\".contains(&c);
        if (1..=64).contains(&text.len()) && text.bytes().all(plain) {
            Ok(Self(text.into()))
        } else {
            Err(BadKey::BadName)
        }
    }
}

/// Every host name is a key name: of fewer characters, and shorter.
impl From<&HostId> for KeyName {
    fn from(host: &HostId) -> Self {
        Self(host.as_str().into())
    }
}

fn split<const N: usize>(text: &str) -> Result<(KeyName, [u8; N]), BadKey> {
    let (name, encoded) = text.trim_end().split_once(':').ok_or(BadKey::NoName)?;
    Ok((name.parse()?, decode(encoded)?))
}

fn decode<const N: usize>(encoded: &str) -> Result<[u8; N], BadKey> {
    let length = BadKey::BadLength { expected: N };
    let bytes = Zeroizing::new(STANDARD.decode(encoded).map_err(|_| length)?);
    bytes.as_slice().try_into().map_err(|_| length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret() -> SecretKey {
        SecretKey::from_seed("alice".parse().unwrap(), &[7; 32]).unwrap()
    }

    #[test]
    fn every_host_s_name_is_one_of_a_key() {
        for host in ["a", "edge-01", &"x".repeat(63)] {
            let name = KeyName::from(&host.parse().unwrap());
            assert_eq!(host.parse::<KeyName>().unwrap(), name);
        }
    }

    #[test]
    fn keys_survive_their_text_form() {
        let text = secret().to_secret_text();
        let read: SecretKey = text.parse().unwrap();
        assert_eq!(read.public(), secret().public());
        let public: PublicKey = read.public().to_string().parse().unwrap();
        assert_eq!(public.id(), secret().public().id());
    }

    #[test]
    fn weak_keys_are_refused() {
        let mut identity = [0; 32];
        identity[0] = 1;
        for weak in [identity, [0; 32]] {
            let text = format!("x:{}", STANDARD.encode(weak));
            assert_eq!(text.parse::<PublicKey>(), Err(BadKey::Weak));
        }
    }

    #[test]
    fn broken_keys_are_refused_and_their_text_is_not_repeated() {
        let secret = secret().to_secret_text();
        let mut halves = STANDARD.decode(secret.split_once(':').unwrap().1).unwrap();
        halves[40] ^= 1;
        let cases = [
            "bm90aGluZw==".to_owned(),
            "alice:bm90aGluZw==".into(),
            "alice:%%%".into(),
            secret.replace("alice", "al ice"),
            secret.replace("alice", ""),
            format!("alice:{}", STANDARD.encode(&halves)),
        ];
        for text in cases {
            let error = text.parse::<SecretKey>().unwrap_err().to_string();
            assert!(!error.contains("bm90") && !error.contains(&secret[8..20]), "{error}");
        }
    }

    #[test]
    fn a_secret_key_does_not_show_itself() {
        assert_eq!(format!("{:?}", secret()), "SecretKey(alice)");
    }
}
