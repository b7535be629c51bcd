//! Makes vectors: a random message, signed by whoever, with a fault at one level or none.

use ciborium::Value;
use ed25519_dalek::SigningKey;
use herald_proto::{
    codec::{self, Bytes, Wire},
    key::SecretKey,
    merkle::TargetTree,
    order::SealedOrder,
    target::Target,
};
use proptest::{
    strategy::{Strategy, ValueTree as _},
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};

use crate::{
    cases::{
        Expect, Reader, Vector,
        forge::{Forgery, honest_header},
        hex,
    },
    common::{self, alice, bob, carol, secret},
    damage, generate,
    random::Random,
};

/// Where the one fault of a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// Nowhere, but perhaps in who signed.
    None,
    /// In a field.
    Content,
    /// In the encoding of what is signed.
    Encoding,
    /// In the bytes of what is signed.
    SignedBytes,
    /// In the headers, or in what the signature says that it is over.
    Headers,
    /// In the parts of the envelope, after it was signed.
    Parts,
    /// In a signature.
    Signature,
    /// In what is around the envelope: an order, or a file.
    Around,
    /// In the bytes of the whole.
    Bytes,
    /// In the reader, who is another one.
    Reader,
}

const FAULTS: [Fault; 12] = [
    Fault::None,
    Fault::None,
    Fault::Content,
    Fault::Content,
    Fault::Encoding,
    Fault::SignedBytes,
    Fault::Headers,
    Fault::Parts,
    Fault::Signature,
    Fault::Around,
    Fault::Bytes,
    Fault::Reader,
];

/// The order of Ed25519's group, lowest byte first: s and s plus this are the same to whoever does
/// not look.
const GROUP_ORDER: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

pub(crate) struct Maker {
    random: Random,
    runner: TestRunner,
}

impl Maker {
    pub(crate) fn new(seed: u64) -> Self {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
        Self { random: Random::new(seed), runner: TestRunner::new_with_rng(Config::default(), rng) }
    }

    fn draw<T: Strategy>(&mut self, strategy: T) -> T::Value {
        strategy.new_tree(&mut self.runner).expect("the generators refuse nothing").current()
    }

    /// Gives the next vector, with what must come out of it.
    pub(crate) fn vector(&mut self) -> Vector {
        let fault = self.random.of(&FAULTS);
        let kind = self.random.of(&[
            "order",
            "order",
            "order",
            "release",
            "beacon",
            "enrol",
            "roster",
            "release-file",
            "report",
            "presence",
            "log",
        ]);
        let (verify, message) = match kind {
            "report" | "presence" | "log" => self.said_by_host(kind, fault),
            "beacon" => self.beacon(fault),
            "enrol" => self.enrol(fault),
            "roster" => self.roster(fault),
            _ => self.release(kind, fault),
        };
        let about = format!("{kind}: {fault:?}");
        let empty = Expect::Refused(String::new());
        let vector = Vector { about, verify, schema: None, expect: empty, message: hex(&message) };
        Vector { expect: vector.outcome(), ..vector }
    }

    /// Makes the name of this fleet, host or version a rare exception.
    fn usually<T>(&mut self, own: T, other: T) -> T {
        if self.random.once_in(24) { other } else { own }
    }

    fn said_by_host(&mut self, kind: &'static str, fault: Fault) -> (Reader, Vec<u8>) {
        let host = common::host();
        let payload = match kind {
            "report" => {
                let mut message = self.draw(generate::report());
                message.version = self.usually(0, message.version);
                message.host = self.usually(host.clone(), message.host);
                message.to_value()
            }
            "presence" => {
                let mut message = self.draw(generate::presence());
                message.version = self.usually(0, message.version);
                message.host = self.usually(host.clone(), message.host);
                message.to_value()
            }
            _ => {
                let mut message = self.draw(generate::log());
                message.version = self.usually(0, message.version);
                message.host = self.usually(host.clone(), message.host);
                message.to_value()
            }
        };
        let seed = self.usually(10, 66);
        let forgery = Forgery { kind, ..Forgery::release(self.content(payload, fault), &[seed]) };
        let mut message = self.envelope(forgery, fault, true);
        self.damage_whole(&mut message, fault);
        let other = fault == Fault::Reader;
        let key = if other { secret("alpha", 11) } else { common::alpha() }.public().clone();
        let fleet = common::parse(if other && self.random.once_in(2) { "hime" } else { "home" });
        let verify = match kind {
            "report" => Reader::Report { fleet, host, key },
            "presence" => Reader::Presence { fleet, host, key },
            _ => Reader::Log { fleet, host, key },
        };
        (verify, message)
    }

