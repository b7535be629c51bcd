//! What works while the broker does.

use std::{
    num::NonZeroUsize,
    time::{Duration, Instant},
};

use herald_client::{ConnectionLost, Event, Greeting, MAX_PAYLOAD, Message, Undelivered};
use herald_proto::topic::{Filter, Kind};

use crate::{
    mosquitto::Mosquitto,
    support::{BOUND, Peer, bounded, event, presence, says, settings},
};

/// Greets as a host does, counting its connections.
fn host() -> impl FnMut() -> Greeting {
    let mut session = 0;
    move || {
        session += 1;
        Greeting {
            will: Some(says(presence("a"), &format!("death {session}"))),
            birth: vec![says(presence("a"), &format!("birth {session}"))],
        }
    }
}

#[tokio::test]
async fn births_are_there_for_others_once_the_client_says_connected() {
    let broker = Mosquitto::start();
    let mut host = Peer::start(settings(broker.port(), "a"), &[], host());
    assert_eq!(host.connected().await, 1);
    let mut late = Peer::reader(broker.port(), &[]).await;
    late.client.subscribe(vec![Filter::Exactly(presence("a"))]);
    assert_eq!(late.message().await, (presence("a"), "birth 1".to_owned(), true));
}

#[tokio::test]
async fn a_message_is_retained_for_those_who_come_later_and_not_for_those_who_listen() {
    let broker = Mosquitto::start();
    let mut early = Peer::reader(broker.port(), &[presence("a"), event("a")]).await;
    early.publish(says(presence("a"), "state")).await;
    early.publish(says(event("a"), "event")).await;
    assert_eq!(early.message().await, (presence("a"), "state".to_owned(), false));
    assert_eq!(early.message().await, (event("a"), "event".to_owned(), false));

    let topics = [event("a"), presence("a")];
    let mut late = Peer::start(settings(broker.port(), "late"), &topics, ());
    assert_eq!(late.message().await, (presence("a"), "state".to_owned(), true));
}

#[tokio::test]
async fn the_will_is_published_when_a_client_is_cut_off() {
    let broker = Mosquitto::start();
    let mut reader = Peer::reader(broker.port(), &[presence("a")]).await;
    let mut host = Peer::start(settings(broker.port(), "a"), &[], host());
    host.connected().await;
    drop(host.client);
    assert!(bounded(host.inbox.next()).await.is_none(), "the inbox ends with the last handle");
    assert_eq!(reader.text().await, "birth 1");
    assert_eq!(reader.text().await, "death 1");
    let mut late = Peer::start(settings(broker.port(), "late"), &[presence("a")], ());
    assert_eq!(late.message().await, (presence("a"), "death 1".to_owned(), true));
}

#[tokio::test]
async fn the_will_is_not_published_after_a_stop_and_the_farewell_is() {
    let broker = Mosquitto::start();
    let mut reader = Peer::reader(broker.port(), &[presence("a"), event("a")]).await;
    let mut host = Peer::start(settings(broker.port(), "a"), &[], host());
    host.connected().await;
    let other_handle = host.client.clone();
    let queued = host.client.publish(says(event("a"), "queued"));
    bounded(host.client.stop(vec![says(presence("a"), "farewell")], BOUND)).await;
    assert_eq!(queued.await, Ok(()));
    assert!(bounded(host.inbox.next()).await.is_none());
    let refused = other_handle.publish(says(event("a"), "too late"));
    assert_eq!(refused.await, Err(Undelivered::Stopped));

    reader.publish(says(event("a"), "after")).await;
    for expected in ["birth 1", "queued", "farewell", "after"] {
        assert_eq!(reader.text().await, expected);
    }
}

#[tokio::test]
async fn a_new_connection_has_a_new_number_and_birth_and_no_will_of_the_old_one_is_seen() {
    let broker = Mosquitto::start();
    let mut reader = Peer::reader(broker.port(), &[presence("a"), event("a")]).await;
    let topics = [event("a")];
    let mut host = Peer::start(settings(broker.port(), "a"), &topics, host());
    for session in 1..4 {
        assert_eq!(host.connected().await, session);
        assert_eq!(host.client.reconnect(), session, "a higher number is a fresh one");
        let (connection, reason) = host.disconnected().await;
        assert_eq!(connection, session);
        assert!(matches!(reason, ConnectionLost::Reconnecting));
    }
    assert_eq!(host.connected().await, 4);
    host.publish(says(event("a"), "after")).await;
    assert_eq!(host.text().await, "after", "it is still subscribed");
    for expected in ["birth 1", "birth 2", "birth 3", "birth 4", "after"] {
        assert_eq!(reader.text().await, expected);
    }
}

