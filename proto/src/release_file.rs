//! A release as operators pass it around until enough of them have signed: the release with its
//! signatures so far, and all of its targets.
//!
//! What is in it was compared: the targets are those under the root that was signed, as many as it
//! says, and none of them twice. So what is shown of a [`ReleaseFile`] is what its signers sign.

use std::collections::BTreeSet;

use crate::{
    WIRE_VERSION,
    codec::{self, Bytes, Malformed, Wire as _},
    host::{HostId, ProfileName},
    id::MerkleHash,
    merkle::{MAX_TARGETS, TargetTree},
    order::SealedOrder,
    rejection::{Code, Rejection},
    release::Release,
    signing::Gathering,
    target::Target,
};

/// The most bytes of a release file: some 100,000 targets.
pub const MAX_RELEASE_FILE: usize = 32 * 1024 * 1024;

/// What every release file says of itself.
const FORMAT: &str = "herald-release";

/// A release with all of its targets, signed by nobody, by some or by enough.
pub struct ReleaseFile {
    gathering: Gathering,
    targets: Vec<Target>,
    tree: TargetTree,
}

/// Bytes that are no release file, or one whose parts do not belong together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadReleaseFile {
    /// Too large, or not deterministic CBOR, or a target that is none.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// Something else.
    #[error("it is not a release file, as `herald sign` writes them")]
    NotOne,
    /// A file of another version.
    #[error("it is a release file of version {found}; this program knows version {known}")]
    Version {
        /// What the file says.
        found: u64,
        /// What is known here.
        known: u16,
    },
    /// The release in it.
    #[error("the release in it can't be used: {0}")]
    Release(#[from] Rejection),
    /// The targets are not those that the release names.
    #[error(
        "the {found} targets in it are not the {signed} that the release is signed for: somebody \
         has changed the file"
    )]
    OtherTargets {
        /// How many are in the file.
        found: u64,
        /// How many the release names.
        signed: u64,
    },
    /// Two targets for one profile of a host.
    #[error("{host}: the profile {profile} has two targets in it")]
    Twice {
        /// The host.
        host: HostId,
        /// The profile.
        profile: ProfileName,
    },
}

impl BadReleaseFile {
    /// Gives the code by which hosts would call the same fault.
    pub fn code(&self) -> Code {
        match self {
            Self::Malformed(Malformed::TooLarge { .. }) => Code::TooLarge,
            Self::Malformed(_) | Self::NotOne | Self::Twice { .. } => Code::Malformed,
            Self::Version { .. } => Code::WrongVersion,
            Self::Release(rejection) => rejection.code(),
            Self::OtherTargets { .. } => Code::NotInRelease,
        }
    }
}

/// The file in its own form.
struct Form {
    format: String,
    version: u16,
    release: Bytes,
    targets: Vec<Bytes>,
}

wire_map!(Form, unknown keys Refuse:
    1 => format required,
    2 => version required,
    3 => release required,
    4 => targets list,
);

impl ReleaseFile {
    /// Puts together what nobody has signed yet: `release` makes the release for the root of the
    /// targets' tree, and how many they are.
    pub fn unsigned(
        targets: Vec<Target>,
        release: impl FnOnce(MerkleHash, u64) -> Release,
    ) -> Self {
        let tree = TargetTree::new(targets.iter().map(codec::encode));
        let gathering = Gathering::new(release(tree.root(), tree.count()));
        Self { gathering, targets, tree }
    }

    /// Tells whether bytes begin as a release file does, be it a good one or not.
    pub fn is_one(bytes: &[u8]) -> bool {
        // A map, of which the first key is 1, and a text of 14 bytes.
        bytes.get(1..3) == Some(&[0x01, 0x6e]) && bytes[3..].starts_with(FORMAT.as_bytes())
    }

    /// Reads a file, and compares its parts. The signatures are not verified by that.
    ///
    /// # Errors
    /// When it is too large, malformed, of another version, or its targets are not those that the
    /// release was signed for.
    pub fn read(bytes: &[u8]) -> Result<Self, BadReleaseFile> {
        let value = codec::decode_value_within(bytes, &[], MAX_RELEASE_FILE)?;
        let found = codec::file_version(&value, FORMAT).ok_or(BadReleaseFile::NotOne)?;
        if found != u64::from(WIRE_VERSION) {
            return Err(BadReleaseFile::Version { found, known: WIRE_VERSION });
        }
        let form = Form::from_value(value)?;
        if form.targets.is_empty() {
            return Err(Malformed::invalid(&"there are no targets in it").into());
        }
        let gathering = Gathering::open(&form.release.0)?;
        let Release { targets_root, targets_count: signed, .. } = *gathering.message();
        let found = form.targets.len() as u64;
        if found != signed || found > MAX_TARGETS {
            return Err(BadReleaseFile::OtherTargets { found, signed });
        }
        let targets = form.targets.iter().map(|target| codec::decode(&target.0));
        let targets = targets.collect::<Result<Vec<Target>, _>>()?;
        let tree = TargetTree::new(form.targets.into_iter().map(|target| target.0));
        if tree.root() != targets_root {
            return Err(BadReleaseFile::OtherTargets { found, signed });
        }
        let mut seen = BTreeSet::new();
        for Target { host, profile, .. } in &targets {
            if !seen.insert((host, profile)) {
                return Err(BadReleaseFile::Twice { host: host.clone(), profile: profile.clone() });
            }
        }
        Ok(Self { gathering, targets, tree })
    }

    /// Gives the bytes that [`Self::read`] reads, if anybody has signed.
    pub fn to_bytes(&self) -> Vec<u8> {
        let targets = self.tree.targets().map(|target| Bytes(target.to_vec()));
        codec::encode(&Form {
            format: FORMAT.to_owned(),
            version: WIRE_VERSION,
            release: self.gathering.seal(),
            targets: targets.collect(),
        })
    }

    /// Gives the release.
    pub fn release(&self) -> &Release {
        self.gathering.message()
    }

    /// Gives the targets in their order.
    pub fn targets(&self) -> &[Target] {
        &self.targets
    }

    /// Gives the release with its signatures.
    pub fn gathering(&self) -> &Gathering {
        &self.gathering
    }

    /// Gives the release, to add signatures.
    pub fn gathering_mut(&mut self) -> &mut Gathering {
        &mut self.gathering
    }

    /// Gives each target with its host's order, as it is with the signatures so far.
    pub fn orders(&self) -> impl Iterator<Item = (&Target, SealedOrder)> {
        let release = self.gathering.seal();
        let proofs = self.tree.proofs().zip(0..);
        self.targets.iter().zip(proofs).map(move |(target, ((bytes, proof), index))| {
            let (release, bytes) = (release.clone(), Bytes(bytes.to_vec()));
            (target, SealedOrder { release, target: bytes, index, proof })
        })
    }
}

#[cfg(test)]
mod tests;