    fn beacon(&mut self, fault: Fault) -> (Reader, Vec<u8>) {
        let mut beacon = self.draw(generate::beacon());
        beacon.version = self.usually(0, beacon.version);
        beacon.fleet = self.usually(common::fleet(), beacon.fleet);
        // Alice may sign releases, and no beacons.
        let seeds = self.random.of(&[vec![3], vec![3], vec![3, 66], vec![1, 3], vec![1], vec![66]]);
        let payload = self.content(beacon.to_value(), fault);
        let forgery = Forgery { kind: "beacon", ..Forgery::release(payload, &seeds) };
        let mut message = self.envelope(forgery, fault, false);
        self.damage_whole(&mut message, fault);
        let trust = match fault {
            Fault::Reader => common::trust_text_with_beacons().replace("home", "hime"),
            _ => common::trust_text_with_beacons(),
        };
        (Reader::Beacon { trust }, message)
    }

    fn enrol(&mut self, fault: Fault) -> (Reader, Vec<u8>) {
        let mut request = self.draw(generate::enrol_request());
        request.version = self.usually(0, request.version);
        request.fleet = self.usually(common::fleet(), request.fleet);
        request.key = self.usually(common::alpha().public().into(), request.key);
        let seeds =
            self.random.of(&[vec![20, 10], vec![10, 20], vec![20, 10, 66], vec![20], vec![10]]);
        let payload = self.content(request.to_value(), fault);
        let forgery = Forgery { kind: "enrol", ..Forgery::release(payload, &seeds) };
        let mut message = self.envelope(forgery, fault, false);
        self.damage_whole(&mut message, fault);
        let other = fault == Fault::Reader;
        let token = if other { secret("alpha", 11) } else { common::token() };
        let fleet = common::parse(if other && self.random.once_in(2) { "hime" } else { "home" });
        (Reader::Enrol { fleet, token: token.public().clone() }, message)
    }

    fn roster(&mut self, fault: Fault) -> (Reader, Vec<u8>) {
        let mut entry = self.draw(generate::roster_entry());
        entry.version = self.usually(0, entry.version);
        entry.fleet = self.usually(common::fleet(), entry.fleet);
        let seeds = self.random.of(&[vec![1, 2], vec![2, 1], vec![1, 66], vec![1], vec![66]]);
        let payload = self.content(entry.to_value(), fault);
        let forgery = Forgery { kind: "roster", ..Forgery::release(payload, &seeds) };
        let mut message = self.envelope(forgery, fault, false);
        self.damage_whole(&mut message, fault);
        let trust = common::trust_text(1 + self.random.below(2), &[&alice(), &bob()]);
        let trust = if fault == Fault::Reader { trust.replace("home", "hime") } else { trust };
        (Reader::Roster { trust }, message)
    }

    fn target(&mut self, fault: Fault) -> (Target, Vec<u8>) {
        let mut target = self.draw(generate::target());
        // Of orders that are as long as the generator makes them, too many would be too large.
        target.profile =
            common::parse(&target.profile.as_str().chars().take(32).collect::<String>());
        let in_target = fault != Fault::None && self.random.once_in(2);
        let value = target.to_value();
        let bytes = if in_target { self.content(value, fault) } else { codec::encode(&target) };
        (target, bytes)
    }

