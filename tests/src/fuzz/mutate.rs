//! Small changes of known inputs, the same in each run.

/// Numbers that look random (xorshift64*), and what is done with them.
pub struct Mutator(u64);

/// Bytes that mean something in CBOR, TOML or a key.
const TELLING: &[u8] = &[
    0, 1, 0x18, 0x19, 0x1b, 0x20, 0x27, 0x3b, 0x40, 0x58, 0x5f, 0x60, 0x78, 0x7f, 0x80, 0x9f, 0xa0,
    0xa2, 0xbf, 0xc1, 0xd2, 0xd8, 0xf4, 0xf6, 0xf9, 0xfb, 0xff, b'/', b':', b'.', b'-', b'\n',
    b'=',
];

impl Mutator {
    /// Begins with a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() >> 33) as usize % bound.max(1)
    }

    fn telling(&mut self) -> u8 {
        TELLING[self.below(TELLING.len())]
    }

    /// Gives one of the inputs with one to four changes.
    ///
    /// # Panics
    /// When there are no inputs.
    pub fn mutated(&mut self, inputs: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = inputs[self.below(inputs.len())].clone();
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len());
            let length = self.below(bytes.len() - at).min(64);
            match self.below(8) {
                0 if !bytes.is_empty() => bytes[at] ^= 1 << self.below(8),
                1 if !bytes.is_empty() => bytes[at] = self.telling(),
                2 if !bytes.is_empty() => bytes[at] = self.next().to_le_bytes()[7],
                3 => bytes.insert(at, self.telling()),
                4 => drop(bytes.drain(at..at + length)),
                5 => {
                    let again = bytes[at..at + length].to_vec();
                    bytes.splice(at..at, again);
                }
                6 => bytes.truncate(at),
                _ => {
                    let other = &inputs[self.below(inputs.len())];
                    let from = self.below(other.len());
                    let to = (from + 64).min(other.len());
                    bytes.splice(at..at + length, other[from..to].iter().copied());
                }
            }
        }
        bytes
    }
}
