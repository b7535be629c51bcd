//! A client that says nothing is gone.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::{
    EVENT, PRESENCE,
    client::{Client, Connect, Packet},
    process::Site,
};

#[test]
fn a_client_that_only_receives_is_closed_after_one_and_a_half_times_its_keep_alive() {
    let site = Site::with("");
    let broker = site.start();
    let mut watcher = Client::connect(broker.address(), "watcher");
    watcher.subscribe(PRESENCE);
    let mut client =
        Connect::new("client").keep_alive(1).will(PRESENCE, "gone").open(broker.address());
    client.subscribe(EVENT);
    let since = Instant::now();
    let address = broker.address();
    let talker = thread::spawn(move || {
        let mut talker = Client::connect(address, "talker");
        for number in 0..40 {
            talker.published(EVENT, number.to_string());
            thread::sleep(Duration::from_millis(50));
        }
    });
    let received = client.closed();
    let lasted = since.elapsed();
    assert!(received.len() > 10 && matches!(received[0], Packet::Publish(_)), "{received:?}");
    assert!(
        lasted >= Duration::from_millis(1_400) && lasted < Duration::from_secs(4),
        "{lasted:?}"
    );
    assert_eq!(watcher.take().text(), "gone");
    broker.wait_for_refusals("keep-alive", 1);
    talker.join().unwrap();
}

#[test]
fn a_client_that_pings_in_time_stays_and_so_does_one_without_a_limit() {
    let broker = Site::new().start();
    let mut pinging = Connect::new("pinging").keep_alive(1).open(broker.address());
    let mut silent = Connect::new("silent").keep_alive(0).open(broker.address());
    for _ in 0..4 {
        thread::sleep(Duration::from_millis(700));
        pinging.ping();
    }
    silent.ping();
}
