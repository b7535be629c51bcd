//! A persistent subscription gets exactly what its client does not have.

use std::collections::HashMap;

use crate::{
    BEACON, EVENT, ORDER, PRESENCE, STATUS,
    client::{Client, Connect, texts},
    process::{Broker, Site},
    wait::until,
};

fn topic(number: usize) -> String {
    format!("herald/v1/home/status/web-{number}/system")
}

fn publish(broker: &Broker, numbers: impl IntoIterator<Item = usize>) {
    let mut publisher = Client::connect(broker.address(), "publisher");
    for number in numbers {
        publisher.retained(&topic(number), number.to_string());
    }
    publisher.disconnect();
}

/// Lets a reader take `acknowledged` of 20 messages, and see the others; 10 more come while it is
/// away, of which 5 take the place of what it has not acknowledged.
fn interrupted(site: &Site, acknowledged: usize, end: fn(Broker)) -> (Broker, Client) {
    let broker = site.start();
    let mut reader = Connect::persistent("reader").open(broker.address());
    reader.subscribe("herald/v1/home/status/+/+");
    publish(&broker, 0..20);
    for number in 0..20 {
        let message = if number < acknowledged { reader.take() } else { reader.peek() };
        assert_eq!(message.text(), number.to_string());
    }
    reader.ping();
    reader.vanish();
    publish(&broker, 15..25);
    end(broker);
    let broker = site.start();
    let reader = Connect::persistent("reader").resume(broker.address());
    (broker, reader)
}

#[test]
fn after_an_orderly_restart_comes_exactly_what_was_not_acknowledged() {
    let site = Site::new();
    let (broker, mut reader) = interrupted(&site, 12, Broker::stop);
    // Nobody asked for it again.
    for number in 12..25 {
        let message = reader.take();
        assert_eq!((message.text(), message.retain), (number.to_string().as_str(), true));
    }
    reader.assert_idle();
    // What comes now is live.
    publish(&broker, [3]);
    let message = reader.take();
    assert_eq!((message.text(), message.retain), ("3", false));
    reader.ping();
    reader.vanish();
    broker.stop();
    let broker = site.start();
    Connect::persistent("reader").resume(broker.address()).assert_idle();
}

#[test]
fn after_a_crash_nothing_is_missing_and_all_is_in_order() {
    let site = Site::new();
    let (_broker, mut reader) = interrupted(&site, 12, Broker::kill);
    let all = reader.take_until("24");
    // What was acknowledged in the last second may come again.
    let numbers: Vec<usize> = all.iter().map(|message| message.text().parse().unwrap()).collect();
    assert!(numbers[0] <= 12, "{numbers:?}");
    assert_eq!(numbers, (numbers[0]..25).collect::<Vec<_>>());
    reader.assert_idle();
}

#[test]
fn a_position_is_stored_within_seconds_while_the_client_is_connected() {
    let site = Site::with("");
    let broker = site.start();
    let mut reader = Connect::persistent("reader").open(broker.address());
    reader.subscribe("herald/v1/home/status/+/+");
    publish(&broker, 0..20);
    let commits = "herald_broker_commit_seconds_count";
    until("the broker is idle", || {
        reader.ping();
        broker.metric("herald_broker_messages_stored_total") >= 20.0
    });
    let before = broker.metric(commits);
    (0..20).for_each(|_| drop(reader.take()));
    until("positions are stored", || broker.metric(commits) > before);
    // The first commit may have come between two acknowledgements; the second one has them all.
    let before = broker.metric(commits);
    publish(&broker, [20]);
    reader.take();
    until("positions are stored", || broker.metric(commits) >= before + 2.0);
    broker.kill();
    let broker = site.start();
    let mut reader = Connect::persistent("reader").resume(broker.address());
    // At most what was acknowledged last.
    publish(&broker, [99]);
    assert!(reader.take_until("99").len() <= 2);
}

#[test]
fn a_host_that_was_away_gets_the_latest_order_and_nothing_that_is_not_kept() {
    let site = Site::new();
    let broker = site.start();
    let mut host = Connect::persistent("host").open(broker.address());
    host.subscribe_all(&[(ORDER, 1), (EVENT, 1), (BEACON, 1)]);
    host.disconnect();
    let mut operator = Client::connect(broker.address(), "operator");
    for number in 0..50 {
        operator.retained(ORDER, format!("order {number}"));
        operator.published(EVENT, "event");
        operator.retained(BEACON, format!("beacon {number}"));
    }
    broker.stop();
    let broker = site.start();
    let mut host = Connect::persistent("host").resume(broker.address());
    assert_eq!(texts(&[host.take(), host.take()]), ["order 49", "beacon 49"]);
    host.assert_idle();
}

#[test]
fn a_filter_that_was_left_stays_left_and_a_clean_session_wipes_all() {
    let site = Site::with("");
    let broker = site.start();
    let mut host = Connect::persistent("host").open(broker.address());
    host.subscribe_all(&[(ORDER, 1), (STATUS, 1)]);
    host.unsubscribe(ORDER);
    host.disconnect();
    broker.kill();
    let broker = site.start();
    let mut operator = Client::connect(broker.address(), "operator");
    operator.retained(ORDER, "order");
    operator.retained(STATUS, "status");
    let mut host = Connect::persistent("host").resume(broker.address());
    assert_eq!(host.take().text(), "status");
    host.assert_idle();
    broker.wait_for_metric("herald_broker_persistent_sessions", 1);

    let mut host = Connect::new("host").open(broker.address());
    broker.wait_for_metric("herald_broker_persistent_sessions", 0);
    host.assert_idle();
    host.vanish();
    Connect::persistent("host").open(broker.address()).assert_idle();
}

