//! What was acknowledged is there after any end of the broker.

use std::{collections::HashMap, thread};

use rustix::process::Signal;

use crate::{
    client::{Client, Packet},
    process::{Broker, Site},
};

fn topic(number: usize) -> String {
    format!("herald/v1/home/status/web-{number}/system")
}

/// Publishes 40 topics, over and over, until the broker ends; ends it in the middle. Gives for each
/// topic the last number that was acknowledged.
fn publish_until(end: impl FnOnce(Broker), broker: Broker) -> HashMap<String, u64> {
    let address = broker.address();
    let (tell, told) = std::sync::mpsc::channel();
    let publisher = thread::spawn(move || {
        let mut client = Client::connect(address, "publisher");
        let (mut acknowledged, mut waiting) = (HashMap::new(), HashMap::new());
        for number in 0.. {
            let topic = topic(number % 40);
            let id = client.retain(&topic, number.to_string());
            waiting.insert(id, (topic, number as u64));
            if waiting.len() < 30 {
                continue;
            }
            match client.receive() {
                Ok(Packet::PubAck(id)) => {
                    let (topic, number) = waiting.remove(&id).unwrap();
                    acknowledged.insert(topic, number);
                }
                Ok(other) => panic!("{other:?}"),
                Err(_) => break,
            }
            if number == 500 {
                tell.send(()).unwrap();
            }
        }
        acknowledged
    });
    told.recv_timeout(crate::wait::LIMIT).unwrap();
    end(broker);
    publisher.join().unwrap()
}

fn assert_kept(site: &Site, acknowledged: &HashMap<String, u64>) {
    assert_eq!(acknowledged.len(), 40);
    let broker = site.start();
    let mut reader = Client::connect(broker.address(), "reader");
    reader.subscribe("herald/v1/home/status/+/+");
    let kept: Vec<_> = (0..40).map(|_| reader.take()).collect();
    reader.assert_idle();
    let numbers: Vec<u64> = kept.iter().map(|message| message.text().parse().unwrap()).collect();
    assert!(numbers.is_sorted(), "in their order: {numbers:?}");
    for (message, number) in kept.iter().zip(numbers) {
        let least = acknowledged[&message.topic];
        assert!(number >= least, "{} has {number}, and {least} was acknowledged", message.topic);
    }
}

#[test]
fn acknowledged_messages_survive_a_kill() {
    let site = Site::new();
    for _ in 0..3 {
        let acknowledged = publish_until(Broker::kill, site.start());
        assert_kept(&site, &acknowledged);
    }
}

#[test]
fn acknowledged_messages_survive_an_orderly_stop() {
    let site = Site::new();
    let acknowledged = publish_until(Broker::stop, site.start());
    assert_kept(&site, &acknowledged);
}

#[test]
fn a_cleared_topic_stays_clear() {
    let site = Site::new();
    let broker = site.start();
    let mut client = Client::connect(broker.address(), "client");
    client.retained(&topic(1), "one");
    client.retained(&topic(2), "two");
    client.retained(&topic(1), "");
    broker.kill();
    let mut broker = site.start();
    let mut client = Client::connect(broker.address(), "client");
    client.subscribe("herald/v1/home/status/+/+");
    assert_eq!(client.take().text(), "two");
    client.assert_idle();
    broker.signal(Signal::TERM);
    assert_eq!(broker.wait(), Some(0));
}
