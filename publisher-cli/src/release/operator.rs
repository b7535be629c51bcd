//! Who signs: the fleet file, the keys, and the trust that judges what was signed.

use anyhow::Context as _;
use herald_fleet::{
    compose::{self, Composed},
    draft::Draft,
    generations::{self, Reported},
    readback::Basis,
};
use herald_proto::{
    key::{KeyId, PublicKey},
    release_file::ReleaseFile,
    trust::Trust,
};

use crate::{
    cli::Global,
    fleet_file::FleetFile,
    keys::{self, KeySource, Signer},
    output,
    release::Survey,
};

/// Whoever runs the command, with what is needed to sign and publish.
pub(crate) struct Operator {
    pub(crate) file: FleetFile,
    signers: Vec<Signer>,
    /// For reading orders back: the fleet file's trust, or that in the operator's own keys.
    pub(crate) trust: Trust,
}

impl Operator {
    /// Reads the fleet file and the keys, and checks that hosts count what the keys sign.
    pub(crate) async fn load(global: &Global, keys: &[KeySource]) -> anyhow::Result<Self> {
        let file = FleetFile::load(global)?;
        let signers = keys::signers(keys, file.generations.as_ref()).await?;
        let public = || signers.iter().map(Signer::public);
        let trust = match &file.generations {
            Some(generations) => {
                generations.check_role(public())?;
                generations.current().clone()
            }
            None => generations::implied_trust(file.fleet.id(), public())
                .context("the keys make no trust")?,
        };
        Ok(Self { file, signers, trust })
    }

    /// Reads the fleet file for somebody who only sends what others have signed.
    pub(crate) fn without_keys(global: &Global) -> anyhow::Result<Self> {
        let file = FleetFile::load(global)?;
        let trust = file.require_trust()?.current().clone();
        Ok(Self { file, signers: vec![], trust })
    }

    /// Gives where the trust is from.
    pub(crate) fn basis(&self) -> Basis {
        if self.file.generations.is_some() { Basis::TrustFile } else { Basis::OwnKeys }
    }

    /// Gives the keys.
    pub(crate) fn signers(&self) -> &[Signer] {
        &self.signers
    }

    /// Gives the public halves of the keys.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &PublicKey> {
        self.signers.iter().map(Signer::public)
    }

    /// Gives the ids of the keys.
    pub(crate) fn key_ids(&self) -> Vec<KeyId> {
        self.keys().map(PublicKey::id).collect()
    }

    /// Checks that signatures by these keys are enough for all hosts, as far as it is known which
    /// trust they have; says which hosts have one that is not known here.
    pub(crate) fn check_enough(
        &self,
        signers: &[KeyId],
        survey: Option<&Survey>,
    ) -> anyhow::Result<()> {
        let Some(generations) = &self.file.generations else {
            return Ok(());
        };
        let reported = survey.map(|survey| generations.reported(survey.reports()));
        let reported = reported.unwrap_or_default();
        note_unknown(&reported);
        Ok(generations.check_enough(signers, &reported)?)
    }

    /// Makes the release, and signs it with all keys.
    pub(crate) async fn sign(&self, draft: &Draft) -> anyhow::Result<ReleaseFile> {
        let most = self.file.generations.as_ref().map_or(0, |all| all.most_signatures());
        let most = most.min(herald_proto::envelope::MAX_SIGNATURES);
        let mut file = compose::unsigned(draft, self.keys(), most)?;
        for signer in &self.signers {
            signer.sign(file.gathering_mut()).await?;
        }
        Ok(file)
    }

    /// Makes and signs the release, and makes each host's order.
    pub(crate) async fn compose(&self, draft: &Draft) -> anyhow::Result<Composed> {
        Ok(compose::orders(&self.sign(draft).await?))
    }
}

/// Says which hosts have a trust of which nothing is known here.
pub(crate) fn note_unknown(reported: &Reported) {
    if !reported.unknown.is_empty() {
        output::note(&format!(
            "these hosts report a trust that is neither the trust file nor in older_trusts of the \
             fleet file, and may refuse the release: {}",
            generations::names(&reported.unknown)
        ));
    }
}
