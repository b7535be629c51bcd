//! The metrics, as a scraper and as others ask for them.

use std::net::SocketAddr;
use std::sync::Arc;

use herald_broker::metrics::Metrics;
use herald_broker::refusal::Refusal;
use herald_broker::{listener, scrape};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{assert_closed, within};

fn start() -> (SocketAddr, Arc<Metrics>) {
    let metrics = Arc::new(Metrics::new());
    let socket = listener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(scrape::serve(socket, Arc::clone(&metrics)));
    (address, metrics)
}

async fn ask(address: SocketAddr, request: &[u8]) -> String {
    let mut client = TcpStream::connect(address).await.unwrap();
    let _ = client.write_all(request).await;
    let _ = client.shutdown().await;
    let mut answer = Vec::new();
    let _ = within(client.read_to_end(&mut answer)).await;
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn scraper_gets_every_series_as_open_metrics() {
    let (address, metrics) = start();
    metrics.refused(Refusal::BadLogin);
    let answer = ask(address, b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(head.contains("Content-Type: application/openmetrics-text; version=1.0.0"), "{head}");
    assert!(head.contains(&format!("Content-Length: {}", body.len())), "{head}");
    assert!(body.contains("herald_broker_refused_total{reason=\"bad-login\"} 1\n"), "{body}");
    assert!(body.ends_with("# EOF\n"));
}

#[tokio::test]
async fn request_in_pieces_is_answered_too() {
    let (address, _) = start();
    let mut client = TcpStream::connect(address).await.unwrap();
    client.set_nodelay(true).unwrap();
    for piece in ["GET /metr", "ics HTTP/1.1\r\nHost: x\r", "\n\r", "\n"] {
        client.write_all(piece.as_bytes()).await.unwrap();
        tokio::task::yield_now().await;
    }
    let mut answer = String::new();
    within(client.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
}

#[tokio::test]
async fn whatever_else_is_asked_gets_nothing() {
    let (address, _) = start();
    for (request, status) in [
        (&b"GET / HTTP/1.1\r\n\r\n"[..], "404"),
        (b"GET /metricsx HTTP/1.1\r\n\r\n", "404"),
        (b"POST /metrics HTTP/1.1\r\n\r\n", "404"),
        (b"\x10\x18\0\x04MQTT\xff\r\n\r\n", "404"),
        (b"\r\n\r\n", "404"),
        (&[b'x'; 4096], "431"),
    ] {
        let answer = ask(address, request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    }
    assert_eq!(ask(address, b"GET /metrics HTTP/1.1\r\n").await, "", "a request that breaks off");
}

#[tokio::test]
async fn idle_scrapers_are_bounded_and_give_their_places_back() {
    let (address, _) = start();
    let mut idle = Vec::new();
    for _ in 0..8 {
        idle.push(TcpStream::connect(address).await.unwrap());
    }
    assert_closed(&mut TcpStream::connect(address).await.unwrap()).await;
    // Their time is up before that of this test.
    for mut client in idle {
        assert_closed(&mut client).await;
    }
    let answer = ask(address, b"GET /metrics HTTP/1.1\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
}
