//! Release files: what `herald sign` writes, `herald cosign` adds to and `herald publish` sends.

use std::path::Path;

use anyhow::{Context as _, bail};
use herald_fleet::generations::{self, Generations};
use herald_proto::{
    host::{HostId, ProfileName},
    key::KeyId,
    release::Release,
    release_file::{MAX_RELEASE_FILE, ReleaseFile},
    signing,
    time::Timestamp,
};
use serde::Serialize;

use crate::{release, signed_file};

/// Reads a file and compares its parts. Whose signatures hold is for [`signers`] to tell.
pub(crate) fn read(path: &Path) -> anyhow::Result<ReleaseFile> {
    let bytes = signed_file::read(path, MAX_RELEASE_FILE)?;
    ReleaseFile::read(&bytes).with_context(|| format!("{} can't be used", path.display()))
}

/// Gives the keys of any generation that have signed so far.
///
/// # Errors
/// When it is for another fleet, or a signature under a trusted key's id is wrong.
pub(crate) fn signers(
    file: &ReleaseFile,
    generations: &Generations,
    path: &Path,
) -> anyhow::Result<Vec<KeyId>> {
    let sealed = file.gathering().seal();
    let mut signers = Vec::new();
    for trust in generations.all() {
        let found = signing::signers_so_far(&sealed.0, trust);
        let found = found.with_context(|| format!("{} is refused", path.display()))?;
        signers.extend(found.into_iter().filter(|id| !signers.contains(id)).collect::<Vec<_>>());
    }
    Ok(signers)
}

/// Checks what hosts will check of its times.
pub(crate) fn check_time(release: &Release, now: Timestamp) -> anyhow::Result<()> {
    if release.expires_at <= now {
        bail!("the release expired at {}: sign a new one", release.expires_at);
    }
    let latest = release::latest_sequence(now);
    if release.sequence > latest || release.issued_at.as_millis() > latest.number() {
        bail!(
            "the release is signed for more than a day ahead of this machine's clock, and hosts \
             refuse that: check the clock here, and that of whoever signed it"
        );
    }
    Ok(())
}

/// Gives each profile of a host that it is for.
pub(crate) fn profiles(file: &ReleaseFile) -> impl Iterator<Item = (&HostId, &ProfileName)> {
    file.targets().iter().map(|target| (&target.host, &target.profile))
}

/// Who has signed, and how many more must.
#[derive(Debug, Serialize)]
pub(crate) struct Standing {
    /// The names of the trusted keys that signed.
    signers: Vec<String>,
    /// Signatures by keys that the trust does not have, which count for nothing.
    unknown_signatures: usize,
    threshold: usize,
    missing: usize,
}

impl Standing {
    pub(crate) fn of(file: &ReleaseFile, generations: &Generations, signers: &[KeyId]) -> Self {
        let role = generations.current().release();
        let signed = file.gathering().key_ids().filter(|id| signers.contains(id));
        let name = |id| generations.keys().find(|key| key.id() == id);
        let threshold = role.threshold();
        Self {
            signers: signed.filter_map(name).map(|key| key.name().to_string()).collect(),
            unknown_signatures: file.gathering().key_ids().len() - signers.len(),
            threshold,
            missing: threshold.saturating_sub(generations::count(role, signers)),
        }
    }

    /// Says it to people.
    pub(crate) fn line(&self) -> String {
        let mut text = match self.signers.as_slice() {
            [] => "nobody who is trusted".to_owned(),
            names => names.join(" and "),
        };
        match self.missing {
            0 => text += &format!(": enough (the trust file asks for {})", self.threshold),
            n => text += &format!("; {n} more of the {} keys must sign", self.threshold),
        }
        if self.unknown_signatures > 0 {
            let unknown = self.unknown_signatures;
            text += &format!("; {unknown} by keys that the trust file does not have");
        }
        text
    }
}
