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
    id::{MessageDigest, Sequence},
    login::LoginName,
    topic::{Subject, Topic},
};

use crate::{
    auth::Authenticator,
    broker::Broker,
    packet::Publish,
    principal::Principal,
    receipt::Receipt,
    refusal::Refusal,
    retained::{Matching, ReadError, Store},
    roster::{Refused, Roster, Standing},
};

/// The highest number for each host that was handed in to be stored, and in which message.
pub(crate) type HandedIn = HashMap<LoginName, (Sequence, MessageDigest)>;

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
        let judged = judge(&self.authenticator(), &handed_in, &name, &publish.payload);
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
        let digest = MessageDigest::of(&publish.payload);
        handed_in.insert(name.clone(), (standing.number, digest));
        self.hand_in(&topic, publish, receipt.clone());
        drop(handed_in);
        let broker = Arc::clone(self);
        tokio::spawn(async move {
            broker.journal.settle().await;
            broker.take_up(&name);
            // Now whoever published it may hear of it.
            drop(receipt);
            broker.forget_the_gone().await;
        });
        Ok(())
    }

    /// Takes up what the store has of a host now.
    fn take_up(&self, host: &LoginName) {
        let _turn = self.handed_in();
        let authenticator = self.authenticator();
        let logins = authenticator.logins();
        let Some(signers) = logins.signers(&host.fleet) else { return };
        let topic = Topic::new(host.fleet.clone(), Subject::Roster(host.name.clone())).to_string();
        let stored = match entry(&self.store, Matching::Topic(&topic)) {
            Ok(stored) => stored,
            Err(error) => {
                self.unreadable(&error);
                return;
            }
        };
        let Some(standing) =
            stored.iter().find_map(|(_, bytes)| signers.verify_again(&host.name, bytes).ok())
        else {
            return;
        };
        let before = logins.roster().put(host.clone(), standing.clone());
        let key = |standing: &Option<Standing>| standing.as_ref().and_then(|it| it.key.clone());
        let token = |standing: &Option<Standing>| standing.as_ref().and_then(|it| it.token.clone());
        let now = Some(standing);
        let (host_changed, token_changed) =
            (key(&before) != key(&now), token(&before) != token(&now));
        let (member, candidate) = (host.to_string(), Principal::candidate_name(host));
        self.registry.close(Refusal::LoginChanged, |owner| {
            (host_changed && *owner == *member) || (token_changed && *owner == *candidate)
        });
        tracing::info!(%host, "an entry of the roster was taken up");
    }

    /// Reads the roster of all fleets from the store, by the trust that an authenticator has.
    ///
    /// # Errors
    /// When the store can't be read.
    pub(crate) fn read_roster(
        store: &Store,
        authenticator: &Authenticator,
    ) -> Result<Roster, ReadError> {
        let mut hosts = Vec::new();
        for (fleet, signers) in authenticator.logins().all_signers() {
            let mut refused = Vec::new();
            for (host, bytes) in entry(store, Matching::Prefix(&prefix(fleet)))? {
                let name = LoginName { fleet: fleet.clone(), name: host };
                match signers.verify_again(&name.name, &bytes) {
                    Ok(standing) => hosts.push((name, standing)),
                    Err(_) => refused.push(name.name.to_string()),
                }
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
        Ok(Roster::new(hosts))
    }

    pub(crate) fn handed_in(&self) -> MutexGuard<'_, HandedIn> {
        self.handed_in.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Judges an entry; nothing is to be judged where nobody signs.
fn judge(
    authenticator: &Authenticator,
    handed_in: &HandedIn,
    name: &LoginName,
    bytes: &[u8],
) -> Result<Option<Standing>, Refused> {
    let logins = authenticator.logins();
    let Some(signers) = logins.signers(&name.fleet) else { return Ok(None) };
    let standing = signers.verify(&name.name, bytes)?;
    let known = logins.roster().find(name).map(|it| it.number);
    let last = handed_in.get(name);
    let known = known.max(last.map(|(number, _)| *number));
    let is_again = last.is_some_and(|(_, digest)| *digest == MessageDigest::of(bytes));
    if let Some(known) = known
        && !is_again
        && standing.number <= known
    {
        return Err(Refused::Superseded { found: standing.number, known });
    }
    let keys: Vec<_> = standing.keys().collect();
    if let Some(owner) = logins.other_with(name, &keys) {
        return Err(Refused::KeyTaken { host: name.name.clone(), owner });
    }
    Ok(Some(standing))
}

fn prefix(fleet: &FleetId) -> String {
    format!("herald/v1/{fleet}/roster/")
}

/// Gives the entries that are stored, with the hosts whose topics they are on.
fn entry(store: &Store, topics: Matching<'_>) -> Result<Vec<(HostId, Vec<u8>)>, ReadError> {
    let revisions = store.newer(topics, crate::message::Revision::NONE)?;
    let messages = store.messages(&revisions)?.into_iter();
    let of_host = |message: crate::message::Message| {
        let topic = std::str::from_utf8(&message.topic).ok()?.parse::<Topic>().ok()?;
        match topic.subject {
            Subject::Roster(host) => Some((host, message.payload.to_vec())),
            _ => None,
        }
    };
    Ok(messages.filter_map(of_host).collect())
}
