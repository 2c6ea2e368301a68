"""fast: a command on the node that has the least to do."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from openssi import commands, loads, remote, run
from openssi.cluster import state
from openssi.errors import Error


def main(argv: Sequence[str]) -> int:
    """Run the command there, as onnode does, and return its exit status; here when no load is known."""
    parser = argparse.ArgumentParser(prog="fast", description="Run a command on the node with the least load.")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="the command with its arguments")
    options = parser.parse_args(argv)
    words = options.command[1:] if options.command[:1] == ["--"] else options.command
    if not words:
        parser.error("which command?")
    root = commands.root()
    number = loads.least(loads.read(root)) or state.this_node(root)
    if number is None:
        raise Error("/run/ssi/nodenum: this machine did not boot as a node", hint="ssi-create, then reboot")
    return run.interactive([remote.ONNODE, str(number), *words])
