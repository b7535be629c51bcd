//! What waits to be sent to one client, and what it still has to acknowledge.
//!
//! The dispatcher puts messages in, the journal ends publishes, and the client's session alone takes
//! out. Nothing here does IO.

use std::{
    collections::{BTreeSet, VecDeque},
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use crate::{
    message::{Message, Revision},
    packet::{self, QoS},
    receipt::Receipt,
    refusal::Refusal,
    subscription::{Serial, Subscriptions},
};

/// Most messages sent to a client and not acknowledged by it.
const WINDOW: usize = 256;
/// Most publishes from a client that are not acknowledged.
const PUBLISHES: usize = 256;
/// From this many waiting messages on, those who publish more wait for the subscriber.
const LONG: usize = 64;
/// Most retained messages that are read at a time.
const FETCH: usize = 32;
/// About how many bytes are sent at a time.
const BATCH: usize = 32 * 1024;
/// From this many bytes of answers on, nothing more is taken from a client that does not read them.
const ANSWERS: usize = 64 * 1024;

/// What waits for a client.
#[derive(Debug)]
pub struct Mailbox {
    state: Mutex<State>,
    patience: Patience,
}

/// What a client may let wait before it is closed.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// So many bytes of messages.
    pub bytes: usize,
    /// A message, for so long: those who publish wait with it.
    pub time: Duration,
}

