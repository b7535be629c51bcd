//! What all sessions share.

use std::{
    panic::resume_unwind,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use futures_util::future::join_all;
use herald_proto::{key::KeyId, time::Timestamp};
use tokio::{sync::Semaphore, task::block_in_place, time::timeout};

use crate::{
    admission::HandedIn,
    auth::{Authenticator, Credentials},
    dispatch::Dispatch,
    handshake::may_have,
    journal::Journal,
    listener::Peer,
    log::RateLimited,
    metrics::Metrics,
    packet::ConnectReturn,
    principal::Principal,
    quota::{Holdings, Limits},
    refusal::Refusal,
    registry::Registry,
    retained::{ReadError, Store},
    turns::Turns,
};

/// Most bytes of messages that are between their publishers and their subscribers.
const ROOM: usize = 256 * 1024 * 1024;
/// Most passwords that are checked at a time: each takes a core and tens of MiB for a moment.
const PASSWORD_CHECKS: usize = 2;

/// How long the sessions of logins that are gone have to end.
pub(crate) const FAREWELL: Duration = Duration::from_secs(5);

/// Most log lines for a reason in a second.
const LOG_LINES: u32 = 5;

/// What all sessions share.
pub struct Broker {
    pub(crate) store: Arc<Store>,
    pub(crate) journal: Journal,
    pub(crate) dispatch: Arc<Dispatch>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) settings: Settings,
    pub(crate) holdings: Arc<Holdings>,
    /// Taken by each message until all its subscribers have it.
    pub(crate) room: Arc<Semaphore>,
    /// What of the roster is on its way to the store. Whoever changes the roster holds it.
    pub(crate) handed_in: Mutex<HandedIn>,
    authenticator: RwLock<Arc<Authenticator>>,
    password_checks: Turns,
    log: RateLimited,
    ids: AtomicU64,
}

/// A client that was found out, and by what.
pub(crate) struct Authenticated {
    pub(crate) principal: Principal,
    by: Arc<Authenticator>,
    /// By what the roster let it in.
    standing: Option<(Option<KeyId>, Option<KeyId>)>,
}

/// What sessions go by.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Most bytes of a packet behind its fixed header.
    pub max_packet: usize,
    /// How long a client may take nothing while messages wait for it.
    pub slow_after: Duration,
    /// What a login may make us keep.
    pub limits: Limits,
    /// Whether there is a listener that needs no login.
    pub has_anonymous: bool,
}

impl Broker {
    /// Puts the parts together.
    pub fn new(
        store: Arc<Store>,
        journal: Journal,
        dispatch: Arc<Dispatch>,
        metrics: Arc<Metrics>,
        authenticator: Authenticator,
        settings: Settings,
    ) -> Self {
        Self {
            store,
            journal,
            dispatch,
            registry: Arc::default(),
            metrics,
            settings,
            holdings: Arc::default(),
            room: Arc::new(Semaphore::new(ROOM)),
            handed_in: Mutex::default(),
            authenticator: RwLock::new(Arc::new(authenticator)),
            password_checks: Turns::new(PASSWORD_CHECKS),
            log: RateLimited::new(LOG_LINES),
            ids: AtomicU64::new(1),
        }
    }

    /// Tells whether what is handed in gets through: it waits for as long as that takes.
    pub async fn is_alive(&self) -> bool {
        self.journal.pulse().await
    }

