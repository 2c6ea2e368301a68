"""ssi-timesync: force the clocks of all nodes to that of the init node, now."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from openssi import membership, remote
from openssi.cluster import state
from openssi.commands import root as commands_root
from openssi.remote import Answer

_LIMIT_S = 1.0
# A few measurements at once, wait until there is a source, set the clock, and tell how far it is off (chronyc(1)).
COMMAND = (
    "chronyc -a 'burst 3/5' >/dev/null && chronyc waitsync 20 0 0 1 >/dev/null && chronyc -a makestep >/dev/null && "
    "chronyc -c tracking"
)


def main(argv: Sequence[str]) -> int:
    """Set the clock of every node that is up; 1 when one was not reached or stays over a second off."""
    parser = argparse.ArgumentParser(prog="ssi-timesync", description="set the clocks of all nodes by the init node's")
    parser.add_argument("--timeout", type=float, default=60, metavar="S", help="for each node (default: 60)")
    options = parser.parse_args(argv)
    root = commands_root()
    cluster = state.load(root)
    first = cluster.init_node.number
    known = {node.number for node in cluster.nodes}
    there = {n for n, each in membership.members(root).items() if each.state in membership.LIVING and n in known}
    answers = remote.on_nodes(there - {first}, ["sh", "-c", COMMAND], timeout=options.timeout)
    for answer in answers:
        print(f"node {answer.number}: {verdict(answer)[1]}")
    if not answers:
        print(f"node {first}, the init node, is the only one that is up")
    return 0 if all(verdict(answer)[0] for answer in answers) else 1


def verdict(answer: Answer) -> tuple[bool, str]:
    """Return whether a node's clock is right, and a line that says so; the answer is ``chronyc -c tracking``'s line."""
    text = answer.output.decode(errors="replace").strip()
    if answer.status != 0:
        return False, f"not set: {text.splitlines()[-1] if text else f'exit status {answer.status}'}"
    try:
        # Reference ID, its name, stratum, reference time, system time (s), …
        offset = float(text.splitlines()[-1].split(",")[4])
    except (LookupError, ValueError):
        return False, f"not set: unexpected answer {text!r}"
    return abs(offset) <= _LIMIT_S, f"{offset:+.6f} s from the init node's clock"
