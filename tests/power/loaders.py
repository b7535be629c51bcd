"""Real boot loaders and kernels that do not come up: what a one-shot entry does about them.

    loaders.py --parts FOLDER --programs FOLDER --folder FOLDER

The firmware is OVMF; the loader, Debian's systemd-boot or GRUB, is on an EFI system partition with
the entries that NixOS makes. The old system is the default, the new one is armed for one boot, by
the subscriber's own adapter, and its kernel is garbage, panics, or is good. Then the old one must run
again: by itself, or after the next power cycle.
"""

import argparse
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from fleet import Fleet
from machine import Disks, Failed, Machine, wait_until

FIRMWARE = Path("/usr/share/OVMF")
EFI = "/sys/firmware/efi/efivars"
ESP_START = 1 << 20
ESP_SIZE = 96 << 20
# The kernel reboots a second after a panic, as hosts should that nobody stands beside.
LINE = "console=ttyS0 loglevel=4 panic=1 net.ifnames=0 systemd.unit=power.target "
LINE += "systemd.show_status=0 systemd.log_color=0 random.trust_cpu=on nowatchdog mitigations=off "


# GRUB does not flush when it takes the one-shot entry back: it relies on a disk that writes what it
# has within seconds by itself. A cut before that boots the entry once more.
SETTLE = 2


# The generations of the profile through which a system is booted once.
GENERATIONS = {"good": 7, "garbage": 8, "panics": 9}
PROFILE = "/nix/var/nix/profiles/system-profiles/herald"


class SystemdBoot:
    name = "systemd-boot"
    detected = "SystemdBoot"
    old = "nixos-generation-1.conf"

    def entry(self, kind):
        return f"nixos-herald-generation-{GENERATIONS[kind]}.conf"

    def files(self, parts, lines):
        files = {"EFI/BOOT/BOOTX64.EFI": parts / "efi" / "systemd-bootx64.efi"}
        files["EFI/systemd/systemd-bootx64.efi"] = parts / "efi" / "systemd-bootx64.efi"
        files["loader/loader.conf"] = f"timeout 0\ndefault {self.old}\n"
        for kind, (kernel, line) in lines.items():
            text = f"title {kind}\nlinux /{kernel}\ninitrd /initrd\noptions {line}\n"
            entry = self.old if kind == "old" else self.entry(kind)
            files[f"loader/entries/{entry}"] = text
        return files

    def install(self, machine, kind):
        """All entries are there already, each a file."""

    def armed(self, machine):
        name = "LoaderEntryOneShot-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"
        return machine.run(f"cat {EFI}/{name} 2>/dev/null | tail -c +5 | tr -d '\\0'")


class Grub:
    name = "GRUB"
    detected = 'Grub { folder: "/boot/grub" }'

    def entry(self, kind):
        return "NixOS - Profile 'herald'>0"

    def files(self, parts, lines):
        menu = "load_env\nset timeout=0\nset default=0\n"
        menu += 'if [ "${next_entry}" ]; then\n  set default="${next_entry}"\n  set next_entry=\n'
        menu += "  save_env next_entry\nfi\n"
        items = {}
        for kind, (kernel, line) in lines.items():
            items[kind] = f'menuentry "NixOS - {kind}" {{\n'
            items[kind] += f"  linux /{kernel} {line}\n  initrd /initrd\n}}\n"
        menu += items["old"]
        menu += "submenu \"NixOS - Profile 'herald'\" {\n  source ($root)/grub/herald.cfg\n}\n"
        block = b"# GRUB Environment Block\n"
        return {
            **{f"grub/{kind}.cfg": items[kind] for kind in GENERATIONS},
            "EFI/BOOT/BOOTX64.EFI": parts / "grub" / "grubx64.efi",
            "grub/grub.cfg": menu,
            "grub/grubenv": (block + b"#" * (1024 - len(block))).decode(),
        }

    def install(self, machine, kind):
        """The latest generation of the profile comes first in its menu."""
        menus = "/boot/grub"
        machine.run(f"cp {menus}/{kind}.cfg {menus}/herald.cfg && sync --file-system /boot")

    def armed(self, machine):
        listed = machine.run("grub-editenv /boot/grub/grubenv list")
        return "".join(line.partition("=")[2] for line in listed.splitlines() if "next_entry=" in line)


def make_esp(image, files, scratch):
    """Makes a disk with an EFI system partition that holds the files."""
    tree = scratch / "esp"
    shutil.rmtree(tree, ignore_errors=True)
    for name, content in files.items():
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, Path):
            shutil.copy(content, path)
        else:
            path.write_text(content)
    partition = scratch / "esp.partition"
    partition.unlink(missing_ok=True)
    quietly("mkfs.vfat", "-F", "32", "-n", "ESP", "-C", partition, str(ESP_SIZE >> 10))
    quietly("mcopy", "-s", "-i", partition, *tree.iterdir(), "::/")
    with open(image, "wb") as disk:
        disk.truncate(ESP_START + ESP_SIZE + (1 << 20))
    table = f"label: gpt\nstart={ESP_START >> 9}, size={ESP_SIZE >> 9}, type=uefi\n"
    quietly("sfdisk", "--quiet", image, input=table.encode())
    with open(image, "r+b") as disk:
        disk.seek(ESP_START)
        disk.write(partition.read_bytes())
    partition.unlink()


