"""The host: a machine that QEMU emulates, whose disks lose what was not flushed when it is cut."""

import base64
import os
import select
import socket
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
MEMORY = "640"
# Software emulation is slow, and slower where others work on the same processors.
BOOT_LIMIT = 180
COMMAND_LIMIT = 120


class Failed(Exception):
    """A check did not hold, or the machine is not there."""


def wait_until(limit, what, look, interval=0.05):
    """Waits, bounded, until `look` finds something, and gives that."""
    deadline = time.monotonic() + limit
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > deadline:
            raise Failed(f"waited {limit} s in vain: {what}")
        time.sleep(interval)


def spawn(command, **options):
    """Starts a program that does not outlive this one, however this one ends."""
    return subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *command], **options)


class Disks:
    """The server of the disks, a process of its own: it outlives each cut."""

    def __init__(self, folder, seed, images, settle=None):
        self.names = list(images)
        self.socket = folder / "disks.socket"
        self.log = folder / "disks.log"
        command = [sys.executable, HERE / "disk.py", "--socket", self.socket, "--seed", str(seed)]
        command += [] if settle is None else ["--settle", str(settle)]
        command += [f"{name}={path}" for name, path in images.items()]
        with open(self.log, "w") as log:
            self.process = spawn(command, stdout=log, stderr=log)
        wait_until(10, "the disks are served", self.lines)

    def lines(self):
        return self.log.read_text().splitlines()

    def arguments(self):
        for name in self.names:
            yield "-blockdev"
            yield f"driver=nbd,node-name={name},server.type=unix,server.path={self.socket},export={name}"
            yield "-device"
            yield f"virtio-blk-pci,drive={name}"

    def stop(self):
        self.process.kill()
        self.process.wait()


class Machine:
    """One machine, again and again: started, cut, started."""

    def __init__(self, folder, disks, boot):
        self.folder = folder
        self.disks = disks
        self.boot = boot  # what QEMU is told about how to boot
        self.process = None
        self.agent = None
        self.boots = 0

    def start(self, *extra):
        self.boots += 1
        agent = self.folder / f"agent-{self.boots}"
        self.console = self.folder / f"console-{self.boots}"
        command = ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none"]
        command += ["-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "Nehalem,+rdrand"]
        command += ["-m", MEMORY, *self.disks.arguments()]
        command += ["-netdev", "user,id=net,ipv6=off", "-device", "virtio-net-pci,netdev=net,romfile="]
        command += ["-serial", f"file:{self.console}"]
        command += ["-chardev", f"socket,id=agent,path={agent},server=on,wait=off"]
        command += ["-serial", "chardev:agent", *self.boot, *extra]
        with open(self.folder / "qemu.log", "a") as log:
            self.process = spawn(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.cuts_before = len(self.disks.lines())
        wait_until(20, "QEMU starts", lambda: agent.exists() or self.process.poll() is not None)
        self.agent = Agent(agent, self.process)

    def wait_for_agent(self):
        self.agent.wait_for_ready(BOOT_LIMIT)

    def run(self, command, limit=COMMAND_LIMIT):
        """Runs a command in the machine as root, and gives what it printed."""
        status, printed = self.agent.run(command, limit)
        if status != 0:
            raise Failed(f"in the machine: exit code {status} of {command}\n{printed}")
        return printed

    def cut(self):
        """Cuts the power. Gives what became of the writes that were not flushed."""
        self.process.kill()
        self.process.wait()
        self.process = None
        self.agent.close()

        def done():
            lines = self.disks.lines()[self.cuts_before :]
            return lines if len(lines) >= len(self.disks.names) else None

        return wait_until(30, "the disks are cut", done)

    def stop(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


class Agent:
    """The other end of the serial line to guest/agent."""

    def __init__(self, path, machine):
        self.machine = machine
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(os.fspath(path))
        self.received = b""

    def line(self, limit):
        deadline = time.monotonic() + limit
        while b"\n" not in self.received:
            left = deadline - time.monotonic()
            ready, _, _ = select.select([self.socket], [], [], max(0, left))
            if not ready:
                raise Failed(f"the machine says nothing for {limit} s")
            data = self.socket.recv(65536)
            if not data:
                raise Failed(f"the machine ended, exit code {self.machine.wait(timeout=10)}")
            self.received += data
        line, self.received = self.received.split(b"\n", 1)
        return line

    def wait_for_ready(self, limit):
        while not self.line(limit).endswith(b"ready"):
            pass

    def run(self, command, limit):
        self.socket.sendall(base64.b64encode(command.encode()) + b"\n")
        status, _, printed = self.line(limit).partition(b" ")
        return int(status), base64.b64decode(printed).decode(errors="replace")

    def close(self):
        self.socket.close()
