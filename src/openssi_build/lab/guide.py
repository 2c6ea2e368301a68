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
CARD = "enp1s0"  # and for the first node's card on the interconnect
NETWORK = "10.0.0"  # and for the interconnect's network


class Steps(dict[str, list[str]]):
    """The lines of each step by its id, and in ``taken`` the ids of those that were asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.taken: set[str] = set()

    def __getitem__(self, name: str) -> list[str]:
        self.taken.add(name)
        return super().__getitem__(name)


def steps(text: str) -> Steps:
    """Return the lines of each fenced block of ``text`` that has an id ``#step-…``; Error when an id comes twice."""
    found = Steps()
    for block in _FENCE.finditer(text):
        name = _ID.search(block["words"])
        if not name:
            continue
        if name[1] in found:
            raise Error(f"INSTALL.md: two blocks are called {name[1]}")
        indent = len(block["indent"])
        found[name[1]] = [line[indent:] for line in block["body"].splitlines()]
    return found


def read(root: Path, address: str, card: str, network: str) -> Steps:
    """Return the steps of the guide in the tree ``root``, with the names that are true here.

    ``address`` is the repository's, ``card`` the first node's on the interconnect, ``network`` the first three
    numbers of the interconnect's addresses.
    """
    text = (root / "docs/INSTALL.md").read_text()
    for theirs, ours in ((ADDRESS, address), (CARD, card), (f"{NETWORK}.", f"{network}.")):
        text = text.replace(theirs, ours)
    return steps(text)
