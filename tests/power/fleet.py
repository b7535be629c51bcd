"""What is outside of the machine: operator, broker, binary cache."""

import functools
import http.server
import json
import shlex
import subprocess
import threading
from pathlib import Path

from machine import Failed, spawn, wait_until

REPOSITORY = Path(__file__).resolve().parents[2]
HOST = "alpha"
OUTSIDE = "10.0.2.2"  # this machine's loopback, as QEMU's guests see it


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


class Fleet:
    """A fleet with one host, in a folder."""

    def __init__(self, folder, programs):
        self.folder = folder
        self.programs = programs
        self.at = folder / "hosts" / HOST
        self.children = []
        self.heard = []  # what the host reported, oldest first
        self.releases = 0
        self.shell(f"fleet_make {folder}; host_make {HOST}")
        serve = functools.partial(Quiet, directory=folder / "cache")
        self.cache = http.server.ThreadingHTTPServer(("127.0.0.1", 0), serve)
        threading.Thread(target=self.cache.serve_forever, daemon=True).start()
        self.start_broker()

    def shell(self, script):
        """Runs shell text with the functions of the quickstart's fleet, and gives its last line."""
        lib = REPOSITORY / "examples" / "quickstart" / "lib.sh"
        script = f"set -euo pipefail; . {lib}; FLEET={self.folder}; {script}"
        done = subprocess.run(["bash", "-c", script], capture_output=True, text=True)
        if done.returncode != 0:
            raise Failed(f"{script}\n{done.stdout}{done.stderr}")
        return done.stdout.strip().split("\n")[-1]

    def start_broker(self):
        command = [self.programs / "herald-broker", "--listen", "127.0.0.1:0", "--anonymous"]
        command += ["--state", self.folder / "broker"]
        out = self.folder / "broker.out"
        with open(out, "w") as said, open(self.folder / "broker.log", "w") as log:
            self.children.append(spawn(command, stdout=said, stderr=log))
        listening = wait_until(10, "the broker listens", lambda: out.read_text().strip())
        self.port = int(listening.rsplit(":", 1)[1])

    def build(self, label, arguments=""):
        """Builds a system for the machine's own `/`, pushes it, and gives its store path."""
        return self.shell(
            f"path=$(build_system {HOST} {label} --argstr root '' {arguments}); "
            'cache_push "$path"; echo "$path"'
        )

    def prepare_store(self, first):
        """Installs the first system into the host's folder, as an installer would from outside."""
        profile = self.at / "profiles" / "system"
        self.shell(f"in_host {HOST} nix-store --realise {first} >&2")
        self.shell(f"in_host {HOST} nix-env --profile {profile} --set {first} >&2")

    def make_store_disk(self, image):
        """Makes the disk that the machine mounts at the fleet's folder."""
        tree = self.folder / "store-disk"
        host = tree / "hosts" / HOST
        conf = self.at / "conf" / "nix.conf"
        public = (self.folder / "cache.pub").read_text().strip()
        # Nothing here syncs store paths: that is the subscriber's task.
        conf.write_text(
            "sandbox = false\nbuild-users-group =\nexperimental-features = nix-command\n"
            f"substituters = http://{OUTSIDE}:{self.cache.server_port}\n"
            f"trusted-public-keys = {public}\n"
        )
        operator = self.shell(
            f"{self.programs}/herald key generate operator --out {self.folder}/operator.key"
        )
        trust = f'fleet = "power"\n[release]\nthreshold = 1\nkeys = ["{operator}"]\n'
        (self.at / "trust.toml").write_text(trust)
        (self.at / "subscriber.toml").write_text(
            f'fleet = "power"\nhost = "{HOST}"\nbroker = "mqtt://{OUTSIDE}:{self.port}"\n'
            f'trust = "{self.at}/trust.toml"\nstate_dir = "/var/lib/herald"\n'
            f'store_dir = "{self.folder}/nix/store"\n'
            f'[profiles.system]\nprofile = "{self.at}/profiles/system"\n'
            'current = "/run/current-system"\nbooted = "/run/booted-system"\n'
            'boot_default = "/boot/default"\n'
        )
        names = "NIX_STORE_DIR NIX_STATE_DIR NIX_LOG_DIR NIX_CONF_DIR NIX_USER_CONF_FILES"
        environment = self.shell(
            f'nix_environment {self.at}; for name in {names}; do echo -n "$name=${{!name}} "; done'
        )
        units = tree / "units"
        units.mkdir(parents=True)
        (units / "environment").write_text(environment.strip().replace(" ", "\n") + "\n")
        (units / "herald-subscriber.service").write_text(
            "[Service]\nType=notify\nKillMode=mixed\nRestart=on-failure\nRestartSec=1\n"
            f"ExecStart={self.folder}/herald-subscriber run --config {self.at}/subscriber.toml\n"
            "EnvironmentFile=/run/systemd/system/environment\n"
            "Environment=PATH=/usr/local/bin:/usr/sbin:/usr/bin HERALD_LOG=debug\n"
        )
        (tree / "nix").mkdir()
        host.parent.mkdir(parents=True)
        carried = [self.programs / name for name in ("herald-subscriber", "boot_once")]
        carried = " ".join(str(program) for program in carried if program.exists())
        self.shell(
            f"cp {carried} {tree}; mv {self.at} {host}; "
            f"mv {host}/store {tree}/nix/store; mkdir -p {self.at}; "
            "mke2fs -q -t ext4 -L store -E lazy_itable_init=0,lazy_journal_init=0 "
            f"-d {tree} {image} 1G; "
            f"chmod -R u+w {tree}; rm -rf {tree}"
        )

    def pin(self, key):
        """Writes the operator's fleet file, and begins to listen."""
        (self.folder / "fleet.toml").write_text(
            f'fleet = "power"\nbroker = "mqtt://127.0.0.1:{self.port}"\n'
            f'[hosts.{HOST}]\nkey = "{key}"\n'
        )
        command = self.command("listen", "--json")
        log = open(self.folder / "listen.log", "w")
        listener = spawn(command, stdout=subprocess.PIPE, stderr=log, text=True)
        self.children.append(listener)
        threading.Thread(target=self.listen, args=(listener,), daemon=True).start()

    def listen(self, listener):
        for line in listener.stdout:
            said = json.loads(line)
            if said["kind"] == "report":
                self.heard.append(said)

    def command(self, *arguments):
        return [self.programs / "herald", "--fleet-file", self.folder / "fleet.toml", *arguments]

    def publish(self, path, *arguments):
        """Publishes a release for the host. It is then on the broker."""
        command = self.command("publish", "--host", f"{HOST}={path}")
        command += ["--key", self.folder / "operator.key", *arguments]
        self.shell(f"as_nix {self.folder}/operator {shlex.join(map(str, command))}")
        self.releases += 1

    def status(self):
        """Gives the operator's view of the host."""
        done = subprocess.run(self.command("status", "--json"), capture_output=True, text=True)
        try:
            return json.loads(done.stdout)["hosts"][0]
        except (ValueError, KeyError, IndexError):
            raise Failed(f"no status: {done.stdout}{done.stderr}") from None

    def stop(self):
        self.cache.shutdown()
        for child in self.children:
            child.terminate()
        for child in self.children:
            child.wait()
