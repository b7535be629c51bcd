//! OpenSSH's forms of Ed25519 keys: public lines, unencrypted private files, and what an agent is
//! asked and answers.
//!
//! All of it is bounded by the bytes that are given, and errors never repeat a key. Other types of
//! keys are told by name and not read.

pub mod agent;
mod private;

pub use private::{is_private, read_private};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, STANDARD_NO_PAD},
};
use herald_proto::key::{BadKey, KeyName, PublicKey};
use sha2::{Digest as _, Sha256};

/// The only type of key that Herald signs with.
pub const ED25519: &str = "ssh-ed25519";

/// A key, or a message of an agent, that can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadSshKey {
    /// It ends too early, or has more than it should.
    #[error("it is damaged: {0}")]
    Damaged(&'static str),
    /// Another type of key.
    #[error(
        "it is a key of the type {0}: Herald signs with Ed25519, make one with `ssh-keygen -t ed25519`"
    )]
    OtherType(String),
    /// A private key under a passphrase.
    #[error(
        "it is encrypted with a passphrase: add it to ssh-agent with `ssh-add`, and sign with \
         --key agent:NAME"
    )]
    Encrypted,
    /// More or fewer keys than one.
    #[error("it holds {0} keys: a file has one")]
    Count(u32),
    /// The key in it.
    #[error(transparent)]
    Key(#[from] BadKey),
}

/// Reads a public key as OpenSSH writes it: `ssh-ed25519 AAAA… comment`.
///
/// # Errors
/// When it is damaged, of another type, or weak.
pub fn read_public(line: &str) -> Result<PublicKey, BadSshKey> {
    let mut words = line.split_whitespace();
    let kind = words.next().unwrap_or_default();
    if kind != ED25519 {
        return Err(BadSshKey::OtherType(short(kind)));
    }
    let encoded = words.next().ok_or(BadSshKey::Damaged("there is no key after the type"))?;
    let blob = STANDARD.decode(encoded).map_err(|_| BadSshKey::Damaged("it is not base64"))?;
    let comment: Vec<_> = words.collect();
    from_blob(&blob, name(&comment.join(" ")))
}

/// Tells whether a text is a line of a public key, of whatever type.
pub fn is_public(text: &str) -> bool {
    let kind = text.split_whitespace().next().unwrap_or_default();
    ["ssh-", "ecdsa-", "sk-"].iter().any(|start| kind.starts_with(start))
}

/// Gives the fingerprint by which `ssh-add -l` calls a key.
pub fn fingerprint(key: &PublicKey) -> String {
    format!("SHA256:{}", STANDARD_NO_PAD.encode(Sha256::digest(to_blob(key))))
}

/// Makes a key's name from a comment.
pub fn name(comment: &str) -> KeyName {
    let plain = |c: char| if c.is_ascii_graphic() && !":\"'\\".contains(c) { c } else { '-' };
    let name: String = comment.trim().chars().map(plain).take(64).collect();
    let parsed = name.parse().or_else(|_| "ssh".parse());
    parsed.expect("ssh is a name")
}

/// Reads the binary form of a public key.
fn from_blob(blob: &[u8], name: KeyName) -> Result<PublicKey, BadSshKey> {
    let mut reader = Reader(blob);
    let kind = reader.string()?;
    if kind != ED25519.as_bytes() {
        return Err(BadSshKey::OtherType(short(&String::from_utf8_lossy(kind))));
    }
    let bytes = reader.array::<32>()?;
    reader.end()?;
    Ok(PublicKey::from_bytes(name, bytes)?)
}

/// Gives the binary form of a public key.
fn to_blob(key: &PublicKey) -> Vec<u8> {
    let mut blob = Vec::new();
    write_string(&mut blob, ED25519.as_bytes());
    write_string(&mut blob, key.as_bytes());
    blob
}

/// Appends a string with its length in front (RFC 4251 §5).
fn write_string(to: &mut Vec<u8>, bytes: &[u8]) {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    to.extend(length.to_be_bytes());
    to.extend(bytes);
}

/// Keeps what an unknown type of key says of itself to something that can be shown.
fn short(text: &str) -> String {
    text.chars().filter(char::is_ascii_graphic).take(40).collect()
}

/// Reads the fields of RFC 4251 §5, one after another.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], BadSshKey> {
        let (taken, rest) =
            self.0.split_at_checked(count).ok_or(BadSshKey::Damaged("it ends too early"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, BadSshKey> {
        Ok(self.take(1)?[0])
    }

    fn number(&mut self) -> Result<u32, BadSshKey> {
        let bytes = self.take(4)?.first_chunk().copied();
        Ok(u32::from_be_bytes(bytes.unwrap_or_default()))
    }

    fn string(&mut self) -> Result<&'a [u8], BadSshKey> {
        let length = self.number()?;
        self.take(usize::try_from(length).unwrap_or(usize::MAX))
    }

    fn array<const N: usize>(&mut self) -> Result<&'a [u8; N], BadSshKey> {
        let wrong = BadSshKey::Damaged("a part of it has the wrong length");
        self.string()?.try_into().map_err(|_| wrong)
    }

    fn end(&self) -> Result<(), BadSshKey> {
        if self.0.is_empty() { Ok(()) } else { Err(BadSshKey::Damaged("something follows it")) }
    }
}

#[cfg(test)]
mod tests;
