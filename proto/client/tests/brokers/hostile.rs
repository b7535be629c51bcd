//! Brokers that refuse, stay silent or talk nonsense.

use std::{cell::RefCell, time::Duration};

use herald_client::{Backoff, ConnectionLost, Event, Greeting, Inbox, MAX_PAYLOAD, Message};
use herald_proto::topic::Filter;
use proptest::prelude::*;

use crate::{
    fake::{
        DISCONNECT, Fake, FakeSession, PINGREQ, PINGRESP, PUBACK, SUBSCRIBE, packet_id, publish,
        publish_qos_1,
    },
    support::{BOUND, Peer, bounded, event, presence, says, settings},
};

/// Gives the next event for a test that knows which it must be.
fn shown(event: &Event) -> String {
    match event {
        Event::Connected { connection } => format!("connected {connection}"),
        Event::Disconnected { connection, .. } => format!("disconnected {connection}"),
        Event::Message { topic, payload, .. } => {
            format!("{topic} {}", String::from_utf8_lossy(payload))
        }
    }
}

#[tokio::test]
async fn connected_waits_for_the_acknowledgement_of_the_birth_and_the_outbox_for_connected() {
    let fake = Fake::start().await;
    let greeter = || Greeting { will: None, birth: vec![says(presence("a"), "birth")] };
    let mut host = Peer::start(settings(fake.port(), "a"), &[event("a")], greeter);
    let delivery = host.client.publish(says(event("a"), "from the outbox"));
    let mut session = fake.accept_well().await;
    session.subscribed(&[1]).await;
    let birth = session.published().await;
    session.say(&publish(&event("a").to_string(), b"early")).await;
    assert_eq!(shown(&host.next().await), format!("{} early", event("a")));
    session.acknowledge(birth).await;
    assert_eq!(shown(&host.next().await), "connected 1");
    let packet = session.published().await;
    session.acknowledge(packet).await;
    assert_eq!(bounded(delivery).await, Ok(()));
}

#[tokio::test]
async fn connected_waits_for_every_subscription() {
    let fake = Fake::start().await;
    let topics: Vec<_> = (0..9).map(|n| event(&format!("host-{n}"))).collect();
    let mut host = Peer::start(settings(fake.port(), "a"), &topics, ());
    let mut session = fake.accept_well().await;
    session.subscribed(&[1; 8]).await;
    session.say(&publish(&topics[0].to_string(), b"early")).await;
    assert_eq!(shown(&host.next().await), format!("{} early", topics[0]));
    session.subscribed(&[1]).await;
    assert_eq!(shown(&host.next().await), "connected 1");
}

#[tokio::test]
async fn a_refused_subscription_is_named_and_tried_again() {
    let fake = Fake::start().await;
    let mut host = Peer::start(settings(fake.port(), "a"), &[event("a"), event("b")], ());
    fake.accept_well().await.subscribed(&[1, 0x80]).await;
    let (connection, reason) = host.disconnected().await;
    assert_eq!(connection, 1);
    let ConnectionLost::SubscriptionRefused { filter } = reason else {
        panic!("{reason:?}");
    };
    assert_eq!(filter, Filter::Exactly(event("b")));
    let mut session = fake.accept_well().await;
    session.subscribed(&[1, 1]).await;
    assert_eq!(host.connected().await, 2);
}

#[tokio::test]
async fn a_refused_login_is_told_with_its_code() {
    let fake = Fake::start().await;
    let mut host = Peer::start(settings(fake.port(), "a"), &[], ());
    fake.accept().await.say(&[0x20, 2, 0, 5]).await;
    let (_, reason) = host.disconnected().await;
    assert!(matches!(reason, ConnectionLost::Refused { code: 5 }), "{reason:?}");
    assert!(reason.to_string().contains("not authorised"), "{reason}");
}

