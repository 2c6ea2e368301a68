"""mklocalfile: make files or directories each node's own."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from openssi.cluster import cdsl
from openssi.commands import root


def main(argv: Sequence[str]) -> int:
    """Make each path local and say so."""
    parser = argparse.ArgumentParser(
        prog="mklocalfile", description="Let each node have a file or directory of its own at the path."
    )
    parser.add_argument("path", nargs="+", type=Path)
    for path in parser.parse_args(argv).path:
        absolute = Path.cwd() / path
        numbers = cdsl.make_local(root(), absolute)
        if numbers:
            print(f"{absolute}: each node has its own now (nodes {', '.join(map(str, numbers))})")
        else:
            print(f"{absolute}: each node has its own already")
    return 0