    /// Takes up new logins and passwords, and reads the roster again by the trust that they name.
    /// Sessions of logins that are gone, or whose part, keys or password changed, are closed: they log
    /// in again if they still can.
    ///
    /// # Errors
    /// When the store can't be read: nothing is changed then.
    pub fn replace_authenticator(&self, authenticator: Authenticator) -> Result<(), ReadError> {
        let turn = self.handed_in();
        let roster = Self::read_roster(&self.store, &authenticator)?;
        let new = Arc::new(authenticator.with_roster(roster));
        let old = {
            let mut current = self.authenticator.write().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *current, Arc::clone(&new))
        };
        drop(turn);
        self.registry.close(Refusal::LoginChanged, |owner| !new.has_same_login(&old, owner));
        Ok(())
    }

    /// Counts the sessions that are kept.
    ///
    /// # Errors
    /// When the store can't be read.
    pub(crate) fn count_sessions(&self) -> Result<(), ReadError> {
        for (_, owner) in self.store.owners()? {
            self.holdings.found_session(&owner.into());
        }
        Ok(())
    }

    /// Forgets the sessions that were kept for logins that are gone, or may have them no more.
    pub async fn forget_the_gone(&self) {
        let authenticator = self.authenticator();
        let anonymous = Principal::Anonymous.to_string();
        let find = |owner: &str| match authenticator.principal(owner) {
            None if self.settings.has_anonymous && owner == anonymous => Some(Principal::Anonymous),
            found => found,
        };
        let is_gone = |client: &str, owner: &str| {
            find(owner).is_none_or(|principal| !may_have(&principal, client, true))
        };
        // They are closed, and what they had acknowledged is on its way to the store.
        let _ = timeout(FAREWELL, self.registry.rid_of(|owner| find(owner).is_none())).await;
        let owners = match self.store.owners() {
            Ok(owners) => owners,
            Err(error) => {
                self.unreadable(&error);
                return;
            }
        };
        let gone: Vec<_> =
            owners.into_iter().filter(|(client, owner)| is_gone(client, owner)).collect();
        let forgotten = join_all(gone.iter().map(|(client, _)| self.journal.forget(client))).await;
        let mut count = 0;
        for ((_, owner), forgotten) in gone.iter().zip(forgotten) {
            if forgotten.is_ok() {
                self.holdings.give_session(&owner.as_str().into());
                count += 1;
            }
        }
        if count > 0 {
            tracing::info!(count, "forgot the sessions of logins that are gone");
        }
    }

    /// Gives who may connect.
    pub(crate) fn authenticator(&self) -> Arc<Authenticator> {
        Arc::clone(&self.authenticator.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Finds out who a client is.
    pub(crate) async fn authenticate(
        &self,
        credentials: &Credentials<'_>,
        peer: &Peer,
    ) -> Result<Authenticated, ConnectReturn> {
        let authenticator = self.authenticator();
        // Looked at before, so that a change in between is noticed.
        let claimed = credentials.username.or(credentials.certificate);
        let standing = claimed.and_then(|name| authenticator.standing(name));
        let standing = standing.map(|standing| standing.ids());
        let authenticated = if authenticator.is_expensive(credentials) {
            let Some(_turn) = self.password_checks.take(peer.address.ip()).await else {
                return Err(ConnectReturn::Unavailable);
            };
            block_in_place(|| aside(|| authenticator.authenticate(credentials, now())))
        } else {
            authenticator.authenticate(credentials, now())
        };
        match authenticated {
            Ok(principal) => Ok(Authenticated { principal, by: authenticator, standing }),
            Err(error) => {
                self.metrics.refused(Refusal::BadLogin);
                if let Some(suppressed) = self.admitted(Refusal::BadLogin) {
                    let (peer, client) = (peer.address, credentials.client_id);
                    tracing::warn!(%error, %peer, client, suppressed, "bad login");
                }
                Err(error.return_code())
            }
        }
    }

    /// Tells whether a login is still what it was when its client was authenticated. To be asked when
    /// the client has its place: a login that changes from then on closes it.
    pub(crate) fn is_still(&self, authenticated: &Authenticated) -> bool {
        let (now, then) = (self.authenticator(), &authenticated.by);
        let name = authenticated.principal.to_string();
        now.standing(&name).map(|standing| standing.ids()) == authenticated.standing
            && (Arc::ptr_eq(&now, then) || now.has_same_login(then, &name))
    }

    /// Counts a refusal whose reason is logged apart; tells whether it may be logged.
    pub(crate) fn may_log(&self, reason: Refusal) -> bool {
        self.admitted(reason).is_some()
    }

    /// Makes a client id for one who has none. No client may ask for one with a space in it, so
    /// nobody can take this one over.
    pub(crate) fn new_client_id(&self) -> String {
        format!("auto {}", self.ids.fetch_add(1, Ordering::Relaxed))
    }

    /// Counts and logs what was refused to a session.
    pub(crate) fn refused(&self, reason: Refusal, client: &str, principal: &Principal) {
        self.metrics.refused(reason);
        if let Some(suppressed) = self.admitted(reason) {
            tracing::info!(%reason, client, %principal, suppressed, "refused");
        }
    }

    /// Counts and logs a connection that got no session.
    pub(crate) fn refused_connection(&self, reason: Refusal, peer: &Peer) {
        self.metrics.refused(reason);
        if let Some(suppressed) = self.admitted(reason) {
            tracing::info!(%reason, peer = %peer.address, suppressed, "connection refused");
        }
    }

    /// Tells whether a line for this reason may be logged, and how many were not.
    fn admitted(&self, reason: Refusal) -> Option<u64> {
        self.log.admit(reason.name(), Instant::now())
    }

    /// Logs that the store can't be read.
    pub(crate) fn unreadable(&self, error: &ReadError) -> Refusal {
        if let Some(suppressed) = self.log.admit("unreadable", Instant::now()) {
            tracing::error!(%error, suppressed, "the store can't be read");
        }
        Refusal::NotStored
    }
}

/// Does something on a thread of its own, which takes up the memory that the one before it left. A
/// thread of Tokio's keeps what it used, for itself: tens of MiB for a password, on each thread that
/// ever checked one.
fn aside<T: Send>(work: impl Fn() -> T + Send + Sync) -> T {
    thread::scope(|scope| {
        match thread::Builder::new().spawn_scoped(scope, &work).map(|thread| thread.join()) {
            Ok(Ok(done)) => done,
            Ok(Err(panic)) => resume_unwind(panic),
            // There is no thread to be had.
            Err(_) => work(),
        }
    })
}

pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
