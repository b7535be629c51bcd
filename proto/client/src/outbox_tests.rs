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
    assert_eq!(outbox.connection_lost(), replaced);
    let again = [event(1), event(2), state(1)];
    for message in &again {
        assert_eq!(outbox.send(), Some(message));
    }
    assert_eq!(outbox.acknowledged(1), None, "ids end with the connection");
}

#[derive(Debug, Clone)]
enum Step {
    Push { retained: bool, host: usize },
    Send,
    Sent,
    Acknowledged { nth: usize },
    ConnectionLost,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (any::<bool>(), 0..3_usize).prop_map(|(retained, host)| Step::Push { retained, host }),
        5 => Just(Step::Send),
        5 => Just(Step::Sent),
        4 => (0..4_usize).prop_map(|nth| Step::Acknowledged { nth }),
        1 => Just(Step::ConnectionLost),
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
    /// The newest ticket sent on this connection, and on any, for each topic.
    newest: HashMap<Topic, usize>,
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
        }
    }

    fn seal(&mut self, (ticket, fate): Fate<usize>) {
        assert_eq!(self.fates[ticket], None, "a second fate for {ticket}");
        let topic = &self.topics[ticket];
        match fate {
            Ok(()) => {}
            Err(Undelivered::Replaced) => {
                assert!(topic.is_retained());
                assert!(self.topics[ticket + 1..].contains(topic));
            }
            Err(Undelivered::Overflow) => assert!(!topic.is_retained()),
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
            Step::ConnectionLost => {
                for fate in self.outbox.connection_lost() {
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
        books.run(Step::ConnectionLost);
        while !books.outbox.is_empty() {
            for step in [Step::Send, Step::Sent, Step::Acknowledged { nth: 0 }] {
                books.run(step);
            }
        }
        prop_assert!(books.fates.iter().all(Option::is_some));
    }
}
