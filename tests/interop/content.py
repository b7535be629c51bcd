"""The fields of the messages: from integer keys to the JSON form that the Rust types have.

Each reader takes a decoded CBOR item and gives its JSON form, or raises `Refused`.
"""

import base64
import ipaddress
import re
import uuid

from cbor import malformed
from curve import is_usable

REFUSE, IGNORE = "refuse", "ignore"


def need(condition, why):
    if not condition:
        raise malformed(why)


def uint(bits):
    def read(item):
        need(type(item) is int and 0 <= item < 1 << bits, f"a whole number of {bits} bits")
        return item

    return read


def raw(size):
    def read(item):
        need(type(item) is bytes and len(item) == size, f"{size} bytes")
        return item.hex()

    return read


def text(pattern, longest):
    compiled = re.compile(pattern)

    def read(item):
        need(type(item) is str and len(item) <= longest and compiled.fullmatch(item), f"{item!r}")
        return item

    return read


def prose(item):
    need(type(item) is str and len(item.encode()) <= 1024, "a text of at most 1024 bytes")
    control = re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]", item)
    need(not control, "a text without control characters")
    return item


def boolean(item):
    need(type(item) is bool, "true or false")
    return item


def embedded(item):
    need(type(item) is bytes, "a byte string")
    return item


def release_id(item):
    need(type(item) is bytes and len(item) == 16, "16 bytes")
    return str(uuid.UUID(bytes=item))


