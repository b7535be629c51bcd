//! The signed password, by which a client shows that it has a login's key: a compact JWS
//! (RFC 7515) with EdDSA (RFC 8037) around the claims of a JWT (RFC 7519).
//!
//! It says who, to which broker, under which client id and for how long, so that a broker can use
//! what it was shown nowhere else. There is one algorithm; whoever reads it takes exactly the
//! members that are written here, and judges the signature before anything that was signed.

mod client_id;
mod error;
mod json;
mod name;

use std::{fmt, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

use crate::{
    host::FleetId,
    key::{PublicKey, SecretKey},
    time::Timestamp,
};

pub use client_id::{host_client_id, is_host_client_id};
pub use error::{LoginError, Part};
pub use name::{BrokerName, LoginName};

/// The most bytes of a signed password: what the longest names need.
pub const MAX_BYTES: usize = 1024;
/// How long a password is good for when it is made.
pub const LIFETIME: Duration = Duration::from_secs(5 * 60);
/// The longest that a password may be good for.
pub const MAX_LIFETIME: Duration = Duration::from_secs(15 * 60);
/// By how much the clocks of both sides may differ.
pub const LEEWAY: Duration = Duration::from_secs(60);

const HEADER: &str = r#"{"alg":"EdDSA","typ":"JWT"}"#;

/// What a password says, and what its reader expects of it.
#[derive(Debug, Clone, Copy)]
pub struct Login<'a> {
    /// Who logs in.
    pub principal: &'a LoginName,
    /// The client id of the connection. One of up to 128 printable ASCII characters, without `"`
    /// and `\`, always fits.
    pub client_id: &'a str,
}

/// A password. It is wiped when dropped, and does not show itself.
pub struct Password(Zeroizing<String>);

impl Password {
    /// Gives the text for the CONNECT packet.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

/// Tells whether a password looks like a signed one: three parts, the first of which could be the
/// base64url of a JSON object. Whether it is one, [`verify`] says.
pub fn looks_signed(password: &str) -> bool {
    // `{"` and `{ ` both begin with these two characters.
    password.starts_with("ey") && password.bytes().filter(|c| *c == b'.').count() == 2
}

/// Makes the password for one connection to a broker, good for [`LIFETIME`] from now.
pub fn sign(login: &Login<'_>, broker: &BrokerName, key: &SecretKey, now: Timestamp) -> Password {
    let issued = seconds(now);
    let principal = login.principal.to_string();
    let text = |text: &str| serde_json::Value::from(text).to_string();
    let claims = format!(
        r#"{{"iss":{name},"sub":{name},"aud":{aud},"client_id":{id},"iat":{issued},"exp":{exp}}}"#,
        name = text(&principal),
        aud = text(&audience(&login.principal.fleet, broker)),
        id = text(login.client_id),
        exp = issued.saturating_add(LIFETIME.as_secs()),
    );
    Password(Zeroizing::new(seal(HEADER, claims.as_bytes(), key)))
}

/// Checks a signed password against what the reader knows: who should have made it, that one's
/// keys, the names of this broker, and the connection's client id.
///
/// # Errors
/// When anything is not exactly as [`sign`] makes it, or its time is not now, give or take
/// [`LEEWAY`]. What the claims say is looked at only after the signature.
pub fn verify(
    password: &str,
    keys: &[PublicKey],
    expected: &Login<'_>,
    brokers: &[BrokerName],
    now: Timestamp,
) -> Result<(), LoginError> {
    let sealed = Sealed::split(password)?;
    check_header(&sealed.header)?;
    sealed.check_signature(keys)?;
    check_claims(&sealed.claims, expected, brokers, seconds(now))
}

/// Makes a compact JWS.
fn seal(header: &str, payload: &[u8], key: &SecretKey) -> String {
    let mut text = URL_SAFE_NO_PAD.encode(header);
    text.push('.');
    URL_SAFE_NO_PAD.encode_string(payload, &mut text);
    let signature = key.sign(text.as_bytes());
    text.push('.');
    URL_SAFE_NO_PAD.encode_string(signature, &mut text);
    text
}

/// The parts of a compact JWS, none of them looked at yet.
struct Sealed<'a> {
    header: Vec<u8>,
    claims: Vec<u8>,
    signature: Vec<u8>,
    signed: &'a str,
}

