//! Keys to sign with, wherever they are kept.

mod agent;
pub(crate) mod file;
mod source;
mod text;

pub(crate) use source::KeySource;

pub(crate) use herald_fleet::openssh::is_private;

use anyhow::{Context as _, bail};
use herald_fleet::generations::Generations;
use herald_proto::{
    key::{PublicKey, SecretKey},
    signing::{FleetMessage, Gathering},
};

use agent::AgentKey;
use text::AnyKey;

/// Whoever signs: a key that is at hand, or one that an agent keeps.
#[derive(Debug)]
pub(crate) enum Signer {
    /// In one place until it is wiped: moving it would leave copies behind.
    Held(Box<SecretKey>),
    Agent(Box<AgentKey>),
}

impl Signer {
    /// Finds the key. An agent's keys are also known by the names that the trust has for them.
    async fn find(source: &KeySource, known: Option<&Generations>) -> anyhow::Result<Self> {
        match source {
            KeySource::Agent(name) => Ok(Self::Agent(Box::new(AgentKey::find(name, known).await?))),
            other => Ok(Self::Held(secret(other)?)),
        }
    }

    /// Gives the public half.
    pub(crate) fn public(&self) -> &PublicKey {
        match self {
            Self::Held(key) => key.public(),
            Self::Agent(key) => key.public(),
        }
    }

    /// Adds its signature to a message.
    pub(crate) async fn sign<T: FleetMessage>(
        &self,
        message: &mut Gathering<T>,
    ) -> anyhow::Result<()> {
        match self {
            Self::Held(key) => message.sign(key)?,
            Self::Agent(key) => {
                let signature = key.sign(&message.to_be_signed(key.public())).await?;
                message.add(key.public(), signature)?;
            }
        }
        Ok(())
    }
}

/// Finds the keys of these sources; of none, the only key in the folder of keys.
pub(crate) async fn signers(
    sources: &[KeySource],
    known: Option<&Generations>,
) -> anyhow::Result<Vec<Signer>> {
    if sources.is_empty() {
        return Ok(vec![Signer::Held(secret(&KeySource::File(file::only_key()?))?)]);
    }
    let mut signers = Vec::new();
    for source in sources {
        signers.push(Signer::find(source, known).await?);
    }
    Ok(signers)
}

/// Reads the secret keys of these sources; of none, the only key in the folder of keys.
#[expect(clippy::vec_box, reason = "to move a key is to leave a copy of it behind")]
pub(crate) fn secrets(sources: &[KeySource]) -> anyhow::Result<Vec<Box<SecretKey>>> {
    if sources.is_empty() {
        return Ok(vec![secret(&KeySource::File(file::only_key()?))?]);
    }
    sources.iter().map(secret).collect()
}

/// Reads a secret key.
pub(crate) fn secret(source: &KeySource) -> anyhow::Result<Box<SecretKey>> {
    match read(source)? {
        AnyKey::Secret(key) => Ok(key),
        AnyKey::Public(key) => bail!(
            "{source} holds the public half of the key {}: name its secret half, or \
             agent:{} if an ssh-agent keeps it",
            key.name(),
            key.name()
        ),
    }
}

/// Gives the public half of a key, of which either half may be there.
pub(crate) async fn public(source: &KeySource) -> anyhow::Result<PublicKey> {
    if let KeySource::Agent(name) = source {
        return Ok(AgentKey::find(name, None).await?.public().clone());
    }
    Ok(match read(source)? {
        AnyKey::Secret(key) => key.public().clone(),
        AnyKey::Public(key) => *key,
    })
}

/// Reads a key of either half. A secret one that others can read is refused.
fn read(source: &KeySource) -> anyhow::Result<AnyKey> {
    let (text, exposed) = source.text()?;
    let key = AnyKey::parse(&text).with_context(|| format!("{source} holds no usable key"))?;
    match (&key, exposed) {
        (AnyKey::Secret(_), Some(exposed)) => bail!("{exposed}"),
        _ => Ok(key),
    }
}
