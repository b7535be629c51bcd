//! Who gets a message: subscriptions by filter.
//!
//! A topic of Herald's matches at most three filters that anyone may subscribe to, so a message costs
//! three look-ups, however many subscriptions there are.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{
        Arc, PoisonError, RwLock, RwLockWriteGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use herald_proto::topic::Topic;

use crate::{
    mailbox::Mailbox,
    message::{Message, Revision},
    packet::QoS,
    receipt::Receipt,
};

/// All subscriptions of those who are connected.
#[derive(Debug, Default)]
pub struct Dispatch {
    table: RwLock<HashMap<Arc<str>, Subscribers>>,
    /// The latest revision that was given to all. It is set and read with the table locked, so that
    /// it parts exactly what a new subscription finds retained from what it gets live.
    latest: AtomicU64,
}

/// A subscription that was made.
#[derive(Debug)]
pub struct Subscribed {
    /// The filter's text, shared by all who have it.
    pub filter: Arc<str>,
    /// Whether it was not there before.
    pub is_new: bool,
    /// What is newer than this comes live.
    pub latest: Revision,
}

/// Those who subscribed to a filter: for most filters, one.
#[derive(Debug)]
enum Subscribers {
    One(Arc<Mailbox>, QoS),
    /// By the mailbox's address.
    Many(HashMap<usize, (Arc<Mailbox>, QoS)>),
}

fn address(mailbox: &Arc<Mailbox>) -> usize {
    Arc::as_ptr(mailbox).addr()
}

impl Dispatch {
    /// Makes one without subscriptions. What is retained, up to this revision, comes no more.
    pub fn new(latest: Revision) -> Self {
        Self { latest: AtomicU64::new(latest.get()), ..Self::default() }
    }

    fn write(&self) -> RwLockWriteGuard<'_, HashMap<Arc<str>, Subscribers>> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a subscription, or changes its QoS.
    pub fn subscribe(&self, filter: &str, mailbox: &Arc<Mailbox>, qos: QoS) -> Subscribed {
        let mut table = self.write();
        let filter = match table.get_key_value(filter) {
            Some((shared, _)) => Arc::clone(shared),
            None => Arc::from(filter),
        };
        let is_new = match table.entry(Arc::clone(&filter)) {
            Entry::Vacant(vacant) => {
                vacant.insert(Subscribers::One(Arc::clone(mailbox), qos));
                true
            }
            Entry::Occupied(mut occupied) => occupied.get_mut().add(mailbox, qos),
        };
        let latest = Revision::new(self.latest.load(Ordering::Relaxed));
        Subscribed { filter, is_new, latest }
    }

    /// Tells whether there is a subscription.
    pub fn has(&self, filter: &str, mailbox: &Arc<Mailbox>) -> bool {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        match table.get(filter) {
            None => false,
            Some(Subscribers::One(known, _)) => Arc::ptr_eq(known, mailbox),
            Some(Subscribers::Many(all)) => all.contains_key(&address(mailbox)),
        }
    }

    /// Ends a subscription.
    pub fn unsubscribe(&self, filter: &str, mailbox: &Arc<Mailbox>) {
        let mut table = self.write();
        if let Some(subscribers) = table.get_mut(filter)
            && subscribers.remove(mailbox)
        {
            table.remove(filter);
            if table.len() < table.capacity() / 4 {
                table.shrink_to_fit();
            }
        }
    }

    /// Gives a message to all who subscribed to it. Those who publish more while somebody lags
    /// behind wait by its receipt.
    pub fn dispatch(&self, message: &Arc<Message>, qos: QoS, receipt: &Receipt) {
        self.give(message, qos, receipt);
        receipt.passed_on();
    }

    fn give(&self, message: &Arc<Message>, qos: QoS, receipt: &Receipt) {
        let topic = std::str::from_utf8(&message.topic).map(str::parse::<Topic>);
        // It was parsed when it came in.
        let Ok(Ok(topic)) = topic else { return };
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if let Some(revision) = message.revision {
            self.latest.store(revision.get(), Ordering::Relaxed);
        }
        let give = |filter: &str| match table.get(filter) {
            None => {}
            Some(Subscribers::One(mailbox, most)) => {
                mailbox.deliver(message, qos.min(*most), receipt, now);
            }
            Some(Subscribers::Many(all)) => {
                for (mailbox, most) in all.values() {
                    mailbox.deliver(message, qos.min(*most), receipt, now);
                }
            }
        };
        topic.each_filter_text(&mut String::new(), give);
    }

    /// Tells how many filters there are.
    pub fn filters(&self) -> usize {
        self.table.read().unwrap_or_else(PoisonError::into_inner).len()
    }
}

