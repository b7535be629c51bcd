//! What ended rumqttd's own broker for everybody: each by one client, each seen on the real thing.

use crate::harness::{Broker, Bystander, Client, TCP, awaited};
use crate::packets::{
    DISCONNECT, connack, connect, connect_kept, connect_with_will, packet, puback, publish,
    publish_1, suback, subscribe,
};

const EVENT: &str = "herald/v1/home/event/a";

#[test]
fn topics_beyond_ascii_in_publishes_and_wills_end_only_their_own_connection() {
    let mut broker = Broker::start("");
    let bystander = Bystander::start(broker.address());
    let mut subscriber = Client::connect(broker.address(), "subscriber");
    subscriber.subscribe("herald/v1/home/event/+");
    for topic in ["über", "ü/a", "日本", "herald/v1/home/event/é", "\u{feff}herald", "\u{10ffff}"]
    {
        let before = broker.refusals();
        let mut client = Client::connect(broker.address(), "hostile");
        client.send(&publish(topic, b"x"));
        client.assert_closed();
        broker.assert_refused(&before, &[("topic", 1)], topic);
        let mut client = Client::open(broker.address());
        client.send(&connect_with_will("hostile", topic.as_bytes(), b"x"));
        client.expect(&connack(5));
        client.assert_closed();
        broker.assert_refused(&before, &[("topic", 1), ("will", 1)], topic);
    }
    subscriber.ping();
    broker.assert_alive();
    bystander.assert_was_served("topics beyond ASCII");
}

#[test]
fn persistent_subscriber_with_a_shared_filter_may_go_with_a_message_unacknowledged() {
    let mut broker = Broker::start("");
    let bystander = Bystander::start(broker.address());
    let mut publisher = Client::connect(broker.address(), "publisher");
    let status = "herald/v1/home/status/a/system";
    for round in 0..20_u8 {
        let mut subscriber = if round == 0 {
            let mut subscriber = Client::greet(broker.address(), &connect_kept("kept"));
            let shared = format!("$share/group/{status}");
            subscriber.send(&subscribe(1, &[shared.as_str(), status]));
            subscriber.expect(&suback(1, &[0x80, 1]));
            subscriber
        } else {
            // What was never acknowledged comes again, in its latest state.
            let mut subscriber = Client::resume(broker.address(), "kept");
            assert_eq!(subscriber.message().1, [round - 1]);
            subscriber
        };
        publisher.retain(status, &[round]);
        assert_eq!(subscriber.message().1, [round]);
        drop(subscriber);
    }
    broker.assert_alive();
    assert_eq!(broker.refusals().of("filter"), 1);
    bystander.assert_was_served("messages that were not acknowledged");
}

#[test]
fn subscriber_with_hundreds_of_messages_waiting_may_be_taken_over_by_its_own_id() {
    let mut broker = Broker::start("");
    let bystander = Bystander::start(broker.address());
    let mut publisher = Client::connect(broker.address(), "publisher");
    let mut subscriber = Client::connect(broker.address(), "subscriber");
    for round in 0..40 {
        subscriber.subscribe(EVENT);
        // More than the window of what is sent and not acknowledged, so that some wait.
        for id in 1..=300 {
            publisher.send(&publish_1(EVENT, id, &[b'x'; 100]));
        }
        let next = Client::connect(broker.address(), "subscriber");
        for id in 1..=300 {
            publisher.expect(&puback(id));
        }
        drop(subscriber);
        subscriber = next;
        broker.assert_alive();
        let taken_over = || (broker.refusals().of("taken-over") == round + 1).then_some(());
        assert!(awaited(taken_over).is_some(), "{:?}", broker.refusals());
    }
    subscriber.ping();
    bystander.assert_was_served("take-overs");
}

#[test]
fn hundred_connections_that_want_one_client_id_at_once_leave_one() {
    let mut broker = Broker::start("");
    let bystander = Bystander::start(broker.address());
    let clients: Vec<Client> = (0..100)
        .map(|_| {
            let mut client = Client::open(broker.address());
            client.send(&connect("wanted"));
            client
        })
        .collect();
    let taken_over = || (broker.refusals().of("taken-over") == 99).then_some(());
    assert!(awaited(taken_over).is_some(), "{:?}", broker.refusals());
    let open = clients.into_iter().filter_map(|mut client| client.is_open().then_some(())).count();
    assert_eq!(open, 1);
    broker.assert_alive();
    bystander.assert_was_served("a hundred take-overs at once");
}

