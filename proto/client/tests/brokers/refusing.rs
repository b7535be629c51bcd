//! Brokers that close the connection on a message that they do not take.

use std::num::NonZeroUsize;

use herald_client::{Backoff, ConnectionLost, Greeting, Settings, Undelivered};
use std::time::Duration;

use crate::{
    fake::{Fake, FakeSession},
    mosquitto::Mosquitto,
    support::{Peer, bounded, event, presence, says, settings},
};

fn hasty(port: u16) -> Settings {
    let first = Duration::from_millis(1);
    Settings { backoff: Backoff { first, longest: first }, ..settings(port, "a") }
}

/// Acknowledges messages until one comes on a topic that ends like that.
async fn take_until_refused(session: &mut FakeSession, refused: &str) -> Vec<String> {
    let mut taken = Vec::new();
    loop {
        let (packet, topic, _) = session.message().await;
        if topic.ends_with(refused) {
            return taken;
        }
        taken.push(topic);
        session.acknowledge(packet).await;
    }
}

#[tokio::test]
async fn a_refused_message_keeps_no_other_back_and_is_set_aside_after_five_connections() {
    let fake = Fake::start().await;
    let mut host = Peer::start(hasty(fake.port()), &[], ());
    let bad = host.client.publish(says(event("bad"), "bad"));
    let good = ["x", "y"].map(|name| host.client.publish(says(event(name), "good")));
    for connection in 1..=5 {
        let taken = take_until_refused(&mut fake.accept_well().await, "/bad").await;
        assert_eq!(taken.len(), if connection == 2 { 2 } else { 0 });
        assert!(matches!(host.disconnected().await, (_, ConnectionLost::Closed)));
    }
    for delivery in good {
        assert_eq!(bounded(delivery).await, Ok(()));
    }
    let refused = bounded(bad).await.unwrap_err();
    let Undelivered::Refused { topic, size: 3, connections: 5 } = &refused else {
        panic!("{refused:?}");
    };
    assert_eq!(*topic, event("bad"));
    assert!(refused.to_string().contains(&event("bad").to_string()), "{refused}");
    let later = host.client.publish(says(event("x"), "later"));
    let mut session = fake.accept_well().await;
    let packet = session.published().await;
    session.acknowledge(packet).await;
    assert_eq!(bounded(later).await, Ok(()));
}

#[tokio::test]
async fn of_a_whole_window_only_the_refused_message_is_set_aside() {
    let fake = Fake::start().await;
    let wide = Settings { window: NonZeroUsize::new(16).unwrap(), ..hasty(fake.port()) };
    let host = Peer::start(wide, &[], ());
    let name = |n: usize| if n == 7 { "bad".to_owned() } else { format!("host-{n}") };
    let deliveries: Vec<_> =
        (0..40).map(|n| host.client.publish(says(presence(&name(n)), "order"))).collect();
    let broker = async {
        for _ in 0..6 {
            take_until_refused(&mut fake.accept_well().await, "/bad").await;
        }
        let mut session = fake.accept_well().await;
        while let Ok((packet, ..)) =
            tokio::time::timeout(Duration::from_millis(200), session.message()).await
        {
            session.acknowledge(packet).await;
        }
    };
    let fates = async {
        let mut fates = Vec::new();
        for delivery in deliveries {
            fates.push(bounded(delivery).await);
        }
        fates
    };
    let (fates, ()) = tokio::join!(fates, broker);
    for (n, fate) in fates.into_iter().enumerate() {
        match fate {
            Ok(()) => assert_ne!(n, 7),
            Err(Undelivered::Refused { .. }) => assert_eq!(n, 7),
            Err(other) => panic!("{other}"),
        }
    }
}

#[tokio::test]
async fn a_refused_birth_is_named_and_after_five_connections_left_out() {
    let fake = Fake::start().await;
    let greeter = || {
        let birth = vec![says(presence("bad"), "birth"), says(presence("a"), "birth")];
        Greeting { will: None, birth }
    };
    let mut host = Peer::start(hasty(fake.port()), &[event("a")], greeter);
    for _ in 1..=5 {
        let mut session = fake.accept_well().await;
        session.subscribed(&[1]).await;
        take_until_refused(&mut session, "/bad").await;
        drop(session);
        let (_, reason) = host.disconnected().await;
        assert!(
            matches!(&reason, ConnectionLost::BirthRefused { topic, size: 5 } if *topic == presence("bad")),
            "{reason:?}"
        );
    }
    let mut session = fake.accept_well().await;
    session.subscribed(&[1]).await;
    let (packet, topic, _) = session.message().await;
    assert_eq!(topic, presence("a").to_string());
    session.acknowledge(packet).await;
    assert_eq!(host.connected().await, 6);
}

#[tokio::test]
async fn a_mosquitto_that_takes_only_small_packets_gets_all_but_the_large_message() {
    let broker = Mosquitto::start_with("allow_anonymous true\nmax_packet_size 1000");
    let wide = Settings { window: NonZeroUsize::new(8).unwrap(), ..hasty(broker.port()) };
    let mut host = Peer::start(wide, &[], ());
    host.connected().await;
    let deliveries = ["1", "2", "3", "4", "5", "6"].map(|name| {
        let text = "x".repeat(if name == "3" { 2000 } else { 10 });
        host.client.publish(says(presence(name), &text))
    });
    for (n, delivery) in deliveries.into_iter().enumerate() {
        match bounded(delivery).await {
            Ok(()) => assert_ne!(n, 2),
            Err(Undelivered::Refused { size: 2000, .. }) => assert_eq!(n, 2),
            Err(other) => panic!("{other}"),
        }
    }
}
