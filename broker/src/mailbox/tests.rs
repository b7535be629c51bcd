use bytes::Bytes;
use futures_util::task::noop_waker;
use tokio::sync::Semaphore;

use super::*;
use crate::subscription::Subscriptions;

const LONGEST: Duration = Duration::from_secs(20);

fn patience(bytes: usize) -> Patience {
    Patience { bytes, time: LONGEST }
}

fn mailbox() -> Arc<Mailbox> {
    Arc::new(Mailbox::new(patience(1024 * 1024), Subscriptions::new(true)))
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
        mailbox.deliver(&message(revision), QoS::AtLeastOnce, &Receipt::none(), Instant::now());
    }
    let (first, _) = sent(&mailbox);
    assert_eq!(first.len(), WINDOW);
    assert!(matches!(work(&mailbox), Some(Ok(Work::Blocked { acknowledgements: 0, .. }))));
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
        mailbox.deliver(&message(revision), QoS::AtLeastOnce, &Receipt::none(), Instant::now());
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
        subscriber.deliver(&message(packet as u64), QoS::AtLeastOnce, &receipt, Instant::now());
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
        subscriber.deliver(&message(packet.into()), QoS::AtLeastOnce, &receipt, Instant::now());
    }
    subscriber.close(Refusal::Slow);
    assert_eq!(sent(&publisher).1, (1..=200).collect::<Vec<_>>());
    assert!(matches!(work(&subscriber), Some(Err(Refusal::Slow))));
}

#[test]
fn too_much_that_waits_closes_the_subscriber() {
    let subscriber = Arc::new(Mailbox::new(patience(100), Subscriptions::new(false)));
    for revision in 1..=12 {
        subscriber.deliver(&message(revision), QoS::AtLeastOnce, &Receipt::none(), Instant::now());
    }
    assert!(matches!(work(&subscriber), Some(Err(Refusal::Slow))));
}

#[test]
fn a_message_that_waits_too_long_closes_the_subscriber_however_it_trickles() {
    let subscriber = mailbox();
    let now = Instant::now();
    for revision in 1..=400 {
        subscriber.deliver(&message(revision), QoS::AtLeastOnce, &Receipt::none(), now);
    }
    let (messages, _) = sent(&subscriber);
    subscriber.acknowledged(messages[0].0);
    sent(&subscriber);
    let soon = now + LONGEST;
    subscriber.deliver(&message(401), QoS::AtLeastOnce, &Receipt::none(), soon);
    assert!(matches!(work(&subscriber), Some(Ok(Work::Blocked { .. }))));
    let late = soon + Duration::from_millis(1);
    subscriber.deliver(&message(402), QoS::AtLeastOnce, &Receipt::none(), late);
    assert!(matches!(work(&subscriber), Some(Err(Refusal::Slow))));
}

/// A client that begins to catch up at this time, with so many messages behind it.
fn late_comer(began: Instant, behind: u64) -> Arc<Mailbox> {
    let subscriber = mailbox();
    let serial = subscriber.change(|all| all.add("t".into(), QoS::AtLeastOnce, Revision::NONE));
    subscriber.catch_up((1..=300).map(|revision| (Revision::new(2 * revision), serial)));
    for revision in 1..=behind {
        let message = message(1_000 + revision);
        subscriber.deliver(&message, QoS::AtLeastOnce, &Receipt::none(), began);
    }
    subscriber
}

/// Acknowledges all that is sent, until so many messages have come.
fn take(subscriber: &Mailbox, count: usize) {
    let mut taken = 0;
    while taken < count {
        let (messages, _) = sent(subscriber);
        assert!(!messages.is_empty(), "{taken} of {count}");
        taken += messages.len();
        messages.iter().for_each(|(packet, _)| _ = subscriber.acknowledged(*packet));
    }
}

