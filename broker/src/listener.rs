//! Takes connections and brings them as far as the first byte of MQTT.
//!
//! Each connection has a task of its own from the start, so that one which is slow, or says
//! nothing, holds up nobody. The [`Gate`] bounds how many there are. A system without files or
//! memory is waited for: nothing that `accept` can say ends a listener.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::{Instant, sleep, timeout_at};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::config::{self, Kind};
use crate::limits::{Entry, Gate, Permit};
use crate::log::RateLimited;
use crate::metrics::Metrics;
use crate::refusal::Refusal;
use crate::stream::Stream;
use crate::tls::{self, Tls};
use crate::websocket::{Rules, WebSocket};

/// How many connections the system holds until they are taken. It may have a lower limit
/// (net.core.somaxconn).
const BACKLOG: u32 = 4096;

/// How long a listener waits when the system has no file or memory for a connection.
const RETRY: Duration = Duration::from_millis(100);

/// How many bytes a WebSocket message may have beside the largest packet.
const MESSAGE_OVERHEAD: usize = 1024;

/// Most plaintext, and most ciphertext, that waits in a TLS connection to be sent.
const TLS_BUFFER: usize = 16 * 1024;

/// What carries MQTT, with all that it takes.
#[derive(Debug, Clone)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// TLS.
    Tls(Arc<Tls>),
    /// WebSocket.
    WebSocket(Rules),
    /// WebSocket in TLS.
    SecureWebSocket(Arc<Tls>, Rules),
}

impl Transport {
    /// Makes what a listener of the configuration needs. Reads its certificates.
    pub fn new(listener: &config::Listener, max_payload: usize) -> Result<Self, tls::Error> {
        let rules = || Rules {
            path: listener.path.clone(),
            max_message: max_payload + MESSAGE_OVERHEAD,
            // A page would come with the certificate of whoever looks at it.
            pages: !listener.anonymous && !listener.asks_for_certificates(),
        };
        let tls = match &listener.tls {
            Some(files) => Some(Arc::new(Tls::load(files.clone(), listener.kind)?)),
            None => None,
        };
        Ok(match (tls, listener.kind.has_websocket()) {
            (None, false) => Self::Tcp,
            (Some(tls), false) => Self::Tls(tls),
            (None, true) => Self::WebSocket(rules()),
            (Some(tls), true) => Self::SecureWebSocket(tls, rules()),
        })
    }

    /// Gives the certificates, to be watched and reloaded.
    pub fn tls(&self) -> Option<&Arc<Tls>> {
        match self {
            Self::Tls(tls) | Self::SecureWebSocket(tls, _) => Some(tls),
            Self::Tcp | Self::WebSocket(_) => None,
        }
    }

    /// Gives its name.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Tcp => Kind::Tcp,
            Self::Tls(_) => Kind::Tls,
            Self::WebSocket(_) => Kind::WebSocket,
            Self::SecureWebSocket(..) => Kind::SecureWebSocket,
        }
    }
}

/// A client's end of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its address.
    pub address: SocketAddr,
    /// What carries MQTT.
    pub transport: Kind,
    /// The common name in the certificate that it showed, which was verified.
    pub certificate: Option<String>,
    /// Whether it needs no login here.
    pub anonymous: bool,
}

/// A connection that is ready for CONNECT.
#[derive(Debug)]
pub struct Accepted<S = Stream> {
    /// The connection.
    pub stream: S,
    /// The other end.
    pub peer: Peer,
    /// Its place, to be held for as long as the connection.
    pub permit: Permit,
    /// By when CONNECT must have come.
    pub deadline: Instant,
    /// Whether there is no place, which is to be said in the CONNACK. It is counted already.
    pub full: bool,
}

/// Serves connections.
pub trait Serve: Send + Sync + 'static {
    /// Serves one until its end. It counts as open for as long as the future lives.
    fn serve(&self, accepted: Accepted) -> impl Future<Output = ()> + Send;
}

impl<F, R> Serve for F
where
    F: Fn(Accepted) -> R + Send + Sync + 'static,
    R: Future<Output = ()> + Send,
{
    fn serve(&self, accepted: Accepted) -> impl Future<Output = ()> + Send {
        self(accepted)
    }
}

/// What a listener does with those who come.
#[derive(Debug)]
pub struct Door {
    /// What carries MQTT.
    pub transport: Transport,
    /// Whether clients need no login.
    pub anonymous: bool,
    /// From the connection to the end of CONNECT.
    pub handshake_timeout: Duration,
    /// How many there may be; all listeners share it.
    pub gate: Gate,
    /// Where they are counted.
    pub metrics: Arc<Metrics>,
    /// The limit for what they make us log.
    pub log: Arc<RateLimited>,
}

