"""The shell lines of the install guide, by the step they belong to: what the walk types is what the reader reads."""

from __future__ import annotations

import re
from pathlib import Path

from openssi.errors import Error

_FENCE = re.compile(
    r"^(?P<indent> *)``` *\{(?P<words>[^}]*)\}\n(?P<body>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL
)
_ID = re.compile(r"#(step-[\w.-]+)")
ADDRESS = "http://repository.example.org/openssi"  # what the guide writes for the repository's address


def steps(text: str) -> dict[str, list[str]]:
    """Return the lines of each fenced block of ``text`` that has an id ``#step-…``; Error when an id comes twice."""
    found: dict[str, list[str]] = {}
    for block in _FENCE.finditer(text):
        name = _ID.search(block["words"])
        if not name:
            continue
        if name[1] in found:
            raise Error(f"INSTALL.md: two blocks are called {name[1]}")
        indent = len(block["indent"])
        found[name[1]] = [line[indent:] for line in block["body"].splitlines()]
    return found


def read(root: Path, address: str) -> dict[str, list[str]]:
    """Return the steps of the guide in the tree ``root``, with ``address`` for the repository's."""
    text = (root / "docs/INSTALL.md").read_text()
    return steps(text.replace(ADDRESS, address))