#[test]
fn client_that_took_long_to_catch_up_is_not_closed_for_it() {
    let began = Instant::now();
    // The last message that was retained goes out when the oldest live one has waited for too long.
    let late = began + LONGEST + Duration::from_secs(1);
    let subscriber = late_comer(began, 400);
    let (first, _) = sent(&subscriber);
    first[..50].iter().for_each(|(packet, _)| _ = subscriber.acknowledged(*packet));
    let (second, _) = sent(&subscriber);
    assert!(subscriber.lock().backlog.is_empty() && subscriber.lock().queue.len() > LONG);
    let room = Arc::new(Semaphore::new(1_000));
    let publisher = mailbox();
    let unheld = receipt(&publisher, Some(1), &room);
    subscriber.deliver(&message(2_000), QoS::AtLeastOnce, &unheld, late);
    drop(unheld);
    assert_eq!(sent(&publisher).1, [1], "nobody waits for one that catches up");
    assert!(matches!(work(&subscriber), Some(Ok(Work::Blocked { since: None, .. }))));
    let left = first[50..].iter().chain(&second);
    left.for_each(|(packet, _)| _ = subscriber.acknowledged(*packet));
    take(&subscriber, 300 + 401 - 306);
}

#[test]
fn client_that_has_caught_up_makes_others_wait_like_any_other_and_no_longer() {
    let began = Instant::now();
    let subscriber = late_comer(began, 10);
    take(&subscriber, 300);
    let caught_up = began + 5 * LONGEST;
    let (publisher, room) = (mailbox(), Arc::new(Semaphore::new(1_000)));
    let deliver = |revision: u64, now| {
        let receipt = receipt(&publisher, Some(revision as u16), &room);
        subscriber.deliver(&message(2_000 + revision), QoS::AtLeastOnce, &receipt, now);
    };
    // It takes none of these, and lets others wait.
    (1..=400).for_each(|revision| deliver(revision, caught_up));
    assert!(sent(&publisher).1.len() <= LONG);
    deliver(401, caught_up + LONGEST);
    sent(&subscriber);
    assert!(matches!(work(&subscriber), Some(Ok(Work::Blocked { .. }))));
    deliver(402, caught_up + LONGEST + Duration::from_millis(1));
    assert!(matches!(work(&subscriber), Some(Err(Refusal::Slow))));
}

#[test]
fn client_that_begins_to_catch_up_again_lets_go_of_those_who_wait_for_it() {
    let (publisher, subscriber) = (mailbox(), mailbox());
    let room = Arc::new(Semaphore::new(1_000));
    let serial = subscriber.change(|all| all.add("t".into(), QoS::AtLeastOnce, Revision::NONE));
    for packet in 1..=200 {
        let receipt = receipt(&publisher, Some(packet), &room);
        subscriber.deliver(&message(packet.into()), QoS::AtLeastOnce, &receipt, Instant::now());
    }
    assert_eq!(sent(&publisher).1.len(), LONG);
    subscriber.catch_up([(Revision::new(2), serial)]);
    assert_eq!(sent(&publisher).1.len(), 200 - LONG);
}

#[test]
fn publishers_of_large_messages_wait_long_before_the_subscriber_is_closed() {
    let (publisher, subscriber) = (mailbox(), mailbox());
    let room = Arc::new(Semaphore::new(1_000));
    let large = Arc::new(Message {
        topic: Bytes::from_static(b"t"),
        payload: Bytes::from(vec![0; 32 * 1024]),
        revision: None,
    });
    for packet in 1..=20 {
        let receipt = receipt(&publisher, Some(packet), &room);
        let copy = Arc::new((*large).clone());
        subscriber.deliver(&copy, QoS::AtLeastOnce, &receipt, Instant::now());
    }
    assert!(sent(&publisher).1.len() < 10, "a quarter of what may wait");
    assert!(matches!(work(&subscriber), Some(Ok(Work::Send(..)))));
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
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::AtMostOnce] {
        subscriber.deliver(&both, qos, &Receipt::none(), Instant::now());
    }
    assert_eq!(sent(&subscriber).0, [(1, 1)]);
}

