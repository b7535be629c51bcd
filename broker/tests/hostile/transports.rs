//! Hostile streams below MQTT: in TLS and in WebSocket.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::harness::{Broker, Bystander, Client, LIMIT, awaited};
use crate::packets::{PINGREQ, PINGRESP, connack, connect, packet};

/// A broker that listens to TCP, TLS and WebSocket.
struct Listening {
    broker: Broker,
    tls: SocketAddr,
    websocket: SocketAddr,
    trusting: Arc<ClientConfig>,
    _files: tempfile::TempDir,
}

impl Listening {
    fn start() -> Self {
        let files = tempfile::tempdir().unwrap();
        let names = vec!["localhost".to_owned()];
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed(names).unwrap();
        let (certificate, key) = (files.path().join("chain.pem"), files.path().join("key.pem"));
        fs::write(&certificate, cert.pem()).unwrap();
        fs::write(&key, signing_key.serialize_pem()).unwrap();
        let listener = |transport: &str, more: &str| {
            format!(
                "[[listener]]\naddress = \"127.0.0.1:0\"\ntransport = \"{transport}\"\n\
                 anonymous = true\n{more}"
            )
        };
        let tls = format!("certificate = {certificate:?}\nkey = {key:?}\n");
        let all = [listener("tcp", ""), listener("tls", &tls), listener("websocket", "")].concat();
        let broker = Broker::listening("handshake_timeout = \"2s\"", &all);
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(cert.pem().as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let trusting = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let (tls, websocket) = (broker.listener(1), broker.listener(2));
        Self { broker, tls, websocket, trusting: Arc::new(trusting), _files: files }
    }

    /// A session in TLS.
    fn connect_tls(&self, id: &str) -> StreamOwned<ClientConnection, TcpStream> {
        let socket = Client::open(self.tls).stream;
        let name = ServerName::try_from("localhost").unwrap();
        let connection = ClientConnection::new(Arc::clone(&self.trusting), name).unwrap();
        let mut stream = StreamOwned::new(connection, socket);
        stream.write_all(&connect(id)).unwrap();
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(answer, *connack(0));
        stream
    }

    /// A WebSocket without a word of MQTT.
    fn open_websocket(&self) -> Client {
        let mut client = Client::open(self.websocket);
        client.send(
            b"GET /mqtt HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n\
              Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
              Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\
              Sec-WebSocket-Protocol: mqtt\r\n\r\n",
        );
        let (mut head, mut byte) = (Vec::new(), [0]);
        while !head.ends_with(b"\r\n\r\n") {
            client.stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", head.escape_ascii());
        client
    }
}

/// A masked frame, whose mask is zero.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let length = payload.len() as u16;
    let header = match length {
        0..126 => vec![first, 0x80 | length as u8],
        _ => [&[first, 0xfe][..], &length.to_be_bytes()].concat(),
    };
    [header.as_slice(), &[0; 4], payload].concat()
}

#[test]
fn idle_and_half_open_connections_to_the_tls_port_hold_up_nobody() {
    let mut listening = Listening::start();
    let bystander = Bystander::start(listening.broker.address());
    let before = listening.broker.refusals();
    let hello = b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03";
    let mut held: Vec<_> = (0..100)
        .map(|number| {
            let mut client = Client::open(listening.tls);
            client.send(&hello[..number % hello.len()]);
            client
        })
        .collect();
    let mut stream = listening.connect_tls("served");
    stream.write_all(PINGREQ).unwrap();
    let mut answer = [0; 2];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer, *PINGRESP);
    held.iter_mut().for_each(Client::assert_closed);
    listening.broker.assert_refused(&before, &[("handshake-timeout", 100)], "half-open TLS");
    listening.broker.assert_alive();
    bystander.assert_was_served("half-open TLS");
}

#[test]
fn garbage_instead_of_tls_is_counted_as_such() {
    let mut listening = Listening::start();
    let bystander = Bystander::start(listening.broker.address());
    let long_record = [&b"\x16\x03\x01\xff\xff"[..], &[0; 0xffff]].concat();
    for (garbage, what) in [
        (connect("a"), "MQTT in the clear"),
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), "HTTP"),
        (vec![0; 300], "zeros"),
        (vec![0xff; 300], "ones"),
        (long_record, "a record that is too long"),
        (b"\x16\x03\x01\0\x04\x01\0\0\0".to_vec(), "an empty ClientHello"),
        (b"\x15\x03\x01\0\x02\x02\x28".to_vec(), "an alert"),
        (b"\x17\x03\x03\0\x05hello".to_vec(), "data before the handshake"),
        (b"\x80\x2e\x01\0\x02".to_vec(), "SSL 2"),
    ] {
        let before = listening.broker.refusals();
        let mut client = Client::open(listening.tls);
        client.send(&garbage);
        // An alert may come.
        client.rest();
        listening.broker.assert_refused(&before, &[("tls", 1)], what);
        listening.broker.assert_alive();
    }
    bystander.assert_was_served("garbage instead of TLS");
}

