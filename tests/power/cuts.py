"""Cuts the power of a host in the middle of deploys, and looks at what it comes back as.

    cuts.py --parts FOLDER --programs FOLDER --folder FOLDER [--cuts N] [--seed N]

The seed decides what is deployed, when the power is cut, and which unflushed writes reach the
disks. How far the machine is at that moment is not repeatable: it has a clock of its own.
"""

import argparse
import random
import signal
import sys
import time
from collections import Counter
from pathlib import Path

from fleet import Fleet
from machine import Disks, Failed, Machine, wait_until

END_LIMIT = 240  # seconds, with one boot
LIMITS = ["--stable-for", "1s", "--confirm-within", "30s", "--activate-within", "60s"]
LIMITS += ["--health-command", 'exec "$HERALD_TOPLEVEL/bin/healthy"']
ENDINGS = {"succeeded", "rejected", "failed", "timed-out", "expired", "superseded", "rolled-back"}
ENDINGS |= {"overridden-locally", "degraded"}
# After which a cut is worth most, by whether the system is good.
PHASES = {
    True: ["realising", "armed", "activating", "confirming", "committing"],
    False: ["activating", "rolling-back"],
}
BAD = ["--argstr activation fails", "--argstr activation late-fail", "--argstr healthy no"]


class Trial:
    """A fleet whose host can be cut."""

    def __init__(self, args):
        self.choice = random.Random(args.seed)
        self.folder = args.folder
        self.fleet = Fleet(args.folder, args.programs)
        self.runs = self.fleet.build("first")
        self.fleet.prepare_store(self.runs)
        store = args.folder / "store.img"
        self.fleet.make_store_disk(store)
        root = args.folder / "root.img"
        self.fleet.shell(f"cp --sparse=always --reflink=auto {args.parts}/root.img {root}")
        machine = args.folder / "machine"
        machine.mkdir()
        self.disks = Disks(machine, args.seed, {"root": root, "store": store})
        self.line = "console=ttyS0 loglevel=4 panic=-1 net.ifnames=0 systemd.unit=power.target "
        self.line += "systemd.show_status=0 systemd.log_color=0 random.trust_cpu=on nowatchdog "
        self.line += f"mitigations=off herald.fleet={args.folder}"
        boot = ["-no-reboot", "-kernel", args.parts / "kernel", "-initrd", args.parts / "initrd"]
        self.machine = Machine(machine, self.disks, boot)
        self.longest = {}  # by whether it is good: how long a deploy takes without a cut
        self.phases = Counter()
        self.endings = Counter()

    def install(self):
        """Boots the first system by its name, makes it the default, and learns the host's key."""
        self.machine.start("-append", f"{self.line} herald.system={self.runs}")
        self.machine.wait_for_agent()
        config = f"--config {self.fleet.at}/subscriber.toml"
        self.machine.run(f"{self.runs}/bin/switch-to-configuration boot && sync")
        key = self.machine.run(f"{self.fleet.folder}/herald-subscriber public-key {config}")
        self.fleet.pin(key.split()[-1])
        self.wait_for_report(0)

    def boot(self):
        began = time.monotonic()
        self.machine.start("-append", self.line)
        self.machine.wait_for_agent()
        return time.monotonic() - began

    def wait_for_report(self, number):
        """Waits for a report with a higher number."""
        return wait_until(END_LIMIT, "the host reports", lambda: self.newest(number))

    def newest(self, number=0):
        heard = [said for said in self.fleet.heard if said["number"] > number]
        return max(heard, key=lambda said: said["number"], default=None)

    def wait_for_end(self, sequence, number):
        """Waits until the order after that sequence has ended, by a report after that number."""

        def ended():
            said = self.newest(number)
            over = said and said["phase"] in ENDINGS and said["sequence"] != sequence
            return said if over else None

        return wait_until(END_LIMIT, "the order ends", ended)

    def deploy(self, label, arguments, publish=()):
        path = self.fleet.build(label, f"--argstr packages {3 + self.fleet.releases} {arguments}")
        before = self.newest()["sequence"]
        self.fleet.publish(path, *LIMITS, *publish)
        return path, before

    def measure(self):
        """Deploys a good and a bad system without a cut."""
        for good in (True, False):
            began = self.newest()["number"]
            arguments = "" if good else "--argstr healthy no"
            path, before = self.deploy(f"whole-{good}".lower(), arguments)
            published = time.monotonic()
            said = self.wait_for_end(before, began)
            self.longest[good] = time.monotonic() - published
            self.check(said, path, good, cut_in=None)
        spans = [f"{self.longest[good]:.1f} s" for good in (True, False)]
        print(f"without a cut a good deploy takes {spans[0]}, a bad one {spans[1]}", flush=True)

    def cut(self, number):
        good = number % 2 == 0
        arguments = "" if good else self.choice.choice(BAD)
        path, before = self.deploy(f"cut-{number}", arguments)
        moment = self.wait_for_moment(good, before)
        lost = self.machine.cut()
        time.sleep(0.2)  # what was sent before the cut is heard
        last = self.newest()
        phase = last["phase"] if last["sequence"] != before else "before it was taken"
        took = self.boot()
        began = time.monotonic()
        said = self.wait_for_end(before, last["number"])
        self.check(said, path, good, cut_in=phase)
        self.phases[phase] += 1
        self.endings[said["phase"]] += 1
        kind = "a good system" if good else "a bad system"
        print(
            f"cut {number + 1}: {kind}, {moment}, {phase}; {'; '.join(lost)}; "
            f"booted in {took:.1f} s; {said['phase']} after {time.monotonic() - began:.1f} s",
            flush=True,
        )

    def wait_for_moment(self, good, before):
        """Lets the machine go on for as long as the seed says, which is a time like any other: half
        of the times are counted from the publication, half from when a phase is heard of."""
        if self.choice.random() < 0.5:
            span, since = self.choice.uniform(0, self.longest[good]), "publication"
        else:
            span, since = self.choice.uniform(0, 2), self.choice.choice(PHASES[good])
            phases = ENDINGS | {since}
            wait_until(END_LIMIT, f"the host reports {since}", lambda: self.said(phases, before))
        began = time.monotonic()
        # Once the order has ended, there is little left to be cut.
        while time.monotonic() < began + span and not self.said(ENDINGS, before):
            time.sleep(0.01)
        span = time.monotonic() - began
        return f"{span:.1f} s after {since}"

    def said(self, phases, before):
        """Tells whether a phase of the order after that sequence was reported."""
        own = (said for said in self.fleet.heard if (said["sequence"] or 0) > (before or 0))
        return any(said["phase"] in phases for said in own)

    def check(self, said, path, good, cut_in):
        """Looks at the machine after the end of a release, by its own account and by itself."""
        old, new = self.runs, path
        if said["phase"] == "succeeded":
            require(good, f"{new} is bad, and was committed")
            self.runs = new
        else:
            rolled_back = said["phase"] == "rolled-back"
            require(rolled_back, f"the release ended {said['phase']}: {said['detail']}")
            interrupted = cut_in and said["code"] == "interrupted"
            require(not good or interrupted, f"a good release was rolled back: {said['detail']}")
        ended = cut_in in ENDINGS and cut_in != said["phase"]
        require(not ended, f"it had ended {cut_in}, and is {said['phase']} now")
        booted = self.machine.run("readlink /run/booted-system").strip()
        allowed = {old, self.runs} if cut_in else None
        require(not cut_in or booted in allowed, f"{booted} was booted, which nobody confirmed")
        links = "/run/current-system /boot/default " + f"{self.fleet.at}/profiles/system"
        for link in links.split():
            found = self.machine.run(f"readlink -f {link}").strip()
            require(found == self.runs, f"{link} is {found}, not {self.runs}")
        self.machine.run(f"nix-store --verify-path $(nix-store --query --requisites {self.runs})")
        left = self.machine.run("ls /var/lib/herald/system").split()
        left = [name for name in left if name[-1].isdigit()]
        require(not left, f"files of the attempt are left: {left}")
        errors = self.machine.run("dmesg | grep -E 'EXT4-fs (error|warning)|I/O error' || true")
        require(not errors, errors)
        self.check_report(said, booted)

    def check_report(self, said, booted):
        known = [heard for heard in self.fleet.heard if heard["sequence"] is not None]
        known.sort(key=lambda heard: heard["number"])
        for before, after in zip(known, known[1:]):
            require(before["sequence"] <= after["sequence"], "the sequence fell")
        require(len({heard["incarnation"] for heard in known}) == 1, "the state was lost")
        status = self.fleet.status()
        expected = {"verified": True, "presence": "online", "phase": said["phase"]}
        expected |= {"running": self.runs, "boot_default": self.runs, "booted": booted}
        expected |= {"sequence": said["sequence"]}
        for field, value in expected.items():
            require(status[field] == value, f"the host reports {field} = {status[field]}, not {value}")

    def stop(self):
        self.machine.stop()
        self.disks.stop()
        self.fleet.stop()


def require(holds, otherwise):
    if not holds:
        raise Failed(otherwise)


def run(trial, cuts):
    trial.install()
    trial.measure()
    for number in range(cuts):
        trial.cut(number)
    print("cut while", ", ".join(f"{phase}: {count}" for phase, count in trial.phases.most_common()))
    print("ended as", ", ".join(f"{phase}: {count}" for phase, count in trial.endings.most_common()))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--parts", type=Path, required=True)
    parser.add_argument("--programs", type=Path, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--cuts", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    trial = Trial(args)
    try:
        run(trial, args.cuts)
    except Failed as failure:
        print(f"power failed: {failure}", file=sys.stderr)
        for file in [trial.machine.console, trial.fleet.folder / "broker.log"]:
            end = file.read_text(errors="replace").splitlines()[-20:]
            print(f"--- the end of {file.name}:", *end, sep="\n", file=sys.stderr)
        if trial.machine.process is not None:
            try:
                print(trial.machine.run("journalctl --no-pager --lines=60", 30), file=sys.stderr)
            except Failed as silent:
                print(silent, file=sys.stderr)
        return 1
    finally:
        trial.stop()
    print(f"{args.cuts} cuts, 0 bricked")
    return 0


if __name__ == "__main__":
    sys.exit(main())
