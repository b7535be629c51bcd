//! A release that gathers signatures, one signer after another, wherever their keys are.

use super::{RoleMessage as _, associated_data, check_version};
use crate::{
    codec::{self, Bytes},
    envelope::{self, MAX_SIGNATURES, Parts},
    key::{KeyId, KeyName, PublicKey, SecretKey},
    rejection::Rejection,
    release::Release,
};

/// A release with the signatures that it has so far. None of them is verified, and nobody may act
/// upon it: that takes [`super::verify_release`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gathering {
    release: Release,
    associated_data: Vec<u8>,
    parts: Parts,
}

/// A signature that is not added.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadSignature {
    /// The key signed already.
    #[error("the key {name} has signed this release already: each key signs once")]
    Again {
        /// The key.
        name: KeyName,
    },
    /// There is no room for one more.
    #[error("the release has {MAX_SIGNATURES} signatures, and can have no more")]
    Full,
    /// It is no signature of the release by the key.
    #[error("what is given as the signature by {name} is none")]
    Wrong {
        /// The key.
        name: KeyName,
    },
}

impl Gathering {
    /// Begins with a release that nobody has signed.
    pub fn new(release: Release) -> Self {
        let associated_data = associated_data(Release::KIND, &release.fleet);
        let parts = Parts { payload: codec::encode(&release), signatures: vec![] };
        Self { release, associated_data, parts }
    }

    /// Goes on with a release that somebody has signed.
    ///
    /// # Errors
    /// When it is malformed or of another version. The signatures are not looked at.
    pub fn open(bytes: &[u8]) -> Result<Self, Rejection> {
        let parts = envelope::take_apart(bytes)?;
        check_version(&parts.payload)?;
        let release: Release = codec::decode(&parts.payload)?;
        let associated_data = associated_data(Release::KIND, &release.fleet);
        Ok(Self { release, associated_data, parts })
    }

    /// Gives the release.
    pub fn release(&self) -> &Release {
        &self.release
    }

    /// Gives the keys under whose ids there are signatures.
    pub fn key_ids(&self) -> impl ExactSizeIterator<Item = KeyId> {
        self.parts.signatures.iter().map(|(key, _)| *key)
    }

    /// Gives what a key has to sign, for keys that are held elsewhere: the `Sig_structure` of
    /// RFC 9052 §4.4, which no other message, version or fleet has.
    pub fn to_be_signed(&self, key: &PublicKey) -> Vec<u8> {
        envelope::sign_input(key.id(), &self.associated_data, &self.parts.payload)
    }

    /// Adds a signature that was made elsewhere, if it holds.
    ///
    /// # Errors
    /// When the key has signed already, there are too many, or it is wrong.
    pub fn add(&mut self, key: &PublicKey, signature: [u8; 64]) -> Result<(), BadSignature> {
        self.check_room(key)?;
        if !key.verifies(&self.to_be_signed(key), &signature) {
            return Err(BadSignature::Wrong { name: key.name().clone() });
        }
        self.parts.signatures.push((key.id(), signature));
        Ok(())
    }

    /// Signs with a key that is at hand.
    ///
    /// # Errors
    /// When the key has signed already, or there are too many.
    pub fn sign(&mut self, key: &SecretKey) -> Result<(), BadSignature> {
        self.check_room(key.public())?;
        let signature = key.sign(&self.to_be_signed(key.public()));
        self.parts.signatures.push((key.public().id(), signature));
        Ok(())
    }

    /// Takes over the signatures of another copy of the same release that these keys made and that
    /// are not here yet. Others are left behind.
    ///
    /// # Errors
    /// When one of them is wrong, or there are too many.
    pub fn merge<'a>(
        &mut self,
        other: &Self,
        keys: impl Iterator<Item = &'a PublicKey>,
    ) -> Result<(), BadSignature> {
        for key in keys {
            let theirs = other.parts.signatures.iter().find(|(id, _)| *id == key.id());
            if let Some((id, signature)) = theirs
                && !self.key_ids().any(|ours| ours == *id)
            {
                self.add(key, *signature)?;
            }
        }
        Ok(())
    }

    /// Gives the signed release, as [`super::verify_release`] reads it. Without a signature nobody
    /// takes it.
    pub fn seal(&self) -> Bytes {
        Bytes(self.parts.build())
    }

    fn check_room(&self, key: &PublicKey) -> Result<(), BadSignature> {
        if self.key_ids().any(|id| id == key.id()) {
            return Err(BadSignature::Again { name: key.name().clone() });
        }
        if self.parts.signatures.len() >= MAX_SIGNATURES {
            return Err(BadSignature::Full);
        }
        Ok(())
    }
}
