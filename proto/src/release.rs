//! What operators sign: one release for many hosts.

use std::time::Duration;

use crate::{
    host::FleetId,
    id::{MerkleHash, ReleaseId, Sequence},
    plan::Plan,
    text::Prose,
    time::Timestamp,
};

/// How far ahead of a host's clock a release may be signed. One that is further ahead would make the
/// host deaf to every release until then.
pub const MAX_AHEAD: Duration = Duration::from_secs(24 * 60 * 60);

/// A release. It names its targets by the root of their tree, so one signature covers any number.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Release {
    /// The wire version.
    pub version: u16,
    /// The fleet that it is for.
    pub fleet: FleetId,
    /// Its name.
    pub id: ReleaseId,
    /// Its place in the order of releases.
    pub sequence: Sequence,
    /// When it was signed.
    pub issued_at: Timestamp,
    /// Before this no host activates it; it may stage.
    pub not_before: Timestamp,
    /// From this on no host starts with it.
    pub expires_at: Timestamp,
    /// The root of the tree of targets.
    pub targets_root: MerkleHash,
    /// How many targets there are.
    pub targets_count: u64,
    /// How it reaches the hosts.
    pub plan: Plan,
    /// The revision of the source that it was built from, such as a git commit.
    pub revision: Option<Prose>,
    /// Why it was made.
    pub reason: Option<Prose>,
}

wire_map!(Release, unknown keys Refuse:
    1 => version required,
    2 => fleet required,
    3 => id required,
    4 => sequence required,
    5 => issued_at required,
    6 => not_before required,
    7 => expires_at required,
    8 => targets_root required,
    9 => targets_count required,
    10 => plan required,
    11 => revision optional,
    12 => reason optional,
);
