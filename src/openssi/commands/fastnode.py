"""fastnode: which node has the least to do."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from openssi import commands, loads


def main(argv: Sequence[str]) -> int:
    """Print the number of the node with the least load; 1 when no load is known."""
    argparse.ArgumentParser(prog="fastnode", description="Print the node with the least load.").parse_args(argv)
    number = loads.least(loads.read(commands.root()))
    if number is None:
        print("fastnode: no load is known (systemctl status openssi-loads)", file=sys.stderr)
        return 1
    print(number)
    return 0
