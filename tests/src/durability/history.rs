//! What was published on each topic, and what the broker may therefore have after a crash: the
//! latest version that is known to be durable, or one that was sent later.
//!
//! A version is known to be durable when its publisher had the PUBACK, when a subscriber got it, or
//! when it was read back after a crash. Knows no sockets.

use std::collections::{HashMap, VecDeque};

use super::fault::Fault;

/// Everything that was published.
#[derive(Debug, Default)]
pub(super) struct History {
    topics: Vec<Record>,
    places: HashMap<String, usize>,
}

/// What a topic has, or may have.
#[derive(Debug)]
struct Record {
    name: String,
    /// Known to be durable.
    sure: Version,
    /// Sent later, and not known to be durable, in this order.
    open: VecDeque<Version>,
    next: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Version {
    number: u32,
    /// It has no payload: nothing is retained any more.
    is_clear: bool,
}

impl History {
    /// Adds a topic, on which nothing is retained, and gives its place.
    pub(super) fn add(&mut self, name: String) -> usize {
        let place = self.topics.len();
        self.places.insert(name.clone(), place);
        let sure = Version { number: 0, is_clear: true };
        self.topics.push(Record { name, sure, open: VecDeque::new(), next: 1 });
        place
    }

    /// Gives how many topics there are.
    pub(super) fn len(&self) -> usize {
        self.topics.len()
    }

    /// Gives the place of a topic.
    pub(super) fn place(&self, topic: &str) -> Option<usize> {
        self.places.get(topic).copied()
    }

    /// Gives a topic's name.
    pub(super) fn name(&self, place: usize) -> &str {
        &self.topics[place].name
    }

    /// Notes that the next version is sent, and gives its number.
    pub(super) fn send(&mut self, place: usize, is_clear: bool) -> u32 {
        let record = &mut self.topics[place];
        let number = record.next;
        record.next += 1;
        record.open.push_back(Version { number, is_clear });
        number
    }

    /// Notes that a version, and every one before it, was acknowledged to its publisher.
    pub(super) fn acked(&mut self, place: usize, number: u32) {
        self.topics[place].make_sure(number);
    }

    /// Notes that a subscriber got a version, which was durable before.
    ///
    /// # Errors
    /// When the broker can't have it: it was never sent, or was lost in an earlier crash.
    pub(super) fn seen(&mut self, place: usize, number: u32) -> Result<(), Fault> {
        let record = &mut self.topics[place];
        let is_known = number <= record.sure.number
            || record.open.iter().any(|open| open.number == number && !open.is_clear);
        if !is_known {
            return Err(Fault::NeverSent { topic: record.name.clone(), found: number });
        }
        record.make_sure(number);
        Ok(())
    }

    /// Compares with what the broker has after a crash: for each topic a version, or none. What was
    /// on its way is gone with the connections. Gives what is wrong.
    pub(super) fn faults(&self, found: &[Option<u32>]) -> Vec<Fault> {
        let pairs = self.topics.iter().zip(found);
        pairs.filter_map(|(record, found)| record.fault(*found)).collect()
    }

    /// Takes what the broker has as what is durable from now on.
    pub(super) fn resume(&mut self, found: &[Option<u32>]) {
        for (record, found) in self.topics.iter_mut().zip(found) {
            let open = std::mem::take(&mut record.open);
            record.sure = match found {
                Some(number) => Version { number: *number, is_clear: false },
                None if record.sure.is_clear => record.sure,
                // Which of them was the last, nobody knows: what is sent from now on is newer.
                None => open
                    .into_iter()
                    .find(|open| open.is_clear)
                    .unwrap_or(Version { number: record.next - 1, is_clear: true }),
            };
        }
    }
}

impl Record {
    fn make_sure(&mut self, number: u32) {
        while let Some(first) = self.open.front().filter(|first| first.number <= number) {
            self.sure = *first;
            self.open.pop_front();
        }
    }

