//! Plain connections, and what is the same for all: places, addresses, deadlines.

use herald_broker::config::Kind;
use herald_broker::limits::Gate;
use herald_broker::listener::{self, Transport};
use herald_broker::refusal::Refusal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{Echo, LIMIT, Told, assert_closed, assert_echoes, until, within};

#[tokio::test]
async fn plain_connection_is_served_with_its_address_and_counted() {
    let mut echo = Echo::start(Transport::Tcp);
    let mut client = TcpStream::connect(echo.address).await.unwrap();
    assert_echoes(&mut client).await;
    let peer = echo.serves().await;
    assert_eq!(peer.address, client.local_addr().unwrap());
    assert_eq!((peer.transport, peer.certificate, peer.anonymous), (Kind::Tcp, None, true));
    assert_eq!((echo.metrics.connections(), echo.gate.taken()), (1, 1));
    drop(client);
    echo.ended().await.unwrap();
    until("the connection is not counted any more", || echo.metrics.connections() == 0).await;
    assert_eq!(echo.gate.taken(), 0);
}

#[tokio::test]
async fn bytes_beyond_every_buffer_come_back_in_order() {
    let echo = Echo::start(Transport::Tcp);
    let (mut reader, mut writer) = TcpStream::connect(echo.address).await.unwrap().into_split();
    let sent: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    let expected = sent.clone();
    tokio::spawn(async move { writer.write_all(&sent).await.map(|()| writer) });
    let mut received = vec![0; expected.len()];
    within(reader.read_exact(&mut received)).await.unwrap();
    assert!(received == expected);
}

#[tokio::test]
async fn connection_over_the_limit_may_be_answered_and_one_over_the_overflow_is_closed() {
    let mut echo = Echo::with(Transport::Tcp, Gate::new(1, 1, 1), LIMIT);
    let mut seated = TcpStream::connect(echo.address).await.unwrap();
    assert_echoes(&mut seated).await;
    assert!(matches!(echo.told().await, Told::Serves(_, false)));
    let mut told = TcpStream::connect(echo.address).await.unwrap();
    assert_echoes(&mut told).await;
    assert!(matches!(echo.told().await, Told::Serves(_, true)));
    assert_closed(&mut TcpStream::connect(echo.address).await.unwrap()).await;
    assert_eq!(echo.metrics.refusals(Refusal::FullHouse), 2);
    // There is a place again.
    drop(seated);
    echo.ended().await.unwrap();
    assert_echoes(&mut TcpStream::connect(echo.address).await.unwrap()).await;
    assert!(matches!(echo.told().await, Told::Serves(_, false)));
}

#[tokio::test]
async fn address_in_use_is_an_error() {
    let first = listener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    assert!(listener::bind(first.local_addr().unwrap()).is_err());
}

#[tokio::test]
async fn client_of_a_listener_on_all_addresses_is_known_by_its_ipv4_address() {
    let Ok(socket) = listener::bind("[::]:0".parse().unwrap()) else {
        return eprintln!("not tested: this system has no IPv6");
    };
    let port = socket.local_addr().unwrap().port();
    let mut echo = Echo::on(socket, Transport::Tcp, Gate::new(9, 9, 0), LIMIT);
    let client = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    assert_eq!(echo.serves().await.address, client.local_addr().unwrap());
}
