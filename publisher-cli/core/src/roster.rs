//! The roster: what the fleet file says of hosts, as all are told who have to know their keys.

use herald_proto::{
    WIRE_VERSION,
    enrol::{EnrolRequest, RosterEntry, Token},
    host::HostId,
    id::Sequence,
    key::{BareKey, PublicKey},
    signing::{self, Verified},
    time::Timestamp,
};
use serde::Serialize;

use crate::fleet::Fleet;

/// Gives the entry by which all learn what the fleet file says of a host now. One that it does not
/// have is in the fleet no more. A token that has expired is as none.
pub fn entry(
    fleet: &Fleet,
    host: &HostId,
    now: Timestamp,
    last: Option<&RosterEntry>,
) -> RosterEntry {
    let token = fleet.token(host).filter(|token| token.expires_at() > now);
    RosterEntry {
        version: WIRE_VERSION,
        fleet: fleet.id().clone(),
        host: host.clone(),
        number: Sequence::next(now, last.map(|entry| entry.number)),
        key: fleet.host(host).map(|host| BareKey::from(host.key())),
        token: token.map(|token| Token { key: token.key().into(), expires_at: token.expires_at() }),
    }
}

/// Tells whether an entry says what the fleet file says.
pub fn agrees(fleet: &Fleet, entry: &RosterEntry, now: Timestamp) -> bool {
    let wanted = self::entry(fleet, &entry.host, now, None);
    let token = entry.token.as_ref().filter(|token| token.expires_at > now);
    wanted.key == entry.key && wanted.token.as_ref() == token
}

/// Names a key after its host.
pub fn host_key(host: &HostId, key: &BareKey) -> PublicKey {
    key.named(host.into())
}

/// A request that is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadRequest {
    /// There is no token for it.
    #[error("the fleet file has no token for {host}")]
    NoToken {
        /// The host.
        host: HostId,
    },
    /// The token has expired.
    #[error("the token of {host} expired at {expired_at}")]
    Expired {
        /// The host.
        host: HostId,
        /// When.
        expired_at: Timestamp,
    },
    /// Not signed as it has to be, or malformed.
    #[error("the request is refused: {0}")]
    Rejected(#[from] herald_proto::rejection::Rejection),
    /// Made by the holder of another host's token.
    #[error("the token of {host} was used to ask for the name {asked}")]
    OtherHost {
        /// Whose token it is.
        host: HostId,
        /// What was asked for.
        asked: HostId,
    },
    /// The key is another's already.
    #[error("{host} asks to be known by a key that {owner} has in the fleet file")]
    Taken {
        /// The host.
        host: HostId,
        /// Whose it is: the host's own, where a token was to bring another.
        owner: HostId,
    },
}

/// Verifies what a host asks for with its token.
///
/// # Errors
/// When there is no token that counts, the request is not signed by it, or is for another name or a
/// key that is in use.
pub fn verify_request(
    fleet: &Fleet,
    host: &HostId,
    payload: &[u8],
    now: Timestamp,
) -> Result<Verified<EnrolRequest>, BadRequest> {
    let token = fleet.token(host).ok_or_else(|| BadRequest::NoToken { host: host.clone() })?;
    if token.expires_at() <= now {
        let (host, expired_at) = (host.clone(), token.expires_at());
        return Err(BadRequest::Expired { host, expired_at });
    }
    let request = signing::verify_enrol_request(payload, fleet.id(), token.key())?;
    if request.host != *host {
        let (host, asked) = (host.clone(), request.host.clone());
        return Err(BadRequest::OtherHost { host, asked });
    }
    let is_its =
        |name: &&HostId| fleet.host(name).is_some_and(|other| other.key().id() == request.key.id());
    match fleet.hosts().find(is_its) {
        Some(owner) => Err(BadRequest::Taken { host: host.clone(), owner: owner.clone() }),
        None => Ok(request),
    }
}

/// Where a host stands with its fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// It is known by its key.
    Member,
    /// It is known by its key, and may ask for another.
    Rotating,
    /// It may ask to be known.
    Invited,
    /// It asks to be known by a key, and waits for an operator.
    Asking,
    /// It could have asked, for too long.
    Expired,
}

/// A host as `herald host list` shows it.
#[derive(Debug, Serialize)]
pub struct Row {
    /// The host.
    pub host: HostId,
    /// Where it stands.
    pub standing: Standing,
    /// The key by which it is known.
    pub key: Option<String>,
    /// What of that key people compare.
    pub fingerprint: Option<String>,
    /// Until when it may ask.
    #[serde(rename = "token_expires_at_ms")]
    pub token_expires_at: Option<Timestamp>,
    /// What it asks for.
    pub request: Option<Asked>,
    /// Why what it asks for is not taken.
    pub request_problem: Option<String>,
    /// Whether the broker has an entry that says the same as the fleet file; absent where the broker
    /// was not asked.
    pub announced: Option<bool>,
}

/// What a host asks for.
#[derive(Debug, Serialize)]
pub struct Asked {
    key: String,
    /// What of the key people compare.
    pub fingerprint: String,
    /// The host's clock when it asked.
    #[serde(rename = "time_ms")]
    pub time: Timestamp,
    system: String,
    agent: String,
}

impl Asked {
    /// Shows a request.
    pub fn of(request: &EnrolRequest) -> Self {
        Self {
            key: host_key(&request.host, &request.key).to_string(),
            fingerprint: request.key.id().fingerprint(),
            time: request.time,
            system: request.system.to_string(),
            agent: request.agent.to_string(),
        }
    }
}

/// What the broker has of a host; `None` where it was not asked.
#[derive(Debug, Clone, Copy, Default)]
pub struct OnBroker<'a> {
    /// The entry of the roster.
    pub entry: Option<&'a RosterEntry>,
    /// The host's request, as it was received.
    pub request: Option<&'a [u8]>,
}

impl Row {
    /// Puts together what is known of a host.
    pub fn of(fleet: &Fleet, host: &HostId, broker: Option<OnBroker<'_>>, now: Timestamp) -> Self {
        let (key, token) = (fleet.host(host).map(|host| host.key()), fleet.token(host));
        let request = broker
            .and_then(|broker| broker.request)
            .map(|payload| verify_request(fleet, host, payload, now));
        let (request, request_problem) = match request {
            None => (None, None),
            Some(Ok(request)) => (Some(Asked::of(&request)), None),
            Some(Err(bad)) => (None, Some(bad.to_string())),
        };
        let standing = match (key, token) {
            _ if request.is_some() => Standing::Asking,
            (Some(_), Some(token)) if token.expires_at() > now => Standing::Rotating,
            (Some(_), _) => Standing::Member,
            (None, Some(token)) if token.expires_at() <= now => Standing::Expired,
            (None, _) => Standing::Invited,
        };
        Self {
            host: host.clone(),
            standing,
            key: key.map(ToString::to_string),
            fingerprint: key.map(|key| key.id().fingerprint()),
            token_expires_at: token.map(|token| token.expires_at()),
            request,
            request_problem,
            announced: broker
                .map(|broker| broker.entry.is_some_and(|entry| agrees(fleet, entry, now))),
        }
    }
}

#[cfg(test)]
mod tests;
