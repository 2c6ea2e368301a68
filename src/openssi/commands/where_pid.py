"""where_pid: on which node a process is."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from openssi import commands, membership, remote
from openssi.cluster import state
from openssi.errors import Error


def main(argv: Sequence[str]) -> int:
    """Print the node that has process PID: ours if we have it. Process 1 stands for the init node. 1 when there is none."""
    parser = argparse.ArgumentParser(
        prog="where_pid",
        description="Print the number of the node that has a process. Every node counts its own processes, so this node's "
        "comes first, then the others' by number. Process 1 is said to be on the init node.",
    )
    parser.add_argument("pid", type=int)
    pid = parser.parse_args(argv).pid
    root = commands.root()
    if pid == 1:
        print(init_node(root))
        return 0
    own = state.this_node(root)
    if (root / f"proc/{pid}").exists():
        print(own)
        return 0
    there = [n for n, each in membership.members(root).items() if each.state in membership.LIVING and n != own]
    found = [each.number for each in remote.on_nodes(there, ["test", "-d", f"/proc/{pid}"]) if each.status == 0]
    if not found:
        print(f"where_pid: no node has process {pid}", file=sys.stderr)
        return 1
    print(found[0])
    return 0


def init_node(root: Path) -> int:
    """Return the number of the node that has the root now, else the one that is meant to have it."""
    for number, each in membership.members(root).items():
        if each.role == "init" and each.state in membership.LIVING:
            return number
    try:
        return int((root / "etc/openssi/initnode").read_text())
    except (FileNotFoundError, ValueError):
        raise Error("/etc/openssi/initnode: no number", hint="this is no cluster yet: ssi-create") from None
