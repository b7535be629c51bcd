//! Tests of the outbox: its rules one by one, then all of them under random histories.

use herald_proto::topic::Subject;
use proptest::prelude::*;

use super::*;

fn topic(retained: bool, host: usize) -> Topic {
    let host = format!("host-{host}").parse().unwrap();
    let subject = if retained { Subject::Presence(host) } else { Subject::Event(host) };
    Topic::new("home".parse().unwrap(), subject)
}

fn outbox(window: usize, capacity: usize) -> Outbox<usize> {
    Outbox::new(NonZeroUsize::new(window).unwrap(), capacity)
}

fn event(host: usize) -> Message {
    Message::new(topic(false, host), "event")
}

fn state(host: usize) -> Message {
    Message::new(topic(true, host), "state")
}

#[test]
fn a_message_that_is_too_large_is_refused_at_once_and_the_largest_is_not() {
    let mut outbox = outbox(1, 1);
    let large = |size| Message::new(topic(true, 1), vec![0; size]);
    let refused = Err(Undelivered::TooLarge { size: MAX_PAYLOAD + 1 });
    assert_eq!(outbox.push(large(MAX_PAYLOAD + 1), 7), Some((7, refused)));
    assert!(outbox.is_empty());
    assert_eq!(outbox.push(large(MAX_PAYLOAD), 8), None);
}

#[test]
fn the_oldest_event_is_dropped_when_too_many_wait_and_no_state_is() {
    let mut outbox = outbox(1, 2);
    assert_eq!(outbox.push(state(1), 0), None);
    assert_eq!(outbox.push(event(1), 1), None);
    assert_eq!(outbox.push(state(2), 2), None);
    assert_eq!(outbox.push(event(2), 3), None);
    assert_eq!(outbox.push(event(3), 4), Some((1, Err(Undelivered::Overflow))));
}

#[test]
fn a_state_replaces_a_waiting_one_and_never_one_in_flight() {
    let mut outbox = outbox(1, 2);
    assert_eq!(outbox.push(state(1), 0), None);
    assert_eq!(outbox.send(), Some(&state(1)));
    assert_eq!(outbox.push(state(1), 1), None);
    assert_eq!(outbox.push(state(1), 2), Some((1, Err(Undelivered::Replaced))));
    outbox.sent(5);
    assert_eq!(outbox.acknowledged(5), Some((0, Ok(()))));
    assert_eq!(outbox.send(), Some(&state(1)));
}

#[test]
fn an_acknowledgement_completes_the_message_of_its_packet_only() {
    let mut outbox = outbox(3, 9);
    for ticket in 0..3 {
        outbox.push(event(ticket), ticket);
        outbox.send();
    }
    outbox.sent(1);
    outbox.sent(2);
    assert_eq!(outbox.acknowledged(3), None);
    assert_eq!(outbox.acknowledged(2), Some((1, Ok(()))));
    assert_eq!(outbox.acknowledged(2), None);
    outbox.sent(3);
    assert_eq!(outbox.acknowledged(3), Some((2, Ok(()))));
}

#[test]
fn what_was_in_flight_is_sent_again_in_order_but_for_overtaken_states() {
    let mut outbox = outbox(3, 9);
    for (ticket, message) in
        [event(1), state(1), event(2), state(1), event(3)].into_iter().enumerate()
    {
        assert_eq!(outbox.push(message, ticket), None);
        outbox.send();
    }
    outbox.sent(1);
    let replaced = vec![(1, Err(Undelivered::Replaced))];
    assert_eq!(outbox.connection_lost(false), replaced);
    let again = [event(1), event(2), state(1)];
    for message in &again {
        assert_eq!(outbox.send(), Some(message));
    }
    assert_eq!(outbox.acknowledged(1), None, "ids end with the connection");
}

/// Sends all that the window lets through, and gives it.
fn sent(outbox: &mut Outbox<usize>) -> Vec<Message> {
    std::iter::from_fn(|| outbox.send().cloned()).collect()
}

fn acknowledge_all(outbox: &mut Outbox<usize>, packets: std::ops::RangeInclusive<u16>) {
    for packet in packets {
        outbox.sent(packet);
        assert!(outbox.acknowledged(packet).is_some_and(|(_, fate)| fate.is_ok()));
    }
}

#[test]
fn a_message_on_which_the_broker_closes_five_connections_is_set_aside_and_told() {
    let mut outbox = outbox(1, 9);
    outbox.push(event(1), 1);
    for _ in 1..MOST_REFUSALS {
        assert_eq!(sent(&mut outbox), [event(1)]);
        assert_eq!(outbox.connection_lost(true), []);
    }
    assert_eq!(sent(&mut outbox), [event(1)]);
    let topic = topic(false, 1);
    let refused = Undelivered::Refused { topic, size: 5, connections: MOST_REFUSALS };
    assert_eq!(outbox.connection_lost(true), [(1, Err(refused))]);
    assert!(outbox.is_empty());
}

