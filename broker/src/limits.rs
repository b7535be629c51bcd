//! How many connections there may be at a time, in all and from one address.
//!
//! Every connection holds a [`Permit`], and gives its place back by dropping it. There is no queue:
//! who finds no place is told at once.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::refusal::Refusal;

/// Hands out the places.
#[derive(Debug, Clone)]
pub struct Gate(Arc<Places>);

#[derive(Debug)]
struct Places {
    max_total: usize,
    max_per_address: usize,
    overflow: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    seats: usize,
    overflow: usize,
    /// Only addresses with a connection are here, and no loopback ones.
    addresses: HashMap<IpAddr, Guests>,
}

/// The connections from one address.
#[derive(Debug, Default)]
struct Guests {
    seats: usize,
    overflow: usize,
}

/// What came of a connection at the gate.
#[derive(Debug)]
pub enum Entry {
    /// There is a place for it.
    Seat(Permit),
    /// There is no place for it, and this is why. It may stay for as long as it takes to say so in a
    /// CONNACK.
    Full(Permit, Refusal),
    /// It is to be closed at once.
    Refused(Refusal),
}

/// One connection's place, which is free again once this is dropped.
#[derive(Debug)]
pub struct Permit {
    places: Arc<Places>,
    /// Under which address it is counted, if it is.
    address: Option<IpAddr>,
    kind: Kind,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Seat,
    Overflow,
}

impl Gate {
    /// Makes a gate of so many places in all, so many for one address, and so many more for
    /// those that are only to be told that there is no place; one address has a quarter of these.
    ///
    /// The limit for an address is for a /64 of IPv6, which is what one customer gets. It is not
    /// for loopback addresses: a proxy in front of the broker makes all its connections from one.
    pub fn new(max_total: usize, max_per_address: usize, overflow: usize) -> Self {
        Self(Arc::new(Places { max_total, max_per_address, overflow, taken: Mutex::default() }))
    }

    /// Finds a place for a connection from this address.
    pub fn enter(&self, address: IpAddr) -> Entry {
        let places = &self.0;
        let mut guard = places.taken();
        let taken = &mut *guard;
        let address = counted_as(address);
        let guests = address.and_then(|address| taken.addresses.get(&address));
        let (seats, told) = guests.map_or((0, 0), |guests| (guests.seats, guests.overflow));
        let full = if seats >= places.max_per_address {
            Some(Refusal::AddressFull)
        } else if taken.seats >= places.max_total {
            Some(Refusal::FullHouse)
        } else {
            None
        };
        if let Some(reason) = full
            && (taken.overflow >= places.overflow || told >= places.overflow.div_ceil(4))
        {
            return Entry::Refused(reason);
        }
        let kind = if full.is_none() { Kind::Seat } else { Kind::Overflow };
        *taken.count(kind) += 1;
        if let Some(address) = address {
            *taken.addresses.entry(address).or_default().count(kind) += 1;
        }
        let permit = Permit { places: Arc::clone(places), address, kind };
        match full {
            None => Entry::Seat(permit),
            Some(reason) => Entry::Full(permit, reason),
        }
    }

    /// Tells how many connections have a place, those of the overflow included.
    pub fn taken(&self) -> usize {
        let taken = self.0.taken();
        taken.seats + taken.overflow
    }
}

impl Places {
    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken {
    fn count(&mut self, kind: Kind) -> &mut usize {
        match kind {
            Kind::Seat => &mut self.seats,
            Kind::Overflow => &mut self.overflow,
        }
    }
}

impl Guests {
    fn count(&mut self, kind: Kind) -> &mut usize {
        match kind {
            Kind::Seat => &mut self.seats,
            Kind::Overflow => &mut self.overflow,
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        *taken.count(self.kind) -= 1;
        if let Some(address) = self.address
            && let Slot::Occupied(mut slot) = taken.addresses.entry(address)
        {
            *slot.get_mut().count(self.kind) -= 1;
            if matches!(slot.get(), Guests { seats: 0, overflow: 0 }) {
                slot.remove();
            }
        }
    }
}

/// Gives the address under which a connection is counted, if it is.
fn counted_as(address: IpAddr) -> Option<IpAddr> {
    let is_loopback = address.to_canonical().is_loopback();
    (!is_loopback).then(|| network(address))
}

/// Gives what one customer has: an IPv4 address, or the first half of an IPv6 address.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let network = address.to_bits() & (u128::from(u64::MAX) << 64);
            IpAddr::V6(Ipv6Addr::from_bits(network))
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn enter(gate: &Gate, address: &str) -> Entry {
        gate.enter(address.parse().unwrap())
    }

