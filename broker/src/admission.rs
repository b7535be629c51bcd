//! How entries of the roster take effect: judged before they are stored, taken up from the store.
//!
//! What counts is what the store has, so that a crash at any time loses nothing: the next start reads
//! it again. Whoever published an entry is told that it was taken when it has taken effect.

use std::{
    collections::HashMap,
    sync::{Arc, MutexGuard, PoisonError},
};

use herald_proto::{
    host::{FleetId, HostId},
    id::MessageDigest,
    login::{LoginName, host_client_id},
    topic::{Subject, Topic},
};
use tokio::time::timeout;

use crate::{
    auth::Authenticator,
    broker::{Broker, FAREWELL},
    logins::Logins,
    message::{Message, Revision},
    packet::Publish,
    principal::Principal,
    receipt::Receipt,
    refusal::Refusal,
    retained::{Matching, ReadError, Store},
    roster::{Refused, Roster, Standing},
};

/// What is said of hosts by entries that were handed in to be stored, and have not taken effect.
pub(crate) type HandedIn = HashMap<LoginName, Standing>;

impl Broker {
    /// Hands in a message. An entry of the roster is judged first; where a fleet's file of logins names
    /// nobody who signs them, entries are messages like others.
    ///
    /// # Errors
    /// When it is an entry that is not taken.
    pub(crate) fn admit(
        self: &Arc<Self>,
        topic: Topic,
        publish: Publish,
        receipt: Receipt,
    ) -> Result<(), Refusal> {
        let Subject::Roster(host) = &topic.subject else {
            self.hand_in(&topic, publish, receipt);
            return Ok(());
        };
        let name = LoginName { fleet: topic.fleet.clone(), name: host.clone() };
        // Of two at once, the one that is judged first is handed in first.
        let mut handed_in = self.handed_in();
        let authenticator = self.authenticator();
        let judged = judge(authenticator.logins(), &handed_in, &name, &publish.payload);
        let Some(standing) = judged.map_err(|refused| {
            if self.may_log(Refusal::RosterEntry) {
                tracing::warn!(%refused, host = %name, "an entry of the roster is refused");
            }
            Refusal::RosterEntry
        })?
        else {
            self.hand_in(&topic, publish, receipt);
            return Ok(());
        };
        let digest = standing.digest;
        handed_in.insert(name.clone(), standing);
        self.hand_in(&topic, publish, receipt.clone());
        drop(handed_in);
        let broker = Arc::clone(self);
        tokio::spawn(async move {
            broker.journal.settle().await;
            match broker.take_up(&name, digest) {
                // Now whoever published it may hear of it.
                Ok(()) => drop(receipt),
                Err(reason) => return receipt.refuse(reason),
            }
            if broker.authenticator().logins().find(&name).is_none() {
                broker.forget_host(&name).await;
            }
        });
        Ok(())
    }

    /// Takes up what the store has of a host now. The entry that was handed in is there, or lost.
    ///
    /// # Errors
    /// When the store can't be read.
    fn take_up(&self, host: &LoginName, handed_in: MessageDigest) -> Result<(), Refusal> {
        let mut turn = self.handed_in();
        let topic = Topic::new(host.fleet.clone(), Subject::Roster(host.name.clone())).to_string();
        let stored = entries(&self.store, Matching::Topic(&topic));
        let stored = stored.map_err(|error| self.unreadable(&error))?.pop();
        if turn.get(host).is_some_and(|last| last.digest == handed_in) {
            turn.remove(host);
        }
        let authenticator = self.authenticator();
        let logins = authenticator.logins();
        let (Some(signers), Some((_, bytes))) = (logins.signers(&host.fleet), stored) else {
            return Ok(());
        };
        let now = match signers.verify_again(&host.name, &bytes) {
            Ok(standing) => standing,
            Err(refused) => {
                tracing::warn!(%refused, %host, "an entry of the roster was stored and lets nobody in");
                return Ok(());
            }
        };
        let before = logins.roster().put(host.clone(), now.clone());
        let host_changed = before.as_ref().and_then(|it| it.key.as_ref()) != now.key.as_ref();
        let token_changed = before.as_ref().and_then(|it| it.token.as_ref()) != now.token.as_ref();
        let (member, candidate) = (host.to_string(), Principal::candidate_name(host));
        self.registry.close(Refusal::LoginChanged, |owner| {
            (host_changed && *owner == *member) || (token_changed && *owner == *candidate)
        });
        tracing::info!(%host, number = %now.number, "an entry of the roster was taken up");
        Ok(())
    }

