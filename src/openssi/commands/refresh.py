"""refresh: on the init node, bring all that follows from the table up to date, and the running servers with it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from openssi.cluster import nodes, state
from openssi.commands import root as commands_root


def main(argv: Sequence[str]) -> int:
    """End what was cut off, then follow the table."""
    parser = argparse.ArgumentParser(prog="refresh", description="follow /etc/clustertab")
    parser.parse_args(argv)
    root = commands_root()
    if not state.exists(root) or not state.is_init_node(root):
        return 0
    with state.locked(root, waiting=lambda holder: print(f"waiting for {holder}")):
        for line in nodes.recover(root):
            print(line)
        nodes.own_directories(root, print)
        nodes.follow(root, print)
    return 0
