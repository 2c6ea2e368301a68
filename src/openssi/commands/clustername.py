"""clustername: print the cluster's name."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from openssi.cluster import state
from openssi.commands import root
from openssi.errors import Error


def main(argv: Sequence[str]) -> int:
    """Print the cluster's name; Error when it has none."""
    argparse.ArgumentParser(prog="clustername", description="Print the name of the cluster.").parse_args(argv)
    try:
        name = (root() / state.NAME).read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        name = ""
    if not name:
        raise Error(f"/{state.NAME}: the cluster has no name", hint="ssi-create asks for it")
    print(name)
    return 0