impl Subscribers {
    fn add(&mut self, mailbox: &Arc<Mailbox>, qos: QoS) -> bool {
        match self {
            Self::One(known, most) if Arc::ptr_eq(known, mailbox) => {
                *most = qos;
                false
            }
            Self::One(known, most) => {
                let first = (address(known), (Arc::clone(known), *most));
                let second = (address(mailbox), (Arc::clone(mailbox), qos));
                *self = Self::Many(HashMap::from([first, second]));
                true
            }
            Self::Many(all) => all.insert(address(mailbox), (Arc::clone(mailbox), qos)).is_none(),
        }
    }

    /// Removes one, and tells whether nobody is left.
    fn remove(&mut self, mailbox: &Arc<Mailbox>) -> bool {
        match self {
            Self::One(known, _) => Arc::ptr_eq(known, mailbox),
            Self::Many(all) => {
                all.remove(&address(mailbox));
                if all.len() < all.capacity() / 4 {
                    all.shrink_to_fit();
                }
                all.is_empty()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures_util::task::noop_waker;
    use std::{
        task::{Context, Poll},
        time::Duration,
    };

    use super::*;
    use crate::{
        mailbox::{Patience, Work},
        subscription::Subscriptions,
    };

    fn mailbox() -> Arc<Mailbox> {
        Arc::new(Mailbox::new(
            Patience { bytes: 1024, time: Duration::from_secs(20) },
            Subscriptions::new(false),
        ))
    }

    fn gets(mailbox: &Mailbox) -> bool {
        let waker = noop_waker();
        let context = &Context::from_waker(&waker);
        matches!(mailbox.poll_work(context), Poll::Ready(Ok(Work::Send(..))))
    }

    fn give(dispatch: &Dispatch, topic: &'static str) {
        let message = Message {
            topic: Bytes::from_static(topic.as_bytes()),
            payload: Bytes::new(),
            revision: None,
        };
        dispatch.dispatch(&Arc::new(message), QoS::AtLeastOnce, &Receipt::none());
    }

    #[test]
    fn a_message_reaches_those_whose_filter_matches_and_nobody_else() {
        for (filter, topic, matches) in [
            ("herald/v1/f/status/a/system", "herald/v1/f/status/a/system", true),
            ("herald/v1/f/status/a/+", "herald/v1/f/status/a/system", true),
            ("herald/v1/f/status/+/+", "herald/v1/f/status/a/system", true),
            ("herald/v1/f/presence/+", "herald/v1/f/presence/a", true),
            ("herald/v1/f/status/b/+", "herald/v1/f/status/a/system", false),
            ("herald/v1/g/status/+/+", "herald/v1/f/status/a/system", false),
            ("herald/v1/f/rollback/+/+", "herald/v1/f/status/a/system", false),
            ("herald/v1/f/presence/a", "herald/v1/f/presence/ab", false),
            ("herald/v1/f/+", "herald/v1/f/presence/a", false),
        ] {
            let (dispatch, mailbox) = (Dispatch::default(), mailbox());
            dispatch.subscribe(filter, &mailbox, QoS::AtLeastOnce);
            give(&dispatch, topic);
            assert_eq!(gets(&mailbox), matches, "{filter} and {topic}");
        }
    }

    #[test]
    fn a_subscription_knows_what_it_gets_live() {
        let dispatch = Dispatch::new(Revision::new(7));
        let latest =
            || dispatch.subscribe("herald/v1/f/beacon", &mailbox(), QoS::AtLeastOnce).latest.get();
        assert_eq!(latest(), 7);
        for (revision, expected) in [(Some(Revision::new(9)), 9), (None, 9)] {
            // Also one that nobody listens to.
            let topic = Bytes::from_static(b"herald/v1/g/beacon");
            let message = Arc::new(Message { topic, payload: Bytes::new(), revision });
            dispatch.dispatch(&message, QoS::AtLeastOnce, &Receipt::none());
            assert_eq!(latest(), expected);
        }
    }

    #[test]
    fn subscribers_come_and_go_and_leave_nothing_behind() {
        let dispatch = Dispatch::default();
        let all: Vec<_> = (0..100).map(|_| mailbox()).collect();
        for mailbox in &all {
            assert!(!dispatch.has("herald/v1/f/beacon", mailbox));
            assert!(dispatch.subscribe("herald/v1/f/beacon", mailbox, QoS::AtLeastOnce).is_new);
            assert!(dispatch.has("herald/v1/f/beacon", mailbox));
            assert!(!dispatch.subscribe("herald/v1/f/beacon", mailbox, QoS::AtMostOnce).is_new);
        }
        give(&dispatch, "herald/v1/f/beacon");
        assert!(all.iter().all(|mailbox| gets(mailbox)));
        dispatch.unsubscribe("herald/v1/f/beacon", &all[0]);
        give(&dispatch, "herald/v1/f/beacon");
        assert!(!gets(&all[0]) && gets(&all[1]));
        for mailbox in &all {
            dispatch.unsubscribe("herald/v1/f/beacon", mailbox);
        }
        assert_eq!(dispatch.filters(), 0);
    }
}
