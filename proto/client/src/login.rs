//! How a client says who it is.

use std::{fmt, sync::Arc};

use herald_proto::{
    key::SecretKey,
    login::{self, BrokerName, LoginName},
    time::Timestamp,
};
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
    /// Who logs in, which is the user's name too.
    pub principal: LoginName,
    /// The broker that tokens are for, by the name that it has for itself: see
    /// [`BrokerUrl::broker_name`].
    pub broker: BrokerName,
    /// The key, of which the broker knows the public half.
    pub key: Arc<SecretKey>,
    /// Tells the time.
    pub clock: fn() -> Timestamp,
    /// What the time must be at least. A clock that is behind is given the time of a few attempts
    /// to be set first, as a token of the past would be refused.
    pub earliest: Timestamp,
}

impl Signed {
    fn token(&self, client_id: &str, now: Timestamp) -> Secret {
        let login = login::Login { principal: &self.principal, client_id };
        Secret::new(login::sign(&login, &self.broker, &self.key, now).as_str())
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
            Self::Password(login) if login.unprotected => (login.user.clone(), "password"),
            Self::Signed(login) => (login.principal.to_string(), "short-lived token"),
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
                let (user, password) = (login.principal.to_string(), login.token(client_id, now));
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
            Self::Signed(Signed { principal, broker, clock, .. }) => {
                let (user, broker) = (principal.clone(), broker.clone());
                ConnectionLost::TokenRefused { user, broker, code, time: clock() }
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

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
    const CLIENT: &str = "home:alpha";

    fn broker() -> BrokerUrl {
        "mqtts://broker.example.org".parse().unwrap()
    }

    fn password(unprotected: bool) -> Login {
        let password = Secret::new("hush");
        Login::Password(Password { user: "home/alpha".to_owned(), password, unprotected })
    }

    fn signed(earliest: Timestamp) -> Signed {
        let key = SecretKey::from_seed("alpha".parse().unwrap(), &[7; 32]).unwrap();
        let (principal, broker) = ("home/alpha".parse().unwrap(), broker().broker_name().unwrap());
        Signed { principal, broker, key: Arc::new(key), clock: || NOW, earliest }
    }

    #[test]
    fn a_token_is_for_this_broker_and_this_client_and_good_for_five_minutes() {
        let login = signed(NOW);
        let made = Login::Signed(login.clone()).credentials(1, &broker(), CLIENT);
        let Credentials { user, password } = made.unwrap().unwrap();
        assert_eq!(user, "home/alpha");
        let verify = |broker: &str, client_id: &str, later: u64| {
            let expected = login::Login { principal: &login.principal, client_id };
            let (keys, brokers) = ([login.key.public().clone()], [broker.parse().unwrap()]);
            let now = Timestamp::from_millis(NOW.as_millis() + later * 1000);
            login::verify(password.expose(), &keys, &expected, &brokers, now).is_ok()
        };
        assert!(verify("broker.example.org", CLIENT, 0));
        assert!(verify("broker.example.org", CLIENT, 299));
        assert!(!verify("broker.example.org", CLIENT, 361));
        assert!(!verify("broker.example.com", CLIENT, 0));
        assert!(!verify("broker.example.org", "home:beta", 0));
    }

    #[test]
    fn a_clock_that_is_behind_is_waited_for_and_not_for_ever() {
        let login = Login::Signed(signed(Timestamp::from_millis(NOW.as_millis() + 1)));
        let attempt = |number| login.credentials(number, &broker(), CLIENT);
        for number in 1..=PATIENCE {
            let error = attempt(number).unwrap_err();
            assert!(matches!(error, ConnectionLost::ClockBehind { .. }));
            assert!(error.to_string().contains("2027-01-15T08:00:00Z"), "{error}");
        }
        assert!(attempt(PATIENCE + 1).unwrap().is_some());
    }

    #[test]
    fn a_password_is_sent_where_nobody_can_read_it_or_where_that_was_allowed() {
        for (address, unprotected, sent) in [
            ("mqtt://broker.example.org", false, false),
            ("ws://192.0.2.7", false, false),
            ("mqtt://broker.example.org", true, true),
            ("mqtts://broker.example.org", false, true),
            ("wss://broker.example.org", false, true),
            ("mqtt://127.0.0.1", false, true),
            ("ws://localhost", false, true),
        ] {
            let broker = address.parse().unwrap();
            let given = password(unprotected).credentials(1, &broker, CLIENT);
            assert_eq!(given.is_ok(), sent, "{address}");
        }
        let open = "mqtt://broker.example.org".parse().unwrap();
        assert!(Login::Signed(signed(NOW)).credentials(1, &open, CLIENT).is_ok());
    }

    #[test]
    fn no_secret_is_shown() {
        let shown = format!("{:?} {:?}", password(true), signed(NOW));
        assert!(!shown.contains("hush"), "{shown}");
        let credentials = password(true).credentials(1, &broker(), CLIENT);
        assert!(!format!("{credentials:?}").contains("hush"));
    }

    #[test]
    fn a_refusal_says_what_to_check() {
        let refused = |login: &Login, code| login.refused(code).to_string();
        let token = refused(&Login::Signed(signed(NOW)), 5);
        for expected in ["home/alpha", "broker.example.org", "2027-01-15T08:00:00Z", "code 5"] {
            assert!(token.contains(expected), "{token}");
        }
        assert!(refused(&password(false), 4).contains("home/alpha"));
        assert!(refused(&Login::None, 4).contains("set a login"));
        assert!(matches!(
            Login::Signed(signed(NOW)).refused(3),
            ConnectionLost::Refused { code: 3 }
        ));
    }
}
