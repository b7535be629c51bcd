//! What a lying broker does to what it should deliver. A seed decides it for each delivery by itself:
//! for the third message on a topic to a host it is the same in each run, whatever came in between.

use super::broker::Shared;
use crate::crash::Rng;

/// How many deliveries it holds back at most, to give them later in another order.
const HELD: usize = 8;

/// How the broker treats what it should deliver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Mischief {
    /// As a broker should.
    None,
    /// Each delivery to a host, or to an operator who looks, suffers what chance decides.
    Chaos,
    /// No new beacon is delivered.
    Freeze(Instead),
    /// No new order is delivered to this host; everything else is.
    Withhold(String, Instead),
}

/// What is delivered in the place of what is held back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Instead {
    /// Nothing.
    Nothing,
    /// What stood there before.
    Older,
    /// Bytes that mean nothing.
    Noise,
}

impl Instead {
    pub(super) const ALL: [Self; 3] = [Self::Nothing, Self::Older, Self::Noise];
}

/// A delivery that waits.
pub(super) struct Held {
    session: u64,
    topic: String,
    payload: Vec<u8>,
}

impl Shared {
    /// Delivers a message, or does something else in its place.
    pub(super) fn deliver(&mut self, id: u64, topic: &str, payload: &[u8], retain: bool) {
        if !self.hears(id, topic) {
            return;
        }
        match self.mischief.clone() {
            Mischief::Chaos if self.lies_to(id) => self.spoil(id, topic, payload, retain),
            Mischief::Freeze(instead) if topic.ends_with("/beacon") => {
                self.replace(id, topic, instead, retain);
            }
            Mischief::Withhold(host, instead)
                if self.is_host(id) && topic.contains(&format!("/desired/{host}/")) =>
            {
                self.replace(id, topic, instead, retain);
            }
            _ => self.send(id, topic, payload, retain),
        }
    }

    /// Gives what was held back, late.
    pub(super) fn release(&mut self) {
        for held in std::mem::take(&mut self.held) {
            self.note(format!("gives {} late", held.topic));
            self.send(held.session, &held.topic, &held.payload, false);
        }
    }

    fn replace(&mut self, id: u64, topic: &str, instead: Instead, retain: bool) {
        let said = match instead {
            Instead::Nothing => None,
            Instead::Older => self.before.get(topic).cloned(),
            Instead::Noise => Some(noise(&mut self.chance(id, topic))),
        };
        self.note(format!("gives {instead:?} for {topic}"));
        if let Some(said) = said {
            self.send(id, topic, &said, retain);
        }
    }

    fn spoil(&mut self, id: u64, topic: &str, payload: &[u8], retain: bool) {
        let mut rng = self.chance(id, topic);
        let mut said = payload.to_vec();
        let what = match rng.below(13) {
            0..=2 => {
                self.send(id, topic, payload, retain);
                "passes"
            }
            3 | 4 => "drops",
            5 => {
                self.send(id, topic, payload, retain);
                self.send(id, topic, payload, retain);
                "duplicates"
            }
            6 => {
                self.held.push(Held { session: id, topic: topic.to_owned(), payload: said });
                "holds back"
            }
            7 if !said.is_empty() => {
                said.truncate(rng.below(payload.len()));
                self.send(id, topic, &said, retain);
                "truncates"
            }
            8 if !said.is_empty() => {
                let bit = rng.below(payload.len() * 8);
                said[bit / 8] ^= 1 << (bit % 8);
                self.send(id, topic, &said, retain);
                "flips a bit of"
            }
            9 => {
                if let Some(other) = self.alike(topic, &mut rng) {
                    self.send(id, topic, &other, retain);
                }
                "gives another host's or time's in place of"
            }
            10 => {
                self.send(id, topic, &noise(&mut rng), retain);
                "invents noise in place of"
            }
            11 => {
                self.send(id, topic, &[], retain);
                "says that nothing stands on"
            }
            _ => {
                self.hang_up(id);
                "cuts the connection at"
            }
        };
        let client = self.client(id).to_owned();
        self.note(format!("{what} {topic} for {client:?}"));
        if self.held.len() > rng.below(HELD) {
            let held = self.held.swap_remove(rng.below(self.held.len()));
            self.note(format!("gives {} late", held.topic));
            self.send(held.session, &held.topic, &held.payload, false);
        }
    }

    /// Gives a payload of the same kind of topic: of any host, and of any time.
    fn alike(&self, topic: &str, rng: &mut Rng) -> Option<Vec<u8>> {
        let kind = |topic: &str| topic.split('/').nth(3).map(str::to_owned);
        let kind_of_topic = kind(topic);
        let alike: Vec<&Vec<u8>> = self
            .history
            .iter()
            .filter(|(other, _)| kind(other) == kind_of_topic)
            .map(|(_, payload)| payload)
            .collect();
        (!alike.is_empty()).then(|| alike[rng.below(alike.len())].clone())
    }

    /// Gives the chance of the next delivery on a topic to a client. Operators' commands have
    /// client ids of chance, so to this they are one.
    fn chance(&mut self, id: u64, topic: &str) -> Rng {
        let client = if self.is_host(id) { self.client(id) } else { "operator" };
        let name = format!("{client} {topic}");
        // FNV-1a, which is the same everywhere.
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let count = self.deliveries.entry(name).or_default();
        *count += 1;
        Rng::new(Rng::mixed(self.seed ^ hash, *count))
    }

    /// Operators are lied to only while they look, so that they can publish in between.
    fn lies_to(&self, id: u64) -> bool {
        self.lies_to_operators || self.is_host(id)
    }
}

fn noise(rng: &mut Rng) -> Vec<u8> {
    (0..rng.below(64)).map(|_| rng.next() as u8).collect()
}
