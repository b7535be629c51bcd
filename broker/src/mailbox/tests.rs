use bytes::Bytes;
use futures_util::task::noop_waker;
use tokio::sync::Semaphore;

use super::*;
use crate::subscription::Subscriptions;

fn mailbox() -> Arc<Mailbox> {
    Arc::new(Mailbox::new(1024 * 1024, Subscriptions::new(true)))
}

fn message(revision: u64) -> Arc<Message> {
    Arc::new(Message {
        topic: Bytes::from_static(b"t"),
        payload: Bytes::copy_from_slice(&revision.to_be_bytes()),
        revision: Some(Revision::new(revision)),
    })
}

fn work(mailbox: &Mailbox) -> Option<Result<Work, Refusal>> {
    match mailbox.poll_work(&Context::from_waker(&noop_waker())) {
        Poll::Ready(work) => Some(work),
        Poll::Pending => None,
    }
}

/// Takes all that can be sent, as the packet ids and revisions of PUBLISH, and as PUBACKs.
fn sent(mailbox: &Mailbox) -> (Vec<(u16, u64)>, Vec<u16>) {
    let mut all = (Vec::new(), Vec::new());
    loop {
        match work(mailbox) {
            Some(Ok(Work::Send(bytes, _))) => read(&bytes, &mut all),
            Some(Ok(Work::Fetch(wanted))) => {
                let fetched = wanted.into_iter().map(|(revision, serial)| {
                    // Odd ones were superseded meanwhile.
                    let found = revision.get() % 2 == 0;
                    let message = found.then(|| (*message(revision.get())).clone());
                    ((revision, serial), message)
                });
                if let Work::Send(bytes, _) = mailbox.fetched(fetched) {
                    read(&bytes, &mut all);
                }
            }
            _ => return all,
        }
    }
}

fn read(mut bytes: &[u8], (messages, answers): &mut (Vec<(u16, u64)>, Vec<u16>)) {
    let two = |bytes: &[u8]| u16::from_be_bytes([bytes[0], bytes[1]]);
    while let [kind, length, ..] = *bytes {
        let body = &bytes[2..2 + usize::from(length)];
        match kind >> 4 {
            3 => {
                assert_eq!(two(body), 1);
                let (packet, payload) =
                    if kind & 0x06 == 0 { (0, &body[3..]) } else { (two(&body[3..]), &body[5..]) };
                messages.push((packet, u64::from_be_bytes(payload.try_into().unwrap())));
            }
            4 => answers.push(two(body)),
            _ => {}
        }
        bytes = &bytes[2 + usize::from(length)..];
    }
}

fn receipt(publisher: &Arc<Mailbox>, packet: Option<u16>, room: &Arc<Semaphore>) -> Receipt {
    publisher.publishing(packet);
    let permit = Arc::clone(room).try_acquire_owned().unwrap();
    let receipt = Receipt::new(Arc::clone(publisher), packet, permit);
    receipt.passed_on();
    receipt
}

#[test]
fn no_more_than_a_window_is_sent_before_it_is_acknowledged() {
    let mailbox = mailbox();
    for revision in 1..=600 {
        mailbox.deliver(&message(revision), QoS::AtLeastOnce, &Receipt::none());
    }
    let (first, _) = sent(&mailbox);
    assert_eq!(first.len(), WINDOW);
    assert!(matches!(work(&mailbox), Some(Ok(Work::Blocked { acknowledgements: 0 }))));
    // In any order: one that is acknowledged late holds back those behind it, and loses none.
    for (packet, _) in first.iter().skip(1) {
        mailbox.acknowledged(*packet);
    }
    assert!(sent(&mailbox).0.is_empty());
    mailbox.acknowledged(first[0].0);
    let (second, _) = sent(&mailbox);
    assert_eq!(second.len(), WINDOW);
    assert_eq!(second[0].1, first.len() as u64 + 1);
}

#[test]
fn packet_ids_are_never_0_and_never_in_use_twice() {
    let mailbox = mailbox();
    let mut in_use = std::collections::HashSet::new();
    let mut waiting = std::collections::VecDeque::new();
    for revision in 1..=200_000 {
        mailbox.deliver(&message(revision), QoS::AtLeastOnce, &Receipt::none());
        for (packet, _) in sent(&mailbox).0 {
            assert!(packet != 0 && in_use.insert(packet), "{packet} is in use");
            waiting.push_back(packet);
        }
        if waiting.len() == WINDOW {
            let packet = waiting.pop_front().unwrap();
            in_use.remove(&packet);
            mailbox.acknowledged(packet);
        }
    }
}

#[test]
fn publishers_wait_while_a_subscriber_lags_behind_and_not_otherwise() {
    let (publisher, subscriber) = (mailbox(), mailbox());
    let room = Arc::new(Semaphore::new(10_000));
    let count = WINDOW + LONG + 3;
    for packet in 1..=count {
        let receipt = receipt(&publisher, Some(packet as u16), &room);
        subscriber.deliver(&message(packet as u64), QoS::AtLeastOnce, &receipt);
    }
    // The first ones are acknowledged although nothing was sent yet; the long tail is not.
    assert_eq!(sent(&publisher).1.len(), LONG);
    assert_eq!(room.available_permits(), 10_000 - (count - LONG));
    let (messages, _) = sent(&subscriber);
    assert_eq!(sent(&publisher).1.len(), WINDOW - LONG);
    for (packet, _) in messages {
        subscriber.acknowledged(packet);
    }
    assert_eq!(sent(&subscriber).0.len(), LONG + 3);
    assert_eq!(sent(&publisher).1.len(), LONG + 3, "all are acknowledged in the end");
    assert_eq!(room.available_permits(), 10_000);
}