#[tokio::test]
async fn what_came_before_the_connection_ended_still_counts() {
    let fake = Fake::start().await;
    let mut host = Peer::start(settings(fake.port(), "a"), &[], ());
    let mut session = fake.accept_well().await;
    host.connected().await;
    let delivery = host.client.publish(says(event("a"), "hello"));
    let packet = session.published().await;
    let mut last_words = publish(&event("b").to_string(), b"1");
    last_words.extend([PUBACK, 2, packet[0], packet[1]]);
    last_words.extend(publish(&event("b").to_string(), b"2"));
    session.say(&last_words).await;
    drop(session);
    assert_eq!(bounded(delivery).await, Ok(()));
    assert_eq!(shown(&host.next().await), format!("{} 1", event("b")));
    assert_eq!(shown(&host.next().await), format!("{} 2", event("b")));
    assert!(matches!(host.disconnected().await, (1, ConnectionLost::Closed)));
}

/// Sends messages until the client takes no more, and gives how many and the rest of the last.
async fn flood(session: &mut FakeSession) -> (usize, Vec<u8>) {
    let message = publish(&event("a").to_string(), &vec![b'x'; MAX_PAYLOAD]);
    for messages in 1..4000 {
        let rest = session.say_within(Duration::from_millis(300), &message).await;
        if !rest.is_empty() {
            return (messages, rest.to_vec());
        }
    }
    panic!("the client takes whatever comes");
}

#[tokio::test]
async fn a_flood_that_nobody_reads_is_left_to_the_broker_and_none_of_it_is_lost() {
    let fake = Fake::start().await;
    let mut host = Peer::start(settings(fake.port(), "a"), &[event("a")], ());
    let mut session = fake.accept_well().await;
    let (first, subscribe) = session.packet().await;
    assert_eq!(first, SUBSCRIBE);
    let (messages, rest) = flood(&mut session).await;

    // Nor is it held against the broker that its answer is not read meanwhile.
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(20)).await;
    tokio::task::yield_now().await;
    tokio::time::resume();
    let broker = async {
        session.say(&rest).await;
        session.say(&[0x90, 3, subscribe[0], subscribe[1], 1]).await;
    };
    let reader = async {
        for _ in 0..messages {
            let event = host.next().await;
            assert!(matches!(event, Event::Message { .. }), "{event:?}");
        }
        shown(&host.next().await)
    };
    let ((), last) = tokio::join!(broker, reader);
    assert_eq!(last, "connected 1");
}

#[tokio::test]
async fn a_client_that_is_flooded_still_says_goodbye() {
    let fake = Fake::start().await;
    let mut host = Peer::start(settings(fake.port(), "a"), &[], ());
    let mut session = fake.accept_well().await;
    host.connected().await;
    let (_, rest) = flood(&mut session).await;
    host.client.reconnect();
    session.say(&rest).await;
    assert_eq!(session.packet().await.0, DISCONNECT);
    drop(session);

    let (mut session, connection) = tokio::join!(fake.accept_well(), host.connected());
    assert_eq!(connection, 2);
    let (_, rest) = flood(&mut session).await;
    let broker = async {
        session.say(&rest).await;
        assert_eq!(session.packet().await.0, DISCONNECT);
        session.finish().await;
    };
    tokio::join!(broker, host.client.stop(vec![], BOUND));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_sends_faster_than_it_can_be_answered_does_no_harm() {
    let fake = Fake::start().await;
    let mut host = Peer::start(settings(fake.port(), "a"), &[], ());
    let mut session = fake.accept_well().await;
    host.connected().await;
    drop(host.inbox);
    let mut listening = session.twin();
    let (published, mut publishing) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            let (first, body) = listening.packet().await;
            if first != PUBACK {
                published.send(packet_id(&body)).unwrap();
            }
        }
    });
    let (flooded, flood) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        let messages = publish_qos_1(&event("a").to_string(), 1, b"event").repeat(1000);
        for _ in 0..300 {
            session.say(&messages).await;
            while let Ok(packet) = publishing.try_recv() {
                session.acknowledge(packet).await;
            }
        }
        flooded.send(()).unwrap();
        while let Some(packet) = publishing.recv().await {
            session.acknowledge(packet).await;
        }
    });
    flood.await.unwrap();
    assert_eq!(bounded(host.client.publish(says(event("a"), "hello"))).await, Ok(()));
    host.client.reconnect();
    let _session = fake.accept_well().await;
}

