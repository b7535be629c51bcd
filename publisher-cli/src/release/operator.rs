//! Who signs: the fleet file, the keys, and the trust that judges what was signed.

use anyhow::Context as _;
use herald_fleet::{readback::Basis, signers};
use herald_proto::{key::SecretKey, trust::Trust};

use crate::{cli::Global, fleet_file::FleetFile, key_file, release::Options};

/// Whoever runs the command, with what is needed to publish.
pub(crate) struct Operator {
    pub(crate) file: FleetFile,
    keys: Vec<SecretKey>,
    /// For reading orders back: the fleet file's trust, or that in the operator's own keys.
    pub(crate) trust: Trust,
}

impl Operator {
    /// Reads the fleet file and the keys, and checks that hosts take what the keys sign.
    pub(crate) fn load(global: &Global, options: &Options) -> anyhow::Result<Self> {
        let file = FleetFile::load(global)?;
        let keys = key_file::load_all(&options.keys)?;
        let public = || keys.iter().map(SecretKey::public);
        let trust = match &file.trust {
            Some(trust) => {
                signers::check(trust, file.fleet.id(), public())?;
                trust.clone()
            }
            None => signers::implied_trust(file.fleet.id(), public())
                .context("the keys make no trust")?,
        };
        Ok(Self { file, keys, trust })
    }

    /// Gives where the trust is from.
    pub(crate) fn basis(&self) -> Basis {
        if self.file.trust.is_some() { Basis::TrustFile } else { Basis::OwnKeys }
    }

    /// Gives the keys.
    pub(crate) fn keys(&self) -> Vec<&SecretKey> {
        self.keys.iter().collect()
    }
}
