//! A short, seeded run of what `cargo fuzz run session` does for long: valid sessions, mutated, to
//! the decoder and to a real `herald-broker`.

#![allow(clippy::unwrap_used, clippy::panic, dead_code)]

#[path = "hostile/harness.rs"]
mod harness;
#[path = "hostile/packets.rs"]
mod packets;

use std::net::Shutdown;
use std::path::Path;

use bytes::BytesMut;
use herald_broker::packet::Packet;
use herald_broker::refusal::Refusal;
use herald_broker::relay::decode;

use crate::harness::{Broker, Bystander, Client, awaited};

/// The same inputs in each run: whoever finds one that fails adds it to the seeds.
const SEED: u64 = 0x6865_7261_6c64;
const INPUTS: usize = 200_000;
const SESSIONS: usize = 2_000;
/// Most bytes of a packet; less than some of the mutated lengths say.
const LIMIT: usize = 2048;

/// Numbers that look random (xorshift64*).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below this one.
    fn below(&mut self, bound: usize) -> usize {
        (self.next() >> 33) as usize % bound.max(1)
    }

    fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }
}

/// Sessions of a client, whole.
fn seeds() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds");
    let mut paths: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() >= 15, "{}", paths.len());
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

/// Bytes that mean something in a packet.
const TELLING: &[u8] = &[0, 1, 2, 4, 0x10, 0x30, 0x33, 0x40, 0x7f, 0x80, 0x82, 0xa2, 0xc0, 0xff];

/// One of the seeds, a little different.
fn mutated(numbers: &mut Numbers, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = numbers.of(seeds).clone();
    for _ in 0..numbers.below(4) {
        let at = numbers.below(bytes.len());
        let length = numbers.below(bytes.len() - at).min(64);
        match numbers.below(8) {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << numbers.below(8),
            1 if !bytes.is_empty() => bytes[at] = *numbers.of(TELLING),
            2 if !bytes.is_empty() => bytes[at] = numbers.next() as u8,
            3 => bytes.insert(at, *numbers.of(TELLING)),
            4 => drop(bytes.drain(at..at + length)),
            5 => {
                let again = bytes[at..at + length].to_vec();
                bytes.splice(at..at, again);
            }
            6 => bytes.truncate(at),
            _ => {
                let other = numbers.of(seeds);
                let from = numbers.below(other.len());
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
        }
    }
    bytes
}

/// Decodes all that there is, as it arrives in parts: the packets, and what ended them.
fn decoded(bytes: &[u8], part: usize) -> (Vec<Packet>, Option<Refusal>) {
    let (mut received, mut packets) = (BytesMut::new(), Vec::new());
    for part in bytes.chunks(part) {
        received.extend_from_slice(part);
        loop {
            let before = received.len();
            match decode(&mut received, LIMIT) {
                Ok(Some(packet)) => packets.push(packet),
                Ok(None) => {
                    assert_eq!(received.len(), before, "bytes are lost");
                    assert!(before < LIMIT + 5, "it waits for more than it takes");
                    break;
                }
                Err(reason) => return (packets, Some(reason)),
            }
            assert!(received.len() < before, "a packet of no bytes");
        }
    }
    (packets, None)
}

#[test]
fn decoder_takes_any_bytes_and_it_does_not_matter_in_which_parts_they_come() {
    let (mut numbers, seeds) = (Numbers(SEED), seeds());
    let (mut packets, mut refused) = (0, 0);
    for number in 0..INPUTS {
        let bytes = match seeds.get(number) {
            Some(seed) => seed.clone(),
            None => mutated(&mut numbers, &seeds),
        };
        let whole = decoded(&bytes, usize::MAX);
        let parts = decoded(&bytes, 1 + numbers.below(40));
        assert_eq!(whole, parts, "{}", bytes.escape_ascii());
        if number < seeds.len() {
            assert_eq!(whole.1, None, "seed {number}");
        }
        packets += whole.0.len();
        refused += usize::from(whole.1.is_some());
    }
    // Else the mutations would be of no use.
    assert!(packets > INPUTS && refused > INPUTS / 10, "{packets} packets, {refused} refused");
}

#[test]
fn broker_survives_sessions_of_any_bytes_and_serves_others_meanwhile() {
    let mut broker = Broker::start("");
    let bystander = Bystander::start(broker.address());
    let (mut numbers, seeds) = (Numbers(SEED), seeds());
    for _ in 0..SESSIONS {
        let bytes = mutated(&mut numbers, &seeds);
        let mut client = Client::open(broker.address());
        client.send(&bytes);
        // Some go without a word.
        if numbers.below(8) > 0 {
            let _ = client.stream.shutdown(Shutdown::Write);
            client.rest();
        }
        broker.assert_alive();
    }
    let gone = awaited(|| (broker.value("connections") == 1).then_some(()));
    assert!(gone.is_some(), "{} connections", broker.value("connections"));
    let refusals = broker.refusals();
    for reason in ["malformed", "unexpected", "topic", "filter", "protocol-version", "client-id"] {
        assert!(refusals.of(reason) > 0, "{reason}: {refusals:?}");
    }
    bystander.assert_was_served("sessions of any bytes");
}
