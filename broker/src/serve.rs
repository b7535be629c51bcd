//! Serving: the doors are opened, and the broker runs until it is told to stop or can't go on.

use std::{
    io::{self, Write},
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use herald_broker::{
    auth::Authenticator,
    broker::{Broker, Settings},
    config::Config,
    handshake,
    limits::Gate,
    listener::{self, Accepted, Door, Transport},
    log::RateLimited,
    logins::{self, Logins},
    metrics::Metrics,
    passwords::{self, Passwords},
    scrape,
    server::{Died, NotStarted, Server},
    tls::{self, Tls},
};
use herald_proto::login::BrokerName;
use rustix::process::{Resource, getrlimit, setrlimit};
use sd_notify::NotifyState;
use tokio::{
    net::TcpListener,
    select,
    signal::unix::{Signal, SignalKind, signal},
    task::{JoinHandle, spawn_blocking},
    time::{interval, timeout},
};

use crate::Failure;

/// File descriptors that the broker needs beside one for each connection.
const OWN_FILES: u64 = 64;
/// Connections over the limit that are told so.
const OVERFLOW: usize = 64;
/// How often certificates are looked at for changes.
const CERTIFICATES: Duration = Duration::from_secs(5);
/// How long systemd may take to hear that the broker stops.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Log lines of each kind that clients can cause in a second.
const LOG_LINES: u32 = 10;

/// A file that the configuration names and that can't be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unusable {
    #[error(transparent)]
    Logins(#[from] logins::Error),
    #[error(transparent)]
    Passwords(#[from] passwords::Error),
    #[error(transparent)]
    Tls(#[from] tls::Error),
    #[error("`names` of the configuration has {name:?}, which is no name of a broker: {source}")]
    Name { name: String, source: herald_proto::text::Unparsable },
}

/// Why the broker ended by itself.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Ended {
    #[error(
        "cannot listen on {address}: {source}; stop what uses it (`ss -ltnp` names it), or choose \
         another address with --listen or in the configuration"
    )]
    Listen { address: SocketAddr, source: io::Error },
    #[error(transparent)]
    NotStarted(#[from] NotStarted),
    #[error("{0}; start the broker again")]
    Died(#[from] Died),
}

impl Ended {
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Listen { .. } => 3,
            Self::NotStarted(
                NotStarted::State { .. } | NotStarted::Store(_) | NotStarted::Unreadable(_),
            ) => 5,
            Self::Died(died) if died.is_of_the_store() => 5,
            Self::NotStarted(_) | Self::Died(_) => 4,
        }
    }
}

/// Serves until a signal asks for the end.
pub(crate) async fn run(config: &Config) -> Result<(), Failure> {
    let authenticator = authenticator(config)?;
    let transports = transports(config)?;
    allow_connections(config.max_connections);
    let metrics = Arc::new(Metrics::new());
    let mut doors = Vec::new();
    for (listener, transport) in config.listeners.iter().zip(&transports) {
        doors.push((bind(listener.address)?, transport.clone(), listener.anonymous));
    }
    let scraped = config.metrics.map(|address| bind(address.into())).transpose()?;
    let settings = Settings {
        max_packet: config.max_payload,
        slow_after: config.slow_after,
        limits: config.limits(),
        has_anonymous: config.lets_in_anonymous(),
    };
    let state = config.state()?;
    // Blocks for as long as the store takes to be checked.
    let started = Server::start(state, authenticator, settings, Arc::clone(&metrics));
    let mut server = started.map_err(Ended::NotStarted)?;
    server.broker().forget_the_gone().await;

    let gate = Gate::new(config.max_connections, config.connections_per_address(), OVERFLOW);
    let log = Arc::new(RateLimited::new(LOG_LINES));
    let broker = Arc::clone(server.broker());
    let serve = Arc::new(move |accepted: Accepted| handshake::serve(Arc::clone(&broker), accepted));
    let mut tasks = tokio::task::JoinSet::new();
    let mut addresses = Vec::new();
    for (listener, transport, anonymous) in doors {
        addresses.push(listener.local_addr().map_err(Failure::Start)?);
        let door = Door {
            transport,
            anonymous,
            handshake_timeout: config.handshake_timeout,
            gate: gate.clone(),
            metrics: Arc::clone(&metrics),
            log: Arc::clone(&log),
        };
        let serve = Arc::clone(&serve);
        tasks.spawn(async move {
            listener::accept(listener, door, serve).await;
        });
    }
    let mut metrics_address = None;
    if let Some(listener) = scraped {
        metrics_address = Some(listener.local_addr().map_err(Failure::Start)?);
        let metrics = Arc::clone(&metrics);
        tasks.spawn(async move {
            scrape::serve(listener, metrics).await;
        });
    }
    let watched: Vec<Arc<Tls>> = transports.iter().filter_map(Transport::tls).cloned().collect();
    // What is told that the broker is ready may send signals at once.
    let signals = Signals::listen().map_err(Failure::Start)?;
    let announced = announce(&addresses, metrics_address);
    tasks.spawn(keep_watch(announced, Arc::clone(server.broker())));
    tasks.spawn(tls::watch(watched.clone(), CERTIFICATES, Arc::clone(&metrics)));
    let ended = attend(&mut server, signals, config, &watched, &metrics).await;
    let told = notify(NotifyState::Stopping);
    tasks.abort_all();
    if ended.is_ok() {
        server.stop().await;
    }
    let _ = timeout(LAST_WORDS, told).await;
    ended
}

