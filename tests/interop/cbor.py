"""Deterministic CBOR (RFC 8949 section 4.2.1): cbor2 reads, and what it read must encode to the
same bytes again."""

import struct

import cbor2

MAX_MESSAGE = 16 * 1024
MAX_DEPTH = 12


class Refused(Exception):
    """A message that is refused, with the code that a host would report."""

    def __init__(self, code, why):
        super().__init__(f"{code}: {why}")
        self.code = code


def malformed(why):
    return Refused("malformed", why)


def head(major, number):
    if number < 24:
        return bytes([major << 5 | number])
    for info, form in ((24, ">B"), (25, ">H"), (26, ">I"), (27, ">Q")):
        if number < 1 << 8 * struct.calcsize(form):
            return bytes([major << 5 | info]) + struct.pack(form, number)
    raise malformed("an integer of more than 64 bits")


def encode(value, depth=0):
    """Encodes what messages are made of; floats, null and tags are not."""
    if depth >= MAX_DEPTH and isinstance(value, (list, tuple, dict)):
        raise malformed(f"arrays and maps nest deeper than {MAX_DEPTH}")
    match value:
        case bool():
            return b"\xf5" if value else b"\xf4"
        case int() if value >= 0:
            return head(0, value)
        case int():
            return head(1, -1 - value)
        case bytes():
            return head(2, len(value)) + value
        case str():
            raw = value.encode()
            return head(3, len(raw)) + raw
        case list() | tuple():
            return head(4, len(value)) + b"".join(encode(item, depth + 1) for item in value)
        case dict() if all(type(key) is int for key in value):
            pairs = sorted((encode(k, depth + 1), encode(v, depth + 1)) for k, v in value.items())
            return head(5, len(pairs)) + b"".join(k + v for k, v in pairs)
    raise malformed(f"{type(value).__name__} is not part of any message")


def decode(data, tag=None, longest=MAX_MESSAGE):
    """Decodes one item; the tag, if one is asked for, may stand outside and nowhere else."""
    if len(data) > longest:
        raise Refused("too-large", f"{len(data)} bytes")
    try:
        value = cbor2.loads(data)
    except Exception as error:  # cbor2 raises many kinds for bytes that are not CBOR
        raise malformed(f"not CBOR: {error}") from error
    tagged = isinstance(value, cbor2.CBORTag) and value.tag == tag
    again = head(6, tag) + encode(value.value) if tagged else encode(value)
    if again != data:
        raise malformed("not deterministic")
    return value
