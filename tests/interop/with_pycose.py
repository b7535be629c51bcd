"""Verifies and makes signatures with pycose, which knows COSE and nothing of Herald.

pycose is lenient about the form of an envelope, so its word counts for signatures alone.
"""

from pycose.algorithms import EdDSA
from pycose.headers import KID, Algorithm
from pycose.keys import OKPKey
from pycose.keys.curves import Ed25519
from pycose.messages import CoseMessage, Sign1Message, SignMessage
from pycose.messages.signer import CoseSignature

from plain import count, external_aad


def judge(signature, trust, aad):
    """Gives the trusted key that a signature claims, and whether it holds; None for a stranger's."""
    key = trust.keys.get(signature.get_attr(KID))
    if key is None:
        return None
    signature.external_aad = aad
    signature.key = OKPKey(crv=Ed25519, x=key.public)
    return key, signature.verify_signature()


def verify_in_role(data, kind, trust):
    message = CoseMessage.decode(data)
    assert isinstance(message, SignMessage), "a COSE_Sign"
    aad = external_aad(kind, trust.fleet)
    judged = [judge(signer, trust, aad) for signer in message.signers]
    return count([one for one in judged if one], trust.threshold)


def verify_from_host(data, kind, trust):
    message = CoseMessage.decode(data)
    assert isinstance(message, Sign1Message), "a COSE_Sign1"
    judged = judge(message, trust, external_aad(kind, trust.fleet))
    return count([judged] if judged else [], trust.threshold)


def sign_release(payload, fleet, keys):
    """Signs with each of (seed, public key): a COSE_Sign."""
    signers = []
    for seed, key in keys:
        signer = CoseSignature(
            phdr={Algorithm: EdDSA, KID: key.id},
            external_aad=external_aad("release", fleet),
            key=OKPKey(crv=Ed25519, x=key.public, d=seed),
        )
        signers.append(signer)
    return SignMessage(payload=payload, signers=signers).encode()
