//! What the topics of a publication hold: our own orders, or somebody else's.
//!
//! A broker keeps whatever came last, so a publisher reads back what it published, and learns
//! whether somebody with a clock ahead was there before, or somebody else came after.

use std::collections::BTreeMap;

use herald_proto::{
    codec,
    host::{HostId, ProfileName},
    id::{MessageDigest, Sequence, TargetHash},
    order::{Order, SealedOrder},
    signing::{self, OrderReader},
    trust::Trust,
};

use crate::compose::Composed;

/// How often one order is published again because something lower took its place.
pub const MAX_REPEATS: u8 = 3;

/// Where the trust comes from that judges what is read back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Basis {
    /// The trust file: what it does not verify, no host takes.
    TrustFile,
    /// The operator's own keys: what they do not verify may be a colleague's order.
    OwnKeys,
}

/// The orders of a publication, and which of them were read back.
#[derive(Debug, Clone)]
pub struct ReadBack {
    basis: Basis,
    sequence: Sequence,
    slots: BTreeMap<(HostId, ProfileName), Slot>,
}

#[derive(Debug, Clone)]
struct Slot {
    digest: MessageDigest,
    target: TargetHash,
    shown: bool,
    /// The topic is known to hold ours, or what ours must not take the place of.
    settled: bool,
    overtaken: bool,
    repeats: u8,
}

/// What a message on an order's topic means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// It is ours.
    Ours,
    /// It was there before ours, or concerns none of our orders.
    Nothing,
    /// It counts for less and took the place of ours: publish ours again.
    Displaced,
    /// It came before ours and its sequence is not lower: sign again above it.
    Ahead(Sequence),
    /// It came after ours and its sequence is higher: somebody published a later release.
    Overtaken(Sequence),
    /// It is an order that our own keys can't judge, and may be a colleague's: leave it there.
    Unjudged {
        /// It took the place of ours; otherwise it was there before.
        after_ours: bool,
    },
}

/// Gives the sequence of an order that those who are trusted signed for this host's profile.
pub fn sequence_of(
    payload: &[u8],
    orders: &mut OrderReader,
    host: &HostId,
    profile: &ProfileName,
) -> Option<Sequence> {
    let order = orders.verify(payload).ok()?;
    is_for(&order, host, profile).then_some(order.release.sequence)
}

fn order_of(
    payload: &[u8],
    trust: &Trust,
    host: &HostId,
    profile: &ProfileName,
) -> Option<(Sequence, TargetHash)> {
    let order = signing::verify_any_order(payload, trust).ok()?;
    is_for(&order, host, profile).then_some((order.release.sequence, order.hash))
}

fn is_for(order: &Order, host: &HostId, profile: &ProfileName) -> bool {
    order.target.host == *host && order.target.profile == *profile
}

/// Tells whether it is an order, of which those who are trusted did not sign the release.
fn is_foreign(payload: &[u8], trust: &Trust) -> bool {
    codec::decode::<SealedOrder>(payload).is_ok()
        && signing::verify_any_order(payload, trust).is_err()
}

impl ReadBack {
    /// Begins before the orders are published.
    pub fn new(composed: &Composed, basis: Basis) -> Self {
        let slots = composed.orders.iter().map(|order| {
            let slot = Slot {
                digest: order.digest,
                target: order.hash,
                shown: false,
                settled: false,
                overtaken: false,
                repeats: 0,
            };
            ((order.host.clone(), order.profile.clone()), slot)
        });
        Self { basis, sequence: composed.release.sequence, slots: slots.collect() }
    }

    /// Takes note of a message on an order's topic.
    pub fn see(
        &mut self,
        host: &HostId,
        profile: &ProfileName,
        payload: &[u8],
        trust: &Trust,
    ) -> Seen {
        let Some(slot) = self.slots.get_mut(&(host.clone(), profile.clone())) else {
            return Seen::Nothing;
        };
        if MessageDigest::of(payload) == slot.digest {
            (slot.shown, slot.settled) = (true, true);
            return Seen::Ours;
        }
        let seen = match order_of(payload, trust, host, profile) {
            // Ours, with other signatures: to hosts it is the same.
            Some((sequence, target)) if (sequence, target) == (self.sequence, slot.target) => {
                Seen::Nothing
            }
            Some((sequence, _)) if sequence >= self.sequence && !slot.shown => {
                Seen::Ahead(sequence)
            }
            Some((sequence, _)) if sequence > self.sequence => {
                slot.overtaken = true;
                Seen::Overtaken(sequence)
            }
            None if self.basis == Basis::OwnKeys && is_foreign(payload, trust) => {
                Seen::Unjudged { after_ours: slot.shown }
            }
            _ if slot.shown && slot.repeats < MAX_REPEATS => {
                slot.repeats += 1;
                Seen::Displaced
            }
            _ => Seen::Nothing,
        };
        slot.settled = slot.shown || seen != Seen::Nothing;
        seen
    }

    /// Takes note that the connection was lost: the broker may have lost what it kept.
    pub fn doubt(&mut self) {
        for slot in self.slots.values_mut() {
            slot.settled = false;
        }
    }

    /// Gives the orders whose topics hold nothing that counts, as far as they were shown since
    /// [`Self::doubt`].
    pub fn lost(&self) -> impl Iterator<Item = (&HostId, &ProfileName)> {
        let lost = self.slots.iter().filter(|(_, slot)| !slot.settled && !slot.overtaken);
        lost.map(|((host, profile), _)| (host, profile))
    }