def span(item):
    millis = uint(64)(item)
    need(millis <= 366 * 86_400_000, "a span of at most a year")
    return {"secs": millis // 1000, "nanos": millis % 1000 * 1_000_000}


def public_key(item):
    need(type(item) is bytes and len(item) == 32 and is_usable(item), "a key that can be used")
    return base64.b64encode(item).decode()


def items(reader):
    def read(item):
        need(type(item) in (list, tuple) and len(item) > 0, "a list with something in it")
        return [reader(one) for one in item]

    return read


def code(names):
    """`names` gives the known codes; herald.cddl is where they are written down."""

    def read(item):
        number = uint(16)(item)
        return names.get(number, f"unknown-{number}")

    return read


def fields(table, unknown):
    """Reads a map. The table has key, name, reader, and what stands for an absent field."""

    def read(item):
        need(isinstance(item, dict), "a map")
        known = {key for key, *_ in table}
        need(unknown == IGNORE or set(item) <= known, f"no keys but {sorted(known)}")
        content = {}
        for key, name, reader, *absent in table:
            need(key in item or absent, f"{name} is missing")
            content[name] = reader(item[key]) if key in item else absent[0]
        return content

    return read


SHA256 = raw(32)
TIME = uint(64)
FLEET = text(r"[a-z0-9_-]+", 63)
HOST = text(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", 63)
PROFILE = text(r"[a-z0-9_-]+", 32)
SYSTEM = text(r"[a-z0-9_]*-[a-z0-9_-]*", 64)
STORE_PATH = text(
    r"(/(?!\.\.?/)[!-.0-\[\]-~]+)+/[0-9a-df-np-sv-z]{32}-(?!\.)[A-Za-z0-9+._?=-]{1,211}", 512
)
UNIT_KINDS = "service|socket|target|mount|automount|timer|path|swap|slice|scope|device"
UNIT = text(rf"(-|(?!-)[A-Za-z0-9:_.@\\-]+)\.({UNIT_KINDS})", 255)

FOLDERS = r"(/(?!\.\.?(/|$))[A-Za-z0-9._~+=-]+)"
CACHE = text(
    rf"(https?|s3)://[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[1-9][0-9]{{0,4}})?{FOLDERS}*|file://{FOLDERS}+", 256
)


def substituter(item):
    cache = CACHE(item)
    port = re.match(r"[a-z0-9]+://[^/:]*:(\d+)", cache)
    need(not port or int(port[1]) < 65536, "a port")
    return cache


def integrity(item):
    if isinstance(item, dict):
        table = [(1, "digest", SHA256), (2, "size", uint(64)), (3, "paths", uint(64))]
        return {"closure": fields(table, REFUSE)(item)}
    need(type(item) is int and item in (1, 2), "an integrity that is known")
    return {1: "toplevel", 2: "recorded"}[item]


def command(item):
    argv = items(lambda part: part)(item)
    need(all(type(part) is str and "\0" not in part for part in argv), "texts without NUL")
    return argv


def address(item):
    need(type(item) is str, "an address")
    # A scope, if there is one, is a number of 32 bits.
    scope = r"(?:%([1-9][0-9]{0,9}))?"
    split = re.fullmatch(rf"(?:\[([^]%]*){scope}\]|([0-9.]*)):(0|[1-9][0-9]{{0,4}})", item)
    need(split and int(split[4]) < 65536 and int(split[2] or 0) < 1 << 32, "address:port")
    try:
        parsed = (ipaddress.IPv6Address if split[1] else ipaddress.IPv4Address)(split[1] or split[3])
    except ValueError as error:
        raise malformed(str(error)) from error
    # Rust writes IPv4-mapped addresses with dots, Python before 3.13 without.
    mapped = getattr(parsed, "ipv4_mapped", None)
    shortest = f"::ffff:{mapped}" if mapped else str(parsed)
    need(shortest == (split[1] or split[3]), "an address in its shortest form")
    return item


def server(text):
    """Tells whether a text is an address or a DNS name in its shortest form."""
    if text.startswith("["):
        return text.endswith("]") and address(f"{text}:1")
    label = r"(?!-)[a-z0-9-]{1,63}(?<!-)"
    if re.fullmatch(rf"({label}\.)*(?!\d+$){label}", text):
        return len(text) <= 253
    return address(f"{text}:1")


def url(item):
    need(type(item) is str and len(item) <= 1024, "a URL")
    split = re.fullmatch(r"http://([^/:]+|\[[^]]*\])(?::([1-9][0-9]{0,4}))?(/[!-\"$-~]*)", item)
    need(split and server(split[1]), "http://host[:port]/path")
    need(not split[2] or (split[2] != "80" and int(split[2]) < 65536), "a port, if it is not 80")
    return item


def statuses(item):
    need(type(item) in (list, tuple) and len(item) == 2, "the first and the last status")
    first, last = map(uint(16), item)
    need(100 <= first <= last <= 599, "statuses from 100 to 599, in order")
    return f"{first}" if first == last else f"{first}-{last}"


def within(item):
    millis = uint(64)(item)
    need(1 <= millis <= 60_000, "1 ms to a minute")
    if millis == 60_000:
        return "1m"
    seconds, rest = divmod(millis, 1000)
    return (f"{seconds}s" if seconds else "") + (f"{rest}ms" if rest else "")


def http(item):
    content = HTTP(item)
    options = ("status", "host", "within")
    return " ".join([content["url"], *(f"{name}={content[name]}" for name in options if content[name])])


HTTP = fields(
    [
        (1, "url", url),
        (2, "host", text(r"[A-Za-z0-9._:\[\]-]+", 255), None),
        (3, "status", statuses, None),
        (4, "within", within, None),
    ],
    REFUSE,
)


def check(item):
    need(type(item) in (list, tuple) and len(item) == 2, "a kind and a subject")
    kinds = {1: ("command", command), 2: ("unit", UNIT), 3: ("tcp", address), 4: ("http", http)}
    need(type(item[0]) is int and item[0] in kinds, "a check that is known")
    name, reader = kinds[item[0]]
    return {name: reader(item[1])}


SEALED_ORDER = fields(
    [
        (1, "release", embedded),
        (2, "target", embedded),
        (3, "index", uint(64)),
        (4, "proof", items(SHA256), []),
    ],
    REFUSE,
)
RELEASE_FILE = fields(
    [
        (1, "format", lambda item: item),
        (2, "version", uint(16)),
        (3, "release", embedded),
        (4, "targets", items(embedded)),
    ],
    REFUSE,
)
STATED = fields([(1, "version", uint(16))], IGNORE)
LIMITS = fields(
    [(1, "realise", span), (2, "activate", span), (3, "confirm", span), (4, "wait", span, None)], REFUSE
)
HEALTH = fields([(1, "stable_for", span), (2, "checks", items(check), [])], REFUSE)
ORDER_NAME = fields([(1, "release", release_id), (2, "target", SHA256), (3, "sequence", TIME)], IGNORE)
TAKEN = fields([(1, "profile", PROFILE), (2, "sequence", uint(64))], IGNORE)
HOLD = fields([(1, "reason", prose), (2, "since", TIME)], IGNORE)
PROGRESS = fields([(1, "done", uint(64)), (2, "total", uint(64))], IGNORE)
SYSTEM_NAMES = ("running", "booted", "boot_default", "profile", "previous")
SYSTEMS = fields([(n, name, STORE_PATH, None) for n, name in enumerate(SYSTEM_NAMES, 1)], IGNORE)


KINDS = (
    "plan", "action", "if-reboot-needed", "mark", "liveness", "hearing", "program", "phase", "code"
)


class Messages:
    """The readers of whole messages, with the codes that a schema knows."""

    def __init__(self, codes):
        names = {name: code(codes(f"known-{name}")) for name in KINDS}
        self.release = fields(
            [
                (1, "version", uint(16)),
                (2, "fleet", FLEET),
                (3, "id", release_id),
                (4, "sequence", uint(64)),
                (5, "issued_at", TIME),
                (6, "not_before", TIME),
                (7, "expires_at", TIME),
                (8, "targets_root", SHA256),
                (9, "targets_count", uint(64)),
                (10, "plan", names["plan"]),
                (11, "revision", prose, None),
                (12, "reason", prose, None),
            ],
            REFUSE,
        )
        self.target = fields(
            [
                (1, "host", HOST),
                (2, "profile", PROFILE),
                (3, "system", SYSTEM),
                (4, "toplevel", STORE_PATH),
                (5, "action", names["action"]),
                (6, "integrity", integrity),
                (7, "limits", LIMITS),
                (8, "health", HEALTH),
                (9, "expect_current", items(STORE_PATH), []),
                (10, "tolerated_units", items(UNIT), []),
                (11, "incarnation", raw(16), None),
                (12, "if_reboot_needed", names["if-reboot-needed"], None),
                (13, "marks", items(names["mark"]), []),
                (14, "substituters", items(substituter), []),
            ],
            REFUSE,
        )
        refusal = fields([(1, "message", SHA256), (2, "code", names["code"]), (3, "detail", prose)], IGNORE)
        self.report = fields(
            [
                (1, "version", uint(16)),
                (2, "host", HOST),
                (3, "profile", PROFILE),
                (4, "incarnation", raw(16)),
                (5, "number", uint(64)),
                (6, "time", TIME),
                (7, "boot", raw(16)),
                (8, "agent", prose),
                (9, "trust", SHA256),
                (10, "phase", names["phase"]),
                (11, "code", names["code"], None),
                (12, "detail", prose, None),
                (13, "order", ORDER_NAME, None),
                (14, "refusal", refusal, None),
                (15, "progress", PROGRESS, None),
                (16, "systems", SYSTEMS),
                (17, "failed_units", items(UNIT), []),
                (18, "hold", HOLD, None),
            ],
            IGNORE,
        )
        self.presence = fields(
            [
                (1, "version", uint(16)),
                (2, "host", HOST),
                (3, "session", uint(64)),
                (4, "liveness", names["liveness"]),
                (5, "incarnation", raw(16)),
                (6, "boot", raw(16)),
                (7, "time", TIME),
                (8, "agent", prose),
                (9, "beat", uint(64)),
                (10, "beacon", TIME, None),
                (11, "hearing", names["hearing"], None),
                (12, "taken", items(TAKEN), []),
            ],
            IGNORE,
        )
        self.beacon = fields(
            [(1, "version", uint(16)), (2, "fleet", FLEET), (3, "issued_at", TIME)], REFUSE
        )
        self.enrol = fields(
            [
                (1, "version", uint(16)),
                (2, "fleet", FLEET),
                (3, "host", HOST),
                (4, "key", public_key),
                (5, "time", TIME),
                (6, "agent", prose),
                (7, "system", SYSTEM),
            ],
            IGNORE,
        )
        token = fields([(1, "key", public_key), (2, "expires_at", TIME)], REFUSE)
        self.roster = fields(
            [
                (1, "version", uint(16)),
                (2, "fleet", FLEET),
                (3, "host", HOST),
                (4, "number", uint(64)),
                (5, "key", public_key, None),
                (6, "token", token, None),
            ],
            REFUSE,
        )
        self.log = fields(
            [
                (1, "version", uint(16)),
                (2, "host", HOST),
                (3, "profile", PROFILE),
                (4, "incarnation", raw(16)),
                (5, "attempt", uint(64)),
                (6, "target", SHA256),
                (7, "time", TIME),
                (8, "program", names["program"]),
                (9, "cut", boolean),
                (10, "lines", items(prose), []),
            ],
            IGNORE,
        )
