//! What is granted, and what comes then.

use crate::{
    BEACON, EVENT, ORDER, ORDER_2, PRESENCE, STATUS,
    client::{Client, Connect, Packet, publish_packet, texts},
    process::Site,
};

#[test]
fn qos_0_and_1_are_granted_and_2_is_granted_as_1() {
    let broker = Site::new().start();
    let mut client = Client::connect(broker.address(), "client");
    let granted = client.subscribe_all(&[(ORDER, 0), (STATUS, 1), (PRESENCE, 2)]);
    assert_eq!(granted, [0, 1, 1]);
    for (topic, acknowledged) in [(ORDER, false), (STATUS, true), (PRESENCE, true)] {
        client.retained(topic, "x");
        let message = client.take();
        assert_eq!((message.topic.as_str(), message.packet.is_some()), (topic, acknowledged));
        // No message comes with more than it was published with.
        client.send(&publish_packet(topic, b"y", None, true));
        assert_eq!(client.take().packet, None, "{topic}");
    }
}

#[test]
fn a_publish_with_qos_2_closes_the_connection_and_goes_nowhere() {
    let site = Site::with("");
    let broker = site.start();
    let mut watcher = Client::connect(broker.address(), "watcher");
    watcher.subscribe(ORDER);
    let mut client = Client::connect(broker.address(), "client");
    let mut publish = publish_packet(ORDER, b"order", Some(1), true);
    publish[0] = 0x35;
    client.send(&publish);
    client.assert_closed();
    broker.wait_for_refusals("qos", 1);
    watcher.retained(ORDER, "marker");
    assert_eq!(watcher.take().text(), "marker");
}

#[test]
fn filters_that_are_none_of_heralds_are_refused_beside_others_that_are_granted() {
    let site = Site::with("");
    let broker = site.start();
    let mut client = Client::connect(broker.address(), "client");
    let filters = [
        (ORDER, 1),
        ("#", 1),
        ("+", 1),
        ("$share/group/herald/v1/home/beacon", 1),
        ("$SYS/#", 0),
        ("herald/v1/home/#", 1),
        ("herald/v1/+/beacon", 1),
        ("herald/v1/home/status/+/system", 1),
        ("herald/v1/home/status/#", 1),
        ("foreign", 1),
        ("", 1),
        ("herald/v1/home/status/+/+", 0),
    ];
    let granted = client.subscribe_all(&filters);
    let refused = filters.len() - 2;
    assert_eq!(granted, [vec![1], vec![0x80; refused], vec![0]].concat());
    broker.wait_for_refusals("filter", refused as u32);
    client.retained(ORDER, "order");
    assert_eq!(client.take().topic, ORDER);
    client.retained(STATUS, "status");
    assert_eq!(client.take().topic, STATUS);
    client.ping();
}

#[test]
fn messages_come_as_retained_only_to_those_who_subscribe_later() {
    let broker = Site::new().start();
    let mut early = Client::connect(broker.address(), "early");
    early.subscribe(ORDER);
    early.retained(ORDER, "order");
    let live = early.take();
    assert_eq!((live.text(), live.retain), ("order", false));
    let mut late = Client::connect(broker.address(), "late");
    late.subscribe(ORDER);
    let kept = late.take();
    assert_eq!((kept.text(), kept.retain), ("order", true));
    // A subscription that is made again gives what is retained again (section 3.8.4).
    early.subscribe(ORDER);
    assert!(early.take().retain);
}

#[test]
fn messages_that_are_not_retained_come_to_those_who_are_there_only() {
    let broker = Site::new().start();
    let mut early = Client::connect(broker.address(), "early");
    early.subscribe("herald/v1/home/event/+");
    early.published(EVENT, "event");
    assert_eq!(early.take().text(), "event");
    let mut late = Client::connect(broker.address(), "late");
    late.subscribe(EVENT);
    late.published(EVENT, "marker");
    assert_eq!(late.take().text(), "marker");
}

