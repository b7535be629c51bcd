//! Keys that an ssh-agent keeps: it is asked for a signature, and the secret stays with it.

use std::{env, path::PathBuf, time::Duration};

use anyhow::{Context as _, bail};
use herald_fleet::{
    generations::Generations,
    openssh::{self, agent, agent::Identity},
};
use herald_proto::key::PublicKey;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    time::timeout,
};

/// How long an agent may take to list its keys.
const LISTED_WITHIN: Duration = Duration::from_secs(10);
/// How long it may take to sign: it may ask a person, who may have to look for a token.
const SIGNED_WITHIN: Duration = Duration::from_secs(120);

/// A key of an agent.
#[derive(Debug)]
pub(crate) struct AgentKey {
    socket: PathBuf,
    key: PublicKey,
}

impl AgentKey {
    /// Finds a key by its comment, its fingerprint, or the name that the trust has for it; with no
    /// name, the only one.
    pub(super) async fn find(name: &str, known: Option<&Generations>) -> anyhow::Result<Self> {
        let socket = env::var_os("SSH_AUTH_SOCK").filter(|socket| !socket.is_empty());
        let socket = PathBuf::from(socket.context(
            "there is no ssh-agent: SSH_AUTH_SOCK is not set; start one with `eval $(ssh-agent)`",
        )?);
        let answer = ask(&socket, &agent::ask_identities(), LISTED_WITHIN).await?;
        let identities = agent::identities(&answer)
            .with_context(|| format!("cannot use the ssh-agent at {}", socket.display()))?;
        let named = |identity: &&Identity| {
            let trusted =
                known.and_then(|all| all.keys().find(|key| key.id() == identity.key.id()));
            name.is_empty()
                || identity.comment == name
                || openssh::fingerprint(&identity.key) == name
                || trusted.is_some_and(|key| key.name().to_string() == name)
        };
        let found: Vec<_> = identities.iter().filter(named).collect();
        match found.as_slice() {
            [one] => Ok(Self { socket, key: one.key.clone() }),
            [] if identities.is_empty() => {
                bail!("ssh-agent has no Ed25519 key: add one with `ssh-add FILE`")
            }
            [] => bail!("ssh-agent has no Ed25519 key {name}; it has: {}", list(&identities)),
            many => {
                let many = list(many.iter().copied());
                bail!("ssh-agent has several such keys, name one by its fingerprint: {many}")
            }
        }
    }

    /// Gives the public half.
    pub(super) fn public(&self) -> &PublicKey {
        &self.key
    }

    /// Has the agent sign. Whether the signature holds is not looked at.
    pub(super) async fn sign(&self, data: &[u8]) -> anyhow::Result<[u8; 64]> {
        let request = agent::ask_signature(&self.key, data);
        let answer = ask(&self.socket, &request, SIGNED_WITHIN).await?;
        let why = || {
            format!(
                "ssh-agent did not sign with the key {}: see that it is not locked, and that the \
                 use of the key was confirmed",
                self.key.name()
            )
        };
        agent::signature(&answer).with_context(why)
    }
}

/// Sends a request and gives the answer without its length.
async fn ask(socket: &PathBuf, request: &[u8], within: Duration) -> anyhow::Result<Vec<u8>> {
    let talk = async {
        let mut stream = UnixStream::connect(socket).await?;
        stream.write_all(request).await?;
        let length = usize::try_from(stream.read_u32().await?).unwrap_or(usize::MAX);
        if length > agent::MAX_ANSWER {
            return Err(std::io::Error::other("its answer is too long"));
        }
        let mut answer = vec![0; length];
        stream.read_exact(&mut answer).await?;
        Ok(answer)
    };
    let shown = socket.display();
    match timeout(within, talk).await {
        Ok(answer) => answer.with_context(|| format!("cannot use the ssh-agent at {shown}")),
        Err(_) => bail!("the ssh-agent at {shown} did not answer within {} s", within.as_secs()),
    }
}

fn list<'a>(identities: impl IntoIterator<Item = &'a Identity>) -> String {
    let shown = identities.into_iter().map(|identity| {
        let comment: String = identity.comment.chars().filter(|c| !c.is_control()).collect();
        format!("{comment} ({})", openssh::fingerprint(&identity.key))
    });
    shown.collect::<Vec<_>>().join(", ")
}
