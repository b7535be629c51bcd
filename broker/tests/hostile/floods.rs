//! More of everything than anyone needs: others are served meanwhile, and memory stays bounded.
//!
//! What a debug build of the broker may grow by is a bound on queues, not a measurement: 32 MiB may
//! wait for a client without a login (that is the largest queue there is), and the allocator keeps
//! some of what was freed.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use herald_broker::passwords;

use crate::harness::{Broker, Bystander, Client, LIMIT, awaited};
use crate::packets::{
    DISCONNECT, PINGREQ, connack, connect, connect_with, packet, puback, publish, publish_1,
    retain, string, suback, subscribe, unsubscribe,
};

const EVENT: &str = "herald/v1/home/event/a";
const MIB: usize = 1024 * 1024;

/// What the broker may grow by where nothing is to be kept.
const SOME: usize = 24 * MIB;
/// What it may grow by where a queue is full.
const MUCH: usize = 96 * MIB;

/// Runs a flood against a broker: another client is served, and memory stays within the bound.
fn flood(what: &str, settings: &str, bound: usize, flood: impl FnOnce(&Broker)) {
    let mut broker = Broker::start(settings);
    Client::connect(broker.address(), "first").subscribe(EVENT);
    let bystander = Bystander::start(broker.address());
    let before = broker.memory();
    flood(&broker);
    let grown = broker.memory().saturating_sub(before);
    broker.assert_alive();
    bystander.assert_was_served(what);
    assert!(grown < bound, "{what}: {} KiB more than {}", grown / 1024, before / 1024);
}

/// Waits until nobody but the bystander is connected.
fn assert_all_gone(broker: &Broker) {
    assert_all_gone_but(broker, 1);
}

/// Waits until only so many are connected.
fn assert_all_gone_but(broker: &Broker, stay: u64) {
    for gauge in ["connections", "sessions"] {
        let gone = awaited(|| (broker.value(gauge) == stay).then_some(()));
        assert!(gone.is_some(), "{gauge}: {}", broker.value(gauge));
    }
}

/// Writes the same bytes again and again until the broker closes, or for this time.
fn write_for(client: &mut Client, bytes: &[u8], time: Duration) {
    let end = Instant::now() + time;
    client.stream.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
    let mut sent = 0;
    while Instant::now() < end {
        match client.stream.write(&bytes[sent..]) {
            Ok(more) => sent = (sent + more) % bytes.len(),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => return,
        }
    }
}

#[test]
fn two_thousand_clients_that_come_and_go() {
    flood("clients that come and go", "", SOME, |broker| {
        for number in 0..2_000 {
            let mut client = Client::open(broker.address());
            match number % 5 {
                0 => drop(client),
                1 => client.send(&connect("half")[..9]),
                2 => client.send(&connect(format!("client-{number}"))),
                3 => {
                    client.send(&connect(format!("client-{number}")));
                    client.expect(&connack(0));
                }
                _ => {
                    client.send(&connect("orderly"));
                    client.expect(&connack(0));
                    client.subscribe(EVENT);
                    client.send(DISCONNECT);
                    client.assert_closed();
                }
            }
        }
        assert_all_gone(broker);
    });
}

#[test]
fn twenty_thousand_filters_that_change() {
    flood("filters that change", "", SOME, |broker| {
        let mut client = Client::connect(broker.address(), "churn");
        for round in 0..200 {
            let filters: Vec<_> =
                (0..100).map(|number| format!("herald/v1/home/log/h-{round}-{number}")).collect();
            client.send(&subscribe(1, &filters));
            client.send(&unsubscribe(2, &filters));
            client.expect(&suback(1, &[1; 100]));
            client.expect(&packet(0xb0, &[b"\0\x02"]));
        }
    });
}

#[test]
fn fifty_thousand_publishes_of_qos_0_reach_one_who_reads_them() {
    const COUNT: u32 = 50_000;
    flood("publishes of QoS 0", "", MUCH, |broker| {
        let mut reader = Client::connect(broker.address(), "reader");
        reader.send(&packet(0x82, &[b"\0\x01", &string(EVENT), b"\0"]));
        reader.expect(&suback(1, &[0]));
        let mut publisher = Client::connect(broker.address(), "publisher");
        let sending = thread::spawn(move || {
            for batch in 0..COUNT / 100 {
                let messages = (0..100).map(|n| publish(EVENT, &(batch * 100 + n).to_be_bytes()));
                publisher.send(&messages.collect::<Vec<_>>().concat());
            }
            publisher.ping();
        });
        let mut next = 0_u32;
        while next < COUNT {
            let (_, body) = reader.receive();
            assert!(body.ends_with(&next.to_be_bytes()), "message {next}");
            next += 1;
        }
        sending.join().unwrap();
    });
}

