//! Who gets a session, and what the others are told.

use crate::{
    BEACON, ORDER, PRESENCE,
    client::{Client, Connect, Packet, dial, publish_packet},
    process::Site,
};

fn code(connect: &Connect, address: std::net::SocketAddr) -> Option<u8> {
    connect.attempt(address).err()
}

#[test]
fn another_version_of_mqtt_is_refused_with_1() {
    let broker = Site::new().start();
    for level in [3, 5, 0x84] {
        let connect = Connect { level, ..Connect::new("client") };
        assert_eq!(code(&connect, broker.address()), Some(1), "level {level}");
    }
}

#[test]
fn client_ids_that_are_of_no_use_are_refused_with_2() {
    let site = Site::with("");
    let broker = site.start();
    let long = "x".repeat(129);
    for id in [long.as_str(), "two words", "\u{fc}ber", "\u{7f}"] {
        assert_eq!(code(&Connect::new(id), broker.address()), Some(2), "{id:?}");
    }
    assert_eq!(code(&Connect::persistent(""), broker.address()), Some(2));
    broker.wait_for_refusals("client-id", 5);
    Client::connect(broker.address(), &"x".repeat(128)).ping();
}

#[test]
fn clients_without_an_id_have_a_session_each() {
    let broker = Site::new().start();
    let mut clients: Vec<_> = (0..5).map(|_| Client::connect(broker.address(), "")).collect();
    for client in &mut clients {
        client.subscribe(BEACON);
    }
    clients[0].retained(BEACON, "one");
    for client in &mut clients {
        assert_eq!(client.take().text(), "one");
    }
}

#[test]
fn no_client_can_choose_the_id_of_one_without() {
    let broker = Site::new().start();
    let ids = (0..20).map(|number| format!("auto/{number}"));
    let mut chosen: Vec<_> = ids.map(|id| Client::connect(broker.address(), &id)).collect();
    Client::connect(broker.address(), "").ping();
    chosen.iter_mut().for_each(Client::ping);
}

#[test]
fn where_all_places_are_taken_the_next_is_refused_with_3_until_one_is_free() {
    let site = Site::with("max_connections = 2\n");
    let broker = site.start();
    let first = Client::connect(broker.address(), "first");
    let mut second = Client::connect(broker.address(), "second");
    assert_eq!(code(&Connect::new("third"), broker.address()), Some(3));
    // Nobody's place is had by their name either.
    assert_eq!(code(&Connect::new("first"), broker.address()), Some(3));
    second.ping();
    broker.wait_for_refusals("full-house", 2);
    first.disconnect();
    broker.wait_for_metric("herald_broker_connections", 1);
    Client::connect(broker.address(), "third").ping();
}

/// Gives an address of this machine that is not loopback, if it has one. Nothing is sent.
fn own_address() -> Option<std::net::IpAddr> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    let address = socket.local_addr().ok()?.ip();
    Some(address).filter(|address| !address.is_loopback() && !address.is_unspecified())
}

#[test]
fn where_an_address_has_all_its_places_its_next_is_refused_with_3_and_others_are_let_in() {
    let Some(address) = own_address() else {
        return eprintln!("skipped: this machine has no address but loopback");
    };
    let listener = |address: &str, more: &str| {
        format!("[[listener]]\naddress = \"{address}\"\ntransport = \"tcp\"\n{more}")
    };
    let (local, open) = ("anonymous = true\n", "plaintext = true\n");
    let site = Site::with(&format!(
        "max_connections_per_address = 1\n{}{}",
        listener(&format!("{address}:0"), open),
        listener("127.0.0.1:0", local)
    ));
    let broker = site.start_configured();
    let [open, local] = broker.addresses[..] else { panic!("{:?}", broker.addresses) };
    // A connection has its place before it says anything.
    let first = dial(open);
    broker.wait_for_metric("herald_broker_connections", 1);
    assert_eq!(code(&Connect::new("second"), open), Some(3));
    broker.wait_for_refusals("address-full", 1);
    Client::connect(local, "third").ping();
    drop(first);
    broker.wait_for_metric("herald_broker_connections", 0);
    // There is a place, but no login.
    assert_eq!(code(&Connect::new("second"), open), Some(5));
}

#[test]
fn a_will_that_may_not_be_published_is_refused_with_5_and_not_published() {
    let site = Site::with("");
    let broker = site.start();
    let mut watcher = Client::connect(broker.address(), "watcher");
    watcher.subscribe("herald/v1/home/presence/+");
    let retained = |topic: &str, retain| Connect {
        will: Some((topic.to_owned(), b"will".to_vec(), retain)),
        ..Connect::new("client")
    };
    for (topic, retain) in [
        // Retained where it is not, and not where it is.
        (PRESENCE, false),
        ("herald/v1/home/event/web-1", true),
        ("foreign", true),
        ("herald/v1/home/presence/+", true),
        ("$SYS/x", true),
        ("", true),
    ] {
        assert_eq!(code(&retained(topic, retain), broker.address()), Some(5), "{topic}");
    }
    broker.wait_for_refusals("will", 6);
    watcher.retained(PRESENCE, "marker");
    assert_eq!(watcher.take().text(), "marker");
}

#[test]
fn a_client_that_does_not_begin_with_connect_is_closed_unanswered() {
    let site = Site::with("");
    let broker = site.start();
    let publish = publish_packet(ORDER, b"order", Some(1), true);
    for first in [&publish[..], &[0xc0, 0], &[0xe0, 0]] {
        let mut client = Client::new(Box::new(dial(broker.address())));
        client.send(first);
        client.assert_closed();
    }
    broker.wait_for_refusals("unexpected", 3);
    let mut reader = Client::connect(broker.address(), "reader");
    reader.subscribe(ORDER);
    reader.retained(ORDER, "marker");
    assert_eq!(reader.take().text(), "marker");
}

#[test]
fn a_second_connect_closes_the_connection() {
    let site = Site::with("");
    let broker = site.start();
    let mut client = Client::connect(broker.address(), "client");
    client.send(&Connect::new("client").packet());
    client.assert_closed();
    broker.wait_for_refusals("unexpected", 1);
}

#[test]
fn packets_that_come_with_connect_are_not_lost() {
    let broker = Site::new().start();
    let mut all = Connect::new("hasty").packet();
    for id in 1..=20 {
        all.extend(publish_packet(ORDER, b"order", Some(id), true));
    }
    let mut client = Client::new(Box::new(dial(broker.address())));
    client.send(&all);
    assert_eq!(client.receive().unwrap(), Packet::ConnAck { present: false, code: 0 });
    for id in 1..=20 {
        assert_eq!(client.receive().unwrap(), Packet::PubAck(id));
    }
}
