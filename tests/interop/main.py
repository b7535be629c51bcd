"""Checks Herald's messages with other implementations of CBOR, COSE, Ed25519 and CDDL."""

import argparse
import base64
import json
import os
import subprocess
import sys
from multiprocessing import Pool
from pathlib import Path

import cbor2

import make
import plain
import with_pycose
from cbor import Refused
from content import Messages
from schema import Schema
from trust import Trust

PROTO = Path(__file__).resolve().parents[2] / "proto"
VECTORS = PROTO / "tests" / "vectors"
SIGNATURE_CODES = ("bad-signature", "under-signed")
# Of two faults in one message each program may find another first.
FORM_CODES = ("malformed", "bad-envelope", "too-large")
RANDOM_VECTORS = 20_000


class Checker:
    def __init__(self):
        self.schema = Schema(PROTO / "herald.cddl")
        self.messages = Messages(self.schema.codes)
        self.disagreements = 0

    def agree(self, where, what, expected, found):
        if expected != found:
            self.disagreements += 1
            print(f"{where}: {what}: expected {expected}, found {found}", file=sys.stderr)

    def plainly(self, data, verify):
        """Gives the outcome of a vector in the form that its file has."""
        try:
            match verify["as"]:
                case "release":
                    trust = Trust.parse(verify["trust"])
                    found = plain.verify_in_role(data, "release", trust, self.messages)
                case "beacon":
                    trust = Trust.parse(verify["trust"], "rollout")
                    found = plain.verify_in_role(data, "beacon", trust, self.messages)
                case "roster":
                    trust = Trust.parse(verify["trust"])
                    found = plain.verify_in_role(data, "roster", trust, self.messages)
                case "enrol":
                    fleet, token = verify["fleet"], verify["token"]
                    found = plain.verify_enrol(data, fleet, token, self.messages)
                case "release-file":
                    trust = Trust.parse(verify["trust"])
                    found = plain.verify_release_file(data, trust, self.messages)
                case "order":
                    reader = [verify[name] for name in ("host", "profile", "system")]
                    trust = Trust.parse(verify["trust"])
                    found = plain.verify_order(data, trust, self.messages, reader)
                case kind:
                    trust = Trust.pinned(verify["fleet"], verify["key"])
                    found = plain.verify_from_host(data, kind, trust, verify["host"], self.messages)
        except Refused as refused:
            return {"refused": refused.code}
        return {"ok": found}

    def by_pycose(self, data, verify):
        """Gives what pycose makes of the signatures: `ok`, or the code of the refusal."""
        try:
            match verify["as"]:
                case "release":
                    with_pycose.verify_in_role(data, "release", Trust.parse(verify["trust"]))
                case "beacon":
                    trust = Trust.parse(verify["trust"], "rollout")
                    with_pycose.verify_in_role(data, "beacon", trust)
                case "roster":
                    with_pycose.verify_in_role(data, "roster", Trust.parse(verify["trust"]))
                case "enrol":
                    key = cbor2.loads(cbor2.loads(data).value[2])[4]
                    key = base64.b64encode(key).decode()
                    trust = Trust.of_both(verify["fleet"], verify["token"], key)
                    with_pycose.verify_in_role(data, "enrol", trust)
                case "order" | "release-file" as kind:
                    signed = cbor2.loads(data)[1 if kind == "order" else 3]
                    with_pycose.verify_in_role(signed, "release", Trust.parse(verify["trust"]))
                case kind:
                    trust = Trust.pinned(verify["fleet"], verify["key"])
                    with_pycose.verify_from_host(data, kind, trust)
        except Refused as refused:
            return refused.code
        return "ok"

    def vector(self, path):
        vector = json.loads(path.read_text())
        where, verify, expect = path.stem, vector["verify"], vector["expect"]
        data = bytes.fromhex(vector["message"])
        self.agree(where, "cbor2 and cryptography", expect, self.plainly(data, verify))
        code = "ok" if "ok" in expect else expect["refused"]
        if code == "ok" or code in SIGNATURE_CODES:
            self.agree(where, "pycose", code, self.by_pycose(data, verify))
        if "schema" in vector:
            found = self.schema.matches(verify["as"], data)
            self.agree(where, "herald.cddl", vector["schema"], "matches" if found else "differs")

    def random(self, line):
        """Judges a random vector; gives what was said about it, if anybody disagrees."""
        vector = json.loads(line)
        data, verify, expect = bytes.fromhex(vector["message"]), vector["verify"], vector["expect"]
        found = self.plainly(data, verify)
        wrong = []
        if form(found) != form(expect):
            wrong.append(f"cbor2 and cryptography: expected {expect}, found {found}")
        code = "ok" if "ok" in expect else expect["refused"]
        if code == "ok" or code in SIGNATURE_CODES:
            by_pycose = self.by_pycose(data, verify)
            if by_pycose != code:
                wrong.append(f"pycose: expected {code}, found {by_pycose}")
        return [f"{vector['about']}: {one}: {line}" for one in wrong], code

    def made_here(self, folder):
        """What Python makes from its seeds is what Rust's test reads."""
        made = make.files(self.messages)
        frozen = {path.name: path.read_bytes() for path in folder.iterdir()}
        self.agree("python", "the files", sorted(made), sorted(frozen))
        for name in made.keys() & frozen.keys():
            self.agree(f"python/{name}", "the same bytes again", True, made[name] == frozen[name])
        orders = [name for name in made if name.endswith(".order")]
        for name in orders:
            matches = self.schema.matches("order", made[name])
            self.agree(f"python/{name}", "herald.cddl", True, matches)
        return len(orders)


