//! Payloads that tell whether they are whole, and on which topic and in which version they were sent.
//!
//! Four bytes of version, four of checksum over topic, version and filler, and the filler.

use crate::load::stats::Random;

/// The smallest and the largest payload.
pub(super) const LEAST: usize = 10;
pub(super) const MOST: usize = 16 * 1024;

const HEAD: usize = 8;

/// Random bytes, of which fillers are cut.
pub(super) struct Payloads {
    pool: Vec<u8>,
}

impl Payloads {
    /// Draws the bytes.
    pub(super) fn new(random: &mut Random) -> Self {
        Self { pool: random.bytes(2 * MOST) }
    }

    /// Writes a payload of so many bytes.
    pub(super) fn write(
        &self,
        topic: &str,
        version: u32,
        size: usize,
        random: &mut Random,
    ) -> Vec<u8> {
        let size = size.clamp(LEAST, MOST) - HEAD;
        let from = random.next() as usize % (self.pool.len() - size);
        let filler = &self.pool[from..from + size];
        let mut payload = Vec::with_capacity(HEAD + size);
        payload.extend(version.to_be_bytes());
        payload.extend(checksum(topic, version, filler).to_be_bytes());
        payload.extend(filler);
        payload
    }
}

/// Draws a size: many small payloads, and a few of the largest.
pub(super) fn draw_size(random: &mut Random) -> usize {
    let most = match random.next() % 16 {
        0..8 => 100,
        8..12 => 1000,
        12..15 => 4000,
        _ => MOST,
    };
    LEAST + random.next() as usize % (most - LEAST + 1)
}

/// Reads the version of a payload; none if it is not what was sent on this topic.
pub(super) fn read(topic: &str, payload: &[u8]) -> Option<u32> {
    let (version, rest) = payload.split_first_chunk()?;
    let (sum, filler) = rest.split_first_chunk()?;
    let version = u32::from_be_bytes(*version);
    (u32::from_be_bytes(*sum) == checksum(topic, version, filler)).then_some(version)
}

/// FNV-1a, folded to 32 bits: it notices accidents.
fn checksum(topic: &str, version: u32, filler: &[u8]) -> u32 {
    let mut sum = 0xcbf2_9ce4_8422_2325_u64;
    for byte in topic.bytes().chain(version.to_be_bytes()).chain(filler.iter().copied()) {
        sum = (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    (sum ^ (sum >> 32)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_known_by_its_topic_and_by_every_byte() {
        let mut random = Random::new(1);
        let payloads = Payloads::new(&mut random);
        for size in [LEAST, 11, 100, MOST] {
            let payload = payloads.write("a/b", 7, size, &mut random);
            assert_eq!(payload.len(), size);
            assert_eq!(read("a/b", &payload), Some(7));
            assert_eq!(read("a/c", &payload), None);
            assert_eq!(read("a/b", &payload[..size - 1]), None);
            for at in [0, 3, 4, 7, 8, size - 1] {
                let mut altered = payload.clone();
                altered[at] ^= 1;
                assert_eq!(read("a/b", &altered), None, "byte {at} of {size}");
            }
        }
        assert_eq!(read("a/b", b""), None);
    }

    #[test]
    fn sizes_are_within_their_bounds_and_differ() {
        let mut random = Random::new(2);
        let sizes: Vec<usize> = (0..10_000).map(|_| draw_size(&mut random)).collect();
        assert!(sizes.iter().all(|size| (LEAST..=MOST).contains(size)));
        assert!(sizes.iter().any(|size| *size > 15_000) && sizes.iter().any(|size| *size < 20));
    }
}