/// Listens on an address; port 0 picks a free one. Tokio must be running.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Takes connections for ever. They go on when this is dropped.
pub async fn accept<S: Serve>(listener: TcpListener, door: Door, serve: Arc<S>) -> Infallible {
    let door = Arc::new(door);
    loop {
        let (socket, address) = next(&listener, |error| door.exhausted(error)).await;
        let (permit, full) = match door.gate.enter(address.ip()) {
            Entry::Seat(permit) => (permit, false),
            Entry::Full(permit, reason) => {
                door.refuse(address, reason, &"a connection limit is reached");
                (permit, true)
            }
            Entry::Refused(reason) => {
                door.refuse(address, reason, &"a connection limit is reached");
                continue;
            }
        };
        let arrival = Arrival { socket, address, permit, full };
        tokio::spawn(arrival.enter(Arc::clone(&door), Arc::clone(&serve)));
    }
}

/// Waits for the next connection, through all that can go wrong with `accept`.
pub(crate) async fn next(
    listener: &TcpListener,
    exhausted: impl Fn(&io::Error),
) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(connection) => return connection,
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                exhausted(&error);
                // Who waits in the backlog is served once there is something to serve with. Until
                // then `accept` would fail at once, again and again.
                sleep(RETRY).await;
            }
        }
    }
}

/// Tells whether only the connection that would have been next has failed (accept(2), "Error
/// handling").
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(
            Errno::CONNABORTED
                | Errno::INTR
                | Errno::PERM
                | Errno::PROTO
                | Errno::NOPROTOOPT
                | Errno::NETDOWN
                | Errno::NETUNREACH
                | Errno::HOSTDOWN
                | Errno::HOSTUNREACH
                | Errno::NONET
        )
    )
}

/// A connection that has a place.
struct Arrival {
    socket: TcpStream,
    address: SocketAddr,
    permit: Permit,
    full: bool,
}

impl Arrival {
    async fn enter<S: Serve>(self, door: Arc<Door>, serve: Arc<S>) {
        let _counted = door.metrics.connection();
        let deadline = Instant::now() + door.handshake_timeout;
        let Self { socket, address, permit, full } = self;
        // Small packets go at once. Where that cannot be had, they go later.
        let _ = socket.set_nodelay(true);
        let (stream, certificate) = if let Transport::Tcp = door.transport {
            (Stream::Tcp(socket), None)
        } else {
            // On the heap, as its space is needed for an instant and this task may live for weeks.
            let handshake = Box::pin(timeout_at(deadline, handshake(&door.transport, socket)));
            match handshake.await {
                Ok(Ok(done)) => done,
                Ok(Err((reason, error))) => return door.refuse(address, reason, &error),
                Err(elapsed) => {
                    return door.refuse(address, Refusal::HandshakeTimeout, &elapsed);
                }
            }
        };
        let peer = Peer {
            address: SocketAddr::new(address.ip().to_canonical(), address.port()),
            transport: door.transport.kind(),
            certificate,
            anonymous: door.anonymous,
        };
        drop(door);
        serve.serve(Accepted { stream, peer, permit, deadline, full }).await;
    }
}

type Handshake<T> = Result<T, (Refusal, io::Error)>;

async fn handshake(
    transport: &Transport,
    socket: TcpStream,
) -> Handshake<(Stream, Option<String>)> {
    match transport {
        Transport::Tcp => Ok((Stream::Tcp(socket), None)),
        Transport::Tls(tls) => {
            let (stream, certificate) = secure(tls, socket).await?;
            Ok((Stream::Tls(Box::new(stream)), certificate))
        }
        Transport::WebSocket(rules) => {
            let stream = WebSocket::accept(socket, rules).await.map_err(websocket)?;
            Ok((Stream::WebSocket(Box::new(stream)), None))
        }
        Transport::SecureWebSocket(tls, rules) => {
            let (stream, certificate) = secure(tls, socket).await?;
            let stream = WebSocket::accept(stream, rules).await.map_err(websocket)?;
            Ok((Stream::SecureWebSocket(Box::new(stream)), certificate))
        }
    }
}

async fn secure(tls: &Tls, socket: TcpStream) -> Handshake<(TlsStream<TcpStream>, Option<String>)> {
    let stream = TlsAcceptor::from(tls.current())
        .accept_with(socket, |connection| connection.set_buffer_limit(Some(TLS_BUFFER)))
        .await
        .map_err(|error| (Refusal::Tls, error))?;
    let certificate = stream.get_ref().1.peer_certificates().and_then(tls::common_name);
    Ok((stream, certificate))
}

fn websocket(error: io::Error) -> (Refusal, io::Error) {
    (Refusal::WebSocket, error)
}

impl Door {
    fn refuse(&self, address: SocketAddr, reason: Refusal, cause: &dyn std::fmt::Display) {
        self.metrics.refused(reason);
        if let Some(suppressed) = self.log.admit(reason.name(), std::time::Instant::now()) {
            tracing::warn!(%address, %reason, suppressed, "refused a connection: {cause}");
        }
    }

    fn exhausted(&self, error: &io::Error) {
        let reason = Refusal::OutOfFiles;
        self.metrics.refused(reason);
        if let Some(suppressed) = self.log.admit(reason.name(), std::time::Instant::now()) {
            tracing::error!(
                %error, suppressed,
                "cannot take a connection, and will try again; raise LimitNOFILE, or lower \
                 max_connections"
            );
        }
    }
}