#[test]
fn pings_without_end_from_one_who_reads_no_answer() {
    flood("pings without end", "", SOME, |broker| {
        let mut client = Client::connect(broker.address(), "pings");
        write_for(&mut client, &PINGREQ.repeat(32 * 1024), LIMIT);
        let slow = awaited(|| (broker.refusals().of("slow") == 1).then_some(()));
        assert!(slow.is_some(), "{:?}", broker.refusals());
    });
}

#[test]
fn subscribing_again_and_again_without_reading() {
    flood("subscribing again and again", "", SOME, |broker| {
        let mut publisher = Client::connect(broker.address(), "publisher");
        for number in 1..=2_000_u16 {
            let topic = format!("herald/v1/home/status/host-{number}/system");
            publisher.send(&retain(topic, number, &[b'x'; 100]));
        }
        for number in 1..=2_000_u16 {
            publisher.expect(&puback(number));
        }
        let mut client = Client::connect(broker.address(), "again");
        let again = subscribe(1, &["herald/v1/home/status/+/+"; 1_000]);
        write_for(&mut client, &again, Duration::from_secs(4));
    });
}

#[test]
fn twenty_thousand_filters_with_a_retained_message_each_in_one_go() {
    const COUNT: u16 = 20_000;
    flood("filters with a retained message each", "", MUCH, |broker| {
        let topic = |number| format!("herald/v1/home/status/host-{number}/system");
        let mut publisher = Client::connect(broker.address(), "publisher");
        let mut acknowledged = publisher.stream.try_clone().unwrap();
        let storing = thread::spawn(move || {
            let mut all = vec![0; 4 * usize::from(COUNT)];
            acknowledged.read_exact(&mut all).unwrap();
        });
        for number in 1..=COUNT {
            publisher.send(&retain(topic(number), number, b"x"));
        }
        storing.join().unwrap();
        let mut client = Client::connect(broker.address(), "console");
        let all: Vec<_> = (1..=COUNT).map(topic).collect();
        let mut sender = Client { stream: client.stream.try_clone().unwrap() };
        let subscribing = thread::spawn(move || {
            for filters in all.chunks(500) {
                sender.send(&subscribe(1, filters));
            }
        });
        let mut left = COUNT;
        while left > 0 {
            let (kind, body) = client.receive();
            if kind == 0x33 {
                left -= 1;
                let topic = usize::from(u16::from_be_bytes([body[0], body[1]]));
                client.send(&puback(u16::from_be_bytes([body[2 + topic], body[3 + topic]])));
            }
        }
        subscribing.join().unwrap();
    });
}

#[test]
fn subscriber_that_never_reads_slows_its_publisher_and_is_closed() {
    const COUNT: u16 = 20_000;
    flood("a subscriber that never reads", "", MUCH, |broker| {
        let mut subscriber = Client::connect(broker.address(), "never-reads");
        subscriber.subscribe(EVENT);
        let mut publisher = Client::connect(broker.address(), "publisher");
        let mut sender = Client { stream: publisher.stream.try_clone().unwrap() };
        let began = Instant::now();
        let sending = thread::spawn(move || {
            for number in 1..=COUNT {
                sender.send(&publish_1(EVENT, number, &[b'x'; 1024]));
            }
        });
        for number in 1..=COUNT {
            publisher.expect(&puback(number));
        }
        sending.join().unwrap();
        assert!(began.elapsed() >= Duration::from_secs(2), "the publisher did not wait");
        assert_eq!(broker.refusals().of("slow"), 1);
        drop(subscriber);
    });
}

#[test]
fn client_that_feeds_itself_without_reading() {
    flood("a client that feeds itself", "", MUCH, |broker| {
        let mut client = Client::connect(broker.address(), "ouroboros");
        client.subscribe(EVENT);
        write_for(&mut client, &publish_1(EVENT, 1, &[b'x'; 30_000]), LIMIT);
        let slow = awaited(|| (broker.refusals().of("slow") == 1).then_some(()));
        assert!(slow.is_some(), "{:?}", broker.refusals());
    });
}

#[test]
fn clients_that_send_a_byte_now_and_then_are_closed_in_time() {
    flood("a byte now and then", "", SOME, |broker| {
        let before = broker.refusals();
        let mut clients: Vec<_> = (0..50).map(|_| Client::open(broker.address())).collect();
        for byte in &connect("slow-writer")[..4] {
            for client in &mut clients {
                client.send(&[*byte]);
            }
            sleep(Duration::from_millis(700));
        }
        for client in &mut clients {
            client.assert_closed();
        }
        broker.assert_refused(&before, &[("handshake-timeout", 50)], "slow writers");
        assert_all_gone(broker);
    });
}

