//! What is subscribed to: the filters, which outlive connections, and how far one connection has
//! got with them.

use std::{
    collections::{HashSet, VecDeque},
    ops::Range,
};

use herald_proto::topic::Filter;

use crate::ConnectionLost;

/// The most filters that AWS IoT Core takes in one SUBSCRIBE.
const FILTERS_AT_ONCE: usize = 8;
/// The most SUBSCRIBE packets that wait for their answer.
const SUBSCRIBES_AT_ONCE: usize = 64;

/// On how many connections in a row, that were lost before the answer, what is only wished for is
/// asked for: some brokers close the connection instead of refusing a filter.
const WISHES: u32 = 3;

/// Every filter once, in the order in which they were added.
#[derive(Debug, Default)]
pub(crate) struct Filters {
    all: Vec<Filter>,
    known: HashSet<Filter>,
    /// Those that a connection works without.
    wished: Vec<Filter>,
    /// How many connections in a row were lost while those were asked for.
    lost: u32,
}

impl Filters {
    pub(crate) fn add(&mut self, filters: Vec<Filter>) {
        for filter in filters {
            if self.known.insert(filter.clone()) {
                self.all.push(filter);
            }
        }
    }

    /// Adds filters that the connection works without, however the broker answers.
    pub(crate) fn wish(&mut self, filters: Vec<Filter>) {
        for filter in filters {
            if !self.wished.contains(&filter) {
                self.wished.push(filter);
            }
        }
    }

    /// Gives how often as many SUBSCRIBE packets as can wait for their answer are full.
    pub(crate) fn full_rounds(&self) -> usize {
        self.all.len() / (FILTERS_AT_ONCE * SUBSCRIBES_AT_ONCE)
    }
}

/// What one connection has asked for, and what of it was not granted yet.
#[derive(Debug, Default)]
pub(crate) struct Subscribing {
    asked: usize,
    awaited: VecDeque<Asked>,
    wish: Wish,
}

/// How far one connection has got with what is only wished for.
#[derive(Debug, Default, PartialEq, Eq)]
enum Wish {
    #[default]
    Unsaid,
    Awaited(u16),
    Answered,
}

/// A SUBSCRIBE that waits for its answer.
#[derive(Debug)]
struct Asked {
    filters: Range<usize>,
    packet: Option<u16>,
}

