//! A store that is damaged, in use, or gone.

use std::{fs, os::unix::fs::FileExt};

use crate::{
    client::{Client, Connect, Packet},
    process::{Site, text},
    wait::until,
};

const SERVE: [&str; 3] = ["--listen", "127.0.0.1:0", "--anonymous"];

fn topic(number: usize) -> String {
    format!("herald/v1/home/status/web-{number}/system")
}

/// Makes a store with 50 messages, one of which is damaged wherever it lies in the file.
fn damaged() -> Site {
    let site = Site::new();
    let broker = site.start();
    let mut client = Client::connect(broker.address(), "client");
    for number in 0..50 {
        client.retained(&topic(number), format!("needle {number:02} {}", "x".repeat(1_000)));
    }
    Connect::persistent("host").open(broker.address()).disconnect();
    broker.stop();
    let path = site.state.join("retained.redb");
    let bytes = fs::read(&path).unwrap();
    let needle = b"needle 25";
    let file = fs::File::options().write(true).open(&path).unwrap();
    let places = bytes.windows(needle.len()).enumerate().filter(|(_, window)| window == needle);
    let mut count = 0;
    for (place, _) in places {
        count += 1;
        for byte in (place..place + 200).step_by(16) {
            file.write_all_at(&[!bytes[byte]], byte as u64).unwrap();
        }
    }
    assert!(count > 0, "the message is in the file");
    site
}

#[test]
fn a_damaged_store_ends_the_broker_with_5_and_can_be_repaired() {
    let site = damaged();
    let ended = site.run(&SERVE);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(5), ""), "{}", ended.stderr);
    let remedy = format!("herald-broker repair --state {}", text(&site.state));
    assert!(ended.stderr.contains(&remedy), "{}", ended.stderr);
    assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);

    // As it says.
    let repaired = site.run(&["repair"]);
    assert_eq!(repaired.code, Some(0), "{}", repaired.stderr);
    assert!(repaired.stdout.contains("retained messages"), "{}", repaired.stdout);
    let beside = fs::read_dir(&site.state).unwrap().count();
    assert_eq!(beside, 2, "the damaged file is kept");

    let broker = site.start();
    let mut client = Client::connect(broker.address(), "client");
    client.subscribe("herald/v1/home/status/+/+");
    client.retained(&topic(99), "needle 99");
    let kept = client.take_until("needle 99");
    // All but the damaged one; what shared a page with it may be lost too.
    assert!(kept.len() >= 40, "{} were kept", kept.len());
    let is_whole = |text: &str| text.len() > 1_000 && text.ends_with('x');
    assert!(kept[..kept.len() - 1].iter().all(|message| is_whole(message.text())));
    broker.stop();
    let again = site.run(&["repair"]);
    assert!(again.code == Some(0) && again.stdout.contains("nothing was changed"), "{again:?}");
}

#[test]
fn a_store_in_use_ends_the_second_broker_with_5_and_leaves_the_first_alone() {
    let site = Site::new();
    let broker = site.start();
    for args in [&SERVE[..], &["repair"]] {
        let ended = site.run(args);
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(5), ""), "{}", ended.stderr);
        assert!(ended.stderr.contains("in use by another process"), "{}", ended.stderr);
    }
    let mut client = Client::connect(broker.address(), "client");
    client.retained(&topic(1), "x");
    broker.stop();
}

#[test]
fn a_store_that_fails_ends_the_broker_with_5_and_nothing_that_is_lost_was_acknowledged() {
    for _ in 0..5 {
        let site = Site::new();
        let mut broker = site.start();
        let address = broker.address();
        let mut clients: Vec<_> =
            (0..5).map(|number| Client::connect(address, &number.to_string())).collect();
        clients[0].retained(&topic(0), "kept");
        // It can't tell any more how much room there is, and stores nothing.
        let elsewhere = site.path("elsewhere");
        fs::rename(&site.state, &elsewhere).unwrap();
        for (number, client) in clients.iter_mut().enumerate() {
            for round in 1..5 {
                client.retain(&topic(10 * number + round), "lost");
            }
        }
        for client in &mut clients {
            let answers = client.closed();
            assert!(!answers.iter().any(|a| matches!(a, Packet::PubAck(_))), "{answers:?}");
        }
        assert_eq!(broker.wait(), Some(5), "{}", broker.log());
        until("it says why", || broker.log().contains("the store failed"));
        fs::rename(&elsewhere, &site.state).unwrap();
        let broker = site.start();
        let mut client = Client::connect(broker.address(), "client");
        client.subscribe("herald/v1/home/status/+/+");
        assert_eq!(client.take().text(), "kept");
        client.assert_idle();
    }
}
