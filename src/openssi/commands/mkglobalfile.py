"""mkglobalfile: make files or directories that each node has for itself one for all again."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from openssi.cluster import cdsl, state
from openssi.commands import root
from openssi.errors import Error


def main(argv: Sequence[str]) -> int:
    """Make each path global and say so."""
    parser = argparse.ArgumentParser(prog="mkglobalfile", description="Undo mklocalfile: one file for all nodes.")
    parser.add_argument("-n", "--node", type=int, help="take this node's copy (default: the node it runs on)")
    parser.add_argument("-f", "--force", action="store_true", help="even when other nodes' copies differ: drop them")
    parser.add_argument("path", nargs="+", type=Path)
    arguments = parser.parse_args(argv)
    number = arguments.node or state.this_node(root())
    if number is None:
        raise Error("/run/ssi/nodenum: this machine is no node of a running cluster", hint="--node says whose copy")
    for path in arguments.path:
        absolute = Path.cwd() / path
        cdsl.make_global(root(), absolute, number, force=arguments.force)
        print(f"{absolute}: all nodes share that of node {number} now")
    return 0
