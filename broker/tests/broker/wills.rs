//! What is said for a client that went without a word, and when.

use std::{
    io::{Read, Write},
    net::TcpStream,
    thread,
};

use rustix::process::Signal;

use crate::{
    EVENT, ORDER, PRESENCE,
    client::{Client, Connect},
    process::Site,
    wait::LIMIT,
};

#[test]
fn the_will_of_a_client_that_vanishes_is_published_and_kept() {
    let broker = Site::new().start();
    let mut watcher = Client::connect(broker.address(), "watcher");
    watcher.subscribe(PRESENCE);
    let client = Connect::new("client").will(PRESENCE, "gone").open(broker.address());
    client.vanish();
    let will = watcher.take();
    assert_eq!((will.text(), will.retain), ("gone", false));
    let mut later = Client::connect(broker.address(), "later");
    later.subscribe(PRESENCE);
    let will = later.take();
    assert_eq!((will.text(), will.retain), ("gone", true));
}

#[test]
fn the_will_of_a_client_that_disconnects_is_not_published() {
    let broker = Site::new().start();
    let mut watcher = Client::connect(broker.address(), "watcher");
    watcher.subscribe(PRESENCE);
    for _ in 0..10 {
        Connect::new("client").will(PRESENCE, "gone").open(broker.address()).disconnect();
    }
    watcher.retained(PRESENCE, "marker");
    assert_eq!(watcher.take().text(), "marker");
}

#[test]
fn what_a_client_published_last_comes_before_its_will() {
    let broker = Site::new().start();
    let mut watcher = Client::connect(broker.address(), "watcher");
    watcher.subscribe(PRESENCE);
    for round in 0..10 {
        let (last, gone) = (format!("{round} last"), format!("{round} gone"));
        let mut client = Connect::new("client").will(PRESENCE, &gone).open(broker.address());
        client.retain(PRESENCE, &last);
        client.vanish();
        assert_eq!(watcher.take().text(), last);
        assert_eq!(watcher.take().text(), gone);
    }
}

#[test]
fn the_will_of_a_client_that_breaks_a_rule_is_published() {
    let broker = Site::new().start();
    let mut watcher = Client::connect(broker.address(), "watcher");
    watcher.subscribe(PRESENCE);
    let mut client = Connect::new("client").will(PRESENCE, "gone").open(broker.address());
    client.publish("foreign", "x", true);
    client.assert_closed();
    assert_eq!(watcher.take().text(), "gone");
}

#[test]
fn a_will_that_is_not_retained_or_is_empty_does_what_any_message_does() {
    let broker = Site::new().start();
    let mut watcher = Client::connect(broker.address(), "watcher");
    watcher.subscribe(EVENT);
    let connect = Connect {
        will: Some((EVENT.to_owned(), b"gone".to_vec(), false)),
        ..Connect::new("client")
    };
    connect.open(broker.address()).vanish();
    assert_eq!(watcher.take().text(), "gone");

    watcher.retained(PRESENCE, "here");
    watcher.subscribe(PRESENCE);
    assert_eq!(watcher.take().text(), "here");
    Connect::new("client").will(PRESENCE, "").open(broker.address()).vanish();
    assert_eq!(watcher.take().text(), "");
    let mut later = Client::connect(broker.address(), "later");
    later.subscribe(PRESENCE);
    later.retained(PRESENCE, "marker");
    assert_eq!(later.take().text(), "marker");
}

#[test]
fn a_broker_that_is_stopped_closes_its_clients_and_publishes_no_wills() {
    let site = Site::new();
    let mut broker = site.start();
    let wills: Vec<_> = (0..20).map(|n| format!("herald/v1/home/presence/web-{n}")).collect();
    let mut clients: Vec<_> = wills
        .iter()
        .map(|topic| Connect::new(topic).will(topic, "gone").open(broker.address()))
        .collect();
    clients[0].subscribe("herald/v1/home/presence/+");
    clients[1].retained(ORDER, "order");
    broker.signal(Signal::TERM);
    clients.iter_mut().for_each(Client::assert_closed);
    assert_eq!(broker.wait(), Some(0));

    let broker = site.start();
    let mut reader = Client::connect(broker.address(), "reader");
    reader.subscribe("herald/v1/home/presence/+");
    reader.subscribe(ORDER);
    assert_eq!(reader.take().text(), "order");
}

#[test]
fn a_broker_to_which_clients_are_just_connecting_stops_at_once() {
    let site = Site::new();
    for _ in 0..5 {
        let broker = site.start();
        let address = broker.address();
        let clients: Vec<_> = (0..8)
            .map(|number| {
                thread::spawn(move || {
                    // Until the broker is gone.
                    while let Ok(mut socket) = TcpStream::connect(address) {
                        let connect = Connect::persistent(&format!("client-{number}"));
                        let _ = socket.set_read_timeout(Some(LIMIT));
                        let _ = socket.write_all(&connect.packet());
                        let _ = socket.read(&mut [0; 4]);
                        let _ = socket.read(&mut [0; 4]);
                    }
                })
            })
            .collect();
        let first = Connect::persistent("client-0").attempt(address);
        drop(first);
        broker.stop();
        clients.into_iter().for_each(|client| client.join().unwrap());
    }
}
