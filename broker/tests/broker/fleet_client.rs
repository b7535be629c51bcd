//! The client that subscribers and the command line use, at the real broker.

use std::{num::NonZeroUsize, sync::Arc, time::Duration};

use herald_client::{
    Backoff, Client, Event, Greeting, Inbox, KEEP_ALIVE, Login, Message, SessionKind, Settings,
    Signed, Tls,
};
use herald_proto::time::Timestamp;

use crate::{
    ORDER, ORDER_2, PRESENCE, STATUS,
    client::Connect,
    login::{Authority, everybody, key, now, site},
    process::{Broker, Site},
    wait::LIMIT,
};

/// Starts the client of a host.
fn host(broker: &Broker, site: &Site, filters: &[&str]) -> (Client, Inbox) {
    let url: herald_client::BrokerUrl =
        format!("mqtts://localhost:{}", broker.address().port()).parse().unwrap();
    let login = Login::Signed(Signed {
        principal: "home/web-1".parse().unwrap(),
        broker: url.broker_name().unwrap(),
        key: Arc::new(key("web-1")),
        clock: now,
        earliest: Timestamp::from_millis(0),
    });
    let settings = Settings {
        broker: url,
        tls: Tls::new(Some(Authority::path(site)), None, None).unwrap(),
        login,
        client_id: "home:web-1".to_owned(),
        session: SessionKind::Persistent,
        keep_alive: KEEP_ALIVE,
        backoff: Backoff { first: Duration::from_millis(20), longest: Duration::from_millis(200) },
        window: NonZeroUsize::MIN,
    };
    let message = |payload: &str| Message::new(PRESENCE.parse().unwrap(), payload);
    let greet = move || Greeting { will: Some(message("death")), birth: vec![message("birth")] };
    let filters = filters.iter().map(|filter| filter.parse().unwrap()).collect();
    herald_client::start(settings, filters, Box::new(greet), 7)
}

async fn next(inbox: &mut Inbox) -> Event {
    tokio::time::timeout(LIMIT, inbox.next()).await.unwrap().unwrap()
}

/// Waits for a message, through everything else that happens.
async fn message(inbox: &mut Inbox) -> (String, Vec<u8>) {
    loop {
        match next(inbox).await {
            Event::Message { topic, payload, .. } => return (topic.to_string(), payload),
            Event::Connected { .. } => {}
            Event::Disconnected { reason, .. } => panic!("{reason}"),
        }
    }
}

async fn connected(inbox: &mut Inbox) {
    loop {
        match next(inbox).await {
            Event::Connected { .. } => return,
            Event::Message { .. } => {}
            Event::Disconnected { reason, .. } => panic!("{reason}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_logs_in_with_its_key_reports_and_gets_its_orders_also_when_it_was_away() {
    let authority = Authority::new();
    let site = site(&everybody(), "");
    authority.issue_server(&site);
    site.configure(&(site.settings() + &Authority::listener(&site)));
    let broker = site.start_configured();
    let (wire, _) = authority.dial(broker.address(), Some("home/alice"));
    let (mut operator, _) = Connect::new("operator").over(wire).unwrap();
    operator.subscribe("herald/v1/home/presence/+");
    operator.subscribe("herald/v1/home/status/+/+");

    let (client, mut inbox) = host(&broker, &site, &[ORDER]);
    connected(&mut inbox).await;
    assert_eq!(operator.take().text(), "birth");
    let report = Message::new(STATUS.parse().unwrap(), "report");
    tokio::time::timeout(LIMIT, client.publish(report)).await.unwrap().unwrap();
    assert_eq!(operator.take().text(), "report");
    operator.retained(ORDER_2, "not for it");
    operator.retained(ORDER, "order 1");
    assert_eq!(message(&mut inbox).await, (ORDER.to_owned(), b"order 1".to_vec()));

    // It goes without a word; meanwhile there are new orders.
    drop((client, inbox));
    assert_eq!(operator.take().text(), "death");
    operator.retained(ORDER, "order 2");
    operator.retained(ORDER, "order 3");
    let (client, mut inbox) = host(&broker, &site, &[ORDER]);
    assert_eq!(message(&mut inbox).await.1, b"order 3");
    connected(&mut inbox).await;
    assert_eq!(operator.take().text(), "birth");
    client.stop(vec![Message::new(PRESENCE.parse().unwrap(), "farewell")], LIMIT).await;
    assert_eq!(operator.take().text(), "farewell");
    operator.retained(PRESENCE.replace("presence", "roster").as_str(), "marker");
    operator.assert_idle();
    broker.wait_for_metric("herald_broker_persistent_sessions", 1);
    broker.wait_for_metric("herald_broker_sessions", 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_filter_that_a_host_may_not_have_is_told_to_it() {
    let authority = Authority::new();
    let site = site(&everybody(), "");
    authority.issue_server(&site);
    site.configure(&(site.settings() + &Authority::listener(&site)));
    let broker = site.start_configured();
    let (_client, mut inbox) = host(&broker, &site, &[ORDER, ORDER_2]);
    let Event::Disconnected { reason, .. } = next(&mut inbox).await else { panic!() };
    assert!(reason.to_string().contains(ORDER_2), "{reason}");
    broker.wait_for_refusals("subscribe-denied", 1);
}
