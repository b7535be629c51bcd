//! What a host receives: the release, its own target, and the proof that the two belong together.

use crate::{
    codec::Bytes,
    host::{HostId, ProfileName, System},
    id::{MerkleHash, MessageDigest, TargetHash},
    release::Release,
    target::Target,
};

/// An order as it travels. Nothing in it is verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedOrder {
    /// The signed release: a `COSE_Sign`.
    pub release: Bytes,
    /// The target's deterministic CBOR.
    pub target: Bytes,
    /// The target's place among the release's targets.
    pub index: u64,
    /// The proof that it stands there.
    pub proof: Vec<MerkleHash>,
}

wire_map!(SealedOrder, unknown keys Refuse:
    1 => release required,
    2 => target required,
    3 => index required,
    4 => proof list,
);

/// An order in clear. It may be acted upon inside a [`crate::signing::Verified`], and only there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// The release.
    pub release: Release,
    /// The host's part.
    pub target: Target,
    /// Which target this is.
    pub hash: TargetHash,
    /// The digest of the message that it came in.
    pub message: MessageDigest,
    /// The message that it came in, for whoever has to verify it again.
    pub sealed: Bytes,
}

/// Who reads an order: what must match before it concerns this reader at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addressee {
    /// The host's name.
    pub host: HostId,
    /// The profile.
    pub profile: ProfileName,
    /// The host's system type.
    pub system: System,
}
