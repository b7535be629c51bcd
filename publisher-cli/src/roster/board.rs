//! What the broker has of hosts: their entries in the roster, and what they ask for.

use std::{collections::BTreeMap, time::Duration};

use herald_client::{Client, Message};
use herald_fleet::{fleet::Fleet, roster::OnBroker};
use herald_proto::{
    enrol::RosterEntry,
    host::HostId,
    key::KeyId,
    signing,
    topic::{Filter, Subject, Topic},
    trust::Trust,
};
use tokio::time::{Instant, timeout, timeout_at};

use crate::{
    connection::{Arrival, Connection},
    fleet_file::FleetFile,
    output,
};

/// How long to wait for entries and requests that may not be there.
const SETTLED_WITHIN: Duration = Duration::from_secs(1);

/// A connection, and what has come over it.
pub(crate) struct Board {
    connection: Connection,
    /// The fleet as it was when the connection was made.
    fleet: Fleet,
    trust: Option<Trust>,
    entries: BTreeMap<HostId, RosterEntry>,
    requests: BTreeMap<HostId, Vec<u8>>,
}

impl Board {
    /// Connects, and reads what the broker has of these hosts. Without trust no entry counts.
    pub(crate) async fn open(
        file: &FleetFile,
        trust: Option<Trust>,
        hosts: &[HostId],
        within: Duration,
    ) -> anyhow::Result<Self> {
        let fleet = file.fleet.clone();
        let filters = hosts.iter().flat_map(|host| filters(&fleet, host)).collect();
        let connection = Connection::open(file.access()?, filters, within).await?;
        let (entries, requests) = (BTreeMap::new(), BTreeMap::new());
        let mut board = Self { connection, fleet, trust, entries, requests };
        let deadline = Instant::now() + SETTLED_WITHIN;
        while !hosts.iter().all(|host| board.has(host)) {
            if board.hear(deadline).await?.is_none() {
                break;
            }
        }
        Ok(board)
    }

    /// Gives what there is of a host.
    pub(crate) fn of(&self, host: &HostId) -> OnBroker<'_> {
        OnBroker {
            entry: self.entries.get(host),
            request: self.requests.get(host).map(Vec::as_slice),
        }
    }

    /// Gives the request of a host, and waits for one that is not there yet.
    pub(crate) async fn request(
        &mut self,
        host: &HostId,
        within: Duration,
    ) -> anyhow::Result<Option<&[u8]>> {
        let deadline = Instant::now() + within;
        while !self.requests.contains_key(host) && self.hear(deadline).await?.is_some() {}
        Ok(self.requests.get(host).map(Vec::as_slice))
    }

    /// Takes away a request that was used, or that nobody waits for any more.
    pub(crate) async fn clear_request(&self, token: KeyId, within: Duration) {
        let topic = self.fleet.topic(Subject::Enrol(token));
        let cleared = self.connection.client.publish(Message::new(topic, Vec::new()));
        // It opens nothing, wherever it is left.
        let _ = timeout(within, cleared).await;
    }

    /// Gives what publishes.
    pub(crate) fn client(&self) -> &Client {
        &self.connection.client
    }

    /// Disconnects.
    pub(crate) async fn close(self) {
        self.connection.close().await;
    }

    fn has(&self, host: &HostId) -> bool {
        let is_asked = self.fleet.token(host).is_none() || self.requests.contains_key(host);
        let is_told = self.trust.is_none() || self.entries.contains_key(host);
        is_asked && is_told
    }

    /// Takes up the next message; none came before the deadline.
    async fn hear(&mut self, deadline: Instant) -> anyhow::Result<Option<()>> {
        let Ok(arrival) = timeout_at(deadline, self.connection.next()).await else {
            return Ok(None);
        };
        if let Arrival::Message { topic, payload, .. } = arrival?
            && !payload.is_empty()
        {
            self.note(&topic, payload);
        }
        Ok(Some(()))
    }

    fn note(&mut self, topic: &Topic, payload: Vec<u8>) {
        match (&topic.subject, &self.trust) {
            (Subject::Roster(host), Some(trust)) => {
                match signing::verify_roster_entry(&payload, trust) {
                    Ok(entry) if entry.host == *host => {
                        self.entries.insert(host.clone(), entry.into_inner());
                    }
                    Ok(_) => output::note(&format!("the roster's entry of {host} is another's")),
                    Err(why) => output::note(&format!(
                        "the roster's entry of {host} counts for nothing ({why}): `herald host \
                         announce` signs it anew"
                    )),
                }
            }
            (Subject::Enrol(token), _) => {
                if let Some(host) = self.fleet.invited(*token) {
                    self.requests.insert(host.clone(), payload);
                }
            }
            _ => {}
        }
    }
}

fn filters(fleet: &Fleet, host: &HostId) -> impl Iterator<Item = Filter> {
    let request = fleet.token(host).map(|token| Subject::Enrol(token.key().id()));
    let subjects = [Some(Subject::Roster(host.clone())), request];
    subjects.into_iter().flatten().map(|subject| Filter::Exactly(fleet.topic(subject)))
}
