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

with open(sys.argv[1], "rb") as file:
    fleet = tomllib.load(file)
keys = {name: base64.b64decode(host["key"].split(":")[1]) for name, host in fleet["hosts"].items()}
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


def connected(client, _data, _flags, reason, _properties):
    print("the broker refuses the login" if reason.is_failure else "connected", file=sys.stderr, flush=True)
    client.subscribe([(f"herald/v1/{fleet['fleet']}/status/{host}/+", 1) for host in keys])


def heard(_client, _data, message):
    try:
        print(json.dumps(verified(message.topic, message.payload)), flush=True)
    except Exception as why:  # whatever anybody publishes, it ends nothing
        print(f"refused: {message.topic}: {why!r}", file=sys.stderr, flush=True)


broker = urlsplit(fleet["broker"])
client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
client.on_connect, client.on_message = connected, heard
if user := os.environ.get("HERALD_USER"):
    client.username_pw_set(user, os.environ["HERALD_PASSWORD"])
if broker.scheme == "mqtts":
    ca = fleet.get("tls", {}).get("ca")  # without it: the system's authorities
    client.tls_set(ca and os.path.join(os.path.dirname(sys.argv[1]), ca))
client.connect(broker.hostname, broker.port or (8883 if broker.scheme == "mqtts" else 1883), keepalive=60)
client.loop_forever()