    fn release(&mut self, kind: &str, fault: Fault) -> (Reader, Vec<u8>) {
        let count = 1 + self.random.below(5);
        let targets: Vec<_> = (0..count).map(|_| self.target(fault)).collect();
        let tree = TargetTree::new(targets.iter().map(|(_, bytes)| bytes.clone()));
        let mut release = self.draw(generate::release());
        release.version = self.usually(0, release.version);
        release.fleet = self.usually(common::fleet(), release.fleet);
        release.targets_root = self.usually(tree.root(), release.targets_root);
        release.targets_count = self.usually(tree.count(), release.targets_count);
        let (a, b, c) = (&alice(), &bob(), &carol());
        let (threshold, trusted): (_, Vec<&SecretKey>) = self.random.of(&[
            (1, vec![a]),
            (1, vec![a, b]),
            (2, vec![a, b]),
            (2, vec![c, b, a]),
            (3, vec![a, b, c]),
        ]);
        let signers = [vec![1, 2, 3], vec![3, 2, 1], vec![1, 2], vec![66, 1, 2], vec![1], vec![66]];
        let seeds = match fault {
            Fault::None => self.random.of(&signers),
            _ => self.random.of(&signers[..2]),
        };
        let payload = self.content(release.to_value(), fault);
        let signed = self.envelope(Forgery::release(payload, &seeds), fault, false);
        let trust = common::trust_text(threshold, &trusted);
        let other = fault == Fault::Reader;
        let trust =
            if other && self.random.once_in(4) { trust.replace("home", "hime") } else { trust };
        let at = self.random.below(count);
        let (mut message, verify) = match kind {
            "release" => (signed, Reader::Release { trust }),
            "order" => {
                let proof = tree.proofs().nth(at).map(|(_, proof)| proof).unwrap_or_default();
                let target = Bytes(targets[at].1.clone());
                let sealed =
                    SealedOrder { release: Bytes(signed), target, index: at as u64, proof };
                let (host, profile, system) = self.addressee(&targets[at].0, other);
                (
                    self.around(sealed.to_value(), fault),
                    Reader::Order { trust, host, profile, system },
                )
            }
            _ => {
                let all = targets.iter().map(|(_, bytes)| Value::Bytes(bytes.clone())).collect();
                let file = Value::Map(vec![
                    (1.into(), "herald-release".into()),
                    (2.into(), self.usually(0, 1).into()),
                    (3.into(), Value::Bytes(signed)),
                    (4.into(), Value::Array(all)),
                ]);
                (self.around(file, fault), Reader::ReleaseFile { trust })
            }
        };
        self.damage_whole(&mut message, fault);
        (verify, message)
    }

    /// Who reads an order: whoever it is for, or somebody who is it almost.
    fn addressee(&mut self, target: &Target, other: bool) -> (String, String, String) {
        let mut names =
            [target.host.to_string(), target.profile.to_string(), target.system.to_string()];
        if other {
            let at = self.random.below(3);
            names[at] = names[at].chars().skip(1).collect::<String>() + "x";
            // A name that begins with a hyphen is none.
            names[at] = names[at].trim_start_matches('-').to_owned();
        }
        names.into()
    }

    fn content(&mut self, mut value: Value, fault: Fault) -> Vec<u8> {
        match fault {
            Fault::Content => damage::value(&mut value, &mut self.random),
            Fault::Encoding => return damage::long_form(&value, &mut self.random),
            _ => {}
        }
        let mut bytes = damage::encoded(&value);
        if fault == Fault::SignedBytes {
            damage::bytes(&mut bytes, &mut self.random);
        }
        bytes
    }

    fn around(&mut self, mut value: Value, fault: Fault) -> Vec<u8> {
        if fault != Fault::Around {
            return damage::encoded(&value);
        }
        if self.random.once_in(2) {
            return damage::long_form(&value, &mut self.random);
        }
        damage::value(&mut value, &mut self.random);
        damage::encoded(&value)
    }

