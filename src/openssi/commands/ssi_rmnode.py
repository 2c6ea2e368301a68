"""ssi-rmnode: take a node out of the cluster."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

from openssi import ask, membership
from openssi.ask import Console
from openssi.cluster import nodes, state
from openssi.cluster.state import Cluster
from openssi.cluster.table import Node
from openssi.commands import root as commands_root
from openssi.errors import Error
from openssi.membership import DOWN, GOINGDOWN, NEVERUP, SHUTDOWN, UCLEANUP

_GOING = (SHUTDOWN, GOINGDOWN, UCLEANUP)
_PATIENCE_S = 30.0  # a node that has stopped answering is DOWN after 7 to 15 seconds, and the hooks have their time


def main(argv: Sequence[str]) -> int:
    """Remove the node that is named, with all that it had for itself."""
    parser = argparse.ArgumentParser(prog="ssi-rmnode", description="take a node out of the cluster")
    parser.add_argument("node", help="its number, nodename or address")
    parser.add_argument("--force", action="store_true", help="though it is up, or nobody knows")
    parser.add_argument("--yes", action="store_true", help="ask nothing")
    options = parser.parse_args(argv)
    root = commands_root()
    cluster = state.load(root)
    node = cluster.find(options.node)
    name = cluster.name_of(node.number)
    if not options.force:
        check_gone(cluster, node)
    if ask.at_console() and not options.yes:
        question = f"Remove node {node.number} ({name}) and /cluster/node{node.number}"
        if not Console().yes(question, default=False):
            return 1
    nodes.remove(root, node.number, print)
    print(f"node {node.number} ({name}) is out of the cluster")
    return 0


def check_gone(cluster: Cluster, node: Node) -> None:
    """Raise Error unless membership says that ``node`` is down, or was never up; one that is going is waited for."""
    who = f"node {node.number} ({cluster.name_of(node.number)})"
    end = time.monotonic() + _PATIENCE_S
    told = False
    while (now := _state(cluster, node, who)) not in (DOWN, NEVERUP):
        if now not in _GOING or time.monotonic() >= end:
            raise Error(f"{who} is {now}", hint=f"ssi-shutdown -h -n {node.number} first, or --force")
        if not told:
            print(f"{who} is {now}: waiting for it to be {DOWN}")
            told = True
        time.sleep(0.5)


def _state(cluster: Cluster, node: Node, who: str) -> str:
    try:
        seen = membership.members(cluster.root)
    except Error as problem:
        hint = "if it is switched off: --force"
        raise Error(f"{who}: nobody knows whether it is up: {problem.message}", hint=hint) from None
    recorded = membership.latest(membership.history(cluster.root))
    return membership.states([node.number], seen, recorded)[node.number]
