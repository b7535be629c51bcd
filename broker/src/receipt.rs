//! What a publish waits for.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::sync::OwnedSemaphorePermit;

use crate::{mailbox::Mailbox, refusal::Refusal};

/// What a publish waits for: it is acknowledged when the last copy of this is dropped, if it was
/// passed on before. A message that gets lost on its way is never acknowledged.
#[derive(Debug, Clone)]
pub struct Receipt {
    inner: Option<Arc<Inner>>,
}

#[derive(Debug)]
struct Inner {
    publisher: Arc<Mailbox>,
    packet: Option<u16>,
    /// Whether the message is stored, if it is to be kept, and with all its subscribers.
    passed_on: AtomicBool,
    _room: OwnedSemaphorePermit,
}

impl Receipt {
    /// Makes the receipt of a message that [`Mailbox::publishing`] has noted. The room that it takes
    /// is given back with it.
    pub fn new(publisher: Arc<Mailbox>, packet: Option<u16>, room: OwnedSemaphorePermit) -> Self {
        let passed_on = AtomicBool::new(false);
        Self { inner: Some(Arc::new(Inner { publisher, packet, passed_on, _room: room })) }
    }

    /// Makes a receipt that nobody waits for.
    pub fn none() -> Self {
        Self { inner: None }
    }

    /// Tells whether nobody waits for it.
    pub fn is_none(&self) -> bool {
        self.inner.is_none()
    }

    /// Says that the message is where it is to go.
    pub fn passed_on(&self) {
        if let Some(inner) = &self.inner {
            inner.passed_on.store(true, Ordering::Release);
        }
    }

    /// Says that the message was not taken: the publisher is closed without an acknowledgement.
    pub fn refuse(self, reason: Refusal) {
        if let Some(inner) = &self.inner {
            inner.publisher.close(reason);
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if !*self.passed_on.get_mut() {
            self.publisher.close(Refusal::NotStored);
        }
        self.publisher.published(self.packet);
    }
}