impl<'a> Sealed<'a> {
    fn split(text: &'a str) -> Result<Self, LoginError> {
        if text.len() > MAX_BYTES {
            return Err(LoginError::TooLarge { bytes: text.len() });
        }
        let (signed, signature) = text.rsplit_once('.').ok_or(LoginError::NotThreeParts)?;
        let (header, claims) = signed.split_once('.').ok_or(LoginError::NotThreeParts)?;
        if claims.contains('.') {
            return Err(LoginError::NotThreeParts);
        }
        let decode = |text: &str, part| {
            URL_SAFE_NO_PAD.decode(text).map_err(|_| LoginError::NotBase64 { part })
        };
        Ok(Self {
            header: decode(header, Part::Header)?,
            claims: decode(claims, Part::Claims)?,
            signature: decode(signature, Part::Signature)?,
            signed,
        })
    }

    fn check_signature(&self, keys: &[PublicKey]) -> Result<(), LoginError> {
        if keys.is_empty() {
            return Err(LoginError::NoKey);
        }
        let error = LoginError::Signature { keys: keys.len() };
        let Ok(signature) = <&[u8; 64]>::try_from(self.signature.as_slice()) else {
            return Err(error);
        };
        let verifies = |key: &PublicKey| key.verifies(self.signed.as_bytes(), signature);
        if keys.iter().any(verifies) { Ok(()) } else { Err(error) }
    }
}

fn check_header(bytes: &[u8]) -> Result<(), LoginError> {
    let header = json::Object::parse(Part::Header, bytes, &["alg", "typ"])?;
    let algorithm = header.text("alg")?;
    if algorithm != "EdDSA" {
        return Err(LoginError::Algorithm { found: cut(algorithm, 64) });
    }
    let typ = header.text("typ")?;
    if typ != "JWT" {
        return Err(LoginError::Typ { found: cut(typ, 64) });
    }
    Ok(())
}

fn check_claims(
    bytes: &[u8],
    expected: &Login<'_>,
    brokers: &[BrokerName],
    now: u64,
) -> Result<(), LoginError> {
    let known = &["iss", "sub", "aud", "client_id", "iat", "exp"];
    let claims = json::Object::parse(Part::Claims, bytes, known)?;
    let principal = expected.principal.to_string();
    for member in ["iss", "sub"] {
        let found = claims.text(member)?;
        if found != principal {
            let (found, expected) = (cut(found, 128), expected.principal.clone());
            return Err(LoginError::Principal { member, found, expected });
        }
    }
    let found = claims.text("aud")?;
    let fleet = &expected.principal.fleet;
    if !brokers.iter().any(|broker| audience(fleet, broker) == found) {
        return Err(LoginError::Audience { found: cut(found, 320) });
    }
    let found = claims.text("client_id")?;
    if found != expected.client_id {
        return Err(LoginError::ClientId { found: cut(found, 128) });
    }
    check_time(claims.number("iat")?, claims.number("exp")?, now)
}

/// All in whole seconds, in which a JWT counts.
fn check_time(issued: u64, expires: u64, now: u64) -> Result<(), LoginError> {
    let leeway = LEEWAY.as_secs();
    if expires <= issued {
        return Err(LoginError::Backwards { issued, expires });
    }
    let seconds = expires - issued;
    if seconds > MAX_LIFETIME.as_secs() {
        return Err(LoginError::LongLived { seconds });
    }
    let ahead = issued.saturating_sub(now);
    if ahead > leeway {
        return Err(LoginError::Future { ahead });
    }
    if now >= expires.saturating_add(leeway) {
        return Err(LoginError::Expired { since: now - expires });
    }
    Ok(())
}

fn audience(fleet: &FleetId, broker: &BrokerName) -> String {
    format!("herald/{fleet}/{broker}")
}

fn seconds(time: Timestamp) -> u64 {
    time.as_millis() / 1000
}

fn cut(text: &str, longest: usize) -> String {
    text.chars().take(longest).collect()
}

#[cfg(test)]
mod tests;
