//! How a client says who it is.

use std::{fmt, sync::Arc, time::Duration};

use herald_proto::{key::SecretKey, time::Timestamp};
use zeroize::Zeroizing;

use crate::{BrokerUrl, ConnectionLost};

/// How many attempts wait for a clock that is behind what is known of the time.
const PATIENCE: u64 = 8;

/// How a client says who it is. A certificate is a matter of [`crate::Tls`].
#[derive(Debug, Clone, Default)]
pub enum Login {
    /// It does not, or only by its certificate.
    #[default]
    None,
    /// By a password, which whoever reads it can use again.
    Password(Password),
    /// By a password that is signed for each connection and short-lived.
    Signed(Signed),
}

/// A login with a password.
#[derive(Debug, Clone)]
pub struct Password {
    /// The user's name.
    pub user: String,
    /// The password.
    pub password: Secret,
    /// Whether it may be sent where others on the way can read it.
    pub unprotected: bool,
}

/// A login with a key: each connection gets a token of its own, which is good for 5 minutes, for
/// one broker and for one client id.
#[derive(Debug, Clone)]
pub struct Signed {
    /// Who logs in, which is the user's name too: `<fleet>/<name>`.
    pub principal: String,
    /// The broker that the token is for: `herald/<fleet>/<broker name>`.
    pub audience: String,
    /// The key, of which the broker knows the public half.
    pub key: Arc<SecretKey>,
    /// Tells the time.
    pub clock: fn() -> Timestamp,
    /// What the time must be at least. A clock that is behind is given a few attempts to be set
    /// first, as a token of the past would be refused.
    pub earliest: Timestamp,
}

impl Signed {
    /// How long a token is good.
    pub const LIFETIME: Duration = Duration::from_secs(5 * 60);

    /// Names a broker as tokens for it do.
    pub fn audience(fleet: &herald_proto::host::FleetId, broker: &str) -> String {
        format!("herald/{fleet}/{broker}")
    }

    fn token(&self, client_id: &str, now: Timestamp) -> Secret {
        Secret::new(format!("{client_id}{}", now.as_millis()))
    }
}

/// A secret text. It is wiped when dropped, and never shown.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes a secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// A reusable password would be sent in the open.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the password of {user} is not sent to {broker}, where others on the way could read it: use mqtts:// or wss://, log in with a key, or allow it explicitly"
)]
pub struct PasswordInTheOpen {
    /// The user's name.
    pub user: String,
    /// The broker's address.
    pub broker: BrokerUrl,
}

impl Login {
    /// Checks that nothing is sent in the open that others could use again. The client does so
    /// itself before it connects; this is for those who want to know before.
    ///
    /// A signed login in the open is allowed, with a warning in the log: whoever reads it could
    /// take this client's place at this broker for a few minutes, but could sign nothing.
    ///
    /// # Errors
    /// When a password would be, without having been allowed to.
    pub fn check(&self, broker: &BrokerUrl) -> Result<(), PasswordInTheOpen> {
        match self {
            Self::Password(Password { user, unprotected: false, .. }) if !broker.is_private() => {
                Err(PasswordInTheOpen { user: user.clone(), broker: broker.clone() })
            }
            _ => Ok(()),
        }
    }

    /// Says in the log, once, what others on the way could read.
    pub(crate) fn warn(&self, broker: &BrokerUrl) {
        let (user, what) = match self {
            Self::Password(login) if login.unprotected => (&login.user, "password"),
            Self::Signed(login) => (&login.principal, "short-lived token"),
            _ => return,
        };
        if !broker.is_private() {
            tracing::warn!(
                %broker, user,
                "others on the way to the broker can read this login's {what}: use mqtts:// or wss://"
            );
        }
    }

    /// Gives user name and password for an attempt to connect.
    pub(crate) fn credentials(
        &self,
        attempt: u64,
        broker: &BrokerUrl,
        client_id: &str,
    ) -> Result<Option<Credentials>, ConnectionLost> {
        self.check(broker)?;
        match self {
            Self::None => Ok(None),
            Self::Password(Password { user, password, .. }) => {
                Ok(Some(Credentials { user: user.clone(), password: password.clone() }))
            }
            Self::Signed(login) => {
                let now = (login.clock)();
                if now < login.earliest && attempt <= PATIENCE {
                    let earliest = login.earliest;
                    return Err(ConnectionLost::ClockBehind { time: now, earliest });
                }
                let (user, password) = (login.principal.clone(), login.token(client_id, now));
                Ok(Some(Credentials { user, password }))
            }
        }
    }

    /// Says what to make of a refusal with one of the codes that are about logins.
    pub(crate) fn refused(&self, code: u8) -> ConnectionLost {
        match self {
            Self::None => ConnectionLost::Refused { code },
            _ if !matches!(code, 4 | 5) => ConnectionLost::Refused { code },
            Self::Password(Password { user, .. }) => {
                ConnectionLost::PasswordRefused { user: user.clone(), code }
            }
            Self::Signed(Signed { principal, audience, clock, .. }) => {
                let (user, audience) = (principal.clone(), audience.clone());
                ConnectionLost::TokenRefused { user, audience, code, time: clock() }
            }
        }
    }
}

/// What is said at the door.
#[derive(Debug)]
pub(crate) struct Credentials {
    pub(crate) user: String,
    pub(crate) password: Secret,
}