def form(outcome):
    """Makes one of all the codes for bytes that are not in the form of a message."""
    code = outcome.get("refused")
    return {"refused": "form"} if code in FORM_CODES else outcome


def judge_random(line):
    global judge
    if judge is None:
        judge = Checker()
    return judge.random(line)


judge = None


def random_vectors(count, seed):
    """Judges the vectors that Rust makes; gives how many, and how many disagreements."""
    command = ["cargo", "run", "--quiet", "--locked", "--package", "herald-proto"]
    command += ["--example", "vectors", "--", str(count), str(seed)]
    codes, disagreements = {}, 0
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, cwd=PROTO.parent) as made,
        Pool(os.cpu_count()) as pool,
    ):
        for wrong, code in pool.imap(judge_random, made.stdout, chunksize=50):
            codes[code] = codes.get(code, 0) + 1
            disagreements += len(wrong)
            for one in wrong[: max(0, 20 - disagreements)]:
                print(one, file=sys.stderr)
    if made.returncode or sum(codes.values()) != count or len(codes) < 10 or codes["ok"] < count / 10:
        raise SystemExit(f"the random vectors are not what they should be: {codes}")
    print(f"{count} random vectors of seed {seed}: {dict(sorted(codes.items()))}")
    return count, disagreements


def check(args):
    checker = Checker()
    files = sorted((VECTORS / "good").iterdir()) + sorted((VECTORS / "bad").iterdir())
    for path in files:
        checker.vector(path)
    count = len(files) + checker.made_here(VECTORS / "python")
    more, disagreements = random_vectors(args.random, args.seed)
    count, disagreements = count + more, checker.disagreements + disagreements
    print(f"{count} vectors, {disagreements} disagreements")
    return bool(disagreements) or not files


def verify(args):
    checker = Checker()
    trust = Trust.parse(args.trust.read_text())
    failed = False
    for path in args.file:
        data = path.read_bytes()
        try:
            order = plain.verify_order(data, trust, checker.messages)
            with_pycose.verify_in_role(cbor2.loads(data)[1], "release", trust)
            if not checker.schema.matches("order", data):
                raise Refused("malformed", "not as in herald.cddl")
        except Refused as refused:
            failed = True
            print(f"{path}: refused: {refused}", file=sys.stderr)
            continue
        release, target = order["release"], order["target"]
        names = [trust.keys[bytes.fromhex(kid)].name for kid in order["signers"]]
        print(
            f"{path}: release {release['id']} sequence {release['sequence']},"
            f" {target['action']} of {target['host']}/{target['profile']}"
            f" to {target['toplevel']}, signed by {', '.join(names)}"
        )
    return failed


def write(args):
    args.dir.mkdir(parents=True, exist_ok=True)
    for name, data in make.files(Checker().messages).items():
        (args.dir / name).write_bytes(data)
    return False


def main():
    parser = argparse.ArgumentParser(prog="tests/interop/run", description=__doc__)
    parser.add_argument("--random", type=int, default=RANDOM_VECTORS, help="how many random ones")
    parser.add_argument("--seed", type=int, default=1, help="from which they are made")
    parser.set_defaults(run=check)
    commands = parser.add_subparsers(title="instead of checking the frozen vectors")
    one = commands.add_parser("verify", help="verify orders as the command line writes them")
    one.add_argument("--trust", type=Path, required=True)
    one.add_argument("file", type=Path, nargs="+")
    one.set_defaults(run=verify)
    other = commands.add_parser("make", help="write orders that are made and signed here")
    other.add_argument("dir", type=Path)
    other.set_defaults(run=write)
    args = parser.parse_args()
    return int(args.run(args))


if __name__ == "__main__":
    sys.exit(main())
