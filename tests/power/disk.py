"""Disks that forget, as real ones do when the power goes.

An NBD server: what is written stays in memory until the client flushes (or writes with FUA), and
only then reaches the image. When a connection ends, however it ends, the power was cut: of the
writes that were not flushed none, some, the first ones, or all reach the image, sector by sector,
by a seeded choice.

    disk.py --socket PATH --seed N [--settle SECONDS] NAME=IMAGE...

With --settle, what is older than that has reached the image by itself, as on real disks; without,
only a flush brings it there. Says on stdout what each cut did. The images must not be touched meanwhile.
"""

import argparse
import itertools
import math
import os
import random
import socket
import struct
import sys
import threading
import time
from typing import NamedTuple

# https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md
SECTOR = 512
MAGIC, OPTION_MAGIC, REPLY_MAGIC = b"NBDMAGIC", b"IHAVEOPT", 0x3E889045565A9
REQUEST_MAGIC, SIMPLE_REPLY_MAGIC = 0x25609513, 0x67446698
FIXED_NEWSTYLE, NO_ZEROES = 1, 2
EXPORT_NAME, ABORT, GO = 1, 2, 7
ACK, INFO, UNSUPPORTED, UNKNOWN = 1, 3, 0x80000001, 0x80000006
READ, WRITE, DISCONNECT, FLUSH = 0, 1, 2, 3
HAS_FLAGS, CAN_FLUSH, CAN_FUA = 1, 4, 8
FUA = 1
INVALID = 22
LARGEST = 64 << 20


class Write(NamedTuple):
    """One write to one sector."""

    number: int
    data: bytes
    at: float