#[test]
fn a_message_that_matches_several_filters_comes_with_the_highest_qos_of_them() {
    let broker = Site::new().start();
    let filters = [
        "herald/v1/home/status/+/+",
        "herald/v1/home/status/web-1/+",
        "herald/v1/home/status/web-1/system",
    ];
    for best in 0..3 {
        let mut client = Client::connect(broker.address(), "client");
        let wanted: Vec<_> =
            (0..3).map(|index| (filters[index], u8::from(index == best))).collect();
        client.subscribe_all(&wanted);
        for round in 0..20 {
            client.retain(STATUS, format!("{best} {round}"));
        }
        // Each may come more than once.
        client.ask(&[(BEACON, 1)]);
        let marker = format!("marker {best}");
        client.retain(BEACON, &marker);
        let mut best_qos = std::collections::BTreeMap::new();
        loop {
            match client.receive().unwrap() {
                Packet::Publish(message) if message.text() == marker => break,
                Packet::Publish(message) => {
                    client.acknowledge(&message);
                    *best_qos.entry(message.text().to_owned()).or_insert(false) |=
                        message.packet.is_some();
                }
                _ => {}
            }
        }
        let live = (0..20).filter(|round| best_qos.get(&format!("{best} {round}")) == Some(&true));
        assert_eq!(live.count(), 20, "{best} {best_qos:?}");
        client.disconnect();
    }
}

#[test]
fn after_unsubscribe_nothing_comes_and_other_filters_stay() {
    let broker = Site::new().start();
    let mut client = Client::connect(broker.address(), "client");
    client.subscribe(ORDER);
    client.subscribe("herald/v1/home/desired/+/+");
    client.subscribe(BEACON);
    client.unsubscribe("herald/v1/home/desired/+/+");
    client.unsubscribe("herald/v1/home/status/+/+");
    client.retained(ORDER_2, "nothing");
    client.retained(ORDER, "order");
    assert_eq!(client.take().text(), "order");
    client.unsubscribe(ORDER);
    client.retained(ORDER, "nothing");
    client.retained(BEACON, "marker");
    assert_eq!(client.take().text(), "marker");
}

#[test]
fn an_empty_retained_message_clears_its_topic_and_only_that() {
    let site = Site::with("");
    let broker = site.start();
    let mut client = Client::connect(broker.address(), "client");
    client.retained(ORDER, "one");
    client.retained(ORDER_2, "two");
    client.retained(STATUS, "three");
    client.subscribe(ORDER);
    assert_eq!(client.take().text(), "one");
    client.retained(ORDER, "");
    // Those who are there are told.
    let cleared = client.take();
    assert_eq!((cleared.payload.len(), cleared.retain), (0, false));
    broker.wait_for_metric("herald_broker_retained_messages", 2);
    // Twice does no more, and one that is not retained may not be empty either.
    client.retained(ORDER, "");
    client.publish(ORDER_2, "", false);
    client.closed();
    broker.wait_for_refusals("publish-denied", 1);

    let mut later = Client::connect(broker.address(), "later");
    later.subscribe_all(&[("herald/v1/home/desired/+/+", 1), ("herald/v1/home/status/+/+", 1)]);
    assert_eq!(texts(&[later.take(), later.take()]), ["two", "three"]);
    later.retained(ORDER, "marker");
    assert_eq!(later.take().text(), "marker");
}

#[test]
fn a_session_with_as_many_filters_as_it_may_have_can_ask_for_them_again() {
    let site = Site::with("");
    let broker = site.start();
    let mut client = Connect::persistent("client").open(broker.address());
    let filters: Vec<_> =
        (0..257).map(|number| format!("herald/v1/home/desired/web-{number}/+")).collect();
    let filters: Vec<_> = filters.iter().map(|filter| (filter.as_str(), 1)).collect();
    let granted = client.subscribe_all(&filters);
    assert_eq!(granted, [vec![1; 256], vec![0x80]].concat());
    broker.wait_for_refusals("too-many-filters", 1);
    assert_eq!(client.subscribe_all(&filters[..256]), [1; 256]);
    client.unsubscribe(filters[0].0);
    assert_eq!(client.subscribe_all(&filters[256..]), [1]);
}
