//! What an idle connection costs. It is a program of its own, as memory is of the whole process.
//!
//! The clients are in it too: they keep only their sockets, which cost the process next to nothing.

#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use futures_util::{SinkExt, StreamExt};
use herald_broker::config::{ClientCertificate, Kind, TlsFiles};
use herald_broker::limits::Gate;
use herald_broker::listener::{self, Accepted, Door, Transport};
use herald_broker::log::RateLimited;
use herald_broker::metrics::Metrics;
use herald_broker::tls::Tls;
use herald_broker::websocket::Rules;
use rustix::process::{Resource, getrlimit, setrlimit};
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

/// Connections of each kind.
const CONNECTIONS: usize = 300;
/// These come first, so that what is needed once is not counted.
const FIRST: usize = 50;

const PING: &[u8] = b"\xc0\0";

async fn echo(accepted: Accepted) {
    let Accepted { mut stream, permit: _permit, .. } = accepted;
    let mut bytes = BytesMut::new();
    while stream.receive(&mut bytes, 1024).await.is_ok_and(|length| length > 0) {
        if stream.write_all(&bytes).await.and(stream.flush().await).is_err() {
            return;
        }
        bytes = BytesMut::new();
    }
}

fn start(transport: Transport) -> SocketAddr {
    let door = Door {
        transport,
        anonymous: true,
        handshake_timeout: Duration::from_secs(20),
        gate: Gate::new(10_000, 1, 0),
        metrics: Arc::new(Metrics::new()),
        log: Arc::new(RateLimited::new(1)),
    };
    let socket = listener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(listener::accept(socket, door, Arc::new(echo)));
    address
}

async fn ping<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) -> S {
    stream.write_all(PING).await.unwrap();
    let mut answer = [0; 2];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, PING);
    stream
}

async fn ping_frame<S: AsyncRead + AsyncWrite + Unpin>(stream: S) -> S {
    let mut request = "ws://localhost/mqtt".into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", "mqtt".parse().unwrap());
    let (mut client, _) = client_async(request, stream).await.unwrap();
    client.send(Message::binary(PING)).await.unwrap();
    assert_eq!(client.next().await.unwrap().unwrap(), Message::binary(PING));
    client.into_inner()
}

/// Makes connections one after the other, and gives what each has cost, in bytes. All stay, as the
/// next kind would take the memory that they leave.
async fn cost<R: Future<Output = TcpStream>>(
    held: &mut Vec<TcpStream>,
    address: SocketAddr,
    connect: impl Fn(TcpStream) -> R,
) -> usize {
    let mut before = 0;
    for n in 0..CONNECTIONS {
        if n == FIRST {
            before = resident();
        }
        let socket = TcpStream::connect(address).await.unwrap();
        socket.set_nodelay(true).unwrap();
        held.push(connect(socket).await);
    }
    (resident() - before) / (CONNECTIONS - FIRST)
}

/// Tells how much memory the process has.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

/// Makes a certificate, the files of the listener, and a client that trusts it.
fn certificates(folder: &std::path::Path) -> (TlsFiles, TlsConnector) {
    let issued = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let files = TlsFiles {
        certificate: folder.join("chain.pem"),
        key: folder.join("key.pem"),
        client_ca: None,
        client_certificate: ClientCertificate::None,
    };
    std::fs::write(&files.certificate, issued.cert.pem()).unwrap();
    std::fs::write(&files.key, issued.signing_key.serialize_pem()).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::clone(issued.cert.der())).unwrap();
    let config =
        ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
    (files, Arc::new(config).into())
}

#[tokio::test]
async fn idle_connection_costs_little() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (files, connector) = certificates(folder.path());
    let tls = |kind| Arc::new(Tls::load(files.clone(), kind).unwrap());
    let rules = || Rules { path: "/mqtt".to_owned(), max_message: 33 * 1024, pages: false };
    let secure =
        async |socket| connector.connect("localhost".try_into().unwrap(), socket).await.unwrap();

    let held = &mut Vec::with_capacity(4 * CONNECTIONS);
    let plain = cost(held, start(Transport::Tcp), ping).await;
    let websocket = cost(held, start(Transport::WebSocket(rules())), ping_frame).await;
    let address = start(Transport::Tls(tls(Kind::Tls)));
    let secured =
        cost(held, address, async |socket| ping(secure(socket).await).await.into_inner().0).await;
    let address = start(Transport::SecureWebSocket(tls(Kind::SecureWebSocket), rules()));
    let both =
        cost(held, address, async |socket| ping_frame(secure(socket).await).await.into_inner().0)
            .await;
    eprintln!(
        "bytes for an idle connection: {plain} plain, {websocket} in a WebSocket, {secured} in \
         TLS, {both} in both"
    );
    assert!(plain <= 4 * 1024, "{plain}");
    assert!(websocket <= 8 * 1024, "{websocket}");
    assert!(secured <= 16 * 1024, "{secured}");
    assert!(both <= 24 * 1024, "{both}");
}