/// The signals that the broker knows.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }
}

/// Attends to signals, certificates and systemd's watchdog, until the end.
async fn attend(
    server: &mut Server,
    mut signals: Signals,
    config: &Config,
    watched: &[Arc<Tls>],
    metrics: &Metrics,
) -> Result<(), Failure> {
    loop {
        select! {
            died = server.died() => return Err(Ended::Died(died).into()),
            _ = signals.terminate.recv() => return Ok(()),
            _ = signals.interrupt.recv() => return Ok(()),
            _ = signals.hang_up.recv() => {
                for tls in watched {
                    if let Err(error) = tls.reload(metrics) {
                        tracing::error!(%error, "the certificate before is kept");
                    }
                }
                match authenticator(config) {
                    Ok(authenticator) => {
                        let broker = Arc::clone(server.broker());
                        match broker.replace_authenticator(authenticator) {
                            Ok(()) => tracing::info!("logins and passwords were read again"),
                            Err(error) => tracing::error!(%error, "the logins before are kept"),
                        }
                        tokio::spawn(async move { broker.forget_the_gone().await });
                    }
                    Err(error) => tracing::error!(%error, "the logins before are kept"),
                }
            }
        }
    }
}

/// Feeds systemd's watchdog while what is handed in gets to the disk, through the relay, and to the
/// dispatcher.
async fn keep_watch(announced: JoinHandle<()>, broker: Arc<Broker>) {
    let _ = announced.await;
    let Some(patience) = sd_notify::watchdog_enabled() else { return };
    let mut beat = interval(patience / 4);
    loop {
        beat.tick().await;
        let began = Instant::now();
        let alive = broker.is_alive().await;
        if began.elapsed() > patience / 2 {
            tracing::error!(took = ?began.elapsed(), "the broker does not keep up");
        }
        if alive {
            // A thread at most waits for systemd.
            let _ = notify(NotifyState::Watchdog).await;
        }
    }
}

/// Reads who may connect.
pub(crate) fn authenticator(config: &Config) -> Result<Authenticator, Unusable> {
    let logins = Logins::load(&config.logins)?;
    let passwords = match &config.passwords {
        Some(path) => Passwords::load(path)?,
        None => Passwords::none(),
    };
    let names = config.names.iter().map(|name| {
        let named = name.parse::<BrokerName>();
        named.map_err(|source| Unusable::Name { name: name.clone(), source })
    });
    Ok(Authenticator::new(logins, passwords, names.collect::<Result<_, _>>()?))
}

/// Reads the certificates of all listeners.
pub(crate) fn transports(config: &Config) -> Result<Vec<Transport>, Unusable> {
    let transports =
        config.listeners.iter().map(|listener| Transport::new(listener, config.max_payload));
    Ok(transports.collect::<Result<_, _>>()?)
}

fn bind(address: SocketAddr) -> Result<TcpListener, Ended> {
    listener::bind(address).map_err(|source| Ended::Listen { address, source })
}

fn announce(addresses: &[SocketAddr], metrics: Option<SocketAddr>) -> JoinHandle<()> {
    let listening = addresses.iter().map(|address| format!("listening on {address}\n"));
    let metrics = metrics.map(|address| format!("metrics on {address}\n"));
    for line in listening.chain(metrics) {
        if let Err(error) = say(&line) {
            tracing::warn!(%error, "cannot write to stdout");
        }
    }
    notify(NotifyState::Ready)
}

/// Tells systemd. Where that does not listen only the task that is given waits.
fn notify(state: NotifyState<'static>) -> JoinHandle<()> {
    spawn_blocking(move || {
        if let Err(error) = sd_notify::notify(&[state]) {
            tracing::warn!(%error, "cannot tell systemd");
        }
    })
}

/// Writes to stdout at once.
pub(crate) fn say(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// Raises the soft limit of open files as far as these connections need.
fn allow_connections(connections: usize) {
    let needed = connections as u64 + OWN_FILES;
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= needed) {
        return;
    }
    limit.current = Some(limit.maximum.map_or(needed, |maximum| maximum.min(needed)));
    if setrlimit(Resource::Nofile, limit).is_err() || limit.current < Some(needed) {
        tracing::warn!(
            "max_connections needs {needed} open files, and the limit is lower; raise LimitNOFILE"
        );
    }
}

#[cfg(test)]
mod tests {
    use herald_broker::{journal, relay, retained::CommitError};

    use super::*;

    #[test]
    fn every_end_has_the_exit_code_that_the_help_says() {
        let address = "127.0.0.1:1883".parse().unwrap();
        let listen = Ended::Listen { address, source: io::ErrorKind::AddrInUse.into() };
        let lost = || relay::Died::Lost { expected: 1, found: 2 };
        let full = CommitError::NoSpace { path: "state".into(), free: 0, needed: 1 };
        let state = NotStarted::State { path: "state".into(), source: io::Error::other("no") };
        for (ended, code) in [
            (listen, 3),
            (Ended::NotStarted(state), 5),
            (Ended::NotStarted(NotStarted::Relay(lost())), 4),
            (Ended::Died(Died::Relay(lost())), 4),
            (Ended::Died(Died::Journal(journal::Died::Relay(lost()))), 4),
            (Ended::Died(Died::Thread("journal")), 4),
            (Ended::Died(Died::Journal(journal::Died::Store(full))), 5),
        ] {
            assert_eq!(ended.exit_code(), code, "{ended}");
        }
    }
}
