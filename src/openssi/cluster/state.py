"""What a cluster is, as its shared root says: nodes, names, interconnect, service address.

The truth lies in /etc/clustertab, /etc/clustername, /cluster/etc/cluster.toml and /cluster/node<N>/. Everything
else (DHCP entries, boot entries, exports, trust between the nodes) is made from it, under the one lock.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from openssi import config, files
from openssi.cluster import table
from openssi.cluster.table import Node
from openssi.errors import Error

TABLE = "etc/clustertab"
NAME = "etc/clustername"
SETTINGS = "cluster/etc/cluster.toml"
LOCK = "cluster/etc/lock"
SERF_KEY = "cluster/etc/serf-key"
INITNODE = "etc/openssi/initnode"
PERNODE = "cluster/etc/pernode"
# What every node has for itself as a directory that the initrd mounts; the administrator may list more.
OWN_DIRECTORIES = ("var/lib/systemd", "var/lib/nfs", "var/lib/serf", "var/lib/chrony")
_HOSTS = "etc/hosts"
_INTERFACE = re.compile(r"[A-Za-z0-9_.:@-]{1,15}")
# Kernel words go into TOML, boot menus and shell lines unquoted: nothing that any of them would read as its own.
_ARGUMENTS = re.compile(r"[A-Za-z0-9_.,:;=/@+ -]*")


@dataclass(frozen=True)
class Settings:
    """/cluster/etc/cluster.toml: ``interconnect`` is a network such as 10.0.0.0/24."""

    interconnect: str
    service_address: str
    pool: tuple[str, ...] = ()  # first and last address that DHCP lends to machines which wait to be added
    root_failover: bool = False
    cvip: str | None = None
    interface: str = ""  # the init node's card on the interconnect
    kernel_arguments: str = ""  # for every node's kernel, such as console=ttyS0,115200

    def __post_init__(self) -> None:
        """Refuse (ValueError) addresses that do not fit together."""
        network = IPv4Network(self.interconnect)
        if self.pool and len(self.pool) != 2:
            raise ValueError("pool: expected two addresses, the first and the last")
        for each in (self.service_address, *self.pool):
            check_address(each, network)
        if self.cvip is not None:
            table.address(self.cvip)
        if self.interface and not _INTERFACE.fullmatch(self.interface):
            raise ValueError(f"interface '{self.interface}': expected a name such as eth1")
        check_arguments(self.kernel_arguments)

    @property
    def text(self) -> str:
        """The settings as TOML."""
        lines = [
            "# The cluster's settings, written by ssi-create.",
            f'interconnect = "{self.interconnect}"',
            f'service-address = "{self.service_address}"  # moves with the root',
        ]
        if self.pool:
            lines.append(f'pool = ["{self.pool[0]}", "{self.pool[1]}"]  # lent to machines that wait to be added')
        lines.append(f"root-failover = {str(self.root_failover).lower()}")
        if self.cvip:
            lines.append(f'cvip = "{self.cvip}"')
        if self.interface:
            lines.append(f'interface = "{self.interface}"  # of the init node')
        if self.kernel_arguments:
            lines.append(f'kernel-arguments = "{self.kernel_arguments}"')
        return "\n".join(lines) + "\n"


def check_arguments(text: str) -> str:
    """Return ``text`` if it can be put behind a kernel's name in a boot menu; ValueError otherwise."""
    if not _ARGUMENTS.fullmatch(text):
        raise ValueError(f"kernel arguments '{text}': expected plain words")
    return text


def check_address(text: str, network: IPv4Network) -> str:
    """Return ``text`` if a machine on ``network`` can have this address; ValueError otherwise."""
    found = table.address(text)
    if IPv4Address(found) not in network:
        raise ValueError(f"address '{found}': not in the interconnect {network}")
    if IPv4Address(found) in (network.network_address, network.broadcast_address):
        raise ValueError(f"address '{found}': the network's own or its broadcast address")
    return found


