//! Publishers wait for subscribers that lag behind, and not for ever.

use std::{sync::mpsc, thread};

use crate::{
    EVENT, ORDER, PRESENCE, STATUS,
    client::{Client, Connect, Packet, texts},
    process::Site,
    wait::{LIMIT, until},
};

/// Sent and not acknowledged; waiting without holding up the publisher.
const WINDOW: usize = 256;
const LONG: usize = 64;

#[test]
fn a_client_that_publishes_much_to_itself_holds_up_nobody() {
    let broker = Site::new().start();
    let mut clients: Vec<_> = (0..4)
        .map(|number| {
            let mut client = Client::connect(broker.address(), &format!("client-{number}"));
            client.subscribe("herald/v1/home/event/+");
            client
        })
        .collect();
    // Each publishes more than may wait for it, and then reads all.
    for client in &mut clients {
        for number in 0..200 {
            client.publish(EVENT, number.to_string(), false);
        }
    }
    let readers = clients.into_iter().map(|mut client| {
        thread::spawn(move || {
            let (mut messages, mut acknowledged) = (0, 0);
            while messages < 4 * 200 || acknowledged < 200 {
                match client.receive().unwrap() {
                    Packet::Publish(message) => {
                        client.acknowledge(&message);
                        messages += 1;
                    }
                    Packet::PubAck(id) => {
                        acknowledged += 1;
                        // The first id was that of SUBSCRIBE.
                        assert_eq!(id, acknowledged + 1, "in their order");
                    }
                    other => panic!("{other:?}"),
                }
            }
        })
    });
    readers.collect::<Vec<_>>().into_iter().for_each(|reader| reader.join().unwrap());
    Client::connect(broker.address(), "next").published(EVENT, "x");
}

#[test]
fn the_acknowledgement_waits_while_a_subscriber_lags_behind_and_comes_when_it_caught_up() {
    let broker = Site::new().start();
    let mut reader = Client::connect(broker.address(), "reader");
    reader.subscribe(EVENT);
    let mut writer = Client::connect(broker.address(), "writer");
    let free = WINDOW + LONG;
    for number in 0..free + 20 {
        writer.publish(EVENT, number.to_string(), false);
        if number < free {
            assert_eq!(writer.receive().unwrap(), Packet::PubAck(number as u16 + 1));
        }
    }
    // The next is not acknowledged, and whoever publishes elsewhere is not held up.
    writer.assert_idle();
    Client::connect(broker.address(), "other").retained(STATUS, "x");
    writer.assert_idle();
    let window: Vec<_> = (0..WINDOW).map(|_| reader.peek()).collect();
    reader.assert_idle();
    window.iter().for_each(|message| reader.acknowledge(message));
    for number in free..free + 20 {
        assert_eq!(writer.receive().unwrap(), Packet::PubAck(number as u16 + 1));
    }
    for number in WINDOW..free + 20 {
        assert_eq!(reader.take().text(), number.to_string());
    }
}

#[test]
fn a_subscriber_that_takes_nothing_is_closed_in_time_and_finds_the_latest_when_it_returns() {
    let site = Site::with("slow_after = \"1s\"\n");
    let broker = site.start();
    let address = broker.address();
    let connect = Connect::persistent("host").will(PRESENCE, "gone");
    let mut slow = connect.open(address);
    slow.subscribe("herald/v1/home/desired/+/+");
    let mut watcher = Client::connect(address, "watcher");
    watcher.subscribe(PRESENCE);
    let (tell, told) = mpsc::channel();
    let writer = thread::spawn(move || {
        let mut writer = Client::connect(address, "writer");
        for number in 0..WINDOW + LONG + 10 {
            writer.retained(ORDER, number.to_string());
        }
        tell.send(()).unwrap();
    });
    assert_eq!(watcher.take().text(), "gone");
    told.recv_timeout(LIMIT).unwrap();
    writer.join().unwrap();
    broker.wait_for_refusals("slow", 1);
    assert_eq!(slow.closed().len(), WINDOW);
    let mut back = connect.resume(address);
    let latest = back.take();
    assert_eq!(latest.text(), (WINDOW + LONG + 9).to_string());
    assert!(latest.retain);
    back.ping();
}

#[test]
fn a_subscriber_that_takes_its_time_is_not_closed() {
    let site = Site::with("slow_after = \"1s\"\n");
    let broker = site.start();
    let mut slow = Client::connect(broker.address(), "slow");
    slow.subscribe(EVENT);
    let mut writer = Client::connect(broker.address(), "writer");
    for number in 0..WINDOW + 10 {
        writer.published(EVENT, number.to_string());
    }
    let window: Vec<_> = (0..WINDOW).map(|_| slow.peek()).collect();
    for message in &window[..5] {
        thread::sleep(std::time::Duration::from_millis(500));
        slow.acknowledge(message);
        assert!(slow.peek().text().parse::<usize>().unwrap() >= WINDOW);
    }
    slow.ping();
}

#[test]
fn a_client_that_acknowledges_late_has_a_window_of_retained_messages_and_then_the_rest() {
    let site = Site::with("");
    let broker = site.start();
    let topic = |number: usize| format!("herald/v1/home/status/web-{number:04}/system");
    let mut writer = Client::connect(broker.address(), "writer");
    // In another order than that of the topics.
    let numbers: Vec<usize> = (0..1_000).map(|number| number * 7 % 1_000).collect();
    for window in numbers.chunks(200) {
        let ids: Vec<_> = window.iter().map(|n| writer.retain(&topic(*n), n.to_string())).collect();
        ids.into_iter().for_each(|id| assert_eq!(writer.receive().unwrap(), Packet::PubAck(id)));
    }
    let mut reader = Client::connect(broker.address(), "reader");
    reader.subscribe("herald/v1/home/status/+/+");
    let mut all = Vec::new();
    while all.len() < 1_000 {
        let count = WINDOW.min(1_000 - all.len());
        let window: Vec<_> = (0..count).map(|_| reader.peek()).collect();
        reader.assert_idle();
        assert!(window.iter().all(|message| message.retain));
        window.iter().for_each(|message| reader.acknowledge(message));
        all.extend(window);
    }
    let expected: Vec<_> = numbers.iter().map(ToString::to_string).collect();
    assert_eq!(texts(&all), expected, "in the order in which they were published");
    until("all is counted", || broker.metric("herald_broker_messages_sent_total") >= 1_000.0);
}