    fn damage_whole(&mut self, message: &mut Vec<u8>, fault: Fault) {
        if fault == Fault::Bytes {
            (0..=self.random.below(3)).for_each(|_| damage::bytes(message, &mut self.random));
        }
    }

    /// Signs, with a fault in the envelope if that is where it is.
    fn envelope(&mut self, mut forgery: Forgery, fault: Fault, one: bool) -> Vec<u8> {
        if fault == Fault::Headers {
            self.damage_headers(&mut forgery);
        }
        let bytes = if one { forgery.sign1() } else { forgery.sign() };
        if !matches!(fault, Fault::Parts | Fault::Signature) {
            return bytes;
        }
        let mut whole: Value = ciborium::from_reader(&bytes[..]).expect("it was just written");
        if fault == Fault::Signature {
            self.damage_signature(&mut whole, one);
        } else if self.random.once_in(4) {
            return damage::long_form(&whole, &mut self.random);
        } else {
            damage::value(&mut whole, &mut self.random);
        }
        damage::encoded(&whole)
    }

    fn damage_headers(&mut self, forgery: &mut Forgery) {
        let note = || vec![(Value::from(99), Value::from("note"))];
        match self.random.below(13) {
            0 => {
                forgery.kind = self
                    .random
                    .of(&["release", "beacon", "report", "presence", "log", "enrol", "roster"])
            }
            1 => forgery.fleet = "hime",
            2 => forgery.unprotected = note(),
            3 => forgery.body_unprotected = note(),
            4 => {
                forgery.body_protected =
                    self.random.of(&[vec![0xa0], vec![0], damage::encoded(&Value::Map(note()))])
            }
            5 => forgery.header = |kid| vec![(1.into(), (-7).into()), (4.into(), kid.into())],
            6 => forgery.header = |kid| vec![(4.into(), kid.into())],
            7 => forgery.header = |_| vec![(1.into(), (-8).into())],
            8 => {
                forgery.header = |kid| vec![(1.into(), (-8).into()), (4.into(), (&kid[..8]).into())]
            }
            9 => forgery.header = |kid| honest_header(kid).into_iter().rev().collect(),
            10 => {
                forgery.header = |kid| {
                    let crit = Value::Array(vec![4.into()]);
                    vec![(1.into(), (-8).into()), (2.into(), crit), (4.into(), kid.into())]
                };
            }
            11 => forgery.unprotected = vec![(1.into(), (-8).into())],
            _ => forgery.seeds = self.random.of(&[vec![1, 1], (1..=17).collect(), vec![1, 2, 1]]),
        }
    }

    fn damage_signature(&mut self, whole: &mut Value, one: bool) {
        let Value::Tag(_, body) = whole else { return };
        let Some(parts) = body.as_array_mut() else { return };
        let signature = if one {
            Some(&mut parts[3])
        } else {
            let signers = parts[3].as_array_mut();
            signers.and_then(|signers| signers.first_mut()?.as_array_mut()?.get_mut(2))
        };
        let Some(signature) = signature.and_then(Value::as_bytes_mut) else { return };
        match self.random.below(6) {
            0 => signature[self.random.below(64)] ^= 1 << self.random.below(8),
            1 => {
                let mut carry = 0u16;
                for (byte, add) in signature[32..].iter_mut().zip(GROUP_ORDER) {
                    carry += u16::from(*byte) + u16::from(add);
                    *byte = carry.to_le_bytes()[0];
                    carry >>= 8;
                }
            }
            2 => {
                let small = [[0; 32], [0xff; 32]];
                signature[..32].copy_from_slice(&self.random.of(&small));
                signature[0] = self.random.of(&[0, 1]);
            }
            3 => signature.fill(0),
            4 => signature[32..].fill(0),
            _ => {
                let other = SigningKey::from_bytes(&[66; 32]);
                let made = ed25519_dalek::Signer::sign(&other, b"something else").to_bytes();
                signature.copy_from_slice(&made);
            }
        }
    }
}