#[test]
fn a_subscriber_that_is_closed_holds_up_nobody() {
    let (publisher, subscriber) = (mailbox(), mailbox());
    let room = Arc::new(Semaphore::new(1_000));
    for packet in 1..=200 {
        let receipt = receipt(&publisher, Some(packet), &room);
        subscriber.deliver(&message(packet.into()), QoS::AtLeastOnce, &receipt);
    }
    subscriber.close(Refusal::Slow);
    assert_eq!(sent(&publisher).1, (1..=200).collect::<Vec<_>>());
    assert!(matches!(work(&subscriber), Some(Err(Refusal::Slow))));
}

#[test]
fn too_much_that_waits_closes_the_subscriber() {
    let subscriber = Arc::new(Mailbox::new(100, Subscriptions::new(false)));
    for revision in 1..=12 {
        subscriber.deliver(&message(revision), QoS::AtLeastOnce, &Receipt::none());
    }
    assert!(matches!(work(&subscriber), Some(Err(Refusal::Slow))));
}

#[test]
fn publishes_are_acknowledged_in_their_order_and_one_that_failed_is_not() {
    let publisher = mailbox();
    let room = Arc::new(Semaphore::new(10));
    let [first, second, third] = [1, 2, 3].map(|id| receipt(&publisher, Some(id), &room));
    drop(second);
    assert_eq!(sent(&publisher).1, [0_u16; 0]);
    drop(first);
    assert_eq!(sent(&publisher).1, [1, 2]);
    third.refuse(Refusal::NotStored);
    assert!(matches!(work(&publisher), Some(Err(Refusal::NotStored))));
}

#[test]
fn a_publish_that_gets_lost_is_not_acknowledged_and_closes_its_publisher() {
    let publisher = mailbox();
    let room = Arc::new(Semaphore::new(10));
    publisher.publishing(Some(1));
    let permit = Arc::clone(&room).try_acquire_owned().unwrap();
    drop(Receipt::new(Arc::clone(&publisher), Some(1), permit));
    assert!(matches!(work(&publisher), Some(Err(Refusal::NotStored))));
    assert_eq!(room.available_permits(), 10);
}

#[test]
fn a_message_that_matches_two_filters_comes_once_with_the_higher_qos() {
    let subscriber = mailbox();
    let both = message(1);
    subscriber.deliver(&both, QoS::AtMostOnce, &Receipt::none());
    subscriber.deliver(&both, QoS::AtLeastOnce, &Receipt::none());
    subscriber.deliver(&both, QoS::AtMostOnce, &Receipt::none());
    assert_eq!(sent(&subscriber).0, [(1, 1)]);
}

#[test]
fn retained_messages_go_before_newer_ones_and_the_position_follows_the_acknowledgements() {
    let mailbox = mailbox();
    let serial = mailbox.change(|all| all.add("t".into(), QoS::AtLeastOnce, Revision::NONE));
    mailbox.catch_up([2, 3, 4].map(|revision| (Revision::new(revision), serial)));
    mailbox.deliver(&message(9), QoS::AtLeastOnce, &Receipt::none());
    let (messages, _) = sent(&mailbox);
    assert_eq!(messages.iter().map(|(_, revision)| *revision).collect::<Vec<_>>(), [2, 4, 9]);
    let acked = || mailbox.change(|all| all.to_store()[0].acked.get());

    // Only what was acknowledged without a gap counts.
    assert!(!mailbox.acknowledged(messages[2].0));
    assert_eq!(acked(), 0);
    assert!(mailbox.acknowledged(messages[0].0));
    assert_eq!(acked(), 2);
    mailbox.acknowledged(messages[1].0);
    assert_eq!(acked(), 9);
    assert!(mailbox.change(Subscriptions::clean));
}

#[test]
fn a_new_filter_is_not_taken_to_have_what_another_one_acknowledged() {
    let mailbox = mailbox();
    mailbox.change(|all| all.add("old".into(), QoS::AtLeastOnce, Revision::new(50)));
    mailbox.deliver(&message(60), QoS::AtLeastOnce, &Receipt::none());
    let (live, _) = sent(&mailbox);
    let new = mailbox.change(|all| all.add("new".into(), QoS::AtLeastOnce, Revision::NONE));
    mailbox.catch_up([(Revision::new(8), new)]);
    mailbox.acknowledged(live[0].0);
    let stored = mailbox.change(|all| all.to_store());
    assert_eq!((stored[0].acked.get(), stored[1].acked.get()), (60, 0));
}

#[test]
fn what_a_filter_had_to_catch_up_with_is_forgotten_with_it() {
    let mailbox = mailbox();
    let serial = mailbox.change(|all| all.add("t".into(), QoS::AtLeastOnce, Revision::NONE));
    mailbox.catch_up([(Revision::new(2), serial)]);
    mailbox.change(|all| all.remove("t"));
    assert!(work(&mailbox).is_none());
}
