//! Who a client is: the certificate, signed password or password of its CONNECT against the
//! logins of the fleets.
//!
//! An [`Authenticator`] never changes: new files make a new one. It reads no clock and does no IO.

use std::fmt;

use herald_proto::login::{self, BrokerName, LoginError, LoginName, looks_signed};
use herald_proto::time::Timestamp;

use crate::logins::{Candidate, Logins};
use crate::packet::ConnectReturn;
use crate::passwords::Passwords;
use crate::principal::Principal;
use crate::roster::{Roster, Standing};

/// What a client shows of itself when it connects.
#[derive(Clone, Copy)]
pub struct Credentials<'a> {
    /// The client id, to which a signed password is bound.
    pub client_id: &'a str,
    /// The user name.
    pub username: Option<&'a str>,
    /// The password; one that is not UTF-8 is wrong.
    pub password: Option<&'a str>,
    /// The subject's common name in a client certificate that was verified.
    pub certificate: Option<&'a str>,
    /// Whether the listener takes clients that show nothing.
    pub anonymous_allowed: bool,
}

/// Shows that there is a password, and nothing of it.
impl fmt::Debug for Credentials<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("client_id", &self.client_id)
            .field("username", &self.username)
            .field("password", &self.password.map(|_| "…"))
            .field("certificate", &self.certificate)
            .field("anonymous_allowed", &self.anonymous_allowed)
            .finish()
    }
}

/// Everything that says who may connect.
#[derive(Debug)]
pub struct Authenticator {
    logins: Logins,
    passwords: Passwords,
    brokers: Box<[BrokerName]>,
}

/// A client that is nobody we know. For the log: the client hears a [`AuthError::return_code`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// It shows nothing of itself.
    #[error("it shows neither a user name nor a certificate that names a login")]
    Nothing,
    /// Its certificate names no login, and it shows nothing else.
    #[error("its certificate is of {name:?}, which is not the <fleet>/<name> of a login")]
    Certificate {
        /// The common name, cut to 128 characters.
        name: String,
    },
    /// Its certificate is of one login, its user name another.
    #[error("its certificate is of {certificate}, its user name is {username:?}")]
    TwoNames {
        /// The certificate's login.
        certificate: LoginName,
        /// The user name, cut to 128 characters.
        username: String,
    },
    /// It has a password and no user name.
    #[error("it has a password and no user name")]
    NoUserName,
    /// Its user name does not name a login.
    #[error("its user name {username:?} is not <fleet>/<name>")]
    UserName {
        /// The user name, cut to 128 characters.
        username: String,
    },
    /// It has no password.
    #[error("{login} came without a password")]
    NoPassword {
        /// Who it claims to be.
        login: LoginName,
    },
    /// There is no such login.
    #[error("there is no login {login}")]
    Unknown {
        /// Who it claims to be.
        login: LoginName,
    },
    /// Its password is wrong, or the login has none.
    #[error("the password of {login} is wrong, or it has none in the password file")]
    Password {
        /// Who it claims to be.
        login: LoginName,
    },
    /// Its token was good until some time ago.
    #[error("the token with which {login} may ask to be let in expired at {expired_at}")]
    Expired {
        /// Who it claims to be.
        login: LoginName,
        /// When.
        expired_at: Timestamp,
    },
    /// Its signed password is not taken.
    #[error("the signed password of {login} is not taken: {source}")]
    Signed {
        /// Who it claims to be.
        login: LoginName,
        /// Why.
        source: LoginError,
    },
}

impl AuthError {
    /// Gives the return code of the CONNACK (MQTT 3.1.1 section 3.2.2.3): 5, not authorised, for a
    /// client that shows nothing that could log in; 4, bad user name or password, for every other,
    /// so that it does not learn which of the two was wrong.
    pub fn return_code(&self) -> ConnectReturn {
        match self {
            Self::Nothing | Self::Certificate { .. } => ConnectReturn::NotAuthorized,
            Self::TwoNames { .. }
            | Self::NoUserName
            | Self::UserName { .. }
            | Self::NoPassword { .. }
            | Self::Unknown { .. }
            | Self::Password { .. }
            | Self::Expired { .. }
            | Self::Signed { .. } => ConnectReturn::BadLogin,
        }
    }
}

impl Authenticator {
    /// Takes the logins, the passwords of some of them, and the names by which clients know this
    /// broker.
    pub fn new(logins: Logins, passwords: Passwords, brokers: Vec<BrokerName>) -> Self {
        Self { logins, passwords, brokers: brokers.into() }
    }

    /// Gives the names that have a password and are no logins: worth a warning. They are no error,
    /// so that taking a login out of its file always takes effect.
    pub fn idle_passwords(&self) -> impl Iterator<Item = &LoginName> {
        self.passwords.names().filter(|name| self.logins.find(name).is_none())
    }

    /// Tells whether a principal, as it is displayed, has the same part, keys and password here and
    /// there. One that has no login has nothing that could change.
    pub fn has_same_login(&self, other: &Self, principal: &str) -> bool {
        if let Some(host) = Principal::candidate_of(principal) {
            return self.logins.candidate(&host) == other.logins.candidate(&host);
        }
        principal.parse::<LoginName>().map_or(true, |name| {
            self.logins.find(&name) == other.logins.find(&name)
                && self.passwords.is_same(&other.passwords, &name)
        })
    }

