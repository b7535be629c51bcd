"""Verifies with nothing but cbor2, hashlib and cryptography, by the rules of the protocol."""

import hashlib

import cbor2
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

import cbor
from cbor import Refused
from content import RELEASE_FILE, SEALED_ORDER, STATED
from trust import Trust

WIRE_VERSION = 0
MAX_FILE = 32 * 1024 * 1024


def external_aad(kind, fleet):
    return cbor.encode(["herald", kind, WIRE_VERSION, fleet])


def strict(condition, why):
    if not condition:
        raise Refused("bad-envelope", why)


def check_headers(protected, unprotected):
    """Gives the key id of a signer whose headers are exactly what they may be."""
    strict(type(protected) is bytes and unprotected == {}, "headers")
    # What stands before the id in {1: -8, 4: id}: two pairs, alg EdDSA, kid of 32 bytes.
    strict(len(protected) == 38 and protected.startswith(b"\xa2\x01\x27\x04\x58\x20"), "alg and kid")
    return protected[6:]


def check_signature(signature):
    strict(type(signature) is bytes and len(signature) == 64, "64 bytes of signature")
    return signature


def array(item, length):
    strict(isinstance(item, list) and len(item) == length, f"an array of {length}")
    return item


def open_sign(data, aad):
    """Gives the payload of a COSE_Sign, and key id, signature and signed bytes of each signer."""
    item = cbor.decode(data, tag=98)
    strict(isinstance(item, cbor2.CBORTag), "a tag")
    protected, unprotected, payload, signers = array(item.value, 4)
    strict(protected == b"" and unprotected == {}, "no headers in the body")
    strict(type(payload) is bytes, "an attached payload")
    strict(isinstance(signers, list) and 1 <= len(signers) <= 16, "1 to 16 signatures")
    opened = []
    for signer in signers:
        header, unprotected, signature = array(signer, 3)
        kid = check_headers(header, unprotected)
        signed = cbor.encode(["Signature", b"", header, aad, payload])
        opened.append((kid, check_signature(signature), signed))
    strict(len({kid for kid, *_ in opened}) == len(opened), "each signature by another key")
    return payload, opened


def open_sign1(data, aad):
    """Gives the payload of a COSE_Sign1, and key id, signature and signed bytes."""
    item = cbor.decode(data, tag=18)
    strict(isinstance(item, cbor2.CBORTag), "a tag")
    header, unprotected, payload, signature = array(item.value, 4)
    kid = check_headers(header, unprotected)
    strict(type(payload) is bytes, "an attached payload")
    signed = cbor.encode(["Signature1", header, aad, payload])
    return payload, [(kid, check_signature(signature), signed)]


def holds(key, signature, signed):
    try:
        Ed25519PublicKey.from_public_bytes(key.public).verify(signature, signed)
    except InvalidSignature:
        return False
    return True


def count(results, threshold):
    """Judges pairs of a trusted key and whether its signature holds."""
    for key, good in results:
        if not good:
            raise Refused("bad-signature", key.name)
    if len(results) < threshold:
        raise Refused("under-signed", f"{len(results)} of {threshold}")
    return [key for key, _ in results]


def check_signatures(opened, trust):
    known = [(trust.keys[kid], rest) for kid, *rest in opened if kid in trust.keys]
    return count([(key, holds(key, *rest)) for key, rest in known], trust.threshold)


def read(payload, reader):
    """Reads a message of this version; of another one, nothing else is looked at."""
    item = cbor.decode(payload)
    version = STATED(item)["version"]
    if version != WIRE_VERSION:
        raise Refused("wrong-version", version)
    return reader(item)


def verify_in_role(data, kind, trust, messages):
    """Verifies what people sign: a release or a beacon, by the trust of its role."""
    payload, opened = open_sign(data, external_aad(kind, trust.fleet))
    content = read(payload, getattr(messages, kind))
    if content["fleet"] != trust.fleet:
        raise Refused("wrong-fleet", content["fleet"])
    signers = check_signatures(opened, trust)
    return {kind: content, "signers": [key.id.hex() for key in signers]}