    /// Forgets the session that was kept of a host which is none any more.
    async fn forget_host(&self, host: &LoginName) {
        let owner = host.to_string();
        // It is closed, and what it had acknowledged is on its way to the store.
        let _ = timeout(FAREWELL, self.registry.rid_of(|other| *other == *owner)).await;
        let client = host_client_id(&host.fleet, &host.name);
        let kept = match self.store.session(&client) {
            Ok(kept) => kept.filter(|kept| kept.owner == owner),
            Err(error) => {
                self.unreadable(&error);
                return;
            }
        };
        let is_back = self.authenticator().logins().find(host).is_some();
        if kept.is_some() && !is_back && self.journal.forget(&client).await.is_ok() {
            self.holdings.give_session(&owner.into());
        }
    }

    /// Reads the roster of all fleets from the store, by the trust that an authenticator has.
    ///
    /// # Errors
    /// When the store can't be read.
    pub(crate) fn read_roster(
        store: &Store,
        authenticator: &Authenticator,
    ) -> Result<Roster, ReadError> {
        let (roster, logins) = (Roster::default(), authenticator.logins());
        for (fleet, signers) in logins.all_signers() {
            let mut refused = Vec::new();
            for (host, bytes) in entries(store, Matching::Prefix(&prefix(fleet)))? {
                let name = LoginName { fleet: fleet.clone(), name: host };
                let Ok(standing) = signers.verify_again(&name.name, &bytes) else {
                    refused.push(name.name.to_string());
                    continue;
                };
                let keys: Vec<_> = standing.keys().collect();
                let listed = logins.listed_with(&name, &keys);
                if let Some(owner) = listed.or_else(|| roster.other_with(&name, &keys)) {
                    let refused = Refused::KeyTaken { host: name.name, owner };
                    tracing::warn!(%fleet, %refused, "an entry of the roster lets nobody in");
                    continue;
                }
                roster.put(name, standing);
            }
            if !refused.is_empty() {
                tracing::warn!(
                    %fleet,
                    hosts = refused.join(" "),
                    "these entries of the roster let nobody in, as neither trust nor older_trusts has \
                     who signed them: run `herald host announce`"
                );
            }
        }
        Ok(roster)
    }

    pub(crate) fn handed_in(&self) -> MutexGuard<'_, HandedIn> {
        self.handed_in.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Judges an entry; nothing is to be judged where nobody signs.
fn judge(
    logins: &Logins,
    handed_in: &HandedIn,
    name: &LoginName,
    bytes: &[u8],
) -> Result<Option<Standing>, Refused> {
    let Some(signers) = logins.signers(&name.fleet) else { return Ok(None) };
    let standing = signers.verify(&name.name, bytes)?;
    let last = handed_in.get(name).cloned().or_else(|| logins.roster().find(name));
    if let Some(last) = last {
        if standing.number < last.number {
            return Err(Refused::Superseded { found: standing.number, known: last.number });
        }
        if standing.number == last.number && standing.digest != last.digest {
            return Err(Refused::Conflict { number: last.number });
        }
    }
    let keys: Vec<_> = standing.keys().collect();
    let is_other = |other: &LoginName| other.fleet == name.fleet && other != name;
    let owner = logins.other_with(name, &keys).or_else(|| {
        let mut others = handed_in.iter().filter(|(other, _)| is_other(other));
        let other = others.find(|(_, one)| one.keys().any(|key| keys.contains(&key)));
        other.map(|(other, _)| other.name.clone())
    });
    match owner {
        Some(owner) => Err(Refused::KeyTaken { host: name.name.clone(), owner }),
        None => Ok(Some(standing)),
    }
}

fn prefix(fleet: &FleetId) -> String {
    format!("herald/v1/{fleet}/roster/")
}

/// Gives the entries that are stored, with the hosts whose topics they are on.
fn entries(store: &Store, topics: Matching<'_>) -> Result<Vec<(HostId, Vec<u8>)>, ReadError> {
    let revisions = store.newer(topics, Revision::NONE)?;
    let messages = store.messages(&revisions)?.into_iter();
    let of_host = |message: Message| {
        let topic = std::str::from_utf8(&message.topic).ok()?.parse::<Topic>().ok()?;
        match topic.subject {
            Subject::Roster(host) => Some((host, message.payload.to_vec())),
            _ => None,
        }
    };
    Ok(messages.filter_map(of_host).collect())
}

#[cfg(test)]
mod tests;
