//! What happens while the broker does not work, and after.

use std::{
    net::TcpListener,
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use herald_client::{Backoff, ConnectionLost, Greeting, SessionKind, Undelivered};
use tokio::time::Instant;

use crate::{
    mosquitto::Mosquitto,
    support::{BOUND, Peer, bounded, event, presence, says, settings},
};

/// Reads events until each of those numbers came, and checks that each came first in its turn.
async fn read_in_order(peer: &mut Peer, numbers: std::ops::Range<u32>) {
    let mut next = numbers.start;
    while next < numbers.end {
        let number: u32 = peer.text().await.parse().unwrap();
        assert!(number <= next, "{number} before {next}");
        if number == next {
            next += 1;
        }
    }
}

#[tokio::test]
async fn what_is_published_during_an_outage_arrives_in_order_after_it() {
    let mut broker = Mosquitto::start();
    let mut wide = settings(broker.port(), "a");
    wide.window = NonZeroUsize::new(8).unwrap();
    let mut host = Peer::start(wide, &[event("a")], ());
    assert_eq!(host.connected().await, 1);
    for n in 0..20 {
        host.publish(says(event("a"), &n.to_string())).await;
    }
    read_in_order(&mut host, 0..20).await;

    // Some are in flight when the broker dies, and none of these were taken.
    broker.suspend();
    let publish = |n: u32| host.client.publish(says(event("a"), &n.to_string()));
    let mut deliveries: Vec<_> = (20..60).map(publish).collect();
    broker.kill();
    let (connection, reason) = host.disconnected().await;
    assert_eq!(connection, 1);
    assert!(matches!(reason, ConnectionLost::Closed | ConnectionLost::Network(_)), "{reason:?}");
    let publish = |n: u32| host.client.publish(says(event("a"), &n.to_string()));
    deliveries.extend((60..120).map(publish));
    let (_, reason) = host.disconnected().await;
    assert!(matches!(reason, ConnectionLost::Unreachable { .. }), "{reason:?}");

    broker.restart();
    read_in_order(&mut host, 20..120).await;
    for delivery in deliveries {
        assert_eq!(bounded(delivery).await, Ok(()));
    }
}

#[tokio::test]
async fn subscriptions_are_made_again_on_a_broker_that_forgot_a_persistent_session() {
    let mut broker = Mosquitto::start();
    let mut persistent = settings(broker.port(), "a");
    persistent.session = SessionKind::Persistent;
    let mut host = Peer::start(persistent, &[event("a")], ());
    host.connected().await;
    broker.kill();
    host.disconnected().await;
    broker.restart();
    host.connected().await;
    let writer = Peer::reader(broker.port(), &[]).await;
    writer.publish(says(event("a"), "hello")).await;
    assert_eq!(host.text().await, "hello");
}

#[tokio::test]
async fn attempts_to_reach_a_broker_that_is_not_there_are_spaced_and_greeted_anew() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let greeted = Arc::new(AtomicU64::new(0));
    let counter = greeted.clone();
    let greeter = move || {
        counter.fetch_add(1, Ordering::Relaxed);
        Greeting::default()
    };
    let begin = Instant::now();
    let mut host = Peer::start(settings(port, "a"), &[], greeter);
    for attempt in 1..=8 {
        let (connection, reason) = host.disconnected().await;
        assert_eq!(connection, attempt);
        assert!(matches!(reason, ConnectionLost::Unreachable { .. }), "{reason:?}");
        assert_eq!(greeted.load(Ordering::Relaxed), attempt);
    }
    // The ceilings of the seven delays sum to 1.95 s; the seed of these tests draws 1.0 s of it.
    assert!(begin.elapsed() > Duration::from_millis(800), "{:?}", begin.elapsed());
}

#[tokio::test]
async fn a_wish_for_a_new_connection_does_not_wait_for_the_delay() {
    let mut broker = Mosquitto::start();
    let hour = Duration::from_secs(60 * 60);
    let mut patient = settings(broker.port(), "a");
    patient.backoff = Backoff { first: hour, longest: hour };
    let mut host = Peer::start(patient, &[], ());
    host.connected().await;
    broker.kill();
    host.disconnected().await;
    broker.restart();
    host.client.reconnect();
    assert_eq!(host.connected().await, 2);
}

#[tokio::test]
async fn a_stop_during_an_outage_delivers_what_waits_if_the_broker_comes_back() {
    let mut broker = Mosquitto::start();
    let mut host = Peer::start(settings(broker.port(), "a"), &[], ());
    host.connected().await;
    broker.kill();
    host.disconnected().await;
    let queued = host.client.publish(says(presence("a"), "queued"));
    let stopped = tokio::spawn(host.client.stop(vec![says(presence("b"), "farewell")], BOUND));
    broker.restart();
    bounded(stopped).await.unwrap();
    assert_eq!(queued.await, Ok(()));
    let mut reader = Peer::reader(broker.port(), &[]).await;
    for (host, text) in [("a", "queued"), ("b", "farewell")] {
        reader.client.subscribe(vec![herald_proto::topic::Filter::Exactly(presence(host))]);
        assert_eq!(reader.text().await, text);
    }
}

#[tokio::test]
async fn a_stop_ends_in_time_though_the_broker_is_silent_and_tells_what_was_not_delivered() {
    let mut broker = Mosquitto::start();
    let mut host = Peer::start(settings(broker.port(), "a"), &[], ());
    host.connected().await;
    broker.suspend();
    let in_flight = host.client.publish(says(event("a"), "in flight"));
    let waiting = host.client.publish(says(event("a"), "waiting"));
    let begin = Instant::now();
    let within = Duration::from_millis(100);
    bounded(host.client.stop(vec![says(presence("a"), "farewell")], within)).await;
    assert!(begin.elapsed() >= within);
    assert_eq!(in_flight.await, Err(Undelivered::Stopped));
    assert_eq!(waiting.await, Err(Undelivered::Stopped));
    broker.kill();
}

#[tokio::test]
async fn a_new_connection_is_tried_at_once_though_the_broker_does_not_answer_the_farewell() {
    let mut broker = Mosquitto::start();
    let mut host = Peer::start(settings(broker.port(), "a"), &[], ());
    host.connected().await;
    broker.suspend();
    host.client.reconnect();
    let (connection, reason) = host.disconnected().await;
    assert_eq!(connection, 1);
    assert!(matches!(reason, ConnectionLost::Reconnecting), "{reason:?}");
    broker.kill();
    broker.restart();
    host.connected().await;
}
