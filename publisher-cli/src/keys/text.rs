//! The forms in which keys are written.

use herald_fleet::openssh::{self, BadSshKey};
use herald_proto::key::{BadKey, PublicKey, SecretKey};

/// A key of either half.
#[derive(Debug)]
pub(crate) enum AnyKey {
    Secret(Box<SecretKey>),
    Public(Box<PublicKey>),
}

/// A text that is no key. It is not repeated.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadText {
    /// In Nix's form.
    #[error(transparent)]
    Nix(#[from] BadKey),
    /// In OpenSSH's form.
    #[error(transparent)]
    OpenSsh(#[from] BadSshKey),
}

impl AnyKey {
    /// Reads a key in Nix's form or in OpenSSH's.
    pub(crate) fn parse(text: &str) -> Result<Self, BadText> {
        if openssh::is_private(text) {
            return Ok(Self::Secret(Box::new(openssh::read_private(text)?)));
        }
        if openssh::is_public(text) {
            return Ok(Self::Public(Box::new(openssh::read_public(text)?)));
        }
        // What is wrong with it is told of the secret form, unless it is a public one.
        match text.parse::<SecretKey>() {
            Ok(key) => Ok(Self::Secret(Box::new(key))),
            Err(wrong) => match text.parse::<PublicKey>() {
                Err(BadKey::BadLength { .. }) => Err(wrong.into()),
                other => Ok(Self::Public(Box::new(other?))),
            },
        }
    }
}
