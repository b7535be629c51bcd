//! Identifiers and digests: fixed-size bytes that can't be mixed up.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

bytes_id!(
    /// The SHA-256 of a target's bytes: which order this is, whoever signed it.
    TargetHash, 32
);
bytes_id!(
    /// The SHA-256 of a whole message as it was received.
    MessageDigest, 32
);
bytes_id!(
    /// The SHA-256 of a closure's manifest: what the paths hold, not only how they are called.
    ClosureDigest, 32
);
bytes_id!(
    /// The SHA-256 of the trust in force: its fleet, roles, keys and thresholds.
    TrustDigest, 32
);
bytes_id!(
    /// A node of the tree of targets (RFC 9162 §2.1.1).
    MerkleHash, 32
);
bytes_id!(
    /// One life of a host's durable state, drawn at random when the state is made.
    Incarnation, 16
);
bytes_id!(
    /// One boot of a host's kernel, as in `/proc/sys/kernel/random/boot_id`.
    BootId, 16
);

macro_rules! sha256_of {
    ($($name:ident),*) => {$(
        impl $name {
            /// Computes the digest of `bytes`.
            pub fn of(bytes: &[u8]) -> Self {
                Self(Sha256::digest(bytes).into())
            }
        }
    )*};
}
sha256_of!(TargetHash, MessageDigest, ClosureDigest, TrustDigest);

/// A release's name: a UUIDv7 (RFC 9562 §5.7), so names sort by the time of making.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ReleaseId(uuid::Uuid);

impl ReleaseId {
    /// Makes one from a time and ten random bytes.
    pub fn new(made_at: crate::time::Timestamp, random: &[u8; 10]) -> Self {
        Self(uuid::Builder::from_unix_timestamp_millis(made_at.as_millis(), random).into_uuid())
    }
}

impl std::fmt::Display for ReleaseId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.0.hyphenated().encode_lower(&mut uuid::Uuid::encode_buffer()))
    }
}

impl std::str::FromStr for ReleaseId {
    type Err = crate::text::Unparsable;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed = uuid::Uuid::try_parse(text).map(Self).ok();
        parsed
            .filter(|id| id.to_string() == text)
            .ok_or_else(|| crate::text::Unparsable::new("release id", text, "a UUID in lower case"))
    }
}

serde_as_text!(ReleaseId);

impl crate::codec::Wire for ReleaseId {
    fn to_value(&self) -> crate::codec::Value {
        crate::codec::Value::Bytes(self.0.as_bytes().to_vec())
    }

    fn from_value(value: crate::codec::Value) -> Result<Self, crate::codec::Malformed> {
        let bytes = crate::codec::bytes(value)?;
        uuid::Uuid::from_slice(&bytes)
            .map(Self)
            .map_err(|_| crate::codec::Malformed::invalid(&"expected 16 bytes"))
    }
}

/// The order of releases to one profile: milliseconds since the epoch, or one more than the
/// highest that was seen. A host takes only higher ones.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    serde::Serialize,
    serde::Deserialize,
)]
#[serde(transparent)]
pub struct Sequence(u64);

impl Sequence {
    /// Makes it from its number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Gives its number.
    pub const fn number(self) -> u64 {
        self.0
    }

    /// Gives the sequence for a release that is signed at `now` after `highest` was seen.
    pub fn next(now: crate::time::Timestamp, highest: Option<Self>) -> Self {
        let after = highest.map_or(0, |Self(number)| number.saturating_add(1));
        Self(now.as_millis().max(after))
    }
}

impl std::fmt::Display for Sequence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl crate::codec::Wire for Sequence {
    fn to_value(&self) -> crate::codec::Value {
        self.0.to_value()
    }

    fn from_value(value: crate::codec::Value) -> Result<Self, crate::codec::Malformed> {
        u64::from_value(value).map(Self)
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a String can't fail");
        text
    })
}

pub(crate) fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N || !digits.iter().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f')) {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Timestamp;

    #[test]
    fn sequence_follows_the_clock_and_never_falls_behind_what_was_seen() {
        let now = Timestamp::from_millis(1000);
        assert_eq!(Sequence::next(now, None).number(), 1000);
        assert_eq!(Sequence::next(now, Some(Sequence::new(400))).number(), 1000);
        assert_eq!(Sequence::next(now, Some(Sequence::new(1000))).number(), 1001);
    }

    #[test]
    fn identifiers_have_one_text_form() {
        let boot: BootId = "00112233445566778899aabbccddeeff".parse().unwrap();
        assert_eq!(boot.to_string(), "00112233445566778899aabbccddeeff");
        assert!("00112233445566778899AABBCCDDEEFF".parse::<BootId>().is_err());
        assert!("é0112233445566778899aabbccddeef".parse::<BootId>().is_err());
        let id = ReleaseId::new(Timestamp::from_millis(1_700_000_000_000), &[7; 10]);
        assert_eq!(id.to_string().parse::<ReleaseId>().unwrap(), id);
        assert!(id.to_string().to_uppercase().parse::<ReleaseId>().is_err());
    }
}