    /// Tells what is wrong with what the broker has.
    fn fault(&self, found: Option<u32>) -> Option<Fault> {
        let topic = || self.name.clone();
        let sure = self.sure;
        let is_possible = |number| {
            let version = Version { number, is_clear: false };
            sure == version || self.open.contains(&version)
        };
        match found {
            None if sure.is_clear || self.open.iter().any(|open| open.is_clear) => None,
            None => Some(Fault::Lost { topic: topic(), durable: sure.number }),
            Some(number) if is_possible(number) => None,
            Some(number) if number <= sure.number => {
                Some(Fault::Older { topic: topic(), durable: sure.number, found: number })
            }
            Some(number) => Some(Fault::NeverSent { topic: topic(), found: number }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A history of one topic, of which `acked` versions of `sent` are acknowledged; `clears` have
    /// no payload.
    fn history(sent: u32, acked: u32, clears: &[u32]) -> History {
        let mut history = History::default();
        history.add("t".into());
        for number in 1..=sent {
            assert_eq!(history.send(0, clears.contains(&number)), number);
        }
        history.acked(0, acked);
        history
    }

    fn fault(history: &History, found: Option<u32>) -> Option<Fault> {
        let mut faults = history.faults(&[found]);
        assert!(faults.len() <= 1);
        faults.pop()
    }

    fn lost(durable: u32) -> Option<Fault> {
        Some(Fault::Lost { topic: "t".into(), durable })
    }

    fn older(durable: u32, found: u32) -> Option<Fault> {
        Some(Fault::Older { topic: "t".into(), durable, found })
    }

    fn never_sent(found: u32) -> Option<Fault> {
        Some(Fault::NeverSent { topic: "t".into(), found })
    }

    #[test]
    fn a_message_that_was_acknowledged_and_is_gone_is_lost() {
        let history = history(5, 3, &[]);
        assert_eq!(fault(&history, None), lost(3));
        for found in [3, 4, 5] {
            assert_eq!(fault(&history, Some(found)), None, "{found}");
        }
    }

    #[test]
    fn a_message_that_is_older_than_the_acknowledged_one_is_noticed() {
        let history = history(5, 3, &[]);
        assert_eq!(fault(&history, Some(2)), older(3, 2));
        assert_eq!(fault(&history, Some(6)), never_sent(6));
    }

    #[test]
    fn nothing_need_be_there_that_was_not_acknowledged() {
        let history = history(2, 0, &[]);
        assert!([None, Some(1), Some(2)].iter().all(|found| fault(&history, *found).is_none()));
        assert_eq!(fault(&history, Some(3)), never_sent(3));
    }

    #[test]
    fn a_cleared_topic_is_empty_or_has_something_newer() {
        let history = history(5, 3, &[3]);
        assert_eq!(fault(&history, None), None);
        assert_eq!(fault(&history, Some(4)), None);
        assert_eq!(fault(&history, Some(2)), older(3, 2));
        assert_eq!(fault(&history, Some(3)), older(3, 3));
    }

    #[test]
    fn a_topic_may_be_empty_when_a_clear_was_on_its_way() {
        let mut history = history(5, 3, &[4]);
        assert_eq!(fault(&history, None), None);
        assert_eq!(fault(&history, Some(4)), never_sent(4));
        history.resume(&[None]);
        assert_eq!(fault(&history, Some(3)), older(4, 3));
        assert_eq!(fault(&history, Some(5)), never_sent(5));
    }

    #[test]
    fn what_was_read_back_once_stays_and_what_a_crash_took_stays_away() {
        let mut history = history(9, 3, &[]);
        history.resume(&[Some(6)]);
        assert_eq!(fault(&history, Some(6)), None);
        assert_eq!(fault(&history, Some(5)), older(6, 5));
        assert_eq!(fault(&history, Some(8)), never_sent(8));
        assert_eq!(fault(&history, None), lost(6));
        assert_eq!(history.send(0, false), 10);
        assert_eq!(fault(&history, Some(10)), None);
        assert_eq!(history.seen(0, 8), Err(never_sent(8).unwrap()));
    }

    #[test]
    fn what_a_subscriber_got_is_durable() {
        let mut history = history(5, 0, &[]);
        assert_eq!(history.seen(0, 4), Ok(()));
        assert_eq!(fault(&history, Some(3)), older(4, 3));
        assert_eq!(history.seen(0, 2), Ok(()));
        assert_eq!(history.seen(0, 6), Err(never_sent(6).unwrap()));
    }
}
