//! A message that gathers signatures, one signer after another, wherever their keys are.

use super::{FleetMessage, associated_data, check_version};
use crate::{
    codec::{self, Bytes},
    envelope::{self, MAX_SIGNATURES, Parts},
    key::{KeyId, KeyName, PublicKey, SecretKey},
    rejection::Rejection,
    release::Release,
};

/// A message, a release where nothing else is said, with the signatures that it has so far. None of
/// them is verified, and nobody may act upon it: that takes [`super::verify_release`] and its like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gathering<T = Release> {
    message: T,
    associated_data: Vec<u8>,
    parts: Parts,
}

/// A signature that is not added.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadSignature {
    /// The key signed already.
    #[error("the key {name} has signed this already: each key signs once")]
    Again {
        /// The key.
        name: KeyName,
    },
    /// There is no room for one more.
    #[error("it has {MAX_SIGNATURES} signatures, and can have no more")]
    Full,
    /// It is no signature of the message by the key.
    #[error("what is given as the signature by {name} is none")]
    Wrong {
        /// The key.
        name: KeyName,
    },
}

impl<T: FleetMessage> Gathering<T> {
    /// Begins with a message that nobody has signed.
    pub fn new(message: T) -> Self {
        let associated_data = associated_data(T::KIND, message.fleet());
        let parts = Parts { payload: codec::encode(&message), signatures: vec![] };
        Self { message, associated_data, parts }
    }

    /// Goes on with a message that somebody has signed.
    ///
    /// # Errors
    /// When it is malformed or of another version. The signatures are not looked at.
    pub fn open(bytes: &[u8]) -> Result<Self, Rejection> {
        let parts = envelope::take_apart(bytes)?;
        check_version(&parts.payload)?;
        let message: T = codec::decode(&parts.payload)?;
        let associated_data = associated_data(T::KIND, message.fleet());
        Ok(Self { message, associated_data, parts })
    }

    /// Gives the message.
    pub fn message(&self) -> &T {
        &self.message
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

    /// Takes over the signatures of another copy of the same message that these keys made and that
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

    /// Gives the signed message, as [`super::verify_release`] and its like read it. Without a signature nobody
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
