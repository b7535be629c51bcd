//! Why a signed password is not taken.

use std::fmt;

use super::{LoginName, MAX_BYTES, MAX_LIFETIME};

/// A signed password that is not taken. No variant has more of it than a short part.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoginError {
    /// It is larger than any that is needed.
    #[error("the signed password has {bytes} bytes: at most {MAX_BYTES} are read")]
    TooLarge {
        /// How many there are.
        bytes: usize,
    },
    /// It does not have three parts.
    #[error("a signed password has three parts with dots between")]
    NotThreeParts,
    /// A part is not the one base64url text of some bytes.
    #[error("the {part} is not base64url without padding")]
    NotBase64 {
        /// Which part.
        part: Part,
    },
    /// A part is no JSON object.
    #[error("the {part} is not a JSON object")]
    NotAnObject {
        /// Which part.
        part: Part,
    },
    /// A member is there twice.
    #[error("the {part} has {member:?} twice")]
    Twice {
        /// In which part.
        part: Part,
        /// The member.
        member: String,
    },
    /// A member that we do not write.
    #[error("the {part} has {member:?}, which is not part of a login")]
    Unknown {
        /// In which part.
        part: Part,
        /// The member, cut to 64 characters.
        member: String,
    },
    /// A member is missing.
    #[error("the {part} has no {member:?}")]
    Missing {
        /// In which part.
        part: Part,
        /// The member.
        member: &'static str,
    },
    /// A member is of another type: a text where a number should be, or the reverse.
    #[error("{member:?} in the {part} is not {expected}")]
    Type {
        /// In which part.
        part: Part,
        /// The member.
        member: &'static str,
        /// What it should be.
        expected: &'static str,
    },
    /// An algorithm other than EdDSA: `none`, one with a shared secret, or another.
    #[error("\"alg\" is {found:?}: only EdDSA is taken")]
    Algorithm {
        /// What it says, cut to 64 characters.
        found: String,
    },
    /// A type other than JWT.
    #[error("\"typ\" is {found:?}: only JWT is taken")]
    Typ {
        /// What it says, cut to 64 characters.
        found: String,
    },
    /// The login has no key.
    #[error("the login has no key: it logs in with a password or a certificate")]
    NoKey,
    /// The signature is by none of the login's keys, or what was signed was changed.
    #[error("none of the login's keys made the signature (it has {keys})")]
    Signature {
        /// How many keys the login has.
        keys: usize,
    },
    /// It is somebody else's.
    #[error("{member:?} is {found:?}, and the login is {expected}")]
    Principal {
        /// `iss` or `sub`.
        member: &'static str,
        /// What it says, cut to 64 characters.
        found: String,
        /// Whose it should be.
        expected: LoginName,
    },
    /// It is for another broker or fleet.
    #[error("it is for {found:?}, which is not this broker and fleet: check the broker's names")]
    Audience {
        /// What it says, cut to 320 characters.
        found: String,
    },
    /// It is for another connection.
    #[error("it is for the client id {found:?}, not for this connection's")]
    ClientId {
        /// What it says, cut to 128 characters.
        found: String,
    },
    /// It ends before it begins.
    #[error("it expires at {expires} s and was issued at {issued} s")]
    Backwards {
        /// `iat`, in seconds since the epoch.
        issued: u64,
        /// `exp`, in seconds since the epoch.
        expires: u64,
    },
    /// It is good for too long.
    #[error("it is good for {seconds} s: at most {} s are taken", MAX_LIFETIME.as_secs())]
    LongLived {
        /// For how long, in seconds.
        seconds: u64,
    },
    /// It was issued later than now.
    #[error("it was issued {ahead} s in the future: check the clocks")]
    Future {
        /// By how many seconds.
        ahead: u64,
    },
    /// Its time is over.
    #[error("it expired {since} s ago: check the clocks")]
    Expired {
        /// For how many seconds.
        since: u64,
    },
}

/// A part of a signed password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The first: which algorithm.
    Header,
    /// The second: what is said.
    Claims,
    /// The third.
    Signature,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Header => "header",
            Self::Claims => "claims",
            Self::Signature => "signature",
        })
    }
}
