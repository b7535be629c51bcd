"""Prints each report of a fleet's hosts that is theirs, as a line of JSON, and what it refuses on stderr.

listen.py FLEET-FILE; where the broker wants a login: HERALD_USER and HERALD_PASSWORD.
"""

import base64, hashlib, json, os, sys, tomllib
from urllib.parse import urlsplit

import cbor2, paho.mqtt.client as mqtt
from pycose.keys import OKPKey
from pycose.messages import Sign1Message

PHASES = """idle accepted rejected realising staged waiting armed activating rebooting confirming committing
    succeeded rolling-back rolled-back failed timed-out superseded cancelled expired overridden-locally degraded"""
NAMES = dict(enumerate(PHASES.split()))

if len(sys.argv) != 2:
    sys.exit(__doc__)
try:
    with open(sys.argv[1], "rb") as file:
        fleet = tomllib.load(file)
    broker = urlsplit(fleet["broker"])
    pinned = {name: host["key"] for name, host in fleet.get("hosts", {}).items() if "key" in host}
except (OSError, KeyError, ValueError) as why:
    sys.exit(f"the fleet file {sys.argv[1]} can't be used: {why!r}")
if broker.scheme not in ("mqtt", "mqtts"):
    sys.exit(f"this listener knows mqtt:// and mqtts://, and not {fleet['broker']}")
if not pinned:
    sys.exit(f"the fleet file {sys.argv[1]} pins the key of no host: `herald host enrol` does")
keys = {name: base64.b64decode(key.split(":")[1]) for name, key in pinned.items()}
context = cbor2.dumps(["herald", "report", 0, fleet["fleet"]], canonical=True)
latest = {}  # by topic: the incarnation and number of the last report


def verified(topic, data):
    """Gives the report that a host has signed, or raises what is wrong with it."""
    host, profile = topic.split("/")[4:]
    if len(data) > 16384 or cbor2.dumps(envelope := cbor2.loads(data), canonical=True) != data:
        raise ValueError("too long, or not in deterministic encoding")
    signer = cbor2.dumps({1: -8, 4: hashlib.sha256(keys[host]).digest()}, canonical=True)
    if envelope.tag != 18 or envelope.value[:2] != [signer, {}] or len(envelope.value) != 4:
        raise ValueError("not signed by the host's pinned key, or with other headers")
    message = Sign1Message.decode(data)
    message.external_aad, message.key = context, OKPKey(crv="Ed25519", x=keys[host])
    if not message.verify_signature():
        raise ValueError("a wrong signature")
    report = cbor2.loads(message.payload)
    if cbor2.dumps(report, canonical=True) != message.payload or (report[2], report[3]) != (host, profile):
        raise ValueError("not in deterministic encoding, or another host's or profile's")
    if (known := latest.get(topic)) and known[0] == report[4] and report[5] < known[1]:
        raise ValueError(f"number {report[5]} again, after {known[1]}")
    latest[topic] = report[4], report[5]
    return {"host": host, "profile": profile, "number": report[5], "time_ms": report[6],
            "phase": NAMES.get(report[10], report[10]), "code": report.get(11), "detail": report.get(12),
            "running": report.get(16, {}).get(1)}


def say(text):
    print(text, file=sys.stderr, flush=True)


def connected(client, _data, _flags, reason, _properties):
    if reason.is_failure:
        say("the broker refuses the login: HERALD_USER=FLEET/NAME and HERALD_PASSWORD must be one that it knows")
        return
    say("connected")
    client.subscribe([(f"herald/v1/{fleet['fleet']}/status/{host}/+", 1) for host in keys])


def subscribed(_client, _data, _id, reasons, _properties):
    if any(reason.is_failure for reason in reasons):
        say("the broker lets this login read too little: make it one of [monitors]")


def unreachable(_client, _data):
    say(f"cannot reach the broker {fleet['broker']}, trying again: {sys.exception()}")


def heard(_client, _data, message):
    try:
        print(json.dumps(verified(message.topic, message.payload)), flush=True)
    except Exception as why:  # whatever anybody publishes, it ends nothing
        say(f"refused: {message.topic}: {why!r}")


client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
client.on_connect, client.on_subscribe, client.on_message = connected, subscribed, heard
client.on_connect_fail = unreachable
if user := os.environ.get("HERALD_USER"):
    client.username_pw_set(user, os.environ.get("HERALD_PASSWORD", ""))
if broker.scheme == "mqtts":
    ca = fleet.get("tls", {}).get("ca")  # without it: the system's authorities
    client.tls_set(ca and os.path.join(os.path.dirname(sys.argv[1]), ca))
client.connect_async(broker.hostname, broker.port or (8883 if broker.scheme == "mqtts" else 1883), keepalive=60)
client.loop_forever(retry_first_connection=True)
