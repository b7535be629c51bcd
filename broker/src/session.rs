//! One client's session: from its CONNECT to the end of its connection.
//!
//! One task serves a connection: it reads packets and writes what waits in the mailbox, each in plain
//! order, side by side. An idle session holds no buffers.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use herald_proto::topic::{Filter, Topic};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf, split},
    select,
    task::coop::consume_budget,
    time::{Instant, sleep_until, timeout},
};

use crate::{
    acl,
    backlog::{self, Wanted},
    broker::Broker,
    journal::Keep,
    limits::Permit,
    mailbox::{Mailbox, Work},
    message::{Message, Revision},
    metrics::Counted,
    packet::{self, Packet, Publish, QoS, SUBSCRIPTION_REFUSED},
    principal::Principal,
    receipt::Receipt,
    refusal::Refusal,
    registry::Place,
    relay, retained,
    stream::broken,
    subscription::Serial,
};

/// Most bytes that are read at a time.
const READ: usize = 8 * 1024;
/// Most bytes that must leave within the time that a slow client has.
const WRITE: usize = 64 * 1024;
/// Retained messages are looked up by wildcard aside, as there may be very many.
const FEW: usize = 16;

/// A session that is accepted.
pub struct Session {
    pub(crate) broker: Arc<Broker>,
    pub(crate) principal: Principal,
    pub(crate) client: Arc<str>,
    /// The principal's name.
    pub(crate) owner: Arc<str>,
    pub(crate) mailbox: Arc<Mailbox>,
    /// How long nothing may come from the client.
    pub(crate) silence: Duration,
    pub(crate) will: Option<Box<Will>>,
    pub(crate) most_filters: usize,
    /// What was kept of it from earlier connections.
    pub(crate) kept: Option<Box<retained::Session>>,
    pub(crate) end: End,
    pub(crate) _place: Place,
    pub(crate) _permit: Permit,
    pub(crate) _counted: Counted,
}

/// What is published if the client goes without a word.
pub struct Will {
    pub(crate) topic: Topic,
    pub(crate) publish: Publish,
}

/// How a connection ended.
#[derive(Debug)]
pub(crate) enum End {
    /// With a DISCONNECT.
    Orderly,
    /// The client closed it, or the network failed.
    Gone,
    /// By us.
    Refused(Refusal),
}

impl From<Refusal> for End {
    fn from(reason: Refusal) -> Self {
        Self::Refused(reason)
    }
}

impl Session {
    /// Serves the connection until its end. `received` is what came behind the CONNECT.
    pub async fn run(mut self, stream: impl AsyncRead + AsyncWrite + Unpin, received: BytesMut) {
        let resumed = match self.kept.take() {
            Some(kept) => self.resume(*kept).await,
            None => Ok(()),
        };
        self.end = match resumed {
            Ok(()) => {
                let (reader, writer) = split(stream);
                select! {
                    end = self.read(reader, received) => end,
                    end = self.write(writer) => end,
                }
            }
            Err(reason) => End::Refused(reason),
        };
    }

    async fn read(&self, mut stream: impl AsyncRead + Unpin, mut received: BytesMut) -> End {
        let mut silence = pin!(sleep_until(Instant::now() + self.silence));
        loop {
            loop {
                match relay::decode(&mut received, self.broker.settings.max_packet) {
                    Err(reason) => return End::Refused(reason),
                    Ok(None) => break,
                    Ok(Some(Packet::Disconnect)) => return End::Orderly,
                    Ok(Some(packet)) => {
                        poll_fn(|context| self.mailbox.poll_answerable(context)).await;
                        if let Err(reason) = self.take(packet).await {
                            return End::Refused(reason);
                        }
                    }
                }
            }
            if received.is_empty() {
                received = BytesMut::new();
            }
            // What the client sent while nobody read counts from now on.
            let heard = Instant::now();
            loop {
                select! {
                    biased;
                    read = fill(&mut stream, &mut received) => match read {
                        Ok(1..) => break,
                        Err(error) => return broken(&error).map_or(End::Gone, End::Refused),
                        Ok(0) => return End::Gone,
                    },
                    () = &mut silence => {
                        let due = heard + self.silence;
                        if due <= Instant::now() {
                            return End::Refused(Refusal::KeepAlive);
                        }
                        silence.as_mut().reset(due);
                    }
                }
            }
        }
    }

