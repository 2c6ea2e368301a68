"""clusternode_getstate: the state of a node, one word."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from openssi import commands
from openssi.commands.cluster import view


def main(argv: Sequence[str]) -> int:
    """Print the state of the node asked for, by number or name."""
    parser = argparse.ArgumentParser(prog="clusternode_getstate", description="Print the state of a node.")
    parser.add_argument("node", help="number or name")
    options = parser.parse_args(argv)
    now = view(commands.root())
    print(now.states[now.cluster.find(options.node).number])
    return 0
