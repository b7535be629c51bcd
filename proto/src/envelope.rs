//! Strict COSE (RFC 9052): one encoding in, the same encoding out.
//!
//! An envelope is read leniently and then built again from its parts alone; unless the two are
//! equal byte for byte it is refused. So nothing can ride along: no unprotected header, no `crit`,
//! no second `alg`, no nil payload, no indefinite length, no untagged form.

use coset::{
    CoseSign, CoseSign1, CoseSign1Builder, CoseSignBuilder, CoseSignatureBuilder, Header,
    HeaderBuilder, RegisteredLabelWithPrivate, SignatureContext, TaggedCborSerializable as _, iana,
};

use crate::{
    codec::{self, Malformed, Value},
    key::{KeyId, SecretKey},
};

/// The most signatures that one envelope has.
pub const MAX_SIGNATURES: usize = 16;
/// The length of a signer's protected header, in bytes: the longest header that there is.
const SIGNER_HEADER: usize = 38;

/// Bytes that are not an envelope in the one form that is accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadEnvelope {
    /// Too large, or not deterministic CBOR.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// CBOR, but not the COSE structure that the message type asks for.
    #[error("not a {expected} structure (RFC 9052): {problem}")]
    NotCose {
        /// `COSE_Sign` or `COSE_Sign1`.
        expected: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// A COSE structure with anything in it beyond payload, algorithm, key id and signature.
    #[error("a COSE structure with more or other parts than payload, EdDSA, key id and signature")]
    NotStrict,
    /// No signature at all, too many, or two by the same key.
    #[error("an envelope has 1 to {MAX_SIGNATURES} signatures, each by another key")]
    SignatureCount,
}

/// An envelope in parts: what was signed, and the signatures, of which none is verified yet.
#[derive(Debug)]
pub(crate) struct Envelope {
    pub(crate) payload: Vec<u8>,
    pub(crate) signatures: Vec<UnverifiedSignature>,
}

/// A signature, the key that it claims, and the exact bytes that it is over.
#[derive(Debug)]
pub(crate) struct UnverifiedSignature {
    pub(crate) key: KeyId,
    pub(crate) signature: [u8; 64],
    pub(crate) signed_bytes: Vec<u8>,
}

/// Signs with one or more keys: a tagged `COSE_Sign`.
pub(crate) fn seal_sign(payload: Vec<u8>, aad: &[u8], keys: &[&SecretKey]) -> Vec<u8> {
    let signatures = keys.iter().map(|key| {
        let id = key.public().id();
        (id, key.sign(&sign_input(id, aad, &payload)))
    });
    let signatures = signatures.collect::<Vec<_>>();
    build_sign(payload, &signatures)
}

/// Signs with one key: a tagged `COSE_Sign1`.
pub(crate) fn seal_sign1(payload: Vec<u8>, aad: &[u8], key: &SecretKey) -> Vec<u8> {
    let id = key.public().id();
    let signature = key.sign(&sign1_input(id, aad, &payload));
    build_sign1(payload, id, signature)
}

/// Takes a `COSE_Sign` apart, if it is in the one accepted form.
pub(crate) fn open_sign(bytes: &[u8], aad: &[u8]) -> Result<Envelope, BadEnvelope> {
    let Parts { payload, signatures } = take_apart(bytes)?;
    let signatures = signatures
        .into_iter()
        .map(|(key, signature)| {
            let signed_bytes = sign_input(key, aad, &payload);
            UnverifiedSignature { key, signature, signed_bytes }
        })
        .collect();
    Ok(Envelope { payload, signatures })
}

/// The parts of a `COSE_Sign` from which all of it can be built again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Parts {
    pub(crate) payload: Vec<u8>,
    pub(crate) signatures: Vec<(KeyId, [u8; 64])>,
}

/// Gives the parts of a `COSE_Sign`, if it is in the one accepted form.
pub(crate) fn take_apart(bytes: &[u8]) -> Result<Parts, BadEnvelope> {
    check_headers(&codec::decode_value(bytes, &[CoseSign::TAG])?)?;
    let cose = CoseSign::from_tagged_slice(bytes).map_err(not_cose("COSE_Sign"))?;
    let payload = cose.payload.ok_or(BadEnvelope::NotStrict)?;
    let signatures = cose
        .signatures
        .iter()
        .map(|one| Ok((key_id(&one.protected.header)?, signature(&one.signature)?)))
        .collect::<Result<Vec<_>, BadEnvelope>>()?;
    let repeats = signatures
        .iter()
        .enumerate()
        .any(|(i, (key, _))| signatures[..i].iter().any(|(earlier, _)| earlier == key));
    if signatures.is_empty() || signatures.len() > MAX_SIGNATURES || repeats {
        return Err(BadEnvelope::SignatureCount);
    }
    let parts = Parts { payload, signatures };
    if parts.build() != bytes {
        return Err(BadEnvelope::NotStrict);
    }
    Ok(parts)
}