    async fn take(&self, packet: Packet) -> Result<(), Refusal> {
        match packet {
            Packet::Publish(publish) => self.publish(publish).await,
            Packet::PubAck(packet) => {
                if self.mailbox.acknowledged(packet) {
                    self.broker.journal.remember(&self.client, &self.owner, &self.mailbox);
                }
                Ok(())
            }
            Packet::Subscribe { packet, filters } => self.subscribe(packet, filters).await,
            Packet::Unsubscribe { packet, filters } => self.unsubscribe(packet, filters).await,
            Packet::PingReq => {
                self.mailbox.reply(&packet::PINGRESP);
                Ok(())
            }
            Packet::Connect(_) | Packet::Disconnect => Err(Refusal::Unexpected),
        }
    }

    async fn publish(&self, publish: Publish) -> Result<(), Refusal> {
        let Ok(topic) = publish.topic.parse::<Topic>() else {
            return Err(Refusal::Topic);
        };
        if !acl::may_publish(&self.principal, &topic, publish.retain) {
            return Err(Refusal::PublishDenied);
        }
        let size = publish.topic.len() + publish.payload.len();
        poll_fn(|context| self.mailbox.poll_room(context)).await;
        let room = Arc::clone(&self.broker.room);
        let Ok(room) = room.acquire_many_owned(size as u32).await else {
            return Err(Refusal::Stopping);
        };
        self.mailbox.publishing(publish.packet);
        let receipt = Receipt::new(Arc::clone(&self.mailbox), publish.packet, room);
        self.broker.metrics.received(size);
        self.broker.admit(topic, publish, receipt)
    }

    async fn subscribe(&self, packet: u16, filters: Vec<(String, u8)>) -> Result<(), Refusal> {
        let mut codes = Vec::with_capacity(filters.len());
        let mut granted = Vec::new();
        let mut changed = false;
        for (text, wanted) in &filters {
            // QoS 2 is granted as QoS 1 (section 3.9.3 lets a server grant less).
            let qos = if *wanted == 0 { QoS::AtMostOnce } else { QoS::AtLeastOnce };
            // A packet may have thousands, and others are to be served meanwhile.
            consume_budget().await;
            match self.grant(text, qos) {
                Ok((wanted, is_other)) => {
                    codes.push(qos as u8);
                    granted.push(wanted);
                    changed |= is_other;
                }
                Err(reason) => {
                    codes.push(SUBSCRIPTION_REFUSED);
                    self.broker.refused(reason, &self.client, &self.principal);
                }
            }
        }
        // Hosts ask for the same again on each connection, also while nothing can be stored.
        if changed {
            self.save().await?;
        }
        // Every retained message, also to one who had the subscription before (section 3.8.4).
        // The same one may be asked for again and again.
        granted.sort_by_key(|wanted| wanted.serial);
        granted.dedup_by_key(|wanted| wanted.serial);
        let backlog = self.newer(granted).await?;
        // What is published when the client has this comes live, and not as retained too.
        let mut answer = Vec::new();
        packet::suback(&mut answer, packet, &codes);
        self.mailbox.reply(&answer);
        self.mailbox.catch_up(backlog);
        Ok(())
    }

    /// Makes a subscription, if it may be made. All that is retained is wanted. Tells whether there
    /// was none like it.
    fn grant(&self, text: &str, qos: QoS) -> Result<(Wanted, bool), Refusal> {
        let filter: Filter = text.parse().map_err(|_| Refusal::Filter)?;
        if !acl::may_subscribe(&self.principal, &filter) {
            return Err(Refusal::SubscribeDenied);
        }
        let is_full = self.mailbox.change(|subscriptions| subscriptions.len()) >= self.most_filters;
        let is_known = self.broker.dispatch.has(text, &self.mailbox);
        let most = self.broker.settings.limits.filters_of(&self.principal);
        if !is_known && (is_full || !self.broker.holdings.take_filter(&self.owner, most)) {
            return Err(Refusal::TooManyFilters);
        }
        let subscribed = self.broker.dispatch.subscribe(text, &self.mailbox, qos);
        let (serial, is_other) = self.mailbox.change(|subscriptions| {
            let known = if subscribed.is_new { None } else { subscriptions.renew(text, qos) };
            known.unwrap_or_else(|| {
                (subscriptions.add(subscribed.filter, qos, Revision::NONE), true)
            })
        });
        let wanted = Wanted { filter, serial, than: Revision::NONE, up_to: subscribed.latest };
        Ok((wanted, is_other))
    }