#[test]
fn garbage_in_tls_is_counted_by_what_it_is() {
    let mut listening = Listening::start();
    let bystander = Bystander::start(listening.broker.address());
    let before = listening.broker.refusals();
    let mut stream = listening.connect_tls("malformed");
    stream.write_all(&[0xff; 100]).unwrap();
    let _ = stream.read(&mut [0; 10]);
    listening.broker.assert_refused(&before, &[("malformed", 1)], "malformed in TLS");

    let before = listening.broker.refusals();
    let mut stream = listening.connect_tls("forged");
    stream.sock.write_all(b"\x17\x03\x03\0\x20forged forged forged forged forg").unwrap();
    let _ = stream.read(&mut [0; 10]);
    listening.broker.assert_refused(&before, &[("tls", 1)], "a forged record");

    let before = listening.broker.refusals();
    let stream = listening.connect_tls("gone");
    drop(stream);
    let gone = awaited(|| (listening.broker.value("sessions") == 1).then_some(()));
    assert!(gone.is_some(), "a session that does not end");
    listening.broker.assert_refused(&before, &[], "an end without a word");
    listening.broker.assert_alive();
    bystander.assert_was_served("garbage in TLS");
}

#[test]
fn what_is_no_websocket_of_ours_is_counted_as_such() {
    let mut listening = Listening::start();
    let bystander = Bystander::start(listening.broker.address());
    let too_long = [&b"GET /mqtt HTTP/1.1\r\nx: "[..], &[b'x'; 100_000]].concat();
    for (bytes, what) in [
        (connect("a"), "MQTT without WebSocket"),
        (vec![0; 300], "zeros"),
        (vec![0xff; 300], "ones"),
        (b"GET /mqtt HTTP/1.1\r\n\r\n".to_vec(), "a request for a page"),
        (b"POST /mqtt HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n".to_vec(), "a POST"),
        (b"GET /mqtt HTTP/9.9\r\n\r\n".to_vec(), "HTTP 9.9"),
        (too_long, "a header that is too long"),
    ] {
        let before = listening.broker.refusals();
        let mut client = Client::open(listening.websocket);
        client.send(&bytes);
        client.rest();
        listening.broker.assert_refused(&before, &[("websocket", 1)], what);
        listening.broker.assert_alive();
    }
    bystander.assert_was_served("no WebSocket");
}

#[test]
fn frames_that_break_the_rules_are_counted_before_and_behind_connect() {
    let mut listening = Listening::start();
    let bystander = Bystander::start(listening.broker.address());
    let endless = [&[0x82, 0xff][..], &u64::MAX.to_be_bytes(), &[0; 4]].concat();
    let unmasked = [&[0x82, 2][..], PINGREQ].concat();
    for (bytes, what) in [
        (frame(0x81, b"text"), "a text frame"),
        (frame(0x80, b"x"), "a continuation of nothing"),
        (frame(0x83, b"x"), "an unknown opcode"),
        (frame(0xf2, b"x"), "reserved bits"),
        (frame(0x09, b"x"), "a ping in parts"),
        (frame(0x82, &[0; 0xfff0]), "a message above the limit"),
        (endless, "a message without end"),
        (unmasked, "a frame without a mask"),
    ] {
        for connected in [false, true] {
            let before = listening.broker.refusals();
            let mut client = listening.open_websocket();
            if connected {
                client.send(&frame(0x82, &connect("a")));
                client.expect(&[&[0x82, 4][..], &connack(0)].concat());
            }
            client.send(&bytes);
            client.rest();
            let what = format!("{what}, connected: {connected}");
            listening.broker.assert_refused(&before, &[("websocket", 1)], &what);
            listening.broker.assert_alive();
        }
    }
    bystander.assert_was_served("frames that break the rules");
}

#[test]
fn packets_in_frames_of_a_byte_are_served_and_malformed_ones_refused() {
    let listening = Listening::start();
    let mut client = listening.open_websocket();
    for byte in [connect("bytes").as_slice(), PINGREQ].concat() {
        client.send(&frame(0x82, &[byte]));
        client.send(&frame(0x82, b""));
    }
    client.expect(&[&[0x82, 4][..], &connack(0), &[0x82, 2], PINGRESP].concat());
    let before = listening.broker.refusals();
    client.send(&frame(0x82, &packet(0xf0, &[])));
    client.rest();
    listening.broker.assert_refused(&before, &[("malformed", 1)], "malformed in WebSocket");

    let before = listening.broker.refusals();
    let mut idle = listening.open_websocket();
    idle.stream.set_read_timeout(Some(LIMIT)).unwrap();
    idle.rest();
    listening.broker.assert_refused(&before, &[("handshake-timeout", 1)], "an idle WebSocket");
}