    #[test]
    fn who_finds_no_seat_may_be_told_so_and_then_nobody_else() {
        let gate = Gate::new(2, 9, 1);
        let first = enter(&gate, "192.0.2.1");
        let second = enter(&gate, "192.0.2.2");
        assert!(matches!((&first, &second), (Entry::Seat(_), Entry::Seat(_))));
        let third = enter(&gate, "192.0.2.3");
        assert!(matches!(third, Entry::Full(_, Refusal::FullHouse)));
        assert!(matches!(enter(&gate, "192.0.2.4"), Entry::Refused(Refusal::FullHouse)));
        assert_eq!(gate.taken(), 3);
        // A seat that is free goes to the next, also while the overflow is full.
        drop(first);
        assert!(matches!(enter(&gate, "192.0.2.5"), Entry::Seat(_)));
        drop((second, third));
        assert_eq!(gate.taken(), 0);
    }

    #[test]
    fn one_address_cannot_take_the_places_of_the_others() {
        let gate = Gate::new(9, 2, 0);
        let held = [enter(&gate, "192.0.2.1"), enter(&gate, "::ffff:192.0.2.1")];
        assert!(matches!(enter(&gate, "192.0.2.1"), Entry::Refused(Refusal::AddressFull)));
        assert!(matches!(enter(&gate, "192.0.2.2"), Entry::Seat(_)));
        drop(held);
        assert!(matches!(enter(&gate, "192.0.2.1"), Entry::Seat(_)));
        assert!(gate.0.taken().addresses.is_empty(), "forgets who has left");
    }

    #[test]
    fn one_address_that_is_full_is_told_so_and_leaves_others_room_to_be_told() {
        let gate = Gate::new(3, 1, 8);
        let held: Vec<_> = (0..3).map(|_| enter(&gate, "192.0.2.1")).collect();
        assert!(matches!(held[0], Entry::Seat(_)));
        for entry in &held[1..] {
            assert!(matches!(entry, Entry::Full(_, Refusal::AddressFull)));
        }
        assert!(matches!(enter(&gate, "192.0.2.1"), Entry::Refused(Refusal::AddressFull)));
        let others = [enter(&gate, "192.0.2.2"), enter(&gate, "192.0.2.3")];
        assert!(others.iter().all(|entry| matches!(entry, Entry::Seat(_))));
        assert!(matches!(enter(&gate, "192.0.2.4"), Entry::Full(_, Refusal::FullHouse)));
        drop(held);
        assert!(matches!(enter(&gate, "192.0.2.1"), Entry::Seat(_)));
    }

    #[test]
    fn addresses_of_one_ipv6_network_count_as_one() {
        let gate = Gate::new(9, 1, 0);
        let _held = enter(&gate, "2001:db8:0:1::1");
        let same = enter(&gate, "2001:db8:0:1:ffff::2");
        assert!(matches!(same, Entry::Refused(Refusal::AddressFull)));
        assert!(matches!(enter(&gate, "2001:db8:0:2::1"), Entry::Seat(_)));
    }

    #[test]
    fn loopback_has_no_limit_but_the_total() {
        let gate = Gate::new(6, 1, 0);
        let loopback = ["127.0.0.1", "127.0.0.2", "::1", "::ffff:127.0.0.1"];
        let held: Vec<_> =
            loopback.iter().chain(&["::1", "::1"]).map(|a| enter(&gate, a)).collect();
        assert!(held.iter().all(|entry| matches!(entry, Entry::Seat(_))));
        assert!(matches!(enter(&gate, "127.0.0.1"), Entry::Refused(Refusal::FullHouse)));
    }

    proptest! {
        #[test]
        fn places_are_never_exceeded_and_all_come_back(
            steps in prop::collection::vec((0_u8..6, any::<bool>()), 0..200),
        ) {
            let gate = Gate::new(7, 3, 2);
            let mut held: Vec<(u8, Permit)> = Vec::new();
            for (host, leave) in steps {
                if leave {
                    if !held.is_empty() {
                        held.swap_remove(usize::from(host) % held.len());
                    }
                } else if let Entry::Seat(permit) | Entry::Full(permit, _) =
                    gate.enter(IpAddr::from([192, 0, 2, host]))
                {
                    held.push((host, permit));
                }
                prop_assert_eq!(gate.taken(), held.len());
                prop_assert!(held.len() <= 9);
                for host in 0..6 {
                    let of_host = held.iter().filter(|(other, _)| *other == host);
                    let kinds = of_host.map(|(_, permit)| permit.kind);
                    let (seats, told): (Vec<_>, Vec<_>) =
                        kinds.partition(|kind| matches!(kind, Kind::Seat));
                    prop_assert!(seats.len() <= 3 && told.len() <= 1);
                }
            }
            drop(held);
            prop_assert_eq!(gate.taken(), 0);
            prop_assert!(gate.0.taken().addresses.is_empty());
        }
    }
}