    /// Takes up the subscriptions of a session that was kept, as far as they are still allowed, with
    /// all retained messages that are newer than what was acknowledged.
    ///
    /// # Errors
    /// When the store can't be read.
    async fn resume(&self, kept: retained::Session) -> Result<(), Refusal> {
        let mut wanted = Vec::new();
        for subscription in kept.subscriptions {
            let qos = if subscription.qos == 0 { QoS::AtMostOnce } else { QoS::AtLeastOnce };
            if let Ok((all, _)) = self.grant(&subscription.filter, qos) {
                self.mailbox.change(|known| known.resume(all.serial, subscription.acked));
                wanted.push(Wanted { than: subscription.acked, ..all });
            }
        }
        self.mailbox.catch_up(self.newer(wanted).await?);
        Ok(())
    }

    async fn unsubscribe(&self, packet: u16, filters: Vec<String>) -> Result<(), Refusal> {
        let mut changed = false;
        for filter in &filters {
            consume_budget().await;
            if self.mailbox.change(|subscriptions| subscriptions.remove(filter)).is_some() {
                self.broker.dispatch.unsubscribe(filter, &self.mailbox);
                self.broker.holdings.give_filters(&self.owner, 1);
                changed = true;
            }
        }
        if changed {
            self.mailbox.forget_ended();
            self.save().await?;
        }
        self.mailbox.reply(&packet::unsuback(packet));
        Ok(())
    }

    /// Makes a session that is kept, or sees to it that none is. There may have been one, of an owner.
    ///
    /// # Errors
    /// When the login has too many, or it can't be stored.
    pub(crate) async fn begin(&self, former: Option<Arc<str>>) -> Result<(), Refusal> {
        let Broker { holdings, settings, journal, .. } = &*self.broker;
        if self.mailbox.change(|subscriptions| subscriptions.is_persistent()) {
            if !holdings.take_session(&self.owner, &self.principal, &settings.limits) {
                return Err(Refusal::TooManySessions);
            }
            if let Err(reason) = self.save().await {
                holdings.give_session(&self.owner);
                return Err(reason);
            }
        } else if former.is_some() {
            journal.forget(&self.client).await?;
        }
        if let Some(owner) = former {
            holdings.give_session(&owner);
        }
        Ok(())
    }

    /// Stores the subscriptions of a persistent session.
    ///
    /// # Errors
    /// When they can't be stored.
    pub(crate) async fn save(&self) -> Result<(), Refusal> {
        let stored = self.mailbox.change(|subscriptions| {
            subscriptions.is_persistent().then(|| subscriptions.to_store())
        });
        let Some(subscriptions) = stored else { return Ok(()) };
        let session = retained::Session { owner: self.owner.to_string(), subscriptions };
        self.broker.journal.save(&self.client, session).await
    }

    /// Finds the retained messages that are wanted, oldest first.
    async fn newer(&self, wanted: Vec<Wanted>) -> Result<Vec<(Revision, Serial)>, Refusal> {
        let few = wanted.len() <= FEW
            && wanted.iter().all(|one| matches!(one.filter, Filter::Exactly(_)));
        let backlog = if few {
            backlog::collect(&self.broker.store, &wanted)
        } else {
            let broker = Arc::clone(&self.broker);
            let looking =
                tokio::task::spawn_blocking(move || backlog::collect(&broker.store, &wanted));
            looking.await.map_err(|_| Refusal::NotStored)?
        };
        backlog.map_err(|error| self.broker.unreadable(&error))
    }

