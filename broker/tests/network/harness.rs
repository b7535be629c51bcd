//! A listener that echoes, and tells the test whom it serves and how that ended.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use herald_broker::limits::Gate;
use herald_broker::listener::{self, Accepted, Door, Peer, Transport};
use herald_broker::log::RateLimited;
use herald_broker::metrics::Metrics;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// What a listener tells.
#[derive(Debug)]
pub(crate) enum Told {
    /// It serves somebody, who has a place or not.
    Serves(Peer, bool),
    /// A connection has ended.
    Ended(io::Result<()>),
}

pub(crate) struct Echo {
    pub(crate) address: SocketAddr,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) gate: Gate,
    told: mpsc::UnboundedReceiver<Told>,
}

impl Echo {
    pub(crate) fn start(transport: Transport) -> Self {
        Self::with(transport, Gate::new(100, 100, 10), LIMIT)
    }

    pub(crate) fn with(transport: Transport, gate: Gate, handshake_timeout: Duration) -> Self {
        let socket = listener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        Self::on(socket, transport, gate, handshake_timeout)
    }

    pub(crate) fn on(
        socket: TcpListener,
        transport: Transport,
        gate: Gate,
        handshake_timeout: Duration,
    ) -> Self {
        let metrics = Arc::new(Metrics::new());
        let door = Door {
            transport,
            anonymous: true,
            handshake_timeout,
            gate: gate.clone(),
            metrics: Arc::clone(&metrics),
            log: Arc::new(RateLimited::new(10)),
        };
        let address = socket.local_addr().unwrap();
        let (tell, told) = mpsc::unbounded_channel();
        let serve = move |accepted| echo(accepted, tell.clone());
        tokio::spawn(listener::accept(socket, door, Arc::new(serve)));
        Self { address, metrics, gate, told }
    }

    pub(crate) async fn told(&mut self) -> Told {
        within(self.told.recv()).await.unwrap()
    }

    /// Waits for a connection that has a place.
    pub(crate) async fn serves(&mut self) -> Peer {
        loop {
            if let Told::Serves(peer, full) = self.told().await {
                assert!(!full, "{peer:?}");
                return peer;
            }
        }
    }

    /// Waits for the end of a connection that was served.
    pub(crate) async fn ended(&mut self) -> io::Result<()> {
        loop {
            if let Told::Ended(result) = self.told().await {
                return result;
            }
        }
    }
}

async fn echo(accepted: Accepted, tell: mpsc::UnboundedSender<Told>) {
    let Accepted { mut stream, peer, permit, full, .. } = accepted;
    let _ = tell.send(Told::Serves(peer, full));
    let mut bytes = BytesMut::new();
    let end = loop {
        match stream.receive(&mut bytes, 100_000).await {
            Ok(0) => break stream.shutdown().await,
            Ok(_) => {}
            Err(error) => break Err(error),
        }
        let written = stream.write_all(&bytes).await;
        if let Err(error) = written.and(stream.flush().await) {
            break Err(error);
        }
        bytes.clear();
    };
    drop((stream, permit));
    let _ = tell.send(Told::Ended(end));
}

pub(crate) async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, work).await.expect("an end within the limit")
}

/// Waits for a condition that nothing tells.
pub(crate) async fn until(what: &str, condition: impl Fn() -> bool) {
    let poll = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let result = tokio::time::timeout(LIMIT, poll).await;
    assert!(result.is_ok(), "never: {what}");
}

/// Sends bytes and expects them back.
pub(crate) async fn assert_echoes(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) {
    stream.write_all(b"\xc0\0ping").await.unwrap();
    stream.flush().await.unwrap();
    let mut answer = [0; 6];
    within(stream.read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer, b"\xc0\0ping");
}

/// Waits until the other side has closed the connection, well or badly.
pub(crate) async fn assert_closed(stream: &mut (impl AsyncRead + Unpin)) {
    let mut rest = Vec::new();
    let _ = within(stream.read_to_end(&mut rest)).await;
    assert_eq!(rest, b"", "{}", rest.escape_ascii());
}