#[test]
fn client_ids_with_characters_of_topics_may_connect_twice() {
    let mut broker = Broker::start("");
    let bystander = Bystander::start(broker.address());
    for id in ["a/b", "/", "+", "#", "$", "$SYS/#", "$share/g/+", "a+b#c$/", "../..", "%n%s"] {
        for connect in [connect(id), connect_kept(id)] {
            let before = broker.refusals();
            let mut first = Client::greet(broker.address(), &connect);
            first.subscribe(EVENT);
            let mut second = Client::open(broker.address());
            second.send(&connect);
            let present = connect[9] & 0x02 == 0;
            second.expect(&[0x20, 2, present.into(), 0]);
            first.assert_closed();
            second.ping();
            broker.assert_refused(&before, &[("taken-over", 1)], id);
            second.send(DISCONNECT);
            second.assert_closed();
        }
    }
    broker.assert_alive();
    bystander.assert_was_served("client ids with characters of topics");
}

#[test]
fn connections_above_the_limit_are_told_so_however_often_they_come() {
    let mut broker = Broker::start("max_connections = 8");
    let address = broker.address();
    let bystander = Bystander::start(address);
    let mut seated: Vec<_> =
        (0..7).map(|number| Client::connect(address, &format!("seat-{number}"))).collect();
    for retry in 1..=300 {
        let mut client = Client::open(address);
        client.send(&connect("one-too-many"));
        client.expect(&connack(3));
        client.assert_closed();
        let full_house = || (broker.refusals().of("full-house") == retry).then_some(());
        assert!(awaited(full_house).is_some(), "{:?}", broker.refusals());
    }
    // Those who say nothing have no place either: 64 are heard, the others closed at once.
    let before = broker.refusals();
    let silent: Vec<_> = (0..100).map(|_| Client::open(address)).collect();
    broker.assert_refused(&before, &[("full-house", 100)], "silent connections");
    let heard = || (broker.value("connections") == 8 + 64).then_some(());
    assert!(awaited(heard).is_some(), "{}", broker.value("connections"));
    for client in silent {
        drop(client);
    }
    seated.pop();
    // A place is free as soon as the broker has noticed.
    let seat = awaited(|| {
        let mut client = Client::open(address);
        client.send(&connect("one-too-many"));
        client.is_open().then_some(client)
    });
    seat.expect("a place").ping();
    broker.assert_alive();
    bystander.assert_was_served("connections above the limit");
}

#[test]
fn clients_of_mqtt_5_are_told_that_there_is_none_and_subscribers_stay_whole() {
    let mut broker = Broker::start("");
    let bystander = Bystander::start(broker.address());
    let mut subscriber = Client::greet(broker.address(), &connect_kept("kept"));
    subscriber.subscribe(EVENT);
    for _ in 0..10 {
        let before = broker.refusals();
        let mut client = Client::open(broker.address());
        let body = b"\0\x04MQTT\x05\x02\0\x3c\x05\x11\0\0\0\x0a\0\x01a";
        let with_properties = packet(0x32, &[b"\0\x01t\0\x01\x02\x01\x01", b"payload"]);
        client.send(&packet(0x10, &[body]));
        client.expect(&connack(1));
        client.send(&with_properties);
        client.assert_closed();
        broker.assert_refused(&before, &[("protocol-version", 1)], "MQTT 5");
        drop(subscriber);
        subscriber = Client::resume(broker.address(), "kept");
        subscriber.ping();
    }
    broker.assert_alive();
    bystander.assert_was_served("MQTT 5");
}

#[test]
fn client_cannot_take_the_id_that_the_broker_chose_for_another() {
    let broker = Broker::listening("", TCP);
    let mut nameless = Client::connect(broker.address(), "");
    for number in 0..10 {
        for prefix in ["auto/", "auto-", ""] {
            Client::connect(broker.address(), &format!("{prefix}{number}")).ping();
        }
    }
    nameless.ping();
    assert_eq!(broker.refusals().of("taken-over"), 0);
}
