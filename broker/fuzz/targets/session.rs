//! Arbitrary bytes from a client, through the decoder alone and then through a whole session: a real
//! store, journal, relay and dispatcher, and a connection in memory.

#![no_main]

use std::{
    cell::RefCell,
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::Duration,
};

use bytes::BytesMut;
use herald_broker::{
    auth::Authenticator,
    broker::Settings,
    config::Kind,
    handshake,
    limits::{Entry, Gate},
    listener::{Accepted, Peer},
    logins::Logins,
    metrics::Metrics,
    passwords::Passwords,
    quota::Limits,
    relay,
    server::Server,
};
use libfuzzer_sys::fuzz_target;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, duplex, split},
    runtime::{Builder, Runtime},
    time::{Instant, timeout},
};

/// Most bytes of a packet.
const MAX_PACKET: usize = 2048;
/// What a session has before the bytes, unless they begin with a CONNECT.
const CONNECT: &[u8] = b"\x10\x0d\0\x04MQTT\x04\x02\0\x3c\0\x01f";
const PINGREQ: &[u8] = b"\xc0\0";
const PINGRESP: &[u8] = b"\xd0\0";
/// How long an answer to the last PINGREQ is waited for: there is none behind a broken packet.
const QUIET: Duration = Duration::from_millis(2);
/// What takes longer than this hangs.
const LIMIT: Duration = Duration::from_secs(5);
/// How many sessions there are between two looks at the broker.
const LOOK: u32 = 256;

struct Broker {
    runtime: Runtime,
    server: Server,
    gate: Gate,
    sessions: u32,
    _state: tempfile::TempDir,
}

thread_local! {
    static BROKER: RefCell<Broker> = RefCell::new(Broker::start());
}

fuzz_target!(|bytes: &[u8]| {
    decode(bytes);
    BROKER.with_borrow_mut(|broker| broker.session(bytes));
});

/// Decodes until there is no packet more, and checks what the session relies on.
fn decode(bytes: &[u8]) {
    let mut received = BytesMut::from(bytes);
    loop {
        let before = received.len();
        match relay::decode(&mut received, MAX_PACKET) {
            Ok(Some(_)) => assert!(received.len() < before, "a packet of no bytes"),
            Ok(None) => {
                assert_eq!(received.len(), before, "bytes are lost");
                assert!(before < MAX_PACKET + 5, "it would wait for more than it takes");
                return;
            }
            Err(_) => return,
        }
    }
}

impl Broker {
    fn start() -> Self {
        let state = tempfile::tempdir().expect("a folder");
        let runtime =
            Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let logins = Logins::load::<&Path>(&[]).expect("no logins");
        let authenticator = Authenticator::new(logins, Passwords::none(), Vec::new());
        let settings = Settings {
            max_packet: MAX_PACKET,
            slow_after: Duration::from_secs(1),
            limits: Limits::default(),
            has_anonymous: true,
        };
        let server =
            Server::start(state.path(), authenticator, settings, Arc::new(Metrics::new()));
        let server = server.expect("a broker");
        Self { runtime, server, gate: Gate::new(8, 8, 0), sessions: 0, _state: state }
    }

    fn session(&mut self, bytes: &[u8]) {
        let address = SocketAddr::from(([127, 0, 0, 1], 1883));
        let Entry::Seat(permit) = self.gate.enter(address.ip()) else {
            panic!("an ended connection kept its place");
        };
        let (client, stream) = duplex(512);
        let peer = Peer { address, transport: Kind::Tcp, certificate: None, anonymous: true };
        let broker = Arc::clone(self.server.broker());
        self.runtime.block_on(async {
            let deadline = Instant::now() + LIMIT;
            let accepted = Accepted { stream, peer, permit, deadline, full: false };
            let (reader, writer) = split(client);
            let session = async {
                tokio::join!(handshake::serve(broker, accepted), talk(reader, writer, bytes));
            };
            timeout(2 * LIMIT, session).await.expect("the session hangs");
        });
        self.sessions += 1;
        if self.sessions % LOOK == 0 {
            self.runtime.block_on(async {
                let alive = timeout(LIMIT, self.server.broker().is_alive()).await;
                assert_eq!(alive, Ok(true), "the journal, the relay or the dispatcher hangs");
                let died = timeout(Duration::ZERO, self.server.died()).await;
                assert!(died.is_err(), "{died:?}");
            });
        }
    }
}

/// Sends the bytes, reads all answers, and goes.
async fn talk(
    mut reader: impl tokio::io::AsyncRead + Unpin,
    mut writer: impl tokio::io::AsyncWrite + Unpin,
    bytes: &[u8],
) {
    let send = async {
        let connect = if bytes.first() == Some(&0x10) { &[][..] } else { CONNECT };
        for part in [connect, bytes, PINGREQ] {
            if writer.write_all(part).await.is_err() {
                break;
            }
        }
        writer
    };
    let mut end = Vec::new();
    let receive = async {
        let mut chunk = [0; 512];
        while let Ok(Ok(read @ 1..)) = timeout(QUIET, reader.read(&mut chunk)).await {
            end.extend_from_slice(&chunk[..read]);
            if end.ends_with(PINGRESP) {
                break;
            }
        }
    };
    let (mut writer, ()) = tokio::join!(send, receive);
    let _ = writer.shutdown().await;
}