#[derive(Debug, Default)]
struct State {
    waker: Option<Waker>,
    /// Answers, encoded.
    replies: Vec<u8>,
    /// Messages as they came.
    queue: VecDeque<Queued>,
    queued_bytes: usize,
    /// The revisions in the queue.
    queued_revisions: VecDeque<Revision>,
    /// Retained messages that are still to be fetched.
    backlog: VecDeque<(Revision, Serial)>,
    /// Whether the queue waited for a backlog, and was not short since.
    catching_up: bool,
    in_flight: VecDeque<InFlight>,
    last_packet: u16,
    /// Publishes that are under way, in the order in which they are to be acknowledged.
    publishes: VecDeque<Publishing>,
    subscriptions: Subscriptions,
    /// How many acknowledgements there were.
    acknowledgements: u64,
    life: Life,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Life {
    #[default]
    Open,
    /// The session is to end.
    Closing(Refusal),
    Over,
}

#[derive(Debug)]
struct Queued {
    message: Arc<Message>,
    qos: QoS,
    since: Instant,
    /// Held while the queue is long, so that the publisher waits.
    receipt: Option<Receipt>,
}

#[derive(Debug)]
struct InFlight {
    packet: u16,
    acknowledged: bool,
    mark: Mark,
}

/// What an acknowledgement says about the client's subscriptions.
#[derive(Debug, Clone, Copy)]
enum Mark {
    Nothing,
    /// It has all up to here.
    Live(Revision),
    /// It has all up to here that was retained when it subscribed.
    Backlog(Revision, Serial),
}

#[derive(Debug)]
struct Publishing {
    packet: u16,
    done: bool,
}

/// What the session is to do.
#[derive(Debug)]
pub enum Work {
    /// Send these bytes, with so many messages in them.
    Send(Vec<u8>, usize),
    /// Fetch these retained messages, and give them to [`Mailbox::fetched`].
    Fetch(Vec<(Revision, Serial)>),
    /// Wait: the client has to acknowledge something first.
    Blocked {
        /// How often it has, so far.
        acknowledgements: u64,
        /// Since when the first message waits, if publishers wait with it.
        since: Option<Instant>,
    },
}

impl Mailbox {
    /// Makes an empty one.
    pub fn new(patience: Patience, subscriptions: Subscriptions) -> Self {
        Self { state: Mutex::new(State { subscriptions, ..State::default() }), patience }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the session, for the first reason that is given.
    pub fn close(&self, reason: Refusal) {
        self.end(Life::Closing(reason));
    }

    /// Drops what waits: the session is over.
    pub fn finish(&self) {
        self.end(Life::Over);
    }

    fn end(&self, life: Life) {
        let mut state = self.lock();
        if state.life == Life::Open || life == Life::Over {
            state.life = life;
            // It may hold up publishers.
            let queue = mem::take(&mut state.queue);
            let waker = state.waker.take();
            drop(state);
            drop(queue);
            wake(waker);
        }
    }

    /// Puts a message in. A client that lets too much wait, or lets it wait too long, is closed.
    pub fn deliver(&self, message: &Arc<Message>, qos: QoS, receipt: &Receipt, now: Instant) {
        let mut state = self.lock();
        if state.life != Life::Open {
            return;
        }
        // Two of its filters match: once is enough, with the higher QoS (section 3.3.5).
        if let Some(last) = state.queue.back_mut()
            && Arc::ptr_eq(&last.message, message)
        {
            last.qos = last.qos.max(qos);
            return;
        }
        let size = message.topic.len() + message.payload.len();
        let Patience { bytes, time } = self.patience;
        let long = state.queue.len() >= LONG || state.queued_bytes + size > bytes / 4;
        state.end_catching_up(long, now);
        // While it catches up the queue has to wait, and nobody waits for that.
        let long = long && !state.catching_up;
        let stale = |first: &Queued| now.duration_since(first.since) > time;
        if state.queued_bytes + size > bytes || (long && state.queue.front().is_some_and(stale)) {
            drop(state);
            return self.close(Refusal::Slow);
        }
        state.queued_bytes += size;
        state.queued_revisions.extend(message.revision);
        let receipt = long.then(|| receipt.clone());
        state.queue.push_back(Queued { message: Arc::clone(message), qos, since: now, receipt });
        let waker = state.waker.take();
        drop(state);
        wake(waker);
    }

    /// Puts an answer in.
    pub fn reply(&self, bytes: &[u8]) {
        let mut state = self.lock();
        state.replies.extend_from_slice(bytes);
        let waker = state.waker.take();
        drop(state);
        wake(waker);
    }

    /// Tells whether there is room for the answer to another packet; if not, the task is woken when
    /// there is.
    pub fn poll_answerable(&self, context: &Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        if state.replies.len() < ANSWERS {
            return Poll::Ready(());
        }
        state.waker = Some(context.waker().clone());
        Poll::Pending
    }

    /// Notes that the client publishes a message. It is acknowledged by [`Receipt`], in order.
    pub fn publishing(&self, packet: Option<u16>) {
        self.lock().publishes.push_back(Publishing { packet: packet.unwrap_or(0), done: false });
    }

    /// Tells whether the client may publish more; if not, the task is woken when it may.
    pub fn poll_room(&self, context: &Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        if state.publishes.len() < PUBLISHES {
            return Poll::Ready(());
        }
        state.waker = Some(context.waker().clone());
        Poll::Pending
    }

    pub(crate) fn published(&self, packet: Option<u16>) {
        let mut state = self.lock();
        let packet = packet.unwrap_or(0);
        let under_way =
            |publishing: &&mut Publishing| publishing.packet == packet && !publishing.done;
        if let Some(publishing) = state.publishes.iter_mut().find(under_way) {
            publishing.done = true;
        }
        while let Some(first) = state.publishes.front()
            && first.done
        {
            // A session that is at its end acknowledges nothing: the message may be what ends it.
            if first.packet != 0 && state.life == Life::Open {
                let answer = packet::puback(first.packet);
                state.replies.extend_from_slice(&answer);
            }
            state.publishes.pop_front();
        }
        let waker = state.waker.take();
        drop(state);
        wake(waker);
    }

    /// Notes what filters have to catch up with, oldest first, in the place of what they had to.
    pub fn catch_up(&self, backlog: impl IntoIterator<Item = (Revision, Serial)>) {
        let backlog: Vec<_> = backlog.into_iter().collect();
        // Dropped when the lock is free again: a publisher may be told, who may be this client.
        let mut receipts = Vec::new();
        let mut state = self.lock();
        state.forget_backlog_of(&backlog);
        for (revision, serial) in backlog {
            state.subscriptions.behind(serial);
            state.backlog.push_back((revision, serial));
        }
        if !state.backlog.is_empty() {
            state.catching_up = true;
            receipts.extend(state.queue.iter_mut().filter_map(|queued| queued.receipt.take()));
        }
        let waker = state.waker.take();
        drop(state);
        wake(waker);
    }

    /// Changes the subscriptions.
    pub fn change<T>(&self, change: impl FnOnce(&mut Subscriptions) -> T) -> T {
        change(&mut self.lock().subscriptions)
    }

    /// Forgets what subscriptions that have ended had to catch up with.
    pub fn forget_ended(&self) {
        let mut state = self.lock();
        let state = &mut *state;
        let subscriptions = &state.subscriptions;
        state.backlog.retain(|(_, serial)| subscriptions.has(*serial));
    }

    /// Notes an acknowledgement. Acknowledgements may come in any order; an unknown one is passed
    /// over. Tells whether the subscriptions have something new to be stored.
    pub fn acknowledged(&self, packet: u16) -> bool {
        let mut state = self.lock();
        let sent = |sent: &&mut InFlight| sent.packet == packet && !sent.acknowledged;
        if let Some(sent) = state.in_flight.iter_mut().find(sent) {
            sent.acknowledged = true;
            state.acknowledgements += 1;
        }
        let mut dirty = false;
        while state.in_flight.front().is_some_and(|first| first.acknowledged) {
            let Some(first) = state.in_flight.pop_front() else { break };
            dirty |= match first.mark {
                Mark::Nothing => false,
                Mark::Live(revision) => state.subscriptions.caught_up_all(revision),
                Mark::Backlog(revision, serial) => state.subscriptions.caught_up(serial, revision),
            };
        }
        if state.in_flight.is_empty() {
            state.in_flight = VecDeque::new();
        }
        let waker = state.waker.take();
        drop(state);
        wake(waker);
        dirty
    }

    /// Takes what is to be done, or has the task woken when there is something. Gives an error when
    /// the session is to end.
    pub fn poll_work(&self, context: &Context<'_>) -> Poll<Result<Work, Refusal>> {
        // Dropped when the lock is free again: a publisher may be told, who may be this client.
        let mut receipts = Vec::new();
        let mut state = self.lock();
        if let Life::Closing(reason) = state.life {
            return Poll::Ready(Err(reason));
        }
        let mut out = mem::take(&mut state.replies);
        if out.len() >= ANSWERS {
            // The session's other half waits for room, in the same task.
            context.waker().wake_by_ref();
        }
        let room = WINDOW - state.in_flight.len().min(WINDOW);
        if !state.is_live_next() && !state.backlog.is_empty() && room > 0 && out.is_empty() {
            let live = state.first_live();
            let older = |(revision, _): &&(Revision, Serial)| live.is_none_or(|it| *revision <= it);
            let count = state.backlog.iter().take(room.min(FETCH)).take_while(older).count();
            let fetch = state.backlog.drain(..count).collect();
            if state.backlog.is_empty() {
                state.backlog = VecDeque::new();
            }
            return Poll::Ready(Ok(Work::Fetch(fetch)));
        }
        let mut messages = 0;
        while out.len() < BATCH
            && state.is_live_next()
            && let Some(first) = state.queue.front()
            && (first.qos == QoS::AtMostOnce || state.in_flight.len() < WINDOW)
        {
            let Some(queued) = state.queue.pop_front() else { break };
            receipts.extend(state.send_live(&mut out, queued));
            messages += 1;
        }
        if state.queue.is_empty() {
            state.queue = VecDeque::new();
            state.queued_revisions = VecDeque::new();
        }
        if !out.is_empty() {
            return Poll::Ready(Ok(Work::Send(out, messages)));
        }
        if !state.queue.is_empty() || !state.backlog.is_empty() {
            let acknowledgements = state.acknowledgements;
            let held = state.queue.back().is_some_and(|last| last.receipt.is_some());
            let since = state.queue.front().filter(|_| held).map(|first| first.since);
            return Poll::Ready(Ok(Work::Blocked { acknowledgements, since }));
        }
        state.waker = Some(context.waker().clone());
        Poll::Pending
    }

    /// Waits until the session is to end.
    pub fn poll_closed(&self, context: &Context<'_>) -> Poll<Refusal> {
        let mut state = self.lock();
        if let Life::Closing(reason) = state.life {
            return Poll::Ready(reason);
        }
        state.waker = Some(context.waker().clone());
        Poll::Pending
    }

    /// Waits, when there was [`Work::Blocked`], until there is other work.
    pub fn poll_unblocked(&self, context: &Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        let answers = !state.replies.is_empty();
        if answers || state.in_flight.len() < WINDOW || state.life != Life::Open {
            return Poll::Ready(());
        }
        state.waker = Some(context.waker().clone());
        Poll::Pending
    }

    /// Encodes retained messages that were fetched: for each of [`Work::Fetch`], the message, or none
    /// if another one has taken its place meanwhile.
    pub fn fetched(
        &self,
        fetched: impl IntoIterator<Item = ((Revision, Serial), Option<Message>)>,
    ) -> Work {
        let mut state = self.lock();
        let mut out = Vec::new();
        let mut messages = 0;
        for ((revision, serial), message) in fetched {
            // The look-up was by what the topic begins with.
            let qos = message.as_ref().and_then(|message| state.subscriptions.qos(serial, message));
            let (Some(message), Some(qos)) = (message, qos) else {
                state.subscriptions.passed_over(serial);
                continue;
            };
            let packet = match qos {
                QoS::AtMostOnce => {
                    state.subscriptions.passed_over(serial);
                    None
                }
                QoS::AtLeastOnce => Some(state.put_in_flight(Mark::Backlog(revision, serial))),
            };
            packet::publish(&mut out, &message, packet, true);
            messages += 1;
        }
        Work::Send(out, messages)
    }
}

impl State {
    /// Gives the first revision that waits in the queue.
    fn first_live(&self) -> Option<Revision> {
        self.queued_revisions.front().copied()
    }

