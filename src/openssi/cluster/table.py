"""/etc/clustertab: one line a node, six columns between tabs, as OpenSSI 1.x had it.

Number, address on the interconnect, MAC, network boot protocol (P = PXE, E = Etherboot), 1 for a node that
may be the init node (0 for others), local boot device or ``-``. Lines that begin with ``#`` are comments.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address
from pathlib import Path

from openssi.errors import Error

HIGHEST = 125
HEADER = "# number\taddress\tMAC\tboot\tinit\tdevice\n"
_COLUMNS = 6
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_DEVICE = re.compile(r"/dev/[A-Za-z0-9][\w/.:@+-]*|(LABEL|UUID|PARTUUID|PARTLABEL)=[\w.:@+-]+", re.ASCII)


@dataclass(frozen=True)
class Node:
    """One line of the table, checked: ``ip`` and ``mac`` are in their canonical form."""

    number: int
    ip: str
    mac: str
    protocol: str = "P"
    initnode: bool = False
    bootdev: str | None = None

    def __post_init__(self) -> None:
        """Refuse (ValueError) what no line may hold."""
        number(str(self.number))
        if address(self.ip) != self.ip or mac(self.mac) != self.mac:
            raise ValueError(f"not canonical: {self.ip} {self.mac}")
        protocol(self.protocol)
        if self.bootdev is not None:
            device(self.bootdev)

    @property
    def line(self) -> str:
        """The node as its line of the table."""
        init = str(int(self.initnode))
        return "\t".join([str(self.number), self.ip, self.mac, self.protocol, init, self.bootdev or "-"]) + "\n"


def number(text: str) -> int:
    """Return ``text`` as a node number; ValueError says what was expected."""
    if not re.fullmatch(r"[1-9][0-9]{0,2}", text) or int(text) > HIGHEST:
        raise ValueError(f"node number '{text}': expected 1 to {HIGHEST}")
    return int(text)


def address(text: str) -> str:
    """Return ``text`` as an IPv4 address that a node can have; ValueError says what was expected."""
    try:
        found = IPv4Address(text)
    except AddressValueError:
        raise ValueError(f"address '{text}': expected four numbers such as 10.0.0.2") from None
    if found.is_loopback or found.is_multicast or found.is_unspecified or found.is_reserved:
        raise ValueError(f"address '{text}': no machine can have it")
    return str(found)


def mac(text: str) -> str:
    """Return ``text`` (hex pairs, any case, between colons or dashes) as a MAC; ValueError says what was expected."""
    found = text.lower().replace("-", ":")
    if not _MAC.fullmatch(found):
        raise ValueError(f"MAC '{text}': expected six hex pairs such as 52:54:00:12:34:56")
    if int(found[:2], 16) & 1 or found == "00:00:00:00:00:00":
        raise ValueError(f"MAC '{text}': a group's or no address, not a card's")
    return found


def protocol(text: str) -> str:
    """Return the boot protocol, P or E; ValueError for anything else."""
    if text not in ("P", "E"):
        raise ValueError(f"boot protocol '{text}': expected P (PXE) or E (Etherboot)")
    return text


def device(text: str) -> str:
    """Return ``text`` if it can name a boot device: a path below /dev or LABEL=, UUID= …; ValueError otherwise."""
    if not _DEVICE.fullmatch(text) or ".." in text.split("/"):
        raise ValueError(f"device '{text}': expected /dev/… or LABEL=… or UUID=…")
    return text


def parse(text: str, where: str = "clustertab") -> list[Node]:
    """Return the nodes of the table ``text`` by number; Error names ``where`` and the line of the first fault."""
    nodes: dict[int, Node] = {}
    seen: dict[str, int] = {}
    for place, line in _lines(text):
        try:
            node = _node(line)
            for what in (f"number {node.number}", f"address {node.ip}", f"MAC {node.mac}"):
                if what in seen:
                    raise ValueError(f"{what} is taken by line {seen[what]}")
                seen[what] = place
        except ValueError as problem:
            raise Error(f"{where}: line {place}: {problem}") from None
        nodes[node.number] = node
    return [nodes[key] for key in sorted(nodes)]


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield ``(line number, line)`` of the lines that are neither empty nor a comment."""
    for place, line in enumerate(text.split("\n"), 1):
        if line.strip(" \t\r") and not line.startswith("#"):
            yield place, line


def _node(line: str) -> Node:
    columns = line.split()
    if len(columns) != _COLUMNS:
        raise ValueError(f"{len(columns)} columns: expected number, address, MAC, P or E, 1 or 0, device or -")
    if columns[4] not in ("0", "1"):
        raise ValueError(f"init flag '{columns[4]}': expected 1 or 0")
    return Node(
        number=number(columns[0]),
        ip=address(columns[1]),
        mac=mac(columns[2]),
        protocol=protocol(columns[3]),
        initnode=columns[4] == "1",
        bootdev=None if columns[5] == "-" else device(columns[5]),
    )


def read(path: Path) -> list[Node]:
    """Return the nodes in the file ``path`` by number; Error when it is missing or a line is bad."""
    try:
        return parse(path.read_bytes().decode(), str(path))
    except FileNotFoundError:
        raise Error(f"{path}: no such file", hint="this is no cluster yet: ssi-create makes its first node") from None
    except UnicodeDecodeError as problem:
        raise Error(f"{path}: {problem}") from None


def put(text: str, node: Node) -> str:
    """Return the table ``text`` with ``node`` in it: in its old line's place, else at the end; comments stay."""
    if any(each.number == node.number for each in parse(text)):
        return _edit(text, node.number, node.line)
    gap = "" if not text or text.endswith("\n") else "\n"
    return text + gap + node.line


def drop(text: str, gone: int) -> str:
    """Return the table ``text`` without the line of node ``gone``."""
    return _edit(text, gone, "")


def _edit(text: str, number: int, line: str) -> str:
    parse(text)
    places = {place for place, found in _lines(text) if found.split()[0] == str(number)}
    lines = text.split("\n")
    kept = [each + "\n" if i < len(lines) else each for i, each in enumerate(lines, 1)]
    return "".join(line if i in places else each for i, each in enumerate(kept, 1))
