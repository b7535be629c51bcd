//! The journal: the one way that messages take, from their publishers through the store to the relay.
//!
//! A thread takes what has come, commits it to the store in one go, and then gives it to the relay in
//! the same order. So what a subscriber gets is durable, its revisions ascend, and a publisher's
//! acknowledgement, which waits for both, means that neither a crash nor a power cut loses it.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::{
    log::RateLimited,
    mailbox::Mailbox,
    message::Message,
    metrics::Metrics,
    packet::QoS,
    receipt::Receipt,
    refusal::Refusal,
    relay::{self, Relay},
    retained::{Change, CommitError, Session, Store},
};

/// Most entries in a commit: the store wants room on the disk for each.
const BATCH: usize = 512;
/// How long what a persistent subscription has acknowledged may be on its way to the disk. What is
/// lost of it by a crash is sent again.
const POSITIONS: Duration = Duration::from_secs(1);

/// Where everything that is to be kept or passed on is handed in.
#[derive(Debug, Clone)]
pub struct Journal {
    entries: Sender<Entry>,
    /// Sessions whose positions are to be stored.
    dirty: Arc<Mutex<Vec<Position>>>,
}

/// What is kept with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// Nothing: it is for those who are there.
    Nothing,
    /// The message, in the place of an older one.
    Latest,
}

#[derive(Debug)]
enum Entry {
    Publish { topic: Bytes, payload: Bytes, qos: QoS, keep: Keep, receipt: Receipt },
    Save { client: String, session: Session, done: Option<oneshot::Sender<()>> },
    Drop { client: String, done: oneshot::Sender<()> },
    Settle { done: oneshot::Sender<()> },
    Pulse { arrived: oneshot::Sender<()> },
    Stop,
}

/// A session whose position is to be stored.
#[derive(Debug)]
struct Position {
    client: Arc<str>,
    owner: Arc<str>,
    mailbox: Arc<Mailbox>,
}