#[tokio::test]
async fn a_thousand_messages_through_a_window_of_64_all_arrive_in_order() {
    let broker = Mosquitto::start();
    let mut reader = Peer::reader(broker.port(), &[]).await;
    reader.client.subscribe(vec![Filter::Every("home".parse().unwrap(), Kind::Presence)]);
    let mut wide = settings(broker.port(), "wide");
    wide.window = NonZeroUsize::new(64).unwrap();
    let mut operator = Peer::start(wide, &[], ());
    operator.connected().await;
    let host = |n| presence(&format!("host-{n}"));
    let deliveries: Vec<_> =
        (0..1000).map(|n| operator.client.publish(says(host(n), "order"))).collect();
    for delivery in deliveries {
        assert_eq!(bounded(delivery).await, Ok(()));
    }
    for n in 0..1000 {
        assert_eq!(reader.message().await.0, host(n));
    }
}

#[tokio::test]
async fn many_subscriptions_are_all_granted_before_the_client_says_connected() {
    let broker = Mosquitto::start();
    let topics: Vec<_> = (0..1200).map(|n| event(&format!("host-{n}"))).collect();
    let mut reader = Peer::reader(broker.port(), &topics).await;
    for topic in [&topics[0], &topics[600], &topics[1199]] {
        reader.publish(says(topic.clone(), "event")).await;
        assert_eq!(reader.message().await.0, *topic);
    }
}

#[tokio::test]
async fn a_reader_that_lags_behind_makes_the_broker_wait_and_misses_nothing() {
    let broker = Mosquitto::start();
    let mut reader = Peer::reader(broker.port(), &[event("a")]).await;
    let mut wide = settings(broker.port(), "writer");
    wide.window = NonZeroUsize::new(64).unwrap();
    let mut writer = Peer::start(wide, &[], ());
    writer.connected().await;
    for batch in 0..20 {
        let message = |n: u32| says(event("a"), &(batch * 100 + n).to_string());
        let deliveries: Vec<_> = (0..100).map(|n| writer.client.publish(message(n))).collect();
        for delivery in deliveries {
            assert_eq!(bounded(delivery).await, Ok(()));
        }
    }
    for n in 0..2000 {
        assert_eq!(reader.text().await, n.to_string());
    }
    assert!(matches!(reader.client.publish(says(event("b"), "still connected")).await, Ok(())));
}

#[tokio::test]
async fn a_client_without_reader_still_stops() {
    let broker = Mosquitto::start();
    let reader = Peer::reader(broker.port(), &[event("a")]).await;
    let writer = Peer::reader(broker.port(), &[]).await;
    for n in 0..600 {
        writer.publish(says(event("a"), &n.to_string())).await;
    }
    bounded(reader.client.stop(vec![], BOUND)).await;
}

#[tokio::test]
async fn a_client_whose_inbox_was_dropped_still_publishes() {
    let broker = Mosquitto::start();
    let Peer { client, inbox } = Peer::reader(broker.port(), &[event("a")]).await;
    drop(inbox);
    for _ in 0..3 {
        assert_eq!(bounded(client.publish(says(event("a"), "event"))).await, Ok(()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publisher_that_never_pauses_does_not_keep_messages_from_being_sent() {
    let broker = Mosquitto::start();
    let writer = Peer::reader(broker.port(), &[]).await;
    let first = tokio::spawn(writer.client.publish(says(presence("a"), "state")));
    let begin = Instant::now();
    while !first.is_finished() {
        assert!(begin.elapsed() < BOUND);
        writer.client.publish(says(event("a"), "event"));
    }
    assert_eq!(first.await.unwrap(), Ok(()));
}

#[tokio::test]
async fn the_largest_message_passes_both_ways_and_a_larger_one_is_refused() {
    let broker = Mosquitto::start();
    let mut reader = Peer::reader(broker.port(), &[event("a")]).await;
    let message = |size| Message::new(event("a"), vec![b'x'; size]);
    let size = MAX_PAYLOAD + 1;
    let refused = reader.client.publish(message(size));
    assert_eq!(bounded(refused).await, Err(Undelivered::TooLarge { size }));
    reader.publish(message(MAX_PAYLOAD)).await;
    assert_eq!(reader.text().await.len(), MAX_PAYLOAD);
}

#[tokio::test]
async fn a_second_client_of_the_same_name_takes_over_and_the_first_says_so() {
    let broker = Mosquitto::start();
    let mut patient = settings(broker.port(), "a");
    patient.backoff.first = Duration::from_secs(60);
    patient.backoff.longest = Duration::from_secs(60);
    let mut first = Peer::start(patient, &[], ());
    first.connected().await;
    let mut second = Peer::start(settings(broker.port(), "a"), &[], ());
    second.connected().await;
    let next = first.next().await;
    let reason = ConnectionLost::Closed;
    assert_eq!(format!("{next:?}"), format!("{:?}", Event::Disconnected { connection: 1, reason }));
}