#[test]
fn retained_messages_go_before_newer_ones_and_the_position_follows_the_acknowledgements() {
    let mailbox = mailbox();
    let serial = mailbox.change(|all| all.add("t".into(), QoS::AtLeastOnce, Revision::NONE));
    mailbox.catch_up([2, 3, 4].map(|revision| (Revision::new(revision), serial)));
    mailbox.deliver(&message(9), QoS::AtLeastOnce, &Receipt::none(), Instant::now());
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
fn retained_and_live_messages_are_sent_in_the_order_of_their_revisions() {
    let mailbox = mailbox();
    let serial = mailbox.change(|all| all.add("t".into(), QoS::AtLeastOnce, Revision::NONE));
    // Without a revision: it goes with what is behind it.
    let event = Message { revision: None, ..(*message(1)).clone() };
    mailbox.deliver(&Arc::new(event), QoS::AtLeastOnce, &Receipt::none(), Instant::now());
    for revision in [5, 7, 10] {
        mailbox.deliver(&message(revision), QoS::AtLeastOnce, &Receipt::none(), Instant::now());
    }
    mailbox.catch_up([4, 6, 8, 12].map(|revision| (Revision::new(revision), serial)));
    let (messages, _) = sent(&mailbox);
    let revisions: Vec<u64> = messages.iter().map(|(_, revision)| *revision).collect();
    assert_eq!(revisions, [4, 1, 5, 6, 7, 8, 10, 12]);
    for (count, (packet, _)) in messages.iter().enumerate() {
        mailbox.acknowledged(*packet);
        let acked = mailbox.change(|all| all.to_store()[0].acked.get());
        assert_eq!(acked, [4, 4, 4, 6, 6, 8, 8, 12][count], "after {count}");
    }
}

#[test]
fn a_new_filter_is_not_taken_to_have_what_another_one_acknowledged() {
    let mailbox = mailbox();
    mailbox.change(|all| all.add("old".into(), QoS::AtLeastOnce, Revision::new(50)));
    mailbox.deliver(&message(60), QoS::AtLeastOnce, &Receipt::none(), Instant::now());
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
    mailbox.forget_ended();
    assert!(work(&mailbox).is_none());
}

#[test]
fn subscribing_again_starts_over_instead_of_adding_up() {
    let mailbox = mailbox();
    let [first, second] = ["t", "u"].map(|filter| {
        mailbox.change(|all| all.add(filter.into(), QoS::AtLeastOnce, Revision::NONE))
    });
    mailbox.catch_up([(Revision::new(2), first), (Revision::new(4), second)]);
    for _ in 0..10 {
        mailbox.catch_up([(Revision::new(2), first)]);
    }
    let Some(Ok(Work::Fetch(wanted))) = work(&mailbox) else { panic!("nothing to fetch") };
    assert_eq!(wanted, [(Revision::new(4), second), (Revision::new(2), first)]);
}

#[test]
fn client_that_publishes_to_itself_gets_its_messages_and_acknowledgements() {
    let (done, ended) = std::sync::mpsc::channel();
    // A thread of its own, as it would hang for good.
    std::thread::spawn(move || {
        let mailbox = mailbox();
        let room = Arc::new(Semaphore::new(10_000));
        let count = LONG + 10;
        for packet in 1..=count as u16 {
            let receipt = receipt(&mailbox, Some(packet), &room);
            mailbox.deliver(&message(packet.into()), QoS::AtLeastOnce, &receipt, Instant::now());
        }
        let (messages, answers) = sent(&mailbox);
        let _ = done.send((messages.len() == count, answers.len() == count));
    });
    assert_eq!(ended.recv_timeout(std::time::Duration::from_secs(20)), Ok((true, true)));
}

#[test]
fn client_that_reads_no_answers_is_asked_nothing_more_until_it_does() {
    let mailbox = mailbox();
    let waker = noop_waker();
    let context = &Context::from_waker(&waker);
    while mailbox.poll_answerable(context).is_ready() {
        mailbox.reply(&packet::PINGRESP);
    }
    assert_eq!(mailbox.lock().replies.len(), ANSWERS);
    assert!(matches!(work(&mailbox), Some(Ok(Work::Send(..)))));
    assert!(mailbox.poll_answerable(context).is_ready());
}