@dataclass(frozen=True)
class Cluster:
    """A cluster as it is configured; who is up, membership knows."""

    root: Path
    name: str
    nodes: tuple[Node, ...]  # by number
    settings: Settings
    interconnect: IPv4Network = field(init=False)

    def __post_init__(self) -> None:
        """Work out the network once."""
        object.__setattr__(self, "interconnect", IPv4Network(self.settings.interconnect))

    @property
    def service_address(self) -> str:
        """Where the root is served, by whichever node has it."""
        return self.settings.service_address

    @property
    def init_node(self) -> Node:
        """The node that serves the root: the one in /etc/openssi/initnode; Error when no node can be."""
        try:
            number = (self.root / INITNODE).read_text().strip()
        except FileNotFoundError:
            number = ""
        able = [node for node in self.nodes if node.initnode]
        if not able:
            raise Error(f"/{TABLE}: no node has 1 in its fifth column: expected the init node", hint="correct the line")
        return next((node for node in able if str(node.number) == number), able[0])

    @cached_property
    def names(self) -> dict[int, str]:
        """Node names by number; a file a node, so ask name_of() when one will do."""
        return {node.number: self.name_of(node.number) for node in self.nodes}

    def name_of(self, number: int) -> str:
        """Return the name of node ``number``: its /etc/nodename, ``node<N>`` when it has none."""
        path = directory(self.root, number) / "etc/nodename"
        try:
            return path.read_text(encoding="utf-8", errors="replace").strip() or f"node{number}"
        except (FileNotFoundError, NotADirectoryError):
            return f"node{number}"

    def node(self, number: int) -> Node:
        """Return node ``number``; Error when the table has none."""
        for node in self.nodes:
            if node.number == number:
                return node
        raise Error(f"node {number}: not in /{TABLE} ({_numbers(self.nodes)})")

    def find(self, text: str) -> Node:
        """Return the node that ``text`` names by number, nodename or address; Error when there is none."""
        if text.isdecimal():
            return self.node(int(text))
        for node in self.nodes:
            if text == node.ip:
                return node
        likely = self._likely(text)
        for node in (*likely, *self.nodes):
            if self.name_of(node.number) == text:
                return node
        raise Error(f"node {text}: not in this cluster ({_numbers(self.nodes)})")

    def _likely(self, name: str) -> list[Node]:
        """Return the node that /etc/hosts calls ``name``: one file read instead of up to 125."""
        try:
            hosts = (self.root / _HOSTS).read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return []
        addresses = {line.split()[0] for line in hosts.splitlines() if name in line.split()[1:]}
        return [node for node in self.nodes if node.ip in addresses]


def _numbers(nodes: tuple[Node, ...]) -> str:
    known = ", ".join(str(node.number) for node in nodes[:20])
    return f"nodes: {known}{', …' if len(nodes) > 20 else ''}" if nodes else "it is empty"


def directory(root: Path, number: int) -> Path:
    """Return the directory with what node ``number`` has for itself."""
    return root / "cluster" / f"node{number}"


def pernode(root: Path) -> list[str]:
    """Return the directories, without the leading slash, that every node has for itself by a mount."""
    path = root / PERNODE
    text = path.read_text() if path.exists() else "".join(f"/{each}\n" for each in OWN_DIRECTORIES)
    words = (line.partition("#")[0].strip() for line in text.splitlines())
    return [word.strip("/") for word in words if word.startswith("/") and ".." not in word.split("/")]


def exists(root: Path) -> bool:
    """Return True when the tree ``root`` is a cluster's."""
    return (root / SETTINGS).exists() and (root / TABLE).exists()


def load(root: Path) -> Cluster:
    """Read the cluster on the tree ``root``; Error when there is none or a file is faulty."""
    nodes = table.read(root / TABLE)
    settings = config.load(root / SETTINGS, Settings)
    try:
        name = (root / NAME).read_text(encoding="utf-8", errors="replace").strip()
    except FileNotFoundError:
        name = ""
    return Cluster(root, name, tuple(nodes), settings)


def this_node(root: Path) -> int | None:
    """Return the number of the node we run on, which the initrd noted in /run/ssi/nodenum; None when it did not."""
    try:
        return int((root / "run/ssi/nodenum").read_text())
    except (FileNotFoundError, ValueError):
        return None


def is_init_node(root: Path) -> bool:
    """Return True unless the initrd said that we are a node without the root."""
    try:
        return (root / "run/ssi/role").read_text().strip() != "node"
    except FileNotFoundError:
        return True


@contextmanager
def locked(root: Path, *, timeout: float | None = 60.0, waiting: Callable[[str], None] | None = None) -> Iterator[None]:
    """Hold the one lock of the cluster's configuration during the block, against all processes on all nodes."""
    with files.lock(root / LOCK, timeout=timeout, waiting=waiting):
        yield