#[test]
fn as_many_idle_connections_as_there_may_be() {
    const COUNT: usize = 400;
    let settings = format!("max_connections = {COUNT}");
    // 16 KiB for each.
    flood("idle connections", &settings, COUNT * 16 * 1024, |broker| {
        let mut clients: Vec<_> = (1..COUNT)
            .map(|number| Client::connect(broker.address(), &format!("idle-{number}")))
            .collect();
        let mut more = Client::open(broker.address());
        more.send(&connect("more"));
        more.expect(&connack(3));
        clients.iter_mut().for_each(Client::ping);
        for client in &clients {
            client.stream.shutdown(Shutdown::Both).unwrap();
        }
        assert_all_gone(broker);
    });
}

#[test]
fn wills_of_clients_that_vanish_by_the_hundred() {
    flood("wills", "", MUCH, |broker| {
        let mut subscriber = Client::connect(broker.address(), "subscriber");
        subscriber.subscribe("herald/v1/home/presence/+");
        for number in 0..500 {
            let topic = format!("herald/v1/home/presence/h-{number}");
            let will = crate::packets::connect_with_will("dies", topic.as_bytes(), &[b'w'; 20_000]);
            drop(Client::greet(broker.address(), &will));
        }
        for _ in 0..500 {
            let (id, will) = subscriber.message();
            assert_eq!(will.len(), 20_000);
            subscriber.send(&puback(id));
        }
    });
}

#[test]
fn clients_that_feed_each_other() {
    flood("clients that feed each other", "", MUCH, |broker| {
        let topic = |name: &str| format!("herald/v1/home/event/{name}");
        let feeding = [("a", "b"), ("b", "a")].map(|(from, to)| {
            let mut client = Client::connect(broker.address(), from);
            client.subscribe(&topic(from));
            let publish = publish_1(topic(to), 1, &[b'x'; 2_000]).repeat(16);
            let mut reader = client.stream.try_clone().unwrap();
            // What comes is read, and never acknowledged.
            thread::spawn(move || while reader.read(&mut [0; 65_536]).is_ok_and(|n| n > 0) {});
            thread::spawn(move || write_for(&mut client, &publish, LIMIT))
        });
        let slow = awaited(|| (broker.refusals().of("slow") >= 1).then_some(()));
        assert!(slow.is_some(), "{:?}", broker.refusals());
        // Who feeds nobody any more must not be waited for.
        let mut publisher = Client::connect(broker.address(), "publisher");
        publisher.send(&publish_1(topic("a"), 1, b"x"));
        publisher.expect(&puback(1));
        for client in ["a", "b"] {
            drop(Client::connect(broker.address(), client));
        }
        for thread in feeding {
            thread.join().unwrap();
        }
        assert_all_gone_but(broker, 2);
    });
}

#[test]
fn wrong_passwords_by_the_hundred() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let hash = passwords::hash("secret", &[7; 16]).unwrap();
    writeln!(file, "home/operator:{hash}").unwrap();
    let settings = format!("handshake_timeout = \"20s\"\npasswords = {:?}", file.path());
    let mut broker = Broker::start(&settings);
    let bystander = Bystander::start(broker.address());
    let before = broker.memory();
    let mut guessing: Vec<_> = (0..100)
        .map(|number| {
            let mut client = Client::open(broker.address());
            let password = format!("guess {number}");
            let fields: [&[u8]; 3] = [b"guessing", b"home/operator", password.as_bytes()];
            client.send(&connect_with(0xc2, &fields));
            client
        })
        .collect();
    for client in &mut guessing {
        client.expect(&connack(4));
        client.assert_closed();
    }
    broker.assert_alive();
    assert_eq!(broker.refusals().of("bad-login"), 100);
    bystander.assert_was_served("wrong passwords");
    // Two are checked at a time.
    assert!(broker.memory().saturating_sub(before) < MUCH, "{} bytes", broker.memory());
}

#[test]
fn broker_stops_in_time_whatever_its_clients_do() {
    let mut broker = Broker::start("slow_after = \"60s\"");
    let mut subscriber = Client::connect(broker.address(), "never-reads");
    subscriber.subscribe(EVENT);
    let mut publisher = Client::connect(broker.address(), "publisher");
    write_for(&mut publisher, &publish_1(EVENT, 1, &[b'x'; 30_000]), Duration::from_secs(1));
    let _silent: Vec<_> = (0..50).map(|_| Client::open(broker.address())).collect();
    assert_eq!(broker.stopped(), Some(0));
}
