"""onall: a command on every node that is UP."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from openssi import commands, membership, remote
from openssi.cluster import state
from openssi.remote import UNREACHED, Answer


def main(argv: Sequence[str]) -> int:
    """Run the command on all nodes at once; 0 when it did well on all, else the lowest node that it failed on."""
    parser = argparse.ArgumentParser(
        prog="onall",
        description="Run a command on every node that is UP, all at once. Nodes that write the same are shown together.",
        epilog="exit status: 0, or the number of the first node where the command failed",
    )
    parser.add_argument("-x", "--others", action="store_true", help="not on this node")
    parser.add_argument("-p", "--pin", action="store_true", help="taken for old scripts' sake")
    parser.add_argument("-t", "--timeout", type=float, metavar="SECONDS", help="give a node up after this time")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="the command with its arguments")
    options = parser.parse_args(argv)
    words = options.command[1:] if options.command[:1] == ["--"] else options.command
    if not words:
        parser.error("which command?")
    root = commands.root()
    numbers = {node.number for node in state.load(root).nodes}
    there = {n for n, each in membership.members(root).items() if each.state in membership.LIVING and n in numbers}
    if options.others:
        there.discard(state.this_node(root) or 0)
    answers = remote.on_nodes(there, words, timeout=options.timeout)
    sys.stdout.flush()
    sys.stdout.buffer.write(report(answers))
    sys.stdout.flush()
    failed = [each for each in answers if each.status != 0]
    for line in complaints(failed):
        print(f"onall: {line}", file=sys.stderr)
    return failed[0].number if failed else 0


def report(answers: Sequence[Answer]) -> bytes:
    """Return the output of all: under a line that names the nodes, equal outputs once; nothing for silent nodes."""
    parts = []
    for numbers, text in remote.folded(answers):
        if text:
            heading = f"--- node{'s' if len(numbers) > 1 else ''} {remote.ranges(numbers)}\n"
            parts.append(heading.encode() + text + (b"" if text.endswith(b"\n") else b"\n"))
    return b"".join(parts)


def complaints(failed: Sequence[Answer]) -> list[str]:
    """Return a line for each exit status other than 0, with the nodes that had it."""
    statuses: dict[int, list[int]] = {}
    for each in failed:
        statuses.setdefault(each.status, []).append(each.number)
    words = {UNREACHED: "not reached, or exit status 255"}
    return [f"{words.get(code, f'exit status {code}')}: {remote.ranges(who)}" for code, who in sorted(statuses.items())]