impl Subscribing {
    /// Gives the filters for the next SUBSCRIBE, unless too many wait for their answer.
    pub(crate) fn ask<'a>(&mut self, filters: &'a Filters) -> Option<&'a [Filter]> {
        let all = filters.all.as_slice();
        if self.asked == all.len() || self.awaited.len() == SUBSCRIBES_AT_ONCE {
            return None;
        }
        let filters = self.asked..all.len().min(self.asked + FILTERS_AT_ONCE);
        self.asked = filters.end;
        self.awaited.push_back(Asked { filters: filters.clone(), packet: None });
        Some(&all[filters])
    }

    /// Gives what is only wished for, once, and unless that has ended too many connections.
    pub(crate) fn wish<'a>(&self, filters: &'a Filters) -> Option<&'a [Filter]> {
        let unsaid = self.wish == Wish::Unsaid && !filters.wished.is_empty();
        (unsaid && filters.lost < WISHES).then_some(&filters.wished)
    }

    /// Notes the packet id of the SUBSCRIBE for what is only wished for.
    pub(crate) fn wished(&mut self, packet: u16) {
        self.wish = Wish::Awaited(packet);
    }

    /// Gives which wishes were refused, if it is to them that this is the answer.
    pub(crate) fn wish_answered<'a>(
        &mut self,
        packet: u16,
        granted: &[bool],
        filters: &'a mut Filters,
    ) -> Option<impl Iterator<Item = &'a Filter>> {
        if self.wish != Wish::Awaited(packet) {
            return None;
        }
        self.wish = Wish::Answered;
        filters.lost = 0;
        let answers = granted.iter().copied().chain(std::iter::repeat(false));
        let refused = filters.wished.iter().zip(answers).filter(|(_, granted)| !granted);
        Some(refused.map(|(filter, _)| filter).collect::<Vec<_>>().into_iter())
    }

    /// Notes that the connection is lost; tells whether nothing is wished for any more.
    pub(crate) fn lost(&self, filters: &mut Filters) -> bool {
        if matches!(self.wish, Wish::Awaited(_)) {
            filters.lost += 1;
            return filters.lost == WISHES;
        }
        false
    }

    /// Notes the packet id of the first SUBSCRIBE that has none yet.
    pub(crate) fn sent(&mut self, packet: u16) {
        if let Some(asked) = self.awaited.iter_mut().find(|asked| asked.packet.is_none()) {
            asked.packet = Some(packet);
        }
    }

    /// Notes which filters of a SUBSCRIBE were granted.
    ///
    /// # Errors
    /// When one was not, or the answer does not fit the question.
    pub(crate) fn answered(
        &mut self,
        packet: u16,
        granted: &[bool],
        filters: &Filters,
    ) -> Result<(), ConnectionLost> {
        let named = |asked: &Asked| asked.packet == Some(packet);
        let index = self.awaited.iter().position(named);
        let asked = index.and_then(|index| self.awaited.remove(index));
        let asked = asked.map_or(&[][..], |asked| &filters.all[asked.filters]);
        if asked.len() != granted.len() {
            let (found, expected) = (granted.len(), asked.len());
            let what = format!("a SUBACK with {found} codes for {expected} filters");
            return Err(ConnectionLost::Protocol(what.into()));
        }
        match asked.iter().zip(granted).find(|(_, granted)| !**granted) {
            Some((filter, _)) => {
                Err(ConnectionLost::SubscriptionRefused { filter: filter.clone() })
            }
            None => Ok(()),
        }
    }

    /// Tells whether an answer is awaited.
    pub(crate) fn awaits_answer(&self) -> bool {
        !self.awaited.is_empty()
    }

    /// Tells whether every filter was granted.
    pub(crate) fn is_complete(&self, filters: &Filters) -> bool {
        self.asked == filters.all.len() && self.awaited.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use herald_proto::topic::{Subject, Topic};

    use super::*;

    fn filters(count: usize) -> Filters {
        let mut filters = Filters::default();
        let filter = |n| {
            let host = format!("host-{n}").parse().unwrap();
            Filter::Exactly(Topic::new("home".parse().unwrap(), Subject::Presence(host)))
        };
        filters.add((0..count).map(filter).collect());
        filters
    }

    #[test]
    fn every_filter_is_asked_for_once_in_small_packets_of_which_few_are_unanswered() {
        let (filters, mut subscribing) = (filters(1000), Subscribing::default());
        let (mut asked, mut packet) = (Vec::new(), 0);
        while !subscribing.is_complete(&filters) {
            let mut sizes = Vec::new();
            while let Some(some) = subscribing.ask(&filters) {
                assert!(some.len() <= 8);
                asked.extend_from_slice(some);
                sizes.push(some.len());
            }
            assert!(sizes.len() <= 64);
            let first = packet + 1;
            for _ in &sizes {
                packet += 1;
                subscribing.sent(packet);
            }
            for (packet, size) in (first..).zip(sizes) {
                subscribing.answered(packet, &vec![true; size], &filters).unwrap();
            }
        }
        assert_eq!(asked, filters.all);
    }

    #[test]
    fn a_filter_that_is_added_twice_is_asked_for_once_and_a_later_one_too() {
        let (mut all, mut subscribing) = (filters(1), Subscribing::default());
        all.add(filters(1).all);
        assert_eq!(subscribing.ask(&all), Some(&filters(1).all[..]));
        assert_eq!(subscribing.ask(&all), None);
        all.add(filters(2).all);
        assert_eq!(subscribing.ask(&all), Some(&filters(2).all[1..]));
    }

    #[test]
    fn what_is_wished_for_is_asked_once_and_a_refusal_of_it_harms_nothing() {
        let mut all = filters(1);
        all.wish(filters(3).all);
        let mut subscribing = Subscribing::default();
        assert_eq!(subscribing.wish(&all).map(<[Filter]>::len), Some(3));
        subscribing.wished(9);
        assert!(subscribing.wish(&all).is_none() && !subscribing.awaits_answer());
        assert!(subscribing.wish_answered(8, &[true], &mut all).is_none());
        let refused = subscribing.wish_answered(9, &[true, false, true], &mut all).unwrap();
        assert_eq!(refused.cloned().collect::<Vec<_>>(), filters(2).all[1..]);
    }

    #[test]
    fn wishes_that_end_three_connections_in_a_row_are_given_up() {
        let mut all = filters(0);
        all.wish(filters(1).all);
        let lose = |all: &mut Filters| {
            let mut subscribing = Subscribing::default();
            let asked = subscribing.wish(all).is_some();
            subscribing.wished(1);
            (asked, subscribing.lost(all))
        };
        assert_eq!(lose(&mut all), (true, false));
        assert_eq!(lose(&mut all), (true, false));
        let mut answered = Subscribing::default();
        answered.wished(1);
        assert!(answered.wish_answered(1, &[true], &mut all).is_some());
        assert_eq!([(); 3].map(|()| lose(&mut all)), [(true, false), (true, false), (true, true)]);
        assert!(Subscribing::default().wish(&all).is_none());
    }

    #[test]
    fn a_refusal_names_its_filter_and_an_answer_that_does_not_fit_is_refused() {
        let all = filters(2);
        let answered = |packet, granted: &[bool]| {
            let mut subscribing = Subscribing::default();
            subscribing.ask(&all);
            subscribing.sent(7);
            subscribing.answered(packet, granted, &all)
        };
        assert!(answered(7, &[true, true]).is_ok());
        assert!(matches!(
            answered(7, &[true, false]),
            Err(ConnectionLost::SubscriptionRefused { filter }) if filter == all.all[1]
        ));
        for (packet, granted) in [(7, &[true][..]), (7, &[true; 3]), (8, &[true, true])] {
            assert!(matches!(answered(packet, granted), Err(ConnectionLost::Protocol(_))));
        }
    }
}
