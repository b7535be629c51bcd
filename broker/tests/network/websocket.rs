//! MQTT over WebSocket: the handshake, the frames, and their limits.

use futures_util::{SinkExt, StreamExt};
use herald_broker::config::Kind;
use herald_broker::listener::Transport;
use herald_broker::refusal::Refusal;
use herald_broker::websocket::Rules;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::client::Request;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::harness::{Echo, until, within};

const MAX_MESSAGE: usize = 20_000;

pub(crate) fn rules() -> Rules {
    Rules { path: "/mqtt".to_owned(), max_message: MAX_MESSAGE, pages: false }
}

fn start() -> Echo {
    Echo::start(Transport::WebSocket(rules()))
}

pub(crate) fn request(path: &str, headers: &[(&'static str, &str)]) -> Request {
    let mut request = format!("ws://127.0.0.1{path}").into_client_request().unwrap();
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    request
}

pub(crate) const OFFER: (&str, &str) = ("sec-websocket-protocol", "mqtt");

async fn connect(echo: &Echo) -> WebSocketStream<TcpStream> {
    let socket = TcpStream::connect(echo.address).await.unwrap();
    let (client, response) = client_async(request("/mqtt", &[OFFER]), socket).await.unwrap();
    assert_eq!(response.headers()["sec-websocket-protocol"], "mqtt");
    client
}

/// Reads binary messages until there are so many bytes.
async fn read(client: &mut WebSocketStream<TcpStream>, length: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while bytes.len() < length {
        match within(client.next()).await.unwrap().unwrap() {
            Message::Binary(more) => bytes.extend_from_slice(&more),
            other => panic!("{other:?}"),
        }
    }
    bytes
}

async fn refused_with(echo: &Echo, path: &str, headers: &[(&'static str, &str)]) -> u16 {
    let socket = TcpStream::connect(echo.address).await.unwrap();
    match within(client_async(request(path, headers), socket)).await.unwrap_err() {
        Error::Http(response) => response.status().as_u16(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn bytes_are_a_stream_whatever_the_frames() {
    let mut echo = start();
    let mut client = connect(&echo).await;
    for part in [&b"\xc0"[..], b"", b"\0\xc0\0", b"and the rest"] {
        client.send(Message::binary(part.to_vec())).await.unwrap();
    }
    assert_eq!(read(&mut client, 16).await, b"\xc0\0\xc0\0and the rest");
    assert_eq!(echo.serves().await.transport, Kind::WebSocket);
}

#[tokio::test]
async fn more_than_any_buffer_holds_passes_both_ways_at_once() {
    let echo = start();
    let (mut sink, mut stream) = connect(&echo).await.split();
    let message: Vec<u8> = (0..MAX_MESSAGE as u32).map(|n| (n % 251) as u8).collect();
    let expected = message.repeat(100);
    let writer = tokio::spawn(async move {
        for _ in 0..100 {
            sink.send(Message::binary(message.clone())).await.unwrap();
        }
        sink
    });
    let mut received = Vec::new();
    while received.len() < expected.len() {
        match within(stream.next()).await.unwrap().unwrap() {
            Message::Binary(more) => received.extend_from_slice(&more),
            other => panic!("{other:?}"),
        }
    }
    assert!(received == expected);
    let _sink = writer.await.unwrap();
}

#[tokio::test]
async fn client_that_does_not_offer_mqtt_or_asks_for_another_path_is_told_so() {
    let echo = start();
    assert_eq!(refused_with(&echo, "/mqtt", &[]).await, 400);
    let other = ("sec-websocket-protocol", "mqttv3.1, chat");
    assert_eq!(refused_with(&echo, "/mqtt", &[other]).await, 400);
    assert_eq!(refused_with(&echo, "/", &[OFFER]).await, 404);
    until("each is counted", || echo.metrics.refusals(Refusal::WebSocket) == 3).await;
    let several = ("sec-websocket-protocol", "chat, mqtt");
    let socket = TcpStream::connect(echo.address).await.unwrap();
    client_async(request("/mqtt?x=1", &[several]), socket).await.unwrap();
}

#[tokio::test]
async fn page_in_a_browser_cannot_connect_where_there_is_no_login() {
    let page = ("origin", "https://example.org");
    let echo = start();
    assert_eq!(refused_with(&echo, "/mqtt", &[OFFER, page]).await, 403);
    let echo = Echo::start(Transport::WebSocket(Rules { pages: true, ..rules() }));
    let socket = TcpStream::connect(echo.address).await.unwrap();
    client_async(request("/mqtt", &[OFFER, page]), socket).await.unwrap();
}

#[tokio::test]
async fn garbage_instead_of_a_request_is_closed_and_counted() {
    let echo = start();
    let too_long = [b"GET /mqtt HTTP/1.1\r\nx: ".as_slice(), &[b'x'; 70_000]].concat();
    for garbage in [&b"\x10\x18\0\x04MQTT\x04\x02\0\x0a\r\n\r\n"[..], &too_long] {
        let before = echo.metrics.refusals(Refusal::WebSocket);
        let mut client = TcpStream::connect(echo.address).await.unwrap();
        let _ = client.write_all(garbage).await;
        let mut rest = Vec::new();
        let _ = within(client.read_to_end(&mut rest)).await;
        assert_eq!(rest, b"");
        until("it is counted", || echo.metrics.refusals(Refusal::WebSocket) > before).await;
    }
}

#[tokio::test]
async fn text_and_oversized_messages_end_the_connection_as_invalid() {
    let half = MAX_MESSAGE / 2 + 1;
    let fragments = [
        fragment(0x02, half),
        // It continues, and is too long with that.
        fragment(0x80, half),
    ]
    .concat();
    for bytes in [fragment(0x81, 5), fragment(0x82, MAX_MESSAGE + 1), fragments, vec![0x82, 0]] {
        let mut echo = start();
        let mut client = connect(&echo).await;
        let _ = client.get_mut().write_all(&bytes).await;
        let error = echo.ended().await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidData, "{error}");
    }
}

/// A masked frame of zeros, whose mask is zero too; at most 125 bytes or at least 126.
fn fragment(first: u8, length: usize) -> Vec<u8> {
    let mut frame = vec![first];
    match u8::try_from(length) {
        Ok(short @ 0..126) => frame.push(0x80 | short),
        _ => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&(length as u16).to_be_bytes());
        }
    }
    frame.resize(frame.len() + 4 + length, 0);
    frame
}

#[tokio::test]
async fn frame_of_the_largest_announced_length_holds_no_memory_and_is_refused() {
    let mut echo = start();
    let mut client = connect(&echo).await;
    let huge = [&[0x82, 0xff][..], &u64::MAX.to_be_bytes(), &[0; 4]].concat();
    client.get_mut().write_all(&huge).await.unwrap();
    assert_eq!(echo.ended().await.unwrap_err().kind(), std::io::ErrorKind::InvalidData);
}

#[tokio::test]
async fn pings_are_answered_and_a_close_is_an_end() {
    let mut echo = start();
    let mut client = connect(&echo).await;
    client.send(Message::Ping(b"are you there"[..].into())).await.unwrap();
    let answer = within(client.next()).await.unwrap().unwrap();
    assert_eq!(answer, Message::Pong(b"are you there"[..].into()));
    client.close(None).await.unwrap();
    assert!(matches!(within(client.next()).await, Some(Ok(Message::Close(_)))));
    echo.ended().await.unwrap();
    assert!(within(client.next()).await.is_none());
}

#[tokio::test]
async fn flood_of_pings_that_nobody_reads_the_answers_of_is_survived() {
    let mut echo = start();
    let mut client = connect(&echo).await;
    let ping = fragment(0x89, 125);
    let flood = ping.repeat(100_000);
    // The answers fill the client's buffer; the broker drops what it cannot send.
    within(client.get_mut().write_all(&flood)).await.unwrap();
    client.get_mut().write_all(&fragment(0x82, 3)).await.unwrap();
    loop {
        match within(client.next()).await.unwrap().unwrap() {
            Message::Pong(_) => {}
            other => break assert_eq!(other, Message::binary(vec![0; 3])),
        }
    }
    drop(client);
    let _ = echo.ended().await;
}

#[tokio::test]
async fn client_that_vanishes_is_an_end_and_no_broken_rule() {
    let mut echo = start();
    let client = connect(&echo).await;
    echo.serves().await;
    drop(client);
    echo.ended().await.unwrap();
}
