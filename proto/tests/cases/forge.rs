//! Signed messages that no honest program makes: valid signatures over anything at all.

use ciborium::Value;
use ed25519_dalek::{Signer as _, SigningKey};
use herald_proto::{
    codec::{self, Bytes, Wire},
    merkle::TargetTree,
    order::SealedOrder,
    release::Release,
    report::Report,
};
use sha2::{Digest as _, Sha256};

use crate::common;

/// The entries of a map.
pub(crate) type Entries = Vec<(Value, Value)>;

/// A `COSE_Sign` or `COSE_Sign1` to be signed; its parts can be changed before.
#[derive(Clone)]
pub(crate) struct Forgery {
    /// What the signatures say that the message is.
    pub(crate) kind: &'static str,
    pub(crate) fleet: &'static str,
    pub(crate) payload: Vec<u8>,
    /// The seeds of the signers.
    pub(crate) seeds: Vec<u8>,
    /// The protected header of each signer, made from its key's id.
    pub(crate) header: fn(&[u8]) -> Entries,
    pub(crate) unprotected: Entries,
    pub(crate) body_protected: Vec<u8>,
    pub(crate) body_unprotected: Entries,
}

impl Forgery {
    /// A release that would be accepted as it stands.
    pub(crate) fn release(payload: Vec<u8>, seeds: &[u8]) -> Self {
        Self {
            kind: "release",
            fleet: "home",
            payload,
            seeds: seeds.to_vec(),
            header: honest_header,
            unprotected: vec![],
            body_protected: vec![],
            body_unprotected: vec![],
        }
    }

    pub(crate) fn sign(&self) -> Vec<u8> {
        encode(&Value::Tag(98, Box::new(self.sign_untagged())))
    }

    pub(crate) fn sign_untagged(&self) -> Value {
        let signatures = self.seeds.iter().map(|seed| {
            let (header, signature) = self.signature("Signature", *seed);
            let unprotected = Value::Map(self.unprotected.clone());
            Value::Array(vec![Value::Bytes(header), unprotected, Value::Bytes(signature)])
        });
        Value::Array(vec![
            Value::Bytes(self.body_protected.clone()),
            Value::Map(self.body_unprotected.clone()),
            Value::Bytes(self.payload.clone()),
            Value::Array(signatures.collect()),
        ])
    }

    /// Signs as a host, with the first seed.
    pub(crate) fn sign1(&self) -> Vec<u8> {
        let (header, signature) = self.signature("Signature1", self.seeds[0]);
        let parts = vec![
            Value::Bytes(header),
            Value::Map(self.unprotected.clone()),
            Value::Bytes(self.payload.clone()),
            Value::Bytes(signature),
        ];
        encode(&Value::Tag(18, Box::new(Value::Array(parts))))
    }

    /// RFC 9052 §4.4, without the code under test.
    fn signature(&self, context: &str, seed: u8) -> (Vec<u8>, Vec<u8>) {
        let key = SigningKey::from_bytes(&[seed; 32]);
        let kid = Sha256::digest(key.verifying_key().as_bytes());
        let header = encode(&Value::Map((self.header)(&kid)));
        let aad =
            Value::Array(vec!["herald".into(), self.kind.into(), 0.into(), self.fleet.into()]);
        let mut parts = vec![Value::from(context), Value::Bytes(header.clone())];
        if context == "Signature" {
            parts.insert(1, Value::Bytes(self.body_protected.clone()));
        }
        parts.push(Value::Bytes(encode(&aad)));
        parts.push(Value::Bytes(self.payload.clone()));
        let signature = key.sign(&encode(&Value::Array(parts)));
        (header, signature.to_bytes().to_vec())
    }
}

pub(crate) fn honest_header(kid: &[u8]) -> Entries {
    vec![(1.into(), (-8).into()), (4.into(), kid.into())]
}

pub(crate) fn encode(value: &Value) -> Vec<u8> {
    let mut bytes = vec![];
    ciborium::into_writer(value, &mut bytes).expect("writing to memory can't fail");
    bytes
}

/// The entries of a message, to be changed and encoded again.
pub(crate) fn entries(message: &impl Wire) -> Entries {
    let Ok(entries) = message.to_value().into_map() else {
        unreachable!("every message is a map");
    };
    entries
}

/// Encodes the entries of a message after a change.
pub(crate) fn changed(message: &impl Wire, change: impl Fn(&mut Entries)) -> Vec<u8> {
    let mut entries = entries(message);
    change(&mut entries);
    encode(&Value::Map(entries))
}

/// An order of one target, whatever its bytes, with an honest release around it.
pub(crate) fn around_target(target: Vec<u8>) -> Vec<u8> {
    let tree = TargetTree::new([target.clone()]);
    let payload = codec::encode(&common::release(&tree));
    let order = SealedOrder {
        release: Bytes(Forgery::release(payload, &[1]).sign()),
        target: Bytes(target),
        index: 0,
        proof: vec![],
    };
    codec::encode(&order)
}

/// An order for alpha, in which the bytes of the signed release are what `forge` makes of an
/// honest release.
pub(crate) fn around_release(forge: impl FnOnce(&Release) -> Vec<u8>) -> Vec<u8> {
    let tree = common::tree(&[common::target("alpha")]);
    let order = SealedOrder {
        release: Bytes(forge(&common::release(&tree))),
        target: Bytes(codec::encode(&common::target("alpha"))),
        index: 0,
        proof: vec![],
    };
    codec::encode(&order)
}

pub(crate) fn report(payload: Vec<u8>) -> Forgery {
    Forgery { kind: "report", ..Forgery::release(payload, &[10]) }
}

/// A report with fields of a newer version; the last of them nests arrays, that many in all.
pub(crate) fn report_with_more_fields(message: &Report, depth: usize) -> Vec<u8> {
    let nested = (0..depth).fold(Value::from(0), |inner, _| Value::Array(vec![inner]));
    let payload = changed(message, |entries| {
        let more = vec![(1.into(), true.into())];
        entries.push((40.into(), Value::Map(more)));
        entries.push((41.into(), "new".into()));
        entries.push((42.into(), nested.clone()));
    });
    report(payload).sign1()
}

/// The bytes of the first signature in the parts of a `COSE_Sign`.
pub(crate) fn first_signature(parts: &mut [Value]) -> &mut Vec<u8> {
    let signers = parts[3].as_array_mut().expect("the list of signatures");
    let signer = signers[0].as_array_mut().expect("a signature in parts");
    signer[2].as_bytes_mut().expect("the signature")
}
