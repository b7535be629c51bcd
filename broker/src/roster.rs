//! The roster of a fleet: hosts that operators let in by entries that they signed, and those that may
//! ask to be let in.
//!
//! An entry comes over MQTT and is retained like any message; that it is in the store is no reason to
//! believe it. What counts is whether the trust that the file of logins names has signed it.

use std::{
    collections::HashMap,
    sync::{PoisonError, RwLock, RwLockReadGuard},
};

use herald_proto::{
    enrol::RosterEntry,
    host::{FleetId, HostId},
    id::{MessageDigest, Sequence},
    key::{KeyId, KeyName, PublicKey},
    login::LoginName,
    rejection::Rejection,
    signing,
    time::Timestamp,
    trust::Trust,
};

/// Who signs a fleet's roster.
#[derive(Debug, Clone)]
pub struct Signers {
    /// Those who sign now.
    pub current: Trust,
    /// Those who signed before: what they have signed stays good, and nothing new is.
    pub older: Vec<Trust>,
}

/// What operators say of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Of two, the one with the higher number counts.
    pub number: Sequence,
    /// Which message says it.
    pub digest: MessageDigest,
    /// The key by which it is let in as a host.
    pub key: Option<PublicKey>,
    /// The token by which it is let in to ask.
    pub token: Option<Token>,
}

/// A token, for a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Its public half.
    pub key: PublicKey,
    /// From when on it counts for nothing.
    pub expires_at: Timestamp,
}

/// An entry that is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It is not signed as it has to be, or malformed.
    #[error("{0}")]
    Rejected(#[from] Rejection),
    /// It is about another host than its topic.
    #[error("it is about the host {found}, on the topic of {topic}")]
    OtherHost {
        /// What the topic says.
        topic: HostId,
        /// What the entry says.
        found: HostId,
    },
    /// A later one is known.
    #[error("its number is {found}, and {known} was taken: it is an old one")]
    Superseded {
        /// The entry's number.
        found: Sequence,
        /// The highest that was taken.
        known: Sequence,
    },
    /// Another with the same number is known.
    #[error("another one with its number, {number}, was taken: two made one at once")]
    Conflict {
        /// The number of both.
        number: Sequence,
    },
    /// It lets in a host and whoever may ask to be it by the same key.
    #[error("the key and the token that it gives {host} are the same")]
    TokenIsKey {
        /// The entry's host.
        host: HostId,
    },
    /// A key is another login's.
    #[error("it gives {host} a key that is the login {owner}'s already")]
    KeyTaken {
        /// The entry's host.
        host: HostId,
        /// Whose key it is.
        owner: HostId,
    },
}

/// The entries that count.
#[derive(Debug, Default)]
pub struct Roster {
    entries: RwLock<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    hosts: HashMap<LoginName, Standing>,
    /// Whose each key and token is. A fleet's keys are no other fleet's concern.
    owners: HashMap<(FleetId, KeyId), HostId>,
}

impl Entries {
    fn put(&mut self, host: LoginName, standing: Standing) -> Option<Standing> {
        let of = |key| (host.fleet.clone(), key);
        for key in self.hosts.get(&host).into_iter().flat_map(Standing::keys) {
            self.owners.remove(&of(key));
        }
        self.owners.extend(standing.keys().map(|key| (of(key), host.name.clone())));
        self.hosts.insert(host, standing)
    }
}

impl Signers {
    /// Verifies an entry that comes now.
    ///
    /// # Errors
    /// When those who sign now have not signed it.
    pub fn verify(&self, topic: &HostId, bytes: &[u8]) -> Result<Standing, Refused> {
        Standing::verified(&self.current, topic, bytes)
    }

    /// Verifies an entry that was taken before.
    ///
    /// # Errors
    /// Why those who sign now don't take it, when none of those before does.
    pub fn verify_again(&self, topic: &HostId, bytes: &[u8]) -> Result<Standing, Refused> {
        self.verify(topic, bytes).or_else(|refused| {
            let mut older = self.older.iter();
            older.find_map(|trust| Standing::verified(trust, topic, bytes).ok()).ok_or(refused)
        })
    }
}

impl Standing {
    fn verified(trust: &Trust, topic: &HostId, bytes: &[u8]) -> Result<Self, Refused> {
        let entry = signing::verify_roster_entry(bytes, trust)?;
        if entry.host != *topic {
            return Err(Refused::OtherHost { topic: topic.clone(), found: entry.host.clone() });
        }
        let RosterEntry { number, key, token, .. } = entry.into_inner();
        if let (Some(key), Some(token)) = (&key, &token)
            && key.id() == token.key.id()
        {
            return Err(Refused::TokenIsKey { host: topic.clone() });
        }
        let name = KeyName::from(topic);
        let token = token.map(|token| Token {
            key: token.key.named(name.clone()),
            expires_at: token.expires_at,
        });
        let digest = MessageDigest::of(bytes);
        Ok(Self { number, digest, key: key.map(|key| key.named(name)), token })
    }

    /// Gives by what it lets in the host, and whoever may ask to be it.
    pub fn ids(&self) -> (Option<KeyId>, Option<KeyId>) {
        let token = self.token.as_ref().map(|token| token.key.id());
        (self.key.as_ref().map(PublicKey::id), token)
    }

    /// Gives the ids of its keys.
    pub fn keys(&self) -> impl Iterator<Item = KeyId> {
        let (key, token) = self.ids();
        key.into_iter().chain(token)
    }
}

impl Roster {
    fn read(&self) -> RwLockReadGuard<'_, Entries> {
        self.entries.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives what is said of a host.
    pub fn find(&self, host: &LoginName) -> Option<Standing> {
        self.read().hosts.get(host).cloned()
    }

    /// Takes what is said of a host now; gives what was said before.
    pub fn put(&self, host: LoginName, standing: Standing) -> Option<Standing> {
        self.entries.write().unwrap_or_else(PoisonError::into_inner).put(host, standing)
    }

    /// Finds another host of the fleet that has one of these keys.
    pub fn other_with(&self, host: &LoginName, keys: &[KeyId]) -> Option<HostId> {
        let entries = self.read();
        let owner = |key: &KeyId| entries.owners.get(&(host.fleet.clone(), *key));
        keys.iter().filter_map(owner).find(|owner| **owner != host.name).cloned()
    }
}

#[cfg(test)]
mod tests;
