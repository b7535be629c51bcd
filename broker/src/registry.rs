//! Which client ids are connected: of each, one connection at a time.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use crate::{mailbox::Mailbox, refusal::Refusal};

/// The connected clients.
#[derive(Debug, Default)]
pub struct Registry {
    clients: Mutex<Clients>,
    /// Told whenever one has ended.
    ended: Notify,
}

#[derive(Debug, Default)]
struct Clients {
    connected: HashMap<Arc<str>, Connected>,
    /// Why nobody is let in any more.
    closed: Option<Refusal>,
}

#[derive(Debug)]
struct Connected {
    owner: Arc<str>,
    mailbox: Arc<Mailbox>,
}

/// A client's place, which it has until this is dropped.
#[derive(Debug)]
pub struct Place {
    registry: Arc<Registry>,
    client: Arc<str>,
}

impl Registry {
    fn lock(&self) -> MutexGuard<'_, Clients> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the place of a client id. One that is connected is closed first, and has ended, with its
    /// will handed in, when this returns.
    ///
    /// A client id that belongs to its owner by its form (`is_its_own`) is taken from anyone.
    ///
    /// # Errors
    /// When the client id is connected and belongs to another principal, or all were closed.
    pub async fn take(
        self: &Arc<Self>,
        client: &Arc<str>,
        owner: &Arc<str>,
        is_its_own: bool,
        mailbox: &Arc<Mailbox>,
    ) -> Result<Place, Refusal> {
        loop {
            let ended = self.ended.notified();
            tokio::pin!(ended);
            ended.as_mut().enable();
            {
                let mut clients = self.lock();
                if let Some(reason) = clients.closed {
                    return Err(reason);
                }
                match clients.connected.get(client) {
                    None => {
                        let (owner, mailbox) = (Arc::clone(owner), Arc::clone(mailbox));
                        let connected = Connected { owner, mailbox };
                        clients.connected.insert(Arc::clone(client), connected);
                        return Ok(Place {
                            registry: Arc::clone(self),
                            client: Arc::clone(client),
                        });
                    }
                    Some(connected) if connected.owner != *owner && !is_its_own => {
                        return Err(Refusal::ClientId);
                    }
                    Some(connected) => connected.mailbox.close(Refusal::TakenOver),
                }
            }
            ended.await;
        }
    }

    /// Closes the clients of some owners.
    pub fn close(&self, reason: Refusal, is_of: impl Fn(&str) -> bool) {
        let clients = self.lock();
        let chosen = clients.connected.values().filter(|connected| is_of(&connected.owner));
        chosen.for_each(|connected| connected.mailbox.close(reason));
    }

    /// Closes all, and lets nobody in from now on.
    pub fn close_all(&self, reason: Refusal) {
        let mut clients = self.lock();
        clients.closed = Some(reason);
        clients.connected.values().for_each(|connected| connected.mailbox.close(reason));
    }

    /// Tells how many are connected.
    pub fn len(&self) -> usize {
        self.lock().connected.len()
    }

    /// Tells whether nobody is connected.
    pub fn is_empty(&self) -> bool {
        self.lock().connected.is_empty()
    }

    /// Waits until nobody is connected.
    pub async fn emptied(&self) {
        self.rid_of(|_| true).await;
    }

    /// Waits until nobody of some owners is connected.
    pub async fn rid_of(&self, is_of: impl Fn(&str) -> bool) {
        loop {
            let ended = self.ended.notified();
            tokio::pin!(ended);
            ended.as_mut().enable();
            if !self.lock().connected.values().any(|connected| is_of(&connected.owner)) {
                return;
            }
            ended.await;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        {
            let clients = &mut self.registry.lock().connected;
            clients.remove(&self.client);
            if clients.len() < clients.capacity() / 4 {
                clients.shrink_to_fit();
            }
        }
        self.registry.ended.notify_waiters();
    }
}