def verify_enrol(data, fleet, token, messages):
    """Verifies a request to be let in: signed by the token, and by the key that it names."""
    payload, opened = open_sign(data, external_aad("enrol", fleet))
    content = read(payload, messages.enrol)
    if content["fleet"] != fleet:
        raise Refused("wrong-fleet", content["fleet"])
    signers = check_signatures(opened, Trust.of_both(fleet, token, content["key"]))
    return {"enrol": content, "signers": [key.id.hex() for key in signers]}


def proves(root, size, index, leaf, path):
    """RFC 9162 section 2.1.3.2."""
    if index >= size:
        return False
    fn, sn = index, size - 1
    node = hashlib.sha256(b"\0" + leaf).digest()
    for sibling in path:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            node = hashlib.sha256(b"\1" + sibling + node).digest()
            while not fn & 1 and fn != 0:
                fn, sn = fn >> 1, sn >> 1
        else:
            node = hashlib.sha256(b"\1" + node + sibling).digest()
        fn, sn = fn >> 1, sn >> 1
    return sn == 0 and node == root


def verify_order(data, trust, messages, reader=None):
    """Verifies an order; the reader, if there is one, is (host, profile, system)."""
    sealed = SEALED_ORDER(cbor.decode(data))
    verified = verify_in_role(sealed["release"], "release", trust, messages)
    release, leaf = verified["release"], sealed["target"]
    root = bytes.fromhex(release["targets_root"])
    path = [bytes.fromhex(node) for node in sealed["proof"]]
    if not proves(root, release["targets_count"], sealed["index"], leaf, path):
        raise Refused("not-in-release", "the proof does not lead to the root")
    target = messages.target(cbor.decode(leaf))
    for name, own in zip(("host", "profile", "system"), reader or ()):
        if target[name] != own:
            raise Refused(f"wrong-{name}", target[name])
    digests = {"hash": leaf, "message": data}
    return {
        **verified,
        "target": target,
        **{name: hashlib.sha256(of).hexdigest() for name, of in digests.items()},
    }


def root_of(leaves):
    """RFC 9162 section 2.1.1."""
    if len(leaves) == 1:
        return hashlib.sha256(b"\0" + leaves[0]).digest()
    half = 1 << (len(leaves) - 1).bit_length() - 1
    return hashlib.sha256(b"\1" + root_of(leaves[:half]) + root_of(leaves[half:])).digest()


def verify_release_file(data, trust, messages):
    """Verifies a release with all of its targets."""
    item = cbor.decode(data, longest=MAX_FILE)
    head = isinstance(item, dict) and list(item)[:2] == [1, 2] and item[1] == "herald-release"
    if not head or type(item[2]) is not int or item[2] < 0:
        raise Refused("malformed", "it is no release file")
    if item[2] != WIRE_VERSION:
        raise Refused("wrong-version", item[2])
    file = RELEASE_FILE(item)
    targets = file["targets"]
    # Whose signatures hold comes last: what is no file of one release has no signers.
    payload, _ = open_sign(file["release"], b"")
    release = read(payload, messages.release)
    if release["targets_count"] != len(targets):
        raise Refused("not-in-release", "another number of targets")
    decoded = [messages.target(cbor.decode(target)) for target in targets]
    if root_of(targets).hex() != release["targets_root"]:
        raise Refused("not-in-release", "the targets do not lead to the root")
    if len({(target["host"], target["profile"]) for target in decoded}) < len(decoded):
        raise Refused("malformed", "a host twice")
    return {**verify_in_role(file["release"], "release", trust, messages), "targets": decoded}


def verify_from_host(data, kind, trust, host, messages):
    payload, opened = open_sign1(data, external_aad(kind, trust.fleet))
    read(payload, STATED)
    check_signatures(opened, trust)
    content = read(payload, getattr(messages, kind))
    if content["host"] != host:
        raise Refused("wrong-host", content["host"])
    return content
