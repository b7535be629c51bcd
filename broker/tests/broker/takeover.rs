//! One connection for each client id: the one that came last.

use std::{collections::HashMap, thread};

use crate::{
    EVENT, ORDER, PRESENCE,
    client::{Client, Connect, Packet, texts},
    process::Site,
    wait::until,
};

#[test]
fn the_old_connection_ends_with_its_will_before_the_birth_of_the_new_one() {
    let site = Site::with("");
    let broker = site.start();
    let mut watcher = Client::connect(broker.address(), "watcher");
    watcher.subscribe(PRESENCE);
    for (old, new) in [(true, true), (true, false), (false, true), (false, false)] {
        let connect = |clean| Connect { clean, ..Connect::new("web-1") }.will(PRESENCE, "death");
        let mut first = connect(old).attempt(broker.address()).unwrap().0;
        first.retained(PRESENCE, "birth 1");
        let mut second = connect(new).attempt(broker.address()).unwrap().0;
        second.retained(PRESENCE, "birth 2");
        first.assert_closed();
        let seen: Vec<_> = (0..3).map(|_| watcher.take()).collect();
        assert_eq!(texts(&seen), ["birth 1", "death", "birth 2"], "{old} {new}");

        second.subscribe(ORDER);
        watcher.retained(ORDER, "order");
        assert_eq!(second.take_until("order").last().unwrap().topic, ORDER);
        second.unsubscribe(ORDER);
        second.disconnect();
    }
    broker.wait_for_refusals("taken-over", 4);
}

#[test]
fn many_connections_in_a_row_each_end_the_one_before() {
    let broker = Site::new().start();
    let mut watcher = Client::connect(broker.address(), "watcher");
    watcher.subscribe(PRESENCE);
    let mut last = None;
    for number in 0..60 {
        let connect = Connect::persistent("web-1").will(PRESENCE, &format!("death {number}"));
        let mut client = connect.attempt(broker.address()).unwrap().0;
        client.retain(PRESENCE, format!("birth {number}"));
        last = Some(client);
    }
    let mut last = last.unwrap();
    for number in 0..60 {
        let seen = watcher.take();
        // A birth that was still on its way when the connection was closed is lost with it.
        if seen.text() == format!("birth {number}") {
            if number < 59 {
                assert_eq!(watcher.take().text(), format!("death {number}"));
            }
        } else {
            assert_eq!(seen.text(), format!("death {number}"));
        }
    }
    assert_eq!(last.receive().unwrap(), Packet::PubAck(1));
    last.ping();
}

#[test]
fn of_many_that_connect_at_once_one_stays_and_each_other_has_its_will_published_once() {
    let site = Site::with("");
    let broker = site.start();
    let address = broker.address();
    let mut watcher = Client::connect(address, "watcher");
    watcher.subscribe(PRESENCE);
    let each = |thread: usize| {
        move || {
            let connect = |round: usize| {
                let clean = (thread + round).is_multiple_of(2);
                let will = format!("{thread}/{round}");
                Connect { clean, ..Connect::new("web-1") }.will(PRESENCE, &will)
            };
            (0..10).map(|round| connect(round).attempt(address).unwrap().0).collect::<Vec<_>>()
        }
    };
    let threads: Vec<_> = (0..8).map(|thread| thread::spawn(each(thread))).collect();
    let clients: Vec<_> = threads.into_iter().flat_map(|one| one.join().unwrap()).collect();
    assert_eq!(clients.len(), 80);
    broker.wait_for_metric("herald_broker_sessions", 2);
    broker.wait_for_refusals("taken-over", 79);

    watcher.retained(PRESENCE, "marker");
    let seen = watcher.take_until("marker");
    let mut wills = HashMap::new();
    for message in &seen[..seen.len() - 1] {
        *wills.entry(message.text().to_owned()).or_insert(0) += 1;
    }
    assert_eq!(wills.len(), 79);
    assert!(wills.values().all(|count| *count == 1), "{wills:?}");
    // Whoever comes now is the next.
    let mut next = Connect::new("web-1").attempt(address).unwrap().0;
    next.ping();
    assert_eq!(watcher.take().text().len(), 3);
    drop(clients);
    next.ping();
}

#[test]
fn a_session_that_is_taken_over_goes_on_where_it_was() {
    let broker = Site::new().start();
    let mut operator = Client::connect(broker.address(), "operator");
    let mut host = Connect::persistent("web-1").open(broker.address());
    host.subscribe("herald/v1/home/status/+/+");
    let topic = |number| format!("herald/v1/home/status/web-{number}/system");
    for number in 0..100 {
        operator.retained(&topic(number), number.to_string());
    }
    let mut expected: Vec<String> = (0..100).map(|number| number.to_string()).collect();
    for _ in 0..10 {
        for _ in 0..7 {
            assert_eq!(host.take().text(), expected.remove(0));
        }
        // The broker has read the acknowledgements when it answers.
        host.ping();
        host = Connect::persistent("web-1").resume(broker.address());
    }
    for text in expected {
        assert_eq!(host.take().text(), text);
    }
}

#[test]
fn a_slow_connection_that_holds_up_publishers_can_be_taken_over() {
    let site = Site::with("");
    let broker = site.start();
    let address = broker.address();
    let mut slow = Client::connect(address, "web-1");
    slow.subscribe("herald/v1/home/event/+");
    // It reads nothing, and acknowledges nothing.
    let talker = thread::spawn(move || {
        let mut talker = Client::connect(address, "talker");
        let ids: Vec<u16> = (0..400).map(|_| talker.publish(EVENT, [7; 8 * 1024], false)).collect();
        for id in ids {
            assert_eq!(talker.receive().unwrap(), Packet::PubAck(id));
        }
    });
    until("messages wait", || broker.metric("herald_broker_messages_received_total") >= 256.0);
    Client::connect(address, "web-1").ping();
    talker.join().unwrap();
}
