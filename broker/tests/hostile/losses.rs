//! What rumqttd's own broker lost or made up without a word.

use std::collections::BTreeSet;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::harness::{Broker, Client, TCP, awaited};
use crate::packets::{
    DISCONNECT, connack, connect, connect_kept, connect_with, packet, puback, publish_1, retain,
    suback,
};

const EVENT: &str = "herald/v1/home/event/a";

/// Stores so many retained messages, each with its number in it.
fn store(broker: &Broker, count: u16) {
    let mut publisher = Client::connect(broker.address(), "publisher");
    for number in 1..=count {
        let topic = format!("herald/v1/home/status/host-{number}/system");
        publisher.send(&retain(topic, number, &number.to_be_bytes()));
    }
    for number in 1..=count {
        publisher.expect(&puback(number));
    }
}

#[test]
fn wildcard_brings_every_retained_message_with_either_qos() {
    const COUNT: u16 = 1_500;
    let broker = Broker::start("");
    store(&broker, COUNT);
    for qos in [0, 1] {
        let mut subscriber = Client::connect(broker.address(), "subscriber");
        let filter = crate::packets::string("herald/v1/home/status/+/+");
        subscriber.send(&packet(0x82, &[b"\0\x01", &filter, &[qos]]));
        subscriber.expect(&suback(1, &[qos]));
        let mut found = BTreeSet::new();
        while found.len() < usize::from(COUNT) {
            let (kind, body) = subscriber.receive();
            assert_eq!(kind, 0x31 | qos << 1, "retained");
            found.insert(body[body.len() - 2..].to_vec());
            if qos == 1 {
                let topic = usize::from(u16::from_be_bytes([body[0], body[1]]));
                let id = u16::from_be_bytes([body[2 + topic], body[3 + topic]]);
                subscriber.send(&puback(id));
            }
        }
        subscriber.ping();
    }
}

#[test]
fn empty_payload_without_retain_deletes_nothing() {
    let broker = Broker::start("");
    store(&broker, 1);
    for empty in [0x30, 0x32] {
        let topic = crate::packets::string("herald/v1/home/status/host-1/system");
        let id: &[u8] = if empty == 0x30 { b"" } else { b"\0\x01" };
        let mut client = Client::connect(broker.address(), "hostile");
        client.send(&packet(empty, &[&topic, id]));
        client.assert_closed();
    }
    let mut subscriber = Client::connect(broker.address(), "subscriber");
    subscriber.subscribe("herald/v1/home/status/host-1/system");
    assert_eq!(subscriber.message().1, [0, 1]);
    assert_eq!(broker.refusals().of("publish-denied"), 2);
    assert_eq!(broker.value("retained_messages"), 1);
}

#[test]
fn acknowledgements_out_of_order_lose_nothing() {
    let broker = Broker::start("");
    let mut publisher = Client::connect(broker.address(), "publisher");
    let mut subscriber = Client::connect(broker.address(), "subscriber");
    subscriber.subscribe(EVENT);
    let mut unacknowledged = Vec::new();
    // Several windows of messages.
    for number in 1..=2_000_u16 {
        publisher.send(&publish_1(EVENT, number, &number.to_be_bytes()));
        let (id, payload) = subscriber.message();
        assert_eq!(payload, number.to_be_bytes());
        unacknowledged.push(id);
        if unacknowledged.len() == 200 {
            // The last first, and one that is not there, twice.
            for id in unacknowledged.drain(..).rev() {
                subscriber.send(&puback(id));
            }
            subscriber.send(&puback(40_000).repeat(2));
        }
        publisher.expect(&puback(number));
    }
}

#[test]
fn what_a_kept_session_acknowledged_out_of_order_does_not_hide_what_it_did_not() {
    let broker = Broker::start("");
    let filter = "herald/v1/home/status/+/+";
    let mut subscriber = Client::greet(broker.address(), &connect_kept("kept"));
    subscriber.subscribe(filter);
    store(&broker, 10);
    let messages: Vec<_> = (0..10).map(|_| subscriber.message()).collect();
    for (id, _) in messages.iter().skip(1).rev() {
        subscriber.send(&puback(*id));
    }
    subscriber.ping();
    drop(subscriber);
    let mut subscriber = Client::resume(broker.address(), "kept");
    assert_eq!(subscriber.message().1, messages[0].1);
}

#[test]
fn silent_client_is_closed_however_much_is_sent_to_it() {
    let broker = Broker::start("");
    let mut publisher = Client::connect(broker.address(), "publisher");
    let mut silent = Client::open(broker.address());
    // A keep-alive of a second.
    silent.send(&packet(0x10, &[b"\0\x04MQTT\x04\x02\0\x01\0\x06silent"]));
    silent.expect(&connack(0));
    let filter = crate::packets::string(EVENT);
    silent.send(&packet(0x82, &[b"\0\x01", &filter, b"\0"]));
    silent.expect(&suback(1, &[0]));
    let began = Instant::now();
    let closed = awaited(|| {
        publisher.send(&publish_1(EVENT, 1, b"x"));
        publisher.expect(&puback(1));
        sleep(Duration::from_millis(20));
        (broker.refusals().of("keep-alive") == 1).then_some(())
    });
    closed.expect("an end");
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(1_400), "{took:?}");
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[test]
fn take_over_publishes_the_old_will_and_not_the_new_one() {
    let broker = Broker::listening("", TCP);
    let mut subscriber = Client::connect(broker.address(), "subscriber");
    subscriber.subscribe("herald/v1/home/presence/a");
    let connect_with_will = |will: &[u8]| {
        let fields: [&[u8]; 3] = [b"a", b"herald/v1/home/presence/a", will];
        Client::greet(broker.address(), &connect_with(0x2e, &fields))
    };
    let mut first = connect_with_will(b"will of the first");
    let mut second = connect_with_will(b"will of the second");
    first.assert_closed();
    assert_eq!(subscriber.message().1, b"will of the first");
    // Were the second one's will on its way, it would come before this.
    second.retain("herald/v1/home/presence/a", b"here");
    assert_eq!(subscriber.message().1, b"here");
    second.send(DISCONNECT);
    second.assert_closed();
    Client::greet(broker.address(), &connect("a")).retain("herald/v1/home/presence/a", b"back");
    assert_eq!(subscriber.message().1, b"back");
    drop(connect_with_will(b"will of the last"));
    assert_eq!(subscriber.message().1, b"will of the last");
}
