//! Brokers that remember a client.

use herald_client::{SessionKind, Settings};

use crate::{
    fake::{Fake, PUBACK, publish_qos_1},
    mosquitto::Mosquitto,
    support::{Peer, bounded, event, presence, says, settings},
};

fn persistent(port: u16) -> Settings {
    Settings { session: SessionKind::Persistent, ..settings(port, "a") }
}

#[tokio::test]
async fn what_a_broker_sends_before_it_is_asked_is_taken_and_acknowledged() {
    let fake = Fake::start().await;
    let mut host = Peer::start(persistent(fake.port()), &[presence("a"), event("a")], ());
    // The answer to CONNECT and what waited come in one go.
    let mut session = fake.accept().await;
    let waited = publish_qos_1(&presence("a").to_string(), 9, b"waited");
    session.say(&[&[0x20, 2, 1, 0], &waited[..]].concat()).await;
    assert_eq!(host.text().await, "waited");
    let mut packets = [session.packet().await, session.packet().await];
    packets.sort_unstable();
    assert_eq!(packets[0], (PUBACK, vec![0, 9]));
    // And some between the question and its answer.
    session.say(&publish_qos_1(&event("a").to_string(), 10, b"between")).await;
    assert_eq!(host.text().await, "between");
    let id = &packets[1].1;
    session.say(&[0x90, 4, id[0], id[1], 1, 1]).await;
    assert_eq!(host.connected().await, 1);
    assert_eq!(session.packet().await, (PUBACK, vec![0, 10]));
}

#[tokio::test]
async fn a_resumed_session_is_greeted_and_subscribed_like_a_new_one() {
    let fake = Fake::start().await;
    let greeter =
        || herald_client::Greeting { will: None, birth: vec![says(presence("a"), "birth")] };
    let mut host = Peer::start(persistent(fake.port()), &[event("a")], greeter);
    for connection in 1..=2 {
        let mut session = fake.accept_known().await;
        session.subscribed(&[1]).await;
        let birth = session.published().await;
        session.acknowledge(birth).await;
        assert_eq!(host.connected().await, connection);
    }
}

#[tokio::test]
async fn what_is_published_while_a_persistent_client_is_away_comes_when_it_is_back() {
    let broker = Mosquitto::start();
    let mut host = Peer::start(persistent(broker.port()), &[event("a")], ());
    host.connected().await;
    bounded(host.client.stop(vec![], crate::support::BOUND)).await;
    let writer = Peer::reader(broker.port(), &[]).await;
    for n in 0..50 {
        writer.publish(says(event("a"), &n.to_string())).await;
    }
    let mut host = Peer::start(persistent(broker.port()), &[event("a")], ());
    for n in 0..50 {
        assert_eq!(host.text().await, n.to_string());
    }
}