    /// Gives the orders that were not read back yet.
    pub fn missing(&self) -> impl Iterator<Item = (&HostId, &ProfileName)> {
        let missing = self.slots.iter().filter(|(_, slot)| !slot.shown);
        missing.map(|((host, profile), _)| (host, profile))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        compose::compose,
        generations::implied_trust,
        testing::{draft, host, host_key, path, target},
    };

    fn composed(ahead: u64, key: u8) -> Composed {
        let mut targets = ["a", "b"].map(target);
        // What another operator signs is for something else.
        targets.iter_mut().for_each(|target| target.toplevel = path(&format!("of-{key}")));
        let mut draft = draft(targets.to_vec());
        draft.sequence = Sequence::new(draft.sequence.number() + ahead);
        draft.reason = None;
        compose(&draft, &[&host_key(key)]).unwrap()
    }

    struct Topic {
        readback: ReadBack,
        ours: Composed,
        trust: Trust,
    }

    impl Topic {
        fn new() -> Self {
            Self::with(Basis::TrustFile)
        }

        fn with(basis: Basis) -> Self {
            let ours = composed(10, 101);
            let keys = [host_key(101), host_key(102)];
            let fleet = ours.release.fleet.clone();
            Self {
                readback: ReadBack::new(&ours, basis),
                trust: implied_trust(&fleet, keys.iter().map(|key| key.public())).unwrap(),
                ours,
            }
        }

        /// What host `a`'s topic shows.
        fn shows(&mut self, payload: &[u8]) -> Seen {
            let system = ProfileName::system();
            self.readback.see(&host("a"), &system, payload, &self.trust)
        }

        fn shows_ours(&mut self) -> Seen {
            let message = self.ours.orders[0].message.clone();
            self.shows(&message)
        }
    }

    fn order_of(key: u8, ahead: u64) -> Vec<u8> {
        composed(ahead, key).orders[0].message.clone()
    }

    #[test]
    fn what_was_published_is_read_back() {
        let mut topic = Topic::new();
        assert_eq!(topic.readback.missing().count(), 2);
        assert_eq!(topic.shows_ours(), Seen::Ours);
        let missing: Vec<_> = topic.readback.missing().map(|(host, _)| host).collect();
        assert_eq!(missing, [&host("b")]);
    }

    #[test]
    fn what_was_there_before_counts_only_with_a_sequence_that_is_not_lower() {
        let mut topic = Topic::new();
        let above = Sequence::new(topic.ours.release.sequence.number() + 5);
        for (payload, expected) in [
            (order_of(102, 9), Seen::Nothing),
            (order_of(102, 10), Seen::Ahead(topic.ours.release.sequence)),
            (order_of(102, 15), Seen::Ahead(above)),
            (order_of(9, 15), Seen::Nothing),
            (composed(15, 102).orders[1].message.clone(), Seen::Nothing),
            (vec![], Seen::Nothing),
            (vec![0; 99], Seen::Nothing),
        ] {
            assert_eq!(topic.shows(&payload), expected);
        }
    }

    #[test]
    fn what_comes_after_is_a_later_release_or_gives_way_to_ours() {
        let mut topic = Topic::new();
        topic.shows_ours();
        let above = Sequence::new(topic.ours.release.sequence.number() + 5);
        assert_eq!(topic.shows(&order_of(102, 15)), Seen::Overtaken(above));
        for payload in [order_of(102, 10), order_of(9, 15), vec![]] {
            assert_eq!(topic.shows(&payload), Seen::Displaced);
            assert_eq!(topic.shows_ours(), Seen::Ours);
        }
        assert_eq!(topic.shows(&[]), Seen::Nothing, "not for ever");
    }

    #[test]
    fn ours_with_other_signatures_is_the_same_order() {
        let mut topic = Topic::new();
        let draft = || {
            let mut targets = ["a", "b"].map(target);
            targets.iter_mut().for_each(|target| target.toplevel = path("of-101"));
            let mut draft = draft(targets.to_vec());
            draft.sequence = topic.ours.release.sequence;
            draft.reason = None;
            draft
        };
        let both = compose(&draft(), &[&host_key(101), &host_key(102)]).unwrap();
        assert_eq!(topic.shows(&both.orders[0].message), Seen::Nothing);
        topic.shows_ours();
        assert_eq!(topic.shows(&both.orders[0].message), Seen::Nothing);
        assert_eq!(topic.readback.lost().count(), 1);
    }

    #[test]
    fn own_keys_alone_do_not_judge_what_a_colleague_signed() {
        let mut topic = Topic::with(Basis::OwnKeys);
        let theirs = order_of(9, 15);
        assert_eq!(topic.shows(&theirs), Seen::Unjudged { after_ours: false });
        topic.shows_ours();
        assert_eq!(topic.shows(&theirs), Seen::Unjudged { after_ours: true });
        for payload in [order_of(102, 10), vec![0; 99]] {
            assert_eq!(topic.shows(&payload), Seen::Displaced);
        }
    }

    #[test]
    fn after_a_doubt_what_the_topic_does_not_show_is_lost() {
        let lost = |topic: &Topic| -> Vec<_> {
            topic.readback.lost().map(|(host, _)| host.to_string()).collect()
        };
        let mut topic = Topic::with(Basis::OwnKeys);
        topic.shows_ours();
        assert_eq!(lost(&topic), ["b"]);
        topic.readback.doubt();
        assert_eq!(lost(&topic), ["a", "b"]);
        topic.shows(&order_of(9, 15));
        assert_eq!(lost(&topic), ["b"], "it may be a colleague's");
        topic.shows(&order_of(102, 15));
        topic.readback.doubt();
        assert_eq!(lost(&topic), ["b"], "a later release was there");
    }
}
