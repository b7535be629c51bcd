//! OpenSSH's private keys (its PROTOCOL.key), those without a passphrase.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use herald_proto::key::SecretKey;
use zeroize::Zeroizing;

use super::{BadSshKey, ED25519, Reader, name, short};

const BEGIN: &str = "-----BEGIN OPENSSH PRIVATE KEY-----";
const END: &str = "-----END OPENSSH PRIVATE KEY-----";
const MAGIC: &[u8] = b"openssh-key-v1\0";

/// Tells whether a text is a private key in PEM's form, of whatever type.
pub fn is_private(text: &str) -> bool {
    text.trim_start().starts_with("-----BEGIN ")
}

/// Reads a private key that has no passphrase. Its name is from its comment.
///
/// # Errors
/// When it is encrypted, damaged, of another type, or another program's.
pub fn read_private(text: &str) -> Result<SecretKey, BadSshKey> {
    let body = text.trim().strip_prefix(BEGIN).and_then(|rest| rest.strip_suffix(END));
    let body = body.ok_or(BadSshKey::Damaged("it does not begin and end as OpenSSH's keys do"))?;
    let mut encoded = Zeroizing::new(String::with_capacity(body.len()));
    encoded.extend(body.chars().filter(|c| !c.is_ascii_whitespace()));
    let blob = STANDARD.decode(encoded.as_bytes());
    let blob = Zeroizing::new(blob.map_err(|_| BadSshKey::Damaged("it is not base64"))?);
    let rest = blob.strip_prefix(MAGIC).ok_or(BadSshKey::Damaged("it is no OpenSSH key"))?;
    let mut reader = Reader(rest);
    let (cipher, kdf, _options) = (reader.string()?, reader.string()?, reader.string()?);
    if cipher != b"none" || kdf != b"none" {
        return Err(BadSshKey::Encrypted);
    }
    match reader.number()? {
        1 => {}
        count => return Err(BadSshKey::Count(count)),
    }
    let _public = reader.string()?;
    let inner = reader.string()?;
    reader.end()?;
    read_inner(inner)
}

fn read_inner(inner: &[u8]) -> Result<SecretKey, BadSshKey> {
    let mut reader = Reader(inner);
    if reader.number()? != reader.number()? {
        return Err(BadSshKey::Damaged("its check bytes differ"));
    }
    let kind = reader.string()?;
    if kind != ED25519.as_bytes() {
        return Err(BadSshKey::OtherType(short(&String::from_utf8_lossy(kind))));
    }
    let public = reader.array::<32>()?;
    let pair = reader.array::<64>()?;
    let comment = String::from_utf8_lossy(reader.string()?).into_owned();
    let padding = reader.0;
    if padding.len() >= 8 || padding.iter().zip(1..).any(|(found, expected)| *found != expected) {
        return Err(BadSshKey::Damaged("its padding is wrong"));
    }
    let (seed, other) = pair.split_at(32);
    let seed = Zeroizing::new(<[u8; 32]>::try_from(seed).unwrap_or_default());
    let key = SecretKey::from_seed(name(&comment), &seed)?;
    if key.public().as_bytes() != public || other != public {
        return Err(BadSshKey::Damaged("its halves do not belong together"));
    }
    Ok(key)
}