def quietly(*command, input=None):
    done = subprocess.run(command, input=input, capture_output=True)
    if done.returncode != 0:
        raise Failed(f"{command}: {done.stdout.decode()}{done.stderr.decode()}")


class Bench:
    """A machine with a boot loader, and two systems in its store."""

    def __init__(self, args, loader):
        self.loader = loader
        folder = args.folder / loader.name
        folder.mkdir()
        self.fleet = Fleet(folder, args.programs)
        self.old, self.new = self.fleet.build("old"), self.fleet.build("new")
        self.fleet.prepare_store(self.new)
        self.fleet.prepare_store(self.old)
        images = {name: folder / f"{name}.img" for name in ("root", "store", "esp")}
        self.fleet.make_store_disk(images["store"])
        self.fleet.shell(f"cp --sparse=always --reflink=auto {args.parts}/root.img {images['root']}")
        line = f"{LINE} herald.fleet={folder} herald.esp=/dev/vdc1 herald.system="
        lines = {
            "old": ("kernel", line + self.old),
            "good": ("kernel", line + self.new),
            "garbage": ("garbage", line + self.new),
            "panics": ("kernel", line + self.new + " rdinit=/nonexistent"),
        }
        files = loader.files(args.parts, lines)
        files |= {"kernel": args.parts / "kernel", "initrd": args.parts / "initrd"}
        files["garbage"] = "this is not a kernel\n" * 50000
        make_esp(images["esp"], files, folder)
        variables = folder / "variables.fd"
        shutil.copy(FIRMWARE / "OVMF_VARS_4M.fd", variables)
        self.disks = Disks(folder, 1, images, SETTLE)
        boot = []
        for file, readonly in ((FIRMWARE / "OVMF_CODE_4M.fd", "on"), (variables, "off")):
            boot += ["-drive", f"if=pflash,format=raw,readonly={readonly},file={file}"]
        self.machine = Machine(folder, self.disks, boot)

    def wait_for(self, system):
        self.machine.wait_for_agent()
        booted = self.machine.run("readlink /run/booted-system").strip()
        if booted != system:
            raise Failed(f"{self.loader.name} booted {booted}, not {system}")

    def arm(self, kind):
        entry = self.loader.entry(kind)
        self.loader.install(self.machine, kind)
        link = f"herald-{GENERATIONS[kind]}-link"
        self.machine.run(f"mkdir -p $(dirname {PROFILE}) && ln -sfn {link} {PROFILE}")
        self.tell(f"once {PROFILE} {self.new}")
        armed = self.loader.armed(self.machine).strip()
        if armed != entry:
            raise Failed(f"armed {armed!r}, not {entry}")

    def tell(self, what):
        return self.machine.run(f"{self.fleet.folder}/boot_once {what}").strip()

    def reboot(self):
        self.machine.run("sync; systemd-run --quiet --on-active=0.1 systemctl reboot --force")

    def power_cycle(self):
        time.sleep(SETTLE + 0.1)
        self.machine.cut()
        self.machine.start()

    def check_fallen_back(self):
        self.wait_for(self.old)
        armed = self.loader.armed(self.machine).strip()
        if armed:
            raise Failed(f"{armed} is still armed")

    def run(self):
        name = self.loader.name
        self.machine.start()
        self.wait_for(self.old)
        detected = self.tell("detect")
        if detected != self.loader.detected:
            raise Failed(f"{detected} was found, not {self.loader.detected}")
        self.arm("good")
        self.tell("default")
        armed = self.loader.armed(self.machine).strip()
        if armed:
            raise Failed(f"{armed} is armed, although the default was asked for")
        self.arm("good")
        self.reboot()
        self.wait_for(self.new)
        self.power_cycle()
        self.check_fallen_back()
        passed(f"{name}: a one-shot entry is booted once; after a power cut the old system boots")
        self.arm("panics")
        self.reboot()
        self.check_fallen_back()
        passed(f"{name}: a kernel that panics falls back by itself")
        self.arm("garbage")
        self.reboot()
        wait_until(120, "the loader refuses the kernel", self.refused)
        self.power_cycle()
        self.check_fallen_back()
        passed(f"{name}: a kernel that can't be loaded falls back at the next power cycle")

    def refused(self):
        said = self.machine.console.read_bytes()[-4000:].lower()
        return b"error" in said

    def stop(self):
        self.machine.stop()
        self.disks.stop()
        self.fleet.stop()


def passed(what, began=[time.monotonic()]):
    now = time.monotonic()
    print(f"{what} ({now - began[0]:.0f} s)", flush=True)
    began[0] = now


LOADERS = [SystemdBoot(), Grub()]


def main():
    parser = argparse.ArgumentParser()
    for name in ("parts", "programs", "folder"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    for loader in LOADERS:
        bench = Bench(args, loader)
        try:
            bench.run()
        except Failed as failure:
            print(f"{loader.name} failed: {failure}", file=sys.stderr)
            said = bench.machine.console.read_text(errors="replace")
            print("--- the end of the console:", *said.splitlines()[-30:], sep="\n", file=sys.stderr)
            return 1
        finally:
            bench.stop()
    print(f"{len(LOADERS)} boot loaders, 0 bricked")
    return 0


if __name__ == "__main__":
    sys.exit(main())