    /// Tells whether the queue goes before the backlog: what is older goes first, so that nobody gets
    /// an older message of a topic after a newer one.
    fn is_live_next(&self) -> bool {
        let Some((retained, _)) = self.backlog.front() else { return !self.queue.is_empty() };
        self.first_live().is_some_and(|live| live < *retained)
    }

    /// Notes that the client has caught up, if it has: what waited until now did so for a reason, and
    /// is late only from now on.
    fn end_catching_up(&mut self, is_long: bool, now: Instant) {
        let has_caught_up = self.backlog.is_empty() && (self.queue.is_empty() || !is_long);
        if self.catching_up && has_caught_up {
            self.catching_up = false;
            self.queue.iter_mut().for_each(|queued| queued.since = now);
        }
    }

    /// Forgets what is still to be sent for the filters of a new backlog.
    fn forget_backlog_of(&mut self, new: &[(Revision, Serial)]) {
        if self.backlog.is_empty() {
            return;
        }
        let again: BTreeSet<Serial> = new.iter().map(|(_, serial)| *serial).collect();
        self.backlog.retain(|(_, serial)| {
            let stays = !again.contains(serial);
            if !stays {
                self.subscriptions.passed_over(*serial);
            }
            stays
        });
    }

    /// Encodes a message, and gives the receipt that was held with it.
    fn send_live(&mut self, out: &mut Vec<u8>, queued: Queued) -> Option<Receipt> {
        let message = &queued.message;
        self.queued_bytes -= message.topic.len() + message.payload.len();
        if message.revision.is_some() {
            self.queued_revisions.pop_front();
        }
        let packet = (queued.qos == QoS::AtLeastOnce)
            .then(|| self.put_in_flight(message.revision.map_or(Mark::Nothing, Mark::Live)));
        packet::publish(out, message, packet, false);
        queued.receipt
    }

    fn put_in_flight(&mut self, mark: Mark) -> u16 {
        // As many ids as there are, and only a window of them in use, in order: it is free again.
        self.last_packet = self.last_packet.checked_add(1).unwrap_or(1);
        self.in_flight.push_back(InFlight { packet: self.last_packet, acknowledged: false, mark });
        self.last_packet
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

#[cfg(test)]
mod tests;
