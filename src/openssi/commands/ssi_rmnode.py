"""ssi-rmnode: take a node out of the cluster."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from openssi import ask, run
from openssi.ask import Console
from openssi.cluster import nodes, state
from openssi.cluster.state import Cluster
from openssi.cluster.table import Node
from openssi.commands import root as commands_root
from openssi.errors import Error


def main(argv: Sequence[str]) -> int:
    """Remove the node that is named, with all that it had for itself."""
    parser = argparse.ArgumentParser(prog="ssi-rmnode", description="take a node out of the cluster")
    parser.add_argument("node", help="its number, nodename or address")
    parser.add_argument("--force", action="store_true", help="though it is up")
    parser.add_argument("--yes", action="store_true", help="ask nothing")
    options = parser.parse_args(argv)
    root = commands_root()
    cluster = state.load(root)
    node = cluster.find(options.node)
    name = cluster.name_of(node.number)
    if is_up(cluster, node) and not options.force:
        raise Error(f"node {node.number} ({name}) is up", hint="ssi-shutdown it first, or --force")
    if ask.at_console() and not options.yes:
        question = f"Remove node {node.number} ({name}) and /cluster/node{node.number}"
        if not Console().yes(question, default=False):
            return 1
    nodes.remove(root, node.number, print)
    print(f"node {node.number} ({name}) is out of the cluster")
    return 0


def is_up(cluster: Cluster, node: Node) -> bool:
    """Return True when membership says that ``node`` is up; False also when nothing runs here to ask."""
    if cluster.root != Path("/") or not run.find("cluster"):
        return False
    status, out, _ = run.status(["cluster", "--json"], timeout=10)
    if status != 0:
        return False
    return any(each.get("number") == node.number and each.get("state") == "UP" for each in _nodes(out))


def _nodes(listing: bytes) -> list[dict[str, object]]:
    try:
        found = json.loads(listing)
    except ValueError:
        return []
    rows = found.get("nodes", []) if isinstance(found, dict) else found
    return [each for each in rows if isinstance(each, dict)]
