//! The broker put together: store, journal, relay and dispatcher, and what ends them.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Duration,
};

use tokio::{select, sync::oneshot, time::timeout};

use crate::{
    auth::Authenticator,
    broker::{Broker, Settings},
    dispatch::Dispatch,
    journal::{self, Passing},
    metrics::Metrics,
    refusal::Refusal,
    relay::{self, Outlet},
    retained::{OpenError, ReadError, Store},
};

/// The store's file in the state folder.
pub const STORE_FILE: &str = "retained.redb";
/// How long sessions have to end when the broker is stopped.
const FAREWELL: Duration = Duration::from_secs(5);

/// A broker that runs, to which connections can be handed.
pub struct Server {
    broker: Arc<Broker>,
    journal: oneshot::Receiver<Result<(), journal::Died>>,
    dispatcher: oneshot::Receiver<relay::Died>,
}

/// Why the broker does not start.
#[derive(Debug, thiserror::Error)]
pub enum NotStarted {
    /// The state folder can't be made.
    #[error("cannot make the state folder {}: {source}", path.display())]
    State {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The store can't be used.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// The store can't be read.
    #[error(transparent)]
    Unreadable(#[from] ReadError),
    /// The router does not start.
    #[error(transparent)]
    Relay(#[from] relay::Died),
    /// There can be no thread.
    #[error("cannot start a thread: {0}")]
    Thread(#[source] std::io::Error),
}

/// Why the broker ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum Died {
    /// The journal ended.
    #[error(transparent)]
    Journal(#[from] journal::Died),
    /// The relay ended.
    #[error(transparent)]
    Relay(#[from] relay::Died),
    /// A thread panicked.
    #[error("the {0} ended unexpectedly; its reason is in the log")]
    Thread(&'static str),
}

impl Died {
    /// Tells whether the store is why.
    pub fn is_of_the_store(&self) -> bool {
        matches!(self, Self::Journal(journal::Died::Store(_)))
    }
}

impl Server {
    /// Opens the store and starts the threads. Blocks for as long as that takes.
    ///
    /// # Errors
    /// Why it does not start.
    pub fn start(
        state: &Path,
        authenticator: Authenticator,
        settings: Settings,
        metrics: Arc<Metrics>,
    ) -> Result<Self, NotStarted> {
        let made = std::fs::create_dir_all(state);
        made.map_err(|source| NotStarted::State { path: state.to_owned(), source })?;
        let store = Store::open(&state.join(STORE_FILE))?.with_limits(settings.limits);
        let store = Arc::new(store);
        let (relay, outlet) = relay::start()?;
        let dispatch = Arc::new(Dispatch::new(store.latest()));
        let (journal, journal_end) =
            journal::start(Arc::clone(&store), relay, Arc::clone(&metrics))
                .map_err(NotStarted::Thread)?;
        let dispatcher = start_dispatcher(outlet, Arc::clone(&dispatch), Arc::clone(&metrics));
        let dispatcher = dispatcher.map_err(NotStarted::Thread)?;
        metrics.set_stored(store.retained(), store.sessions());
        let roster = Broker::read_roster(&store, &authenticator)?;
        let authenticator = authenticator.with_roster(roster);
        let broker = Broker::new(store, journal, dispatch, metrics, authenticator, settings);
        broker.count_sessions()?;
        Ok(Self { broker: Arc::new(broker), journal: journal_end, dispatcher })
    }

    /// Gives what sessions share.
    pub fn broker(&self) -> &Arc<Broker> {
        &self.broker
    }

    /// Waits for an end that was not asked for.
    pub async fn died(&mut self) -> Died {
        select! {
            end = &mut self.journal => match end {
                Ok(Err(died)) => died.into(),
                Ok(Ok(())) | Err(_) => Died::Thread("journal"),
            },
            end = &mut self.dispatcher => {
                end.map_or(Died::Thread("dispatcher"), Died::Relay)
            }
        }
    }

    /// Ends all sessions, and then the journal, when it has stored all that was handed in.
    pub async fn stop(self) {
        self.broker.registry.close_all(Refusal::Stopping);
        let _ = timeout(FAREWELL, self.broker.registry.emptied()).await;
        self.broker.journal.stop();
        let _ = timeout(FAREWELL, self.journal).await;
    }
}

/// Gives messages to those who subscribed to them, on a thread of its own.
fn start_dispatcher(
    mut outlet: Outlet<Passing>,
    dispatch: Arc<Dispatch>,
    metrics: Arc<Metrics>,
) -> std::io::Result<oneshot::Receiver<relay::Died>> {
    let (ended, end) = oneshot::channel();
    thread::Builder::new().name("dispatcher".to_owned()).spawn(move || {
        let died = loop {
            match outlet.take() {
                Ok((message, qos, Passing { receipt, since, arrived })) => {
                    dispatch.dispatch(&Arc::new(message), qos, &receipt);
                    metrics.relayed(since.elapsed());
                    if let Some(arrived) = arrived {
                        let _ = arrived.send(());
                    }
                }
                Err(died) => break died,
            }
        };
        let _ = ended.send(died);
    })?;
    Ok(end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{logins::Logins, passwords::Passwords, retained::CommitError};

    fn server(state: &Path) -> Server {
        let authenticator = Authenticator::new(Logins::default(), Passwords::none(), Vec::new());
        let settings = Settings {
            max_packet: 1024,
            slow_after: Duration::from_secs(1),
            limits: crate::quota::Limits::default(),
            has_anonymous: false,
        };
        Server::start(state, authenticator, settings, Arc::new(Metrics::new())).unwrap()
    }

    #[tokio::test]
    async fn each_end_that_was_not_asked_for_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let mut server = server(folder.path());
        assert!(server.broker().is_alive().await);
        let waiting = timeout(Duration::from_millis(10), server.died()).await;
        assert!(waiting.is_err(), "all is well");

        // The thread ends although nobody asked the server for it.
        server.broker.journal.stop();
        assert!(matches!(server.died().await, Died::Thread("journal")));

        let (tell, end) = oneshot::channel();
        server.journal = end;
        let path = folder.path().to_owned();
        let full = CommitError::NoSpace { path, free: 0, needed: 1 };
        tell.send(Err(journal::Died::Store(full))).unwrap();
        let died = server.died().await;
        assert!(died.is_of_the_store() && died.to_string().contains("the store failed"));

        let (_alive, end) = oneshot::channel();
        server.journal = end;
        let (panicking, end) = oneshot::channel();
        server.dispatcher = end;
        drop(panicking);
        assert!(matches!(server.died().await, Died::Thread("dispatcher")));

        let (tell, end) = oneshot::channel();
        server.dispatcher = end;
        tell.send(relay::Died::Lost { expected: 7, found: 9 }).unwrap();
        let died = server.died().await;
        assert!(!died.is_of_the_store() && died.to_string().contains("number 7 was due"));
    }

    #[tokio::test]
    async fn a_server_that_was_stopped_lets_nobody_in() {
        let folder = tempfile::tempdir().unwrap();
        let server = server(folder.path());
        let broker = Arc::clone(server.broker());
        server.stop().await;
        let subscriptions = crate::subscription::Subscriptions::new(false);
        let mailbox = Arc::new(crate::mailbox::Mailbox::new(
            crate::mailbox::Patience { bytes: 1024, time: Duration::from_secs(20) },
            subscriptions,
        ));
        let place =
            broker.registry.take(&"client".into(), &"anonymous".into(), false, &mailbox).await;
        assert!(matches!(place, Err(Refusal::Stopping)));
    }
}
