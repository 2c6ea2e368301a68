"""loads: the load of each node."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from openssi import commands, loads
from openssi.cluster import state


def main(argv: Sequence[str]) -> int:
    """Print ``node: load`` lines; 100 is one running task a processor. 1 when a node asked for is not heard."""
    parser = argparse.ArgumentParser(prog="loads", description="The load of each node: 100 is one task a processor.")
    parser.add_argument("-n", "--node", help="only this node, by number or name")
    options = parser.parse_args(argv)
    root = commands.root()
    heard = loads.read(root)
    if options.node is None:
        for number in sorted(heard):
            print(f"{number}: {heard[number].level}")
        return 0 if heard else 1
    number = state.load(root).find(options.node).number
    if number not in heard:
        print(f"loads: node {number} is not heard", file=sys.stderr)
        return 1
    print(f"{number}: {heard[number].level}")
    return 0