impl Parts {
    /// Builds the tagged `COSE_Sign`.
    pub(crate) fn build(&self) -> Vec<u8> {
        build_sign(self.payload.clone(), &self.signatures)
    }
}

/// Takes a `COSE_Sign1` apart, if it is in the one accepted form.
pub(crate) fn open_sign1(bytes: &[u8], aad: &[u8]) -> Result<Envelope, BadEnvelope> {
    check_headers(&codec::decode_value(bytes, &[CoseSign1::TAG])?)?;
    let cose = CoseSign1::from_tagged_slice(bytes).map_err(not_cose("COSE_Sign1"))?;
    let payload = cose.payload.ok_or(BadEnvelope::NotStrict)?;
    let (key, signature) = (key_id(&cose.protected.header)?, signature(&cose.signature)?);
    if build_sign1(payload.clone(), key, signature) != bytes {
        return Err(BadEnvelope::NotStrict);
    }
    let signed_bytes = sign1_input(key, aad, &payload);
    Ok(Envelope { payload, signatures: vec![UnverifiedSignature { key, signature, signed_bytes }] })
}

/// Refuses headers that can't be right before they are read: `coset` follows counter-signatures
/// inside of them as deep as they go, and would exhaust the stack. What is no header at all, it
/// refuses itself.
fn check_headers(envelope: &Value) -> Result<(), BadEnvelope> {
    let Value::Tag(_, inner) = envelope else { return Ok(()) };
    let Value::Array(parts) = &**inner else { return Ok(()) };
    let signers = parts.get(3).and_then(Value::as_array).into_iter().flatten();
    let signers = signers.filter_map(Value::as_array);
    for part in std::iter::once(parts).chain(signers) {
        let protected = part.first().and_then(Value::as_bytes).map_or(0, Vec::len);
        let unprotected = part.get(1).and_then(Value::as_map).map_or(0, Vec::len);
        if protected > SIGNER_HEADER || unprotected > 0 {
            return Err(BadEnvelope::NotStrict);
        }
    }
    Ok(())
}

fn build_sign(payload: Vec<u8>, signatures: &[(KeyId, [u8; 64])]) -> Vec<u8> {
    let builder = signatures.iter().fold(CoseSignBuilder::new(), |builder, (key, signature)| {
        let part = CoseSignatureBuilder::new()
            .protected(signer_header(*key))
            .signature(signature.to_vec());
        builder.add_signature(part.build())
    });
    let cose = builder.payload(payload).build();
    cose.to_tagged_vec().expect("writing COSE to memory can't fail")
}

fn build_sign1(payload: Vec<u8>, key: KeyId, signature: [u8; 64]) -> Vec<u8> {
    let builder = CoseSign1Builder::new().protected(signer_header(key)).payload(payload);
    let cose = builder.signature(signature.to_vec()).build();
    cose.to_tagged_vec().expect("writing COSE to memory can't fail")
}

/// The protected header of a signer: exactly `{alg: EdDSA, kid: key id}`.
fn signer_header(key: KeyId) -> Header {
    HeaderBuilder::new().algorithm(iana::Algorithm::EdDSA).key_id(key.as_bytes().to_vec()).build()
}

fn key_id(header: &Header) -> Result<KeyId, BadEnvelope> {
    let eddsa = RegisteredLabelWithPrivate::Assigned(iana::Algorithm::EdDSA);
    if header.alg.as_ref() != Some(&eddsa) {
        return Err(BadEnvelope::NotStrict);
    }
    let id = <[u8; 32]>::try_from(header.key_id.as_slice());
    id.map(KeyId::from_bytes).map_err(|_| BadEnvelope::NotStrict)
}

fn signature(bytes: &[u8]) -> Result<[u8; 64], BadEnvelope> {
    bytes.try_into().map_err(|_| BadEnvelope::NotStrict)
}

/// The `Sig_structure` of one signer of a `COSE_Sign` (RFC 9052 §4.4).
pub(crate) fn sign_input(key: KeyId, aad: &[u8], payload: &[u8]) -> Vec<u8> {
    let (body, signer) = (Header::default(), protected(key));
    coset::sig_structure_data(
        SignatureContext::CoseSignature,
        body_header(body),
        Some(signer),
        aad,
        payload,
    )
}

/// The `Sig_structure` of a `COSE_Sign1` (RFC 9052 §4.4).
fn sign1_input(key: KeyId, aad: &[u8], payload: &[u8]) -> Vec<u8> {
    coset::sig_structure_data(SignatureContext::CoseSign1, protected(key), None, aad, payload)
}

fn protected(key: KeyId) -> coset::ProtectedHeader {
    body_header(signer_header(key))
}

fn body_header(header: Header) -> coset::ProtectedHeader {
    coset::ProtectedHeader { original_data: None, header }
}

fn not_cose(expected: &'static str) -> impl Fn(coset::CoseError) -> BadEnvelope {
    move |error| BadEnvelope::NotCose { expected, problem: error.to_string() }
}

#[cfg(test)]
mod tests;