#[test]
fn a_connection_that_ends_otherwise_starts_the_count_again() {
    let mut outbox = outbox(1, 9);
    outbox.push(event(1), 1);
    for closed in [true, true, true, true, false, true, true, true, true] {
        assert_eq!(sent(&mut outbox), [event(1)]);
        assert_eq!(outbox.connection_lost(closed), []);
    }
}

#[test]
fn a_message_that_may_be_refused_goes_behind_the_others_but_for_those_on_its_topic() {
    let mut outbox = outbox(1, 9);
    for (ticket, host) in [1, 2, 1, 3].into_iter().enumerate() {
        let text = format!("{ticket}");
        outbox.push(Message::new(topic(false, host), text), ticket);
    }
    outbox.send();
    assert_eq!(outbox.connection_lost(true), []);
    let mut order = Vec::new();
    for packet in 1..=4 {
        let message = outbox.send().cloned().expect("one more");
        order.push(String::from_utf8(message.payload).unwrap());
        acknowledge_all(&mut outbox, packet..=packet);
    }
    assert_eq!(order, ["1", "3", "0", "2"]);
}

#[test]
fn of_several_in_flight_each_is_sent_alone_and_the_rest_through_the_window() {
    let mut outbox = outbox(2, 9);
    for host in 1..=5 {
        outbox.push(event(host), host);
    }
    assert_eq!(sent(&mut outbox), [event(1), event(2)]);
    assert_eq!(outbox.connection_lost(true), []);
    assert_eq!(sent(&mut outbox), [event(1)]);
    acknowledge_all(&mut outbox, 1..=1);
    assert_eq!(sent(&mut outbox), [event(2)]);
    assert_eq!(outbox.connection_lost(true), []);
    assert_eq!(sent(&mut outbox), [event(3), event(4)]);
    acknowledge_all(&mut outbox, 1..=2);
    assert_eq!(sent(&mut outbox), [event(5)], "a suspect waits until nothing is in flight");
    acknowledge_all(&mut outbox, 1..=1);
    assert_eq!(sent(&mut outbox), [event(2)]);
}

#[derive(Debug, Clone)]
enum Step {
    Push { retained: bool, host: usize },
    Send,
    Sent,
    Acknowledged { nth: usize },
    ConnectionLost { closed: bool },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (any::<bool>(), 0..3_usize).prop_map(|(retained, host)| Step::Push { retained, host }),
        5 => Just(Step::Send),
        5 => Just(Step::Sent),
        4 => (0..4_usize).prop_map(|nth| Step::Acknowledged { nth }),
        1 => any::<bool>().prop_map(|closed| Step::ConnectionLost { closed }),
    ]
}

/// Drives an outbox and keeps the books that its promises are checked against. A message's payload
/// is its ticket.
struct Books {
    outbox: Outbox<usize>,
    window: usize,
    topics: Vec<Topic>,
    fates: Vec<Option<Result<(), Undelivered>>>,
    /// What was handed out on this connection and has no packet id yet, in order.
    unnamed: VecDeque<usize>,
    /// Packet ids and tickets of what may be acknowledged.
    named: Vec<(u16, usize)>,
    last_packet: u16,
    /// The newest ticket sent on this connection for each topic.
    newest: HashMap<Topic, usize>,
    /// On how many connections in a row the broker closed on each ticket alone.
    refusals: HashMap<usize, u32>,
}

impl Books {
    fn new(window: usize) -> Self {
        Self {
            outbox: outbox(window, 4),
            window,
            topics: Vec::new(),
            fates: Vec::new(),
            unnamed: VecDeque::new(),
            named: Vec::new(),
            last_packet: 0,
            newest: HashMap::new(),
            refusals: HashMap::new(),
        }
    }

