//! A listener in a process that has no more files. It is a program of its own, as the limit is for
//! the whole process.

#![allow(clippy::unwrap_used)]

use std::fs::File;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use herald_broker::limits::Gate;
use herald_broker::listener::{self, Accepted, Door, Transport};
use herald_broker::log::RateLimited;
use herald_broker::metrics::Metrics;
use herald_broker::refusal::Refusal;
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::time::{sleep, timeout};

const LIMIT: Duration = Duration::from_secs(20);

async fn echo(accepted: Accepted) {
    let Accepted { mut stream, permit: _permit, .. } = accepted;
    let mut bytes = BytesMut::new();
    while stream.receive(&mut bytes, 1024).await.is_ok_and(|length| length > 0) {
        stream.write_all(&bytes.split()).await.unwrap();
    }
}

#[tokio::test]
async fn listener_without_files_waits_without_spinning_and_goes_on_when_there_are_some() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = Some(64);
    setrlimit(Resource::Nofile, limit).unwrap();

    let metrics = Arc::new(Metrics::new());
    let door = Door {
        transport: Transport::Tcp,
        anonymous: true,
        handshake_timeout: LIMIT,
        gate: Gate::new(100, 100, 0),
        metrics: Arc::clone(&metrics),
        log: Arc::new(RateLimited::new(1)),
    };
    let socket = listener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(listener::accept(socket, door, Arc::new(echo)));

    // The clients have their files before all others are taken.
    let clients = [TcpSocket::new_v4().unwrap(), TcpSocket::new_v4().unwrap()];
    let mut files = Vec::new();
    let error = loop {
        match File::open("/dev/null") {
            Ok(file) => files.push(file),
            Err(error) => break error,
        }
    };
    assert_eq!(error.raw_os_error(), Some(24), "EMFILE: {error}");

    let began = Instant::now();
    let mut connected = Vec::new();
    for client in clients {
        connected.push(client.connect(address).await.unwrap());
    }
    let refused = || metrics.refusals(Refusal::OutOfFiles);
    let noticed = async {
        while refused() < 6 {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LIMIT, noticed).await.unwrap();
    // One attempt at the start, and then one in each tenth of a second.
    let (attempts, took) = (u128::from(refused()), began.elapsed());
    assert!(attempts <= 1 + took.as_millis() / 100, "{attempts} attempts in {took:?}");
    assert_eq!(metrics.connections(), 0);

    drop(files);
    for client in &mut connected {
        client.write_all(b"hello").await.unwrap();
        let mut answer = [0; 5];
        timeout(LIMIT, client.read_exact(&mut answer)).await.unwrap().unwrap();
        assert_eq!(&answer, b"hello");
    }
    assert_eq!(metrics.connections(), 2);
}
