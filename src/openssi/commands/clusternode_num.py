"""clusternode_num: print the number of the node we run on."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from openssi.cluster import state
from openssi.commands import root
from openssi.errors import Error


def main(argv: Sequence[str]) -> int:
    """Print the node number; Error on a machine that is no node of a running cluster."""
    argparse.ArgumentParser(
        prog="clusternode_num", description="Print the number of the node that this runs on."
    ).parse_args(argv)
    number = state.this_node(root())
    if number is None:
        raise Error("/run/ssi/nodenum: this machine is no node of a running cluster")
    print(number)
    return 0