/// The journal has ended, and with it the broker.
#[derive(Debug, thiserror::Error)]
pub enum Died {
    /// The store failed.
    #[error("the store failed: {0}")]
    Store(#[source] CommitError),
    /// The relay failed.
    #[error(transparent)]
    Relay(#[from] relay::Died),
}

/// Starts the journal's thread. Why it ended is told once.
///
/// # Errors
/// When there can be no thread.
pub fn start(
    store: Arc<Store>,
    relay: Relay<Passing>,
    metrics: Arc<Metrics>,
) -> std::io::Result<(Journal, oneshot::Receiver<Result<(), Died>>)> {
    let (entries, incoming) = mpsc::channel();
    let (ended, end) = oneshot::channel();
    let journal = Journal { entries, dirty: Arc::default() };
    let dirty = Arc::clone(&journal.dirty);
    thread::Builder::new().name("journal".to_owned()).spawn(move || {
        let log = RateLimited::new(1);
        let mut writer = Writer { store, relay, metrics, dirty, flushed: Instant::now(), log };
        let _ = ended.send(writer.run(&incoming));
    })?;
    Ok((journal, end))
}

impl Journal {
    /// Hands in a message. Its receipt is dropped when it is durable, if it is to be kept, and with
    /// all who are connected.
    pub fn publish(&self, topic: Bytes, payload: Bytes, qos: QoS, keep: Keep, receipt: Receipt) {
        // At the broker's end nobody is acknowledged any more.
        let _ = self.entries.send(Entry::Publish { topic, payload, qos, keep, receipt });
    }

    /// Stores a session, and returns when that is durable.
    ///
    /// # Errors
    /// When it can't be stored.
    pub async fn save(&self, client: &str, session: Session) -> Result<(), Refusal> {
        let (done, saved) = oneshot::channel();
        let entry = Entry::Save { client: client.to_owned(), session, done: Some(done) };
        let _ = self.entries.send(entry);
        saved.await.map_err(|_| Refusal::NotStored)
    }

    /// Forgets a session, and returns when that is durable.
    ///
    /// # Errors
    /// When that can't be stored.
    pub async fn forget(&self, client: &str) -> Result<(), Refusal> {
        let (done, forgotten) = oneshot::channel();
        let _ = self.entries.send(Entry::Drop { client: client.to_owned(), done });
        forgotten.await.map_err(|_| Refusal::NotStored)
    }

    /// Returns when all that was handed in before is durable, or refused.
    pub async fn settle(&self) {
        let (done, settled) = oneshot::channel();
        let _ = self.entries.send(Entry::Settle { done });
        let _ = settled.await;
    }

    /// Returns whether what is handed in now gets through the journal, the relay and the dispatcher.
    pub async fn pulse(&self) -> bool {
        let (arrived, arrival) = oneshot::channel();
        let _ = self.entries.send(Entry::Pulse { arrived });
        arrival.await.is_ok()
    }

    /// Has a session's positions stored with the next commit, if there is something new.
    pub fn remember_now(&self, client: &str, owner: &str, mailbox: &Mailbox) {
        if let Some(session) = unstored(owner, mailbox) {
            let _ =
                self.entries.send(Entry::Save { client: client.to_owned(), session, done: None });
        }
    }

    /// Has a session's positions stored, soon.
    pub fn remember(&self, client: &Arc<str>, owner: &Arc<str>, mailbox: &Arc<Mailbox>) {
        self.dirty.lock().unwrap_or_else(PoisonError::into_inner).push(Position {
            client: Arc::clone(client),
            owner: Arc::clone(owner),
            mailbox: Arc::clone(mailbox),
        });
    }

    /// Ends the journal when all that was handed in before is done.
    pub fn stop(&self) {
        let _ = self.entries.send(Entry::Stop);
    }
}

/// What goes through the relay with a message.
#[derive(Debug)]
pub struct Passing {
    /// The publisher's receipt.
    pub receipt: Receipt,
    /// When it went in.
    pub since: Instant,
    /// Told when it came out, by the dispatcher.
    pub arrived: Option<oneshot::Sender<()>>,
}

impl Passing {
    fn now(receipt: Receipt) -> Self {
        Self { receipt, since: Instant::now(), arrived: None }
    }
}

struct Writer {
    store: Arc<Store>,
    relay: Relay<Passing>,
    metrics: Arc<Metrics>,
    dirty: Arc<Mutex<Vec<Position>>>,
    flushed: Instant,
    log: RateLimited,
}

impl Writer {
    fn run(&mut self, incoming: &Receiver<Entry>) -> Result<(), Died> {
        let mut batch = Vec::new();
        loop {
            match incoming.recv_timeout(POSITIONS) {
                Ok(first) => batch.push(first),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => batch.push(Entry::Stop),
            }
            batch.extend(incoming.try_iter().take(BATCH - 1));
            let stop = batch.iter().any(|entry| matches!(entry, Entry::Stop));
            if stop || self.flushed.elapsed() >= POSITIONS {
                self.positions(&mut batch);
            }
            self.write(&mut batch)?;
            if stop {
                return self.last_positions();
            }
        }
    }

    /// Adds the sessions whose positions are to be stored.
    fn positions(&mut self, batch: &mut Vec<Entry>) {
        let dirty: Vec<Position> = {
            let mut dirty = self.dirty.lock().unwrap_or_else(PoisonError::into_inner);
            // The others follow a batch later.
            let count = dirty.len().min(BATCH);
            if count == dirty.len() {
                self.flushed = Instant::now();
            }
            dirty.drain(..count).collect()
        };
        for Position { client, owner, mailbox } in dirty {
            if let Some(session) = unstored(&owner, &mailbox) {
                batch.push(Entry::Save { client: client.to_string(), session, done: None });
            }
        }
    }

    /// Stores all positions that are not stored yet.
    fn last_positions(&mut self) -> Result<(), Died> {
        loop {
            let mut batch = Vec::new();
            self.positions(&mut batch);
            if batch.is_empty() {
                return Ok(());
            }
            self.write(&mut batch)?;
        }
    }

    /// Commits a batch, and passes on what is in it.
    fn write(&mut self, batch: &mut Vec<Entry>) -> Result<(), Died> {
        let changes: Vec<Change> = batch.iter().filter_map(change).collect();
        let mut revisions = Vec::new();
        if !changes.is_empty() {
            let began = Instant::now();
            match self.store.commit(&changes) {
                Ok(committed) => {
                    let messages = committed.iter().flatten().count();
                    self.metrics.committed(messages, began.elapsed());
                    self.metrics.set_stored(self.store.retained(), self.store.sessions());
                    revisions = committed;
                }
                // There may be room for less.
                Err(CommitError::NoSpace { .. }) if batch.len() > 1 => {
                    let mut second = batch.split_off(batch.len() / 2);
                    self.write(batch)?;
                    return self.write(&mut second);
                }
                Err(error @ CommitError::NoSpace { .. }) => {
                    let reason = Refusal::NotStored.name();
                    if let Some(suppressed) = self.log.admit(reason, Instant::now()) {
                        tracing::error!(%error, suppressed, "something can't be stored");
                    }
                    return self.pass_on_without_store(batch);
                }
                Err(error) => return Err(Died::Store(error)),
            }
        }
        let mut revisions = revisions.into_iter();
        for entry in batch.drain(..) {
            let revision = if is_change(&entry) { revisions.next().flatten() } else { None };
            match entry {
                Entry::Publish { keep: Keep::Latest, payload, receipt, .. }
                    if revision.is_none() && !payload.is_empty() =>
                {
                    self.refuse(receipt, Refusal::TooManyTopics);
                }
                Entry::Publish { topic, payload, qos, receipt, .. } => {
                    let message = Message { topic, payload, revision };
                    self.relay.publish(&message, qos, Passing::now(receipt))?;
                }
                Entry::Save { done: Some(done), .. }
                | Entry::Drop { done, .. }
                | Entry::Settle { done } => {
                    let _ = done.send(());
                }
                Entry::Pulse { arrived } => self.beat(arrived)?,
                Entry::Save { done: None, .. } | Entry::Stop => {}
            }
        }
        Ok(())
    }

    /// Refuses a message that can't be kept. A will has no publisher any more that would be closed,
    /// and be counted by that.
    fn refuse(&self, receipt: Receipt, reason: Refusal) {
        if receipt.is_none() {
            self.metrics.refused(reason);
            if let Some(suppressed) = self.log.admit(reason.name(), Instant::now()) {
                tracing::warn!(%reason, suppressed, "a last will was not kept");
            }
        }
        receipt.refuse(reason);
    }

    /// Sends a message without a topic through the relay, for nobody.
    fn beat(&mut self, arrived: oneshot::Sender<()>) -> Result<(), Died> {
        let message = Message { topic: Bytes::new(), payload: Bytes::new(), revision: None };
        let passing = Passing { arrived: Some(arrived), ..Passing::now(Receipt::none()) };
        Ok(self.relay.publish(&message, QoS::AtMostOnce, passing)?)
    }

    /// Passes on what need not be stored, and refuses the rest.
    fn pass_on_without_store(&mut self, batch: &mut Vec<Entry>) -> Result<(), Died> {
        for entry in batch.drain(..) {
            match entry {
                Entry::Publish { keep: Keep::Latest, receipt, .. } => {
                    self.refuse(receipt, Refusal::NotStored);
                }
                Entry::Publish { topic, payload, qos, receipt, .. } => {
                    let message = Message { topic, payload, revision: None };
                    self.relay.publish(&message, qos, Passing::now(receipt))?;
                }
                // Whoever waits for it is told by the end of the channel.
                Entry::Pulse { arrived } => self.beat(arrived)?,
                Entry::Save { .. } | Entry::Drop { .. } | Entry::Settle { .. } | Entry::Stop => {}
            }
        }
        Ok(())
    }
}

/// Gives what is to be stored of a session, if there is something new.
fn unstored(owner: &str, mailbox: &Mailbox) -> Option<Session> {
    let subscriptions =
        mailbox.change(|subscriptions| subscriptions.clean().then(|| subscriptions.to_store()));
    Some(Session { owner: owner.to_owned(), subscriptions: subscriptions? })
}

/// Tells whether an entry changes the store.
fn is_change(entry: &Entry) -> bool {
    !matches!(
        entry,
        Entry::Publish { keep: Keep::Nothing, .. }
            | Entry::Settle { .. }
            | Entry::Pulse { .. }
            | Entry::Stop
    )
}

/// Gives what an entry changes in the store.
fn change(entry: &Entry) -> Option<Change> {
    match entry {
        Entry::Publish { keep: Keep::Nothing, .. }
        | Entry::Settle { .. }
        | Entry::Pulse { .. }
        | Entry::Stop => None,
        Entry::Publish { topic, payload, .. } if payload.is_empty() => {
            Some(Change::Clear { topic: topic.clone() })
        }
        Entry::Publish { topic, payload, .. } => {
            Some(Change::Retain { topic: topic.clone(), payload: payload.clone() })
        }
        Entry::Save { client, session, .. } => {
            Some(Change::SaveSession { client: client.clone(), session: session.clone() })
        }
        Entry::Drop { client, .. } => Some(Change::DropSession { client: client.clone() }),
    }
}