#[tokio::test]
async fn acknowledgements_end_with_their_connection() {
    let fake = Fake::start().await;
    let mut host = Peer::start(settings(fake.port(), "a"), &[], ());
    let mut session = fake.accept_well().await;
    let capacity = u16::try_from(Inbox::CAPACITY).unwrap();
    for packet in 1..=capacity + 40 {
        session.say(&publish_qos_1(&event("a").to_string(), packet, b"held")).await;
    }
    // One place in the inbox is for `Connected`.
    for _ in 1..capacity {
        assert_eq!(session.packet().await.0, PUBACK);
    }
    host.client.reconnect();
    assert_eq!(session.packet().await.0, DISCONNECT);
    drop(session);

    let mut session = fake.accept_well().await;
    assert_eq!(host.connected().await, 1);
    assert_eq!(host.connected().await, 2);
    host.client.reconnect();
    assert_eq!(session.packet().await.0, DISCONNECT);
    session.say(&publish_qos_1(&event("a").to_string(), 1, b"late")).await;
    session.finish().await;

    let mut session = fake.accept_well().await;
    assert_eq!(host.text().await, "late");
    assert_eq!(host.connected().await, 3);
    let delivery = host.client.publish(says(event("a"), "hello"));
    let packet = session.published().await;
    session.acknowledge(packet).await;
    assert_eq!(bounded(delivery).await, Ok(()));
}

#[tokio::test]
async fn a_full_inbox_withholds_acknowledgements_and_not_signs_of_life() {
    let fake = Fake::start().await;
    let mut brisk = settings(fake.port(), "a");
    brisk.keep_alive = Duration::from_secs(1);
    let mut host = Peer::start(brisk, &[], ());
    let mut session = fake.accept_well().await;
    host.connected().await;
    let taken = u16::try_from(Inbox::CAPACITY).unwrap();
    for packet in 1..=taken + 40 {
        session.say(&publish_qos_1(&event("a").to_string(), packet, b"event")).await;
    }
    for packet in 1..=taken {
        assert_eq!(session.packet().await, (PUBACK, packet.to_be_bytes().to_vec()));
    }
    tokio::time::pause();
    for _ in 0..10 {
        assert_eq!(session.packet().await.0, PINGREQ);
        session.say(&[PINGRESP, 0]).await;
    }
    tokio::time::resume();
    for packet in taken + 1..=taken + 40 {
        assert_eq!(host.text().await, "event");
        assert_eq!(session.packet().await, (PUBACK, packet.to_be_bytes().to_vec()));
    }
}

#[tokio::test]
async fn messages_that_are_not_ours_are_dropped_and_the_connection_goes_on() {
    let fake = Fake::start().await;
    let mut host = Peer::start(settings(fake.port(), "a"), &[], ());
    let mut session = fake.accept_well().await;
    host.connected().await;
    for (topic, payload) in [
        ("other/topic", &b"1"[..]),
        ("herald/v1/home/presence/\u{f6}", b"2"),
        ("", b"3"),
        (&event("a").to_string(), b"ours"),
    ] {
        session.say(&publish(topic, payload)).await;
    }
    assert_eq!(shown(&host.next().await), format!("{} ours", event("a")));
    session.say(&publish_qos_1("other/topic", 7, b"4")).await;
    assert_eq!(session.packet().await, (PUBACK, vec![0, 7]), "it does not come again");
}

