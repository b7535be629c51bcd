"""Plays the test driver of NixOS for scripts of tests on virtual machines: nothing runs, but each call is one
that the driver has, and the programs of Herald understand each of their commands.

    tests/nix/driver.py FOLDER <SCRIPTS    # FOLDER has the programs; a JSON object of scripts by their names
"""

import ast
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

PROGRAMS = Path(sys.argv[1])
# What commands are answered with.
PATH = "/nix/store/" + "a" * 32 + "-nixos-system"
STATUS = {"hosts": [{"host": "alpha", "phase": "succeeded"}]}


class Machine:
    """What a script does with a machine, by the names and the arguments of the driver."""

    def __init__(self) -> None:
        self.runs = False
        self.commands = 0

    def start(self, allow_reboot: bool = False) -> None:
        self.runs = True

    def shutdown(self) -> None:
        assert self.runs, "it does not run"
        self.runs = False

    def crash(self) -> None:
        self.shutdown()

    def block(self) -> None:
        assert self.runs, "it does not run"

    def unblock(self) -> None:
        assert self.runs, "it does not run"

    def wait_for_unit(self, unit: str, user: str | None = None, timeout: int = 900) -> None:
        assert self.runs, "it does not run"
        assert re.fullmatch(r"[\w@-]+\.(service|target)", unit), unit

    def succeed(self, *commands: str, timeout: int | None = None) -> str:
        return "".join(map(self.understand, commands))

    def fail(self, *commands: str, timeout: int | None = None) -> str:
        return self.succeed(*commands)

    def wait_until_succeeds(self, command: str, timeout: int = 900) -> str:
        return self.succeed(command)

    def understand(self, command: str) -> str:
        """Has the shell and Herald's programs say that they could run it."""
        assert self.runs, "it does not run"
        subprocess.run(["bash", "-n", "-c", command], check=True)
        # The driver has pipes fail as a whole, and who writes to a grep that has gone may fail.
        assert "grep -q" not in command.partition("|")[2], command
        for part in command.split(" | "):
            program, *arguments = shlex.split(part)
            if (PROGRAMS / program).exists():
                self.commands += 1
                subprocess.run(
                    [PROGRAMS / program, *arguments, "--help"], check=True, stdout=subprocess.DEVNULL
                )
        return json.dumps(STATUS) if "--json" in command else PATH


class WithoutAssertions(ast.NodeTransformer):
    """What was found out is not what a machine would say."""

    def visit_Assert(self, node: ast.Assert) -> ast.stmt:
        return ast.copy_location(ast.Expr(node.test), node)


def play(name: str, script: str) -> int:
    """Runs a script, and gives how many commands of Herald it has."""
    machines = {"hub": Machine(), "alpha": Machine()}

    def start_all() -> None:
        for machine in machines.values():
            machine.start()

    tree = WithoutAssertions().visit(ast.parse(script, name))
    exec(compile(tree, name, "exec"), {"start_all": start_all, **machines})
    return sum(machine.commands for machine in machines.values())


counts = {name: play(name, script) for name, script in json.load(sys.stdin).items()}
assert counts and all(counts.values()), counts
print(f"nix: {len(counts)} tests on virtual machines say {sum(counts.values())} commands of Herald")
