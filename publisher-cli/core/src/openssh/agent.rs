//! What an ssh-agent is asked, and what it answers (draft-ietf-sshm-ssh-agent): the keys that it
//! has, and a signature. Of an Ed25519 key that is the plain signature of the data (RFC 8709 §6),
//! so it is one in COSE too.

use herald_proto::key::PublicKey;

use super::{BadSshKey, ED25519, Reader, from_blob, name, to_blob, write_string};

/// The longest answer that is read, as OpenSSH's agent has it.
pub const MAX_ANSWER: usize = 256 * 1024;

const FAILURE: u8 = 5;
const REQUEST_IDENTITIES: u8 = 11;
const IDENTITIES_ANSWER: u8 = 12;
const SIGN_REQUEST: u8 = 13;
const SIGN_RESPONSE: u8 = 14;

/// An answer that can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadAnswer {
    /// The agent says no.
    #[error("the agent refuses")]
    Refused,
    /// Something else than what was asked for.
    #[error("the agent answers with a message of the type {0}")]
    Other(u8),
    /// It is damaged.
    #[error("the agent's answer can't be read: {0}")]
    Damaged(#[from] BadSshKey),
}

/// A key that an agent has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The key, named by its comment.
    pub key: PublicKey,
    /// The comment as it is.
    pub comment: String,
}

/// Asks for the keys. With its length in front, as all messages.
pub fn ask_identities() -> Vec<u8> {
    framed(vec![REQUEST_IDENTITIES])
}

/// Asks for a key's signature of the data.
pub fn ask_signature(key: &PublicKey, data: &[u8]) -> Vec<u8> {
    let mut message = vec![SIGN_REQUEST];
    write_string(&mut message, &to_blob(key));
    write_string(&mut message, data);
    message.extend(0_u32.to_be_bytes());
    framed(message)
}

/// Reads the keys in an answer without its length. Those that are not Ed25519 are left out.
///
/// # Errors
/// When the agent refuses, or it is something else.
pub fn identities(answer: &[u8]) -> Result<Vec<Identity>, BadAnswer> {
    let mut reader = expect(answer, IDENTITIES_ANSWER)?;
    let count = reader.number()?;
    let mut identities = Vec::new();
    for _ in 0..count {
        let (blob, comment) = (reader.string()?, reader.string()?);
        let comment = String::from_utf8_lossy(comment).into_owned();
        if let Ok(key) = from_blob(blob, name(&comment)) {
            identities.push(Identity { key, comment });
        }
    }
    reader.end()?;
    Ok(identities)
}

/// Reads the signature in an answer without its length. Whether it holds is not looked at.
///
/// # Errors
/// When the agent refuses, or it is something else.
pub fn signature(answer: &[u8]) -> Result<[u8; 64], BadAnswer> {
    let mut reader = expect(answer, SIGN_RESPONSE)?;
    let mut inner = Reader(reader.string()?);
    reader.end()?;
    let kind = inner.string()?;
    if kind != ED25519.as_bytes() {
        return Err(BadSshKey::OtherType(super::short(&String::from_utf8_lossy(kind))).into());
    }
    let signature = *inner.array::<64>()?;
    inner.end()?;
    Ok(signature)
}

fn expect(answer: &[u8], expected: u8) -> Result<Reader<'_>, BadAnswer> {
    let mut reader = Reader(answer);
    match reader.byte()? {
        found if found == expected => Ok(reader),
        FAILURE => Err(BadAnswer::Refused),
        other => Err(BadAnswer::Other(other)),
    }
}

fn framed(message: Vec<u8>) -> Vec<u8> {
    let mut framed = Vec::with_capacity(message.len() + 4);
    write_string(&mut framed, &message);
    framed
}
