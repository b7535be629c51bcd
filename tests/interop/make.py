"""Makes signed orders from fixed seeds and times, as another implementation would."""

import base64
import hashlib
import json
import uuid

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import cbor
import plain
import with_pycose
from trust import Key, Trust

FLEET = "python"
NOW = 1_767_225_600_000
HOSTS = ("ant", "bee", "cat", "dog", "eel")


def secret(name, number):
    seed = bytes([number]) * 32
    public = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
    return seed, Key(f"{name}:{base64.b64encode(public).decode()}")


def tree_hash(leaves):
    """RFC 9162 section 2.1.1."""
    if len(leaves) == 1:
        return hashlib.sha256(b"\0" + leaves[0]).digest()
    k = split(len(leaves))
    return hashlib.sha256(b"\1" + tree_hash(leaves[:k]) + tree_hash(leaves[k:])).digest()


def tree_path(index, leaves):
    """RFC 9162 section 2.1.3.1."""
    if len(leaves) == 1:
        return []
    k = split(len(leaves))
    if index < k:
        return [*tree_path(index, leaves[:k]), tree_hash(leaves[k:])]
    return [*tree_path(index - k, leaves[k:]), tree_hash(leaves[:k])]


def split(count):
    """The largest power of two below `count`."""
    return 1 << (count - 1).bit_length() - 1


def small_order_signature(seed, key, signed):
    """Makes a signature whose R is the neutral element, which only the holder of the key can.

    The equation of RFC 8032 holds, and many verifiers accept it; a strict one does not, or a
    signature could have more than one form.
    """
    order = 2**252 + 27742317777372353535851937790883648493
    scalar = int.from_bytes(hashlib.sha512(seed).digest()[:32], "little")
    scalar = scalar & (1 << 254) - 8 | 1 << 254
    r = bytes([1]) + bytes(31)
    challenge = hashlib.sha512(r + key.public + signed).digest()
    s = int.from_bytes(challenge, "little") * scalar % order
    return r + s.to_bytes(32, "little")


def sign_with_small_order(payload, keys):
    """Signs a release as `with_pycose.sign_release` does, but for the R of each signature."""
    signers = []
    for seed, key in keys:
        header = cbor.encode({1: -8, 4: key.id})
        aad = plain.external_aad("release", FLEET)
        signed = cbor.encode(["Signature", b"", header, aad, payload])
        signers.append([header, {}, small_order_signature(seed, key, signed)])
    return cbor.head(6, 98) + cbor.encode([b"", {}, payload, signers])


def make_target(number, host):
    path = f"/nix/store/{'0123456789abcdfghijklmnpqrsvwxyz'}-nixos-system-{host}-26.05"
    digest = hashlib.sha256(host.encode()).digest()
    target = {
        1: host,
        2: "system",
        3: "x86_64-linux",
        4: path,
        5: number,
        6: {1: digest, 2: 1 << 32, 3: 1800} if number % 2 else 1,
        7: {1: 3_600_000, 2: 600_000, 3: 120_000},
        8: {1: 30_000, 2: [[1, ["true", host]], [2, "sshd.service"], [3, "[::1]:22"]]},
    }
    if number == 2:
        target |= {8: {1: 0}, 9: [path + "-old"], 10: ["getty@tty1.service"], 11: bytes(16)}
    return cbor.encode(target)


def files(messages):
    """Gives the bytes of each file by its name."""
    seeds = [secret(name, number) for name, number in (("ada", 101), ("bea", 102), ("cy", 103))]
    quoted = "".join(f'    "{key.name}:{base64.b64encode(key.public).decode()}",\n' for _, key in seeds)
    trust_text = f'fleet = "{FLEET}"\n\n[release]\nthreshold = 2\nkeys = [\n{quoted}]\n'
    targets = [make_target(number, host) for number, host in enumerate(HOSTS)]
    release = {
        1: 0,
        2: FLEET,
        3: uuid.UUID("019b76da-a800-7000-8000-000000000001").bytes,
        4: NOW,
        5: NOW,
        6: NOW,
        7: NOW + 86_400_000,
        8: tree_hash(targets),
        9: len(targets),
        10: 0,
        11: "made by pycose",
    }
    payload, keys = cbor.encode(release), [seeds[2], seeds[0]]

    def order(index, signed):
        path = tree_path(index, targets)
        return cbor.encode({1: signed, 2: targets[index], 3: index, 4: path})

    made = {
        "trust.toml": trust_text.encode(),
        "fleet": f"{FLEET}\n".encode(),
        "ant.small-order": order(0, sign_with_small_order(payload, keys)),
    }
    signed = with_pycose.sign_release(payload, FLEET, keys)
    for index, host in enumerate(HOSTS):
        data = order(index, signed)
        content = plain.verify_order(data, Trust.parse(trust_text), messages)
        made[f"{host}.order"] = data
        made[f"{host}.json"] = (json.dumps(content, indent=2, sort_keys=True) + "\n").encode()
    return made
