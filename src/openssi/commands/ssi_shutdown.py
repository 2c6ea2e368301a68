"""ssi-shutdown: power off or reboot the whole cluster, nodes first, the root last; or some nodes, or one after the other."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from openssi import commands, membership, remote, run
from openssi.cluster import state
from openssi.commands.where_pid import init_node
from openssi.errors import Error
from openssi.membership import DOWN, GOINGDOWN, LIVING, SHUTDOWN, UP

_DOWN_S = 180.0
_UP_S = 900.0
_STATE = "/usr/lib/openssi/set-state"


def main(argv: Sequence[str]) -> int:
    """Do what was asked, saying each step; 1 when a node did not go down or come up in time."""
    parser = argparse.ArgumentParser(
        prog="ssi-shutdown",
        add_help=False,  # -h halts
        description="Power off (-h) or reboot (-r) the cluster: first the nodes, all at once, then the init node, whose disk "
        "is everybody's root. With --node only these nodes; with --rolling one node after the other, the cluster stays up.",
    )
    how = parser.add_mutually_exclusive_group(required=True)
    how.add_argument("-h", "--halt", action="store_true", help="power off")
    how.add_argument("-r", "--reboot", action="store_true", help="reboot")
    how.add_argument("--rolling", action="store_true", help="reboot one node after the other, the init node not")
    parser.add_argument(
        "-n", "--node", action="append", default=[], help="only this node, by number or name; again for more"
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would be done")
    parser.add_argument("--help", action="help", help="show this")
    options = parser.parse_args(argv)
    root = commands.root()
    cluster = state.load(root)
    wanted = [cluster.find(text).number for text in options.node]
    first = init_node(root)
    if state.this_node(root) != first and not options.dry_run:
        # this node is among those that go
        return run.interactive([remote.ONNODE, str(first), "ssi-shutdown", *argv])
    there = [n for n, each in membership.members(root).items() if each.state in LIVING]
    steps = plan(there, first, wanted, rolling=options.rolling)
    verb = "poweroff" if options.halt else "reboot"
    if options.dry_run:
        print("\n".join(f"{verb} {remote.ranges(step)}" for step in steps))
        return 0
    for step in steps:
        _step(root, step, verb, first, rolling=options.rolling)
    return 0


def plan(there: Iterable[int], first: int, wanted: Sequence[int], *, rolling: bool) -> list[list[int]]:
    """Return the steps: lists of nodes that go together. The init node ``first`` goes last, and not in a rolling reboot."""
    nodes = sorted(set(wanted) & set(there) if wanted else there)
    if wanted and (missing := sorted(set(wanted) - set(there))):
        raise Error(f"node {remote.ranges(missing)}: not up", hint="cluster -v")
    if first in wanted and set(nodes) != set(there):
        others = sorted(set(there) - set(nodes))
        raise Error(
            f"node {first} has the root of node {remote.ranges(others)}: it goes last",
            hint="ssi-shutdown without --node takes all down in order; systemctl reboot on it makes the others wait for it",
        )
    others = [number for number in nodes if number != first]
    if rolling:
        return [[number] for number in others]
    return [step for step in (others, [first] if first in nodes else []) if step]


def _step(root: Path, numbers: list[int], verb: str, first: int, *, rolling: bool) -> None:
    """Take ``numbers`` down together and wait until they are; in a rolling reboot until they are up again."""
    print(f"node {remote.ranges(numbers)}: {verb}", flush=True)
    remote.on_nodes(numbers, [_STATE, SHUTDOWN], timeout=30)
    for answer in remote.on_nodes(numbers, ["systemctl", verb], timeout=60):
        # the connection may end before the answer comes
        if answer.status not in (0, remote.UNREACHED):
            text = answer.output.decode(errors="replace").strip()
            raise Error(f"node {answer.number}: systemctl {verb}: exit status {answer.status}: {text}")
    if first in numbers:
        return  # the root goes now, and with it we
    begun = time.monotonic()
    _wait(root, numbers, lambda each: each in (DOWN, membership.UCLEANUP), _DOWN_S, "down", begun)
    print(f"node {remote.ranges(numbers)}: down after {time.monotonic() - begun:.0f} s", flush=True)
    if rolling:
        _wait(root, numbers, lambda each: each == UP, _UP_S, "up again", begun)
        print(f"node {remote.ranges(numbers)}: up again after {time.monotonic() - begun:.0f} s", flush=True)


def _wait(
    root: Path, numbers: list[int], reached: Callable[[str], bool], seconds: float, word: str, begun: float
) -> None:
    while time.monotonic() - begun < seconds:
        seen = membership.members(root)
        left = [n for n in numbers if not reached(seen[n].state if n in seen else DOWN)]
        if not left:
            return
        time.sleep(0.5)
    raise Error(
        f"node {remote.ranges(left)}: not {word} after {seconds:.0f} s",
        hint=f"states other than {GOINGDOWN}: cluster -v; the rest of the cluster was left as it is",
    )