    async fn write(&self, mut stream: impl AsyncWrite + Unpin) -> End {
        let slow = self.broker.settings.slow_after;
        let mut blocked: Option<(u64, Instant)> = None;
        loop {
            let work = match poll_fn(|context| self.mailbox.poll_work(context)).await {
                Ok(work) => work,
                Err(reason) => return End::Refused(reason),
            };
            let work = match work {
                Work::Fetch(wanted) => match self.fetch(wanted) {
                    Ok(work) => work,
                    Err(reason) => return End::Refused(reason),
                },
                other => other,
            };
            let (bytes, messages) = match work {
                Work::Send(bytes, messages) => (bytes, messages),
                Work::Fetch(_) => continue,
                Work::Blocked { acknowledgements, since: waits } => {
                    let since = match blocked {
                        Some((before, since)) if before == acknowledgements => since,
                        _ => Instant::now(),
                    };
                    blocked = Some((acknowledgements, since));
                    let unblocked = poll_fn(|context| self.mailbox.poll_unblocked(context));
                    let since = waits.map_or(since, |waits| since.min(waits.into()));
                    if tokio::time::timeout_at(since + slow, unblocked).await.is_err() {
                        return End::Refused(Refusal::Slow);
                    }
                    continue;
                }
            };
            // A slow line that makes progress is none that takes nothing.
            for part in bytes.chunks(WRITE) {
                match timeout(slow, self.send(&mut stream, part)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(end)) => return end,
                    Err(_) => return End::Refused(Refusal::Slow),
                }
            }
            self.broker.metrics.sent(messages, bytes.len());
        }
    }

    /// Sends bytes, unless the session is to end meanwhile.
    async fn send(&self, stream: &mut (impl AsyncWrite + Unpin), part: &[u8]) -> Result<(), End> {
        let sending = async {
            stream.write_all(part).await?;
            stream.flush().await
        };
        select! {
            sent = sending => sent.map_err(|_: std::io::Error| End::Gone),
            reason = poll_fn(|context| self.mailbox.poll_closed(context)) => {
                Err(End::Refused(reason))
            }
        }
    }

    /// Reads retained messages and encodes them.
    fn fetch(&self, wanted: Vec<(Revision, Serial)>) -> Result<Work, Refusal> {
        let revisions: Vec<Revision> = wanted.iter().map(|(revision, _)| *revision).collect();
        let messages = self.broker.store.messages(&revisions);
        let messages = messages.map_err(|error| self.broker.unreadable(&error))?;
        let mut messages = messages.into_iter().peekable();
        let fetched = wanted.into_iter().map(|(revision, serial)| {
            let is_it = |message: &Message| message.revision == Some(revision);
            // One message may be wanted for several filters.
            let message = match messages.peek() {
                Some(message) if is_it(message) => messages.next(),
                _ => None,
            };
            ((revision, serial), message)
        });
        Ok(self.mailbox.fetched(fetched))
    }
}

/// Ends the session, however its task ended: its will is handed in before its place is free.
impl Drop for Session {
    fn drop(&mut self) {
        let filters = self.mailbox.change(|subscriptions| subscriptions.filters());
        for filter in &filters {
            self.broker.dispatch.unsubscribe(filter, &self.mailbox);
        }
        self.broker.holdings.give_filters(&self.owner, filters.len());
        self.mailbox.finish();
        self.broker.journal.remember_now(&self.client, &self.owner, &self.mailbox);
        if let End::Refused(reason) = &self.end {
            self.broker.refused(*reason, &self.client, &self.principal);
        }
        // A client of a broker that is stopped is not gone: it comes back.
        let stopped = matches!(self.end, End::Refused(Refusal::Stopping));
        if let Some(will) = self.will.take()
            && !matches!(self.end, End::Orderly)
            && !stopped
        {
            self.broker.publish_will(*will);
        }
    }
}

/// Reads once, without a buffer while there is nothing to read.
async fn fill(
    stream: &mut (impl AsyncRead + Unpin),
    received: &mut BytesMut,
) -> std::io::Result<usize> {
    poll_fn(|context| {
        let mut chunk = [std::mem::MaybeUninit::uninit(); READ];
        let mut read = ReadBuf::uninit(&mut chunk);
        match Pin::new(&mut *stream).poll_read(context, &mut read) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) => {
                received.extend_from_slice(read.filled());
                Poll::Ready(Ok(read.filled().len()))
            }
        }
    })
    .await
}

/// Reads until there is a packet.
///
/// # Errors
/// Why there is none; nothing if the connection ended.
pub async fn first_packet(
    stream: &mut (impl AsyncRead + Unpin),
    received: &mut BytesMut,
    limit: usize,
) -> Result<Packet, Option<Refusal>> {
    loop {
        if let Some(packet) = relay::decode(received, limit)? {
            return Ok(packet);
        }
        match fill(stream, received).await {
            Err(error) => return Err(broken(&error)),
            Ok(0) => return Err(None),
            Ok(_) => {}
        }
    }
}

impl Broker {
    /// Hands a message in to the journal.
    pub(crate) fn hand_in(&self, topic: &Topic, publish: Publish, receipt: Receipt) {
        let keep = if topic.is_retained() { Keep::Latest } else { Keep::Nothing };
        let qos = if publish.packet.is_some() { QoS::AtLeastOnce } else { QoS::AtMostOnce };
        self.journal.publish(Bytes::from(publish.topic), publish.payload, qos, keep, receipt);
    }

    fn publish_will(&self, will: Will) {
        self.hand_in(&will.topic, will.publish, Receipt::none());
    }
}

/// Sends the bytes and closes the connection.
pub async fn say_goodbye(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) {
    if stream.write_all(bytes).await.is_ok() {
        let _ = stream.shutdown().await;
    }
}