    /// Finds who a principal is here, as it is displayed; none if it has no login.
    pub fn principal(&self, displayed: &str) -> Option<Principal> {
        if let Some(host) = Principal::candidate_of(displayed) {
            return Some(self.logins.candidate(&host)?.principal);
        }
        Some(self.logins.find(&displayed.parse::<LoginName>().ok()?)?.principal)
    }

    /// Takes the roster.
    #[must_use]
    pub fn with_roster(self, roster: Roster) -> Self {
        Self { logins: self.logins.with_roster(roster), ..self }
    }

    /// Gives the logins, and with them the roster.
    pub fn logins(&self) -> &Logins {
        &self.logins
    }

    /// Gives what the roster says of a principal, as it is displayed.
    pub fn standing(&self, displayed: &str) -> Option<Standing> {
        let host = Principal::candidate_of(displayed).or_else(|| displayed.parse().ok())?;
        self.logins.roster().find(&host)
    }

    /// Tells whether [`Self::authenticate`] would compute a password's hash, which takes tens of
    /// milliseconds: do it on a thread of its own, and not for many clients at a time.
    pub fn is_expensive(&self, credentials: &Credentials<'_>) -> bool {
        matches!(self.claim(credentials), Ok(Claim::Password { .. }))
    }

    /// Finds out who a client is.
    ///
    /// A certificate that names a login is enough, and a password beside it is not looked at; a
    /// user name must be the same then. Otherwise user name and password count. Nobody is taken as
    /// anonymous who showed anything.
    ///
    /// # Errors
    /// When what is shown is incomplete or wrong, or nothing is and the listener wants something.
    pub fn authenticate(
        &self,
        credentials: &Credentials<'_>,
        now: Timestamp,
    ) -> Result<Principal, AuthError> {
        match self.claim(credentials)? {
            Claim::Anonymous => Ok(Principal::Anonymous),
            Claim::Certified(principal) => Ok(principal),
            Claim::Signed { login, password } => {
                let expected = login::Login { principal: &login, client_id: credentials.client_id };
                let verify =
                    |keys: &[_]| login::verify(password, keys, &expected, &self.brokers, now);
                let found = self.logins.find(&login);
                let judged = found.map(|found| verify(&found.keys).map(|()| found.principal));
                if let Some(Ok(principal)) = judged {
                    return Ok(principal);
                }
                let candidate = self.logins.candidate(&login);
                match (candidate, judged) {
                    (Some(Candidate { principal, token }), judged) => {
                        match verify(std::slice::from_ref(&token.key)) {
                            Ok(()) if token.expires_at > now => Ok(principal),
                            Ok(()) => {
                                Err(AuthError::Expired { login, expired_at: token.expires_at })
                            }
                            Err(source) => {
                                let source = judged.and_then(Result::err).unwrap_or(source);
                                Err(AuthError::Signed { login, source })
                            }
                        }
                    }
                    (None, Some(Err(source))) => Err(AuthError::Signed { login, source }),
                    (None, _) => Err(AuthError::Unknown { login }),
                }
            }
            Claim::Password { login, password } => {
                // First the password, so that an unknown name takes as long.
                let is_right = self.passwords.verify(&login, password);
                match self.logins.find(&login) {
                    None => Err(AuthError::Unknown { login }),
                    Some(_) if !is_right => Err(AuthError::Password { login }),
                    Some(found) => Ok(found.principal),
                }
            }
        }
    }

    /// Sorts out what a client shows; only a certificate is judged already.
    fn claim<'a>(&self, credentials: &Credentials<'a>) -> Result<Claim<'a>, AuthError> {
        let &Credentials { username, password, certificate, anonymous_allowed, .. } = credentials;
        let certified = certificate
            .and_then(|name| name.parse::<LoginName>().ok())
            .and_then(|name| Some((self.logins.find(&name)?.principal, name)));
        match (certified, username, password) {
            (Some((principal, name)), username, _) => match username {
                Some(other) if other != name.to_string() => {
                    Err(AuthError::TwoNames { certificate: name, username: cut(other) })
                }
                _ => Ok(Claim::Certified(principal)),
            },
            (None, None, Some(_)) => Err(AuthError::NoUserName),
            (None, None, None) => match certificate {
                Some(name) => Err(AuthError::Certificate { name: cut(name) }),
                None if anonymous_allowed => Ok(Claim::Anonymous),
                None => Err(AuthError::Nothing),
            },
            (None, Some(username), password) => {
                let login = username
                    .parse::<LoginName>()
                    .map_err(|_| AuthError::UserName { username: cut(username) })?;
                match password {
                    None => Err(AuthError::NoPassword { login }),
                    Some(password) if looks_signed(password) => {
                        Ok(Claim::Signed { login, password })
                    }
                    Some(password) => Ok(Claim::Password { login, password }),
                }
            }
        }
    }
}

/// What a client shows, sorted out.
enum Claim<'a> {
    Anonymous,
    Certified(Principal),
    Signed { login: LoginName, password: &'a str },
    Password { login: LoginName, password: &'a str },
}

fn cut(text: &str) -> String {
    text.chars().take(128).collect()
}

#[cfg(test)]
mod tests;