#[tokio::test]
async fn a_message_that_is_too_large_is_handed_on_so_that_its_reader_can_say_so() {
    let fake = Fake::start().await;
    let mut host = Peer::start(settings(fake.port(), "a"), &[], ());
    let mut session = fake.accept_well().await;
    host.connected().await;
    let topic = event("a").to_string();
    for size in [MAX_PAYLOAD + 1, 200 * 1024] {
        session.say(&publish(&topic, &vec![b'x'; size])).await;
        assert_eq!(host.text().await.len(), size);
    }
}

#[tokio::test]
async fn a_greeting_that_cannot_be_sent_is_told_before_anything_is() {
    let fake = Fake::start().await;
    let greeter = || {
        let will = Message::new(presence("a"), vec![0; MAX_PAYLOAD + 1]);
        Greeting { will: Some(will), birth: vec![] }
    };
    let mut host = Peer::start(settings(fake.port(), "a"), &[], greeter);
    let (_, reason) = host.disconnected().await;
    assert!(matches!(reason, ConnectionLost::GreetingTooLarge { .. }), "{reason:?}");
}

#[tokio::test]
async fn a_broker_that_does_not_answer_is_given_up_after_ten_seconds() {
    let fake = Fake::start().await;
    let greeter = || Greeting { will: None, birth: vec![says(presence("a"), "birth")] };
    let mut host = Peer::start(settings(fake.port(), "a"), &[], greeter);
    let expected = Duration::from_secs(10);

    let _silent = fake.accept().await;
    tokio::time::pause();
    let reason = host.inbox.next().await;
    assert!(
        matches!(
            &reason,
            Some(Event::Disconnected { reason: ConnectionLost::Unanswered { within }, .. })
                if *within == expected
        ),
        "{reason:?}"
    );
    tokio::time::resume();

    let mut accepting = fake.accept_well().await;
    accepting.published().await;
    tokio::time::pause();
    let reason = host.inbox.next().await;
    assert!(
        matches!(
            &reason,
            Some(Event::Disconnected { connection: 2, reason: ConnectionLost::Unanswered { within } })
                if *within == expected
        ),
        "{reason:?}"
    );
}

#[tokio::test]
async fn a_message_that_is_not_acknowledged_in_a_minute_is_sent_again_on_a_new_connection() {
    let fake = Fake::start().await;
    let mut patient = settings(fake.port(), "a");
    patient.keep_alive = Duration::from_secs(600);
    let mut host = Peer::start(patient, &[], ());
    let mut session = fake.accept_well().await;
    host.connected().await;
    let delivery = host.client.publish(says(event("a"), "hello"));
    session.published().await;
    tokio::time::pause();
    let lost = host.inbox.next().await;
    tokio::time::resume();
    assert!(
        matches!(
            &lost,
            Some(Event::Disconnected { reason: ConnectionLost::Unanswered { within }, .. })
                if *within == Duration::from_secs(60)
        ),
        "{lost:?}"
    );
    let mut session = fake.accept_well().await;
    let packet = session.published().await;
    session.acknowledge(packet).await;
    assert_eq!(bounded(delivery).await, Ok(()));
}

#[tokio::test]
async fn a_broker_that_takes_most_of_a_minute_for_each_message_is_not_given_up() {
    let fake = Fake::start().await;
    let mut patient = settings(fake.port(), "a");
    patient.keep_alive = Duration::from_secs(600);
    let mut host = Peer::start(patient, &[], ());
    let mut session = fake.accept_well().await;
    host.connected().await;
    let deliveries = [1, 2, 3].map(|n| host.client.publish(says(event("a"), &n.to_string())));
    for delivery in deliveries {
        let packet = session.published().await;
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(50)).await;
        tokio::time::resume();
        session.acknowledge(packet).await;
        assert_eq!(bounded(delivery).await, Ok(()));
    }
}