    fn seal(&mut self, (ticket, fate): Fate<usize>) {
        assert_eq!(self.fates[ticket], None, "a second fate for {ticket}");
        let topic = &self.topics[ticket];
        match &fate {
            Ok(()) => {}
            Err(Undelivered::Replaced) => {
                assert!(topic.is_retained());
                assert!(self.topics[ticket + 1..].contains(topic));
            }
            Err(Undelivered::Overflow) => assert!(!topic.is_retained()),
            Err(Undelivered::Refused { topic: refused, connections, .. }) => {
                assert_eq!((refused, Some(connections)), (topic, self.refusals.get(&ticket)));
                assert_eq!(*connections, MOST_REFUSALS);
            }
            Err(other) => panic!("{other}"),
        }
        self.fates[ticket] = Some(fate);
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Push { retained, host } => {
                let (topic, ticket) = (topic(retained, host), self.topics.len());
                self.topics.push(topic.clone());
                self.fates.push(None);
                let message = Message::new(topic, ticket.to_be_bytes());
                if let Some(fate) = self.outbox.push(message, ticket) {
                    self.seal(fate);
                }
            }
            Step::Send => {
                if let Some(message) = self.outbox.send() {
                    let bytes = message.payload.as_slice().try_into().unwrap();
                    let ticket = usize::from_be_bytes(bytes);
                    let before = self.newest.insert(message.topic.clone(), ticket);
                    assert!(before < Some(ticket), "{ticket} after {before:?}");
                    assert_eq!(self.fates[ticket], None, "sent after its fate");
                    self.unnamed.push_back(ticket);
                }
            }
            Step::Sent => {
                if let Some(ticket) = self.unnamed.pop_front() {
                    self.last_packet += 1;
                    self.outbox.sent(self.last_packet);
                    self.named.push((self.last_packet, ticket));
                }
            }
            Step::Acknowledged { nth } => {
                if nth < self.named.len() {
                    let (packet, ticket) = self.named.remove(nth);
                    let fate = self.outbox.acknowledged(packet).unwrap();
                    assert_eq!(fate, (ticket, Ok(())));
                    self.seal(fate);
                }
            }
            Step::ConnectionLost { closed } => {
                let named = self.named.iter().map(|(_, ticket)| *ticket);
                let lost: Vec<_> = self.unnamed.iter().copied().chain(named).collect();
                for ticket in &lost {
                    let refusals = self.refusals.entry(*ticket).or_default();
                    *refusals = if closed { *refusals + u32::from(lost.len() == 1) } else { 0 };
                }
                for fate in self.outbox.connection_lost(closed) {
                    self.seal(fate);
                }
                (self.unnamed, self.named) = (VecDeque::new(), Vec::new());
                self.newest = HashMap::new();
            }
        }
        let in_flight = self.unnamed.len() + self.named.len();
        assert_eq!(self.outbox.in_flight.len(), in_flight);
        assert!(in_flight <= self.window);
        assert!(self.outbox.transient.len() <= 4 + self.window);
        let open = self.fates.iter().filter(|fate| fate.is_none()).count();
        assert_eq!(self.outbox.waiting.len() + in_flight, open, "a message is lost");
        let indexed = self.outbox.transient.len() + self.outbox.retained.len();
        assert_eq!(self.outbox.waiting.len(), indexed);
    }
}

proptest! {
    #[test]
    fn nothing_is_lost_or_reordered_and_every_ticket_gets_one_fate(
        window in 1..5_usize,
        steps in prop::collection::vec(step(), 0..200),
    ) {
        let mut books = Books::new(window);
        for step in steps {
            books.run(step);
        }
        books.run(Step::ConnectionLost { closed: false });
        while !books.outbox.is_empty() {
            for step in [Step::Send, Step::Sent, Step::Acknowledged { nth: 0 }] {
                books.run(step);
            }
        }
        prop_assert!(books.fates.iter().all(Option::is_some));
    }

    /// A broker acknowledges what it takes, late, and closes on what it refuses, at once.
    #[test]
    fn whatever_a_broker_refuses_is_set_aside_in_bounded_time_and_nothing_else_is(
        window in 1..6_usize,
        late in 0..4_usize,
        messages in prop::collection::vec((any::<bool>(), 0..6_usize), 0..40),
        refused in prop::collection::hash_set((any::<bool>(), 0..6_usize), 0..4),
    ) {
        let mut outbox = outbox(window, usize::MAX);
        let mut fates: HashMap<usize, Result<(), Undelivered>> = HashMap::new();
        let mut packet = 0;
        let topics: Vec<_> = messages.iter().map(|(kind, host)| topic(*kind, *host)).collect();
        let refused: Vec<_> = refused.iter().map(|(kind, host)| topic(*kind, *host)).collect();
        for (ticket, topic) in topics.iter().enumerate() {
            fates.extend(outbox.push(Message::new(topic.clone(), "text"), ticket));
        }
        let bad = topics.iter().filter(|topic| refused.contains(topic)).count();
        let most = 1 + bad * (MOST_REFUSALS as usize + 1);
        for connection in 0.. {
            prop_assert!(connection <= most, "{connection} connections for {bad} messages");
            // Acknowledgements that are on their way.
            let mut taken = VecDeque::new();
            let closed = loop {
                let message = outbox.send().cloned();
                let blocked = message.is_none();
                if let Some(message) = message {
                    packet += 1;
                    outbox.sent(packet);
                    if refused.contains(&message.topic) {
                        break true;
                    }
                    taken.push_back(packet);
                } else if taken.is_empty() {
                    break false;
                }
                if taken.len() > late || blocked {
                    fates.extend(taken.pop_front().and_then(|packet| outbox.acknowledged(packet)));
                }
            };
            if !closed {
                break;
            }
            fates.extend(outbox.connection_lost(true));
        }
        prop_assert!(outbox.is_empty());
        for (ticket, topic) in topics.iter().enumerate() {
            match &fates[&ticket] {
                Ok(()) => prop_assert!(!refused.contains(topic)),
                Err(Undelivered::Refused { .. }) => prop_assert!(refused.contains(topic)),
                Err(Undelivered::Replaced) => prop_assert!(topic.is_retained()),
                Err(other) => prop_assert!(false, "{other}"),
            }
        }
    }
}