#[test]
fn an_acknowledgement_is_not_taken_for_one_of_what_another_filter_has_to_catch_up_with() {
    let site = Site::new();
    let broker = site.start();
    let mut operator = Client::connect(broker.address(), "operator");
    operator.retained(PRESENCE, "old");
    let mut host = Connect::persistent("host").open(broker.address());
    host.subscribe(ORDER);
    operator.retained(ORDER, "order");
    let order = host.peek();
    host.subscribe(PRESENCE);
    assert_eq!(host.peek().text(), "old");
    // It is newer than what it does not acknowledge, and was sent before.
    host.acknowledge(&order);
    host.ping();
    host.vanish();
    broker.stop();
    let broker = site.start();
    let mut host = Connect::persistent("host").resume(broker.address());
    assert_eq!(host.take().text(), "old");
    host.assert_idle();
}

#[test]
fn a_message_that_is_not_acknowledged_holds_back_the_position_of_all_behind_it() {
    let site = Site::new();
    let broker = site.start();
    let mut operator = Client::connect(broker.address(), "operator");
    operator.retained(PRESENCE, "old");
    let mut host = Connect::persistent("host").open(broker.address());
    host.subscribe(PRESENCE);
    assert_eq!(host.peek().text(), "old");
    host.subscribe(ORDER);
    operator.retained(ORDER, "order");
    assert_eq!(host.take().text(), "order");
    host.ping();
    host.vanish();
    broker.stop();
    let broker = site.start();
    let mut host = Connect::persistent("host").resume(broker.address());
    // In the order of publishing.
    assert_eq!(texts(&[host.take(), host.take()]), ["old", "order"]);
    host.assert_idle();
}

#[test]
fn asking_again_on_each_connection_gives_the_latest_again_and_loses_nothing() {
    let site = Site::new();
    for round in 0..4 {
        let broker = site.start();
        let mut operator = Client::connect(broker.address(), "operator");
        operator.retained(ORDER, format!("order {round}"));
        let mut host = Connect::persistent("host").attempt(broker.address()).unwrap().0;
        host.subscribe(ORDER);
        let latest = format!("order {round}");
        assert_eq!(host.take().text(), latest);
        // By the kept filter, and by the new one, if it was sent before that was there.
        let again = host.peek_all();
        assert!(again.len() <= 1 && again.iter().all(|message| message.text() == latest));
        again.iter().for_each(|message| host.acknowledge(message));
        host.ping();
        if round % 2 == 0 { broker.stop() } else { broker.kill() }
    }
}

/// Draws numbers, always the same ones.
struct Draw(u64);

impl Draw {
    fn below(&mut self, end: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

#[test]
fn whatever_comes_between_a_client_ends_up_with_the_latest_of_each_topic() {
    let mut draw = Draw(11);
    let site = Site::new();
    let mut broker = site.start();
    let reader_is = Connect::persistent("reader");
    let mut reader = reader_is.open(broker.address());
    // They overlap, and nobody asks for them again.
    reader.subscribe_all(&[("herald/v1/home/status/+/+", 1), (&topic(3), 1), (&topic(4), 0)]);
    let mut publisher = Client::connect(broker.address(), "publisher");
    let (mut latest, mut seen) = (HashMap::new(), HashMap::new());
    let mut waiting = Vec::new();
    for round in 0..80 {
        for number in 0..draw.below(30) {
            let (topic, payload) = (topic(draw.below(20) as usize), format!("{round} {number}"));
            publisher.retained(&topic, &payload);
            latest.insert(topic, payload);
        }
        for message in reader.peek_all() {
            seen.insert(message.topic.clone(), message.text().to_owned());
            waiting.push(message);
        }
        // In any order; what is left is acknowledged later, or never.
        let keep = draw.below(3);
        waiting.retain(|message| {
            let acknowledges = draw.below(4) >= keep;
            if acknowledges {
                reader.acknowledge(message);
            }
            !acknowledges
        });
        match draw.below(8) {
            // The acknowledgements may be lost with the connection, and messages too.
            0 | 1 => reader.vanish(),
            2 => reader.disconnect(),
            3 => drop(std::mem::replace(&mut reader, reader_is.resume(broker.address()))),
            4 => {
                if draw.below(2) == 0 {
                    broker.stop()
                } else {
                    broker.kill()
                }
                broker = site.start();
                publisher = Client::connect(broker.address(), "publisher");
            }
            _ => continue,
        }
        waiting.clear();
        reader = reader_is.resume(broker.address());
    }
    publisher.retained(&topic(99), "end");
    for message in reader.take_until("end") {
        seen.insert(message.topic.clone(), message.text().to_owned());
    }
    for (topic, payload) in latest {
        assert_eq!(seen.get(&topic), Some(&payload), "{topic}");
    }
}