#[tokio::test]
async fn delays_start_again_after_a_connection_that_lasted() {
    let fake = Fake::start().await;
    let mut growing = settings(fake.port(), "a");
    growing.keep_alive = Duration::from_secs(600);
    growing.backoff = Backoff { first: Duration::from_millis(10), longest: Duration::from_secs(8) };
    let mut host = Peer::start(growing, &[], ());
    tokio::time::pause();
    for _ in 0..12 {
        drop(fake.accept().await);
    }
    let session = fake.accept_well().await;
    host.connected().await;
    tokio::time::advance(Duration::from_secs(8)).await;
    let begin = tokio::time::Instant::now();
    drop(session);
    fake.accept().await;
    assert!(begin.elapsed() <= Duration::from_millis(12), "{:?}", begin.elapsed());
}

#[tokio::test]
async fn a_wish_for_a_new_connection_ends_an_attempt_that_is_stuck() {
    let fake = Fake::start().await;
    let mut host = Peer::start(settings(fake.port(), "a"), &[], ());
    let _silent = fake.accept().await;
    host.client.reconnect();
    let begin = std::time::Instant::now();
    let _session = fake.accept_well().await;
    assert_eq!(host.connected().await, 2);
    assert!(begin.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_broker_that_died_without_a_word_is_noticed_after_two_keep_alives() {
    let fake = Fake::start().await;
    let mut host = Peer::start(settings(fake.port(), "a"), &[], ());
    let mut session = fake.accept_well().await;
    host.connected().await;
    tokio::time::pause();
    let lost = host.inbox.next().await;
    assert!(
        matches!(
            &lost,
            Some(Event::Disconnected { reason: ConnectionLost::Unanswered { within }, .. })
                if *within == Duration::from_secs(30)
        ),
        "{lost:?}"
    );
    tokio::time::resume();
    assert_eq!(session.packet().await.0, PINGREQ);
}

#[tokio::test]
async fn a_wish_for_a_new_connection_ends_the_old_one_with_a_disconnect() {
    let fake = Fake::start().await;
    let mut host = Peer::start(settings(fake.port(), "a"), &[], ());
    let mut session = fake.accept_well().await;
    host.connected().await;
    host.client.reconnect();
    assert_eq!(session.packet().await.0, DISCONNECT);
    drop(session);
    let _session = fake.accept_well().await;
    assert_eq!(host.connected().await, 2);
}

#[test]
fn no_bytes_from_a_broker_bring_the_client_down() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (fake, host) = runtime.block_on(async {
        let fake = Fake::start().await;
        let mut hasty = settings(fake.port(), "a");
        hasty.backoff.first = Duration::from_millis(1);
        hasty.backoff.longest = Duration::from_millis(1);
        (fake, RefCell::new(Peer::start(hasty, &[event("a")], ())))
    });
    // Packets of every type, with bodies that are right or wrong, and then plain noise.
    let packet =
        (any::<u8>(), prop::collection::vec(any::<u8>(), 0..12)).prop_map(|(first, body)| {
            let length = u8::try_from(body.len()).unwrap();
            [&[first, length], &body[..]].concat()
        });
    let noise = prop::collection::vec(any::<u8>(), 0..20);
    let speech = (any::<bool>(), prop::collection::vec(packet, 0..6), noise);
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) };
    proptest!(config, |((accepts, packets, noise) in speech)| {
        let mut host = host.borrow_mut();
        runtime.block_on(async {
            let mut session =
                if accepts { fake.accept_well().await } else { fake.accept().await };
            let _ = session.try_say(&[packets.concat(), noise].concat()).await;
            session.finish().await;
            let end = tokio::time::timeout(BOUND, async {
                while let Some(event) = host.inbox.next().await {
                    if matches!(event, Event::Disconnected { .. }) {
                        return true;
                    }
                }
                false
            });
            assert_eq!(end.await, Ok(true), "the client goes on");
        });
    });
}