class Disk:
    """An image, and what was written since the last flush."""

    def __init__(self, name, image, seed, settle):
        self.name = name
        self.settle = settle
        self.file = os.open(image, os.O_RDWR)
        self.size = os.fstat(self.file).st_size // SECTOR * SECTOR
        self.choice = random.Random(f"{seed} {name}")
        self.powered = threading.Lock()
        self.count = 0  # writes that were ever made
        self.pending = {}  # by sector: its unflushed contents, as Write

    def has(self, offset, length):
        return offset % SECTOR == length % SECTOR == 0 and offset + length <= self.size

    def read(self, offset, length):
        data = bytearray(os.pread(self.file, length, offset))
        if self.pending:
            for at, sector in zip(range(0, length, SECTOR), itertools.count(offset // SECTOR)):
                if sector in self.pending:
                    data[at : at + SECTOR] = self.pending[sector][-1].data
        return data

    def write(self, offset, data, at_once):
        self.count += 1
        if at_once:
            os.pwrite(self.file, data, offset)
        for at, sector in zip(range(0, len(data), SECTOR), itertools.count(offset // SECTOR)):
            if at_once:
                self.pending.pop(sector, None)
            else:
                content = Write(self.count, data[at : at + SECTOR], time.monotonic())
                self.pending.setdefault(sector, []).append(content)

    def flush(self):
        self.store({sector: contents[-1].data for sector, contents in self.pending.items()})
        self.pending = {}

    def store(self, contents):
        """Writes sectors to the image, neighbours together."""
        run, start = [], 0
        for sector in sorted(contents):
            if sector != start + len(run):
                os.pwrite(self.file, b"".join(run), start * SECTOR)
                run, start = [], sector
            run.append(contents[sector])
        os.pwrite(self.file, b"".join(run), start * SECTOR)

    def cut(self):
        """Loses power; gives in words what became of the writes."""
        settled = time.monotonic() - self.settle
        numbers = [write.number for writes in self.pending.values() for write in writes]
        last = self.choice.uniform(min(numbers, default=0), self.count + 1)
        fate = self.choice.choices(["none", "some", "first", "all"], [4, 3, 2, 1])[0]
        keeps = {
            "none": lambda write: False,
            "some": lambda write: self.choice.random() < 0.5,
            "first": lambda write: write.number < last,
            "all": lambda write: True,
        }[fate]
        kept = {}
        for sector, writes in sorted(self.pending.items()):
            for write in writes:
                if write.at < settled or keeps(write):
                    kept[sector] = write.data
        self.store(kept)
        total, self.pending = len(self.pending), {}
        return f"{self.name} kept {fate}: {len(kept)} of {total} unflushed sectors"


class Gone(Exception):
    """The client is not there any more."""


def receive(client, length):
    data = bytearray(length)
    view = memoryview(data)
    while view:
        try:
            count = client.recv_into(view)
        except ConnectionError:
            count = 0
        if not count:
            raise Gone
        view = view[count:]
    return bytes(data)


def send(client, *parts):
    try:
        client.sendall(b"".join(parts))
    except (BrokenPipeError, ConnectionError):
        raise Gone from None


def negotiate(client, disks):
    """Agrees on a disk, and gives it; none where the client does not want one."""
    send(client, MAGIC, OPTION_MAGIC, struct.pack(">H", FIXED_NEWSTYLE | NO_ZEROES))
    receive(client, 4)
    while True:
        magic, option, length = struct.unpack(">8sII", receive(client, 16))
        if magic != OPTION_MAGIC or length > 4096:
            raise Gone
        data = receive(client, length)

        def reply(kind, content=b"", option=option):
            send(client, struct.pack(">QIII", REPLY_MAGIC, option, kind, len(content)), content)

        if option == ABORT:
            reply(ACK)
            return None
        if option == EXPORT_NAME:
            name = data
        elif option == GO:
            (size,) = struct.unpack(">I", data[:4])
            name = data[4 : 4 + size]
        else:
            reply(UNSUPPORTED)
            continue
        disk = disks.get(name.decode(errors="replace"))
        if disk is None:
            if option == EXPORT_NAME:
                raise Gone
            reply(UNKNOWN)
            continue
        export = struct.pack(">QH", disk.size, HAS_FLAGS | CAN_FLUSH | CAN_FUA)
        if option == EXPORT_NAME:
            send(client, export)
        else:
            reply(INFO, struct.pack(">H", 0) + export)
            reply(ACK)
        return disk


def transmit(client, disk):
    while True:
        request = struct.unpack(">IHHQQI", receive(client, 28))
        magic, flags, kind, handle, offset, length = request
        if magic != REQUEST_MAGIC or length > LARGEST or kind == DISCONNECT:
            raise Gone
        written = receive(client, length) if kind == WRITE else b""
        error, answer = 0, b""
        if kind in (READ, WRITE) and not disk.has(offset, length):
            error = INVALID
        elif kind == READ:
            answer = disk.read(offset, length)
        elif kind == WRITE:
            disk.write(offset, written, bool(flags & FUA))
        elif kind == FLUSH:
            disk.flush()
        else:
            error = INVALID
        send(client, struct.pack(">IIQ", SIMPLE_REPLY_MAGIC, error, handle), answer)


def serve(client, disks):
    try:
        disk = negotiate(client, disks)
        if disk is None:
            return
        with disk.powered:
            try:
                transmit(client, disk)
            finally:
                print(f"{disk.cut()}\n", end="", flush=True)
    except Gone:
        pass
    finally:
        client.close()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--socket", required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--settle", type=float, default=math.inf)
    parser.add_argument("disks", nargs="+", metavar="NAME=IMAGE")
    args = parser.parse_args()
    named = (disk.split("=", 1) for disk in args.disks)
    disks = {name: Disk(name, image, args.seed, args.settle) for name, image in named}
    server = socket.socket(socket.AF_UNIX)
    server.bind(args.socket)
    server.listen()
    print("serving", *disks, flush=True)
    while True:
        client, _ = server.accept()
        threading.Thread(target=serve, args=(client, disks), daemon=True).start()


if __name__ == "__main__":
    sys.exit(main())
