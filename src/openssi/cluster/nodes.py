"""Putting nodes into the cluster, changing and removing them: safe against a kill, and against each other.

The line in /etc/clustertab decides. A node's directory is made whole under another name and renamed once the line
is there; it is renamed away before the line goes. Whatever was cut off in between, recover() ends by the table.
"""

from __future__ import annotations

import dataclasses
import os
import re
import secrets
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from openssi import files
from openssi.cluster import blocks, bootserver, cdsl, create, derive, fstab, state, table
from openssi.cluster.answers import hostname
from openssi.cluster.journal import Journal
from openssi.cluster.state import Cluster
from openssi.cluster.steps import Copy, Directory, apply, copy_tree
from openssi.cluster.table import Node
from openssi.errors import Error
from openssi.netboot import dhcp

Say = Callable[[str], None]
_NEW, _OLD = ".new-node", ".old-node"
_INTERFACES = "auto lo\niface lo inet loopback\n# The interconnect's card is brought up before the root is mounted.\n"


@dataclass(frozen=True)
class Request:
    """What ssi-addnode asks for."""

    number: int
    mac: str
    ip: str
    protocol: str
    nodename: str
    failover: bool = False


def check_number(cluster: Cluster, text: str) -> int:
    """Return a number that no node has; ValueError otherwise."""
    number = table.number(text)
    if any(node.number == number for node in cluster.nodes):
        raise ValueError(f"node {number}: taken by {cluster.name_of(number)}; expected another number")
    return number


def check_mac(cluster: Cluster, text: str, but: int = 0) -> str:
    """Return a MAC that no node has, but for node ``but``; ValueError otherwise."""
    found = table.mac(text)
    for node in cluster.nodes:
        if node.mac == found and node.number != but:
            raise ValueError(f"MAC {found}: node {node.number}'s already")
    return found


def check_ip(cluster: Cluster, text: str, mac: str = "", but: int = 0) -> str:
    """Return an address of the interconnect that is nobody's, or lent to ``mac`` itself; ValueError otherwise."""
    found = state.check_address(text, cluster.interconnect)
    for node in cluster.nodes:
        if node.ip == found and node.number != but:
            raise ValueError(f"address {found}: node {node.number}'s already")
    if found in (cluster.service_address, cluster.settings.cvip):
        raise ValueError(f"address {found}: the cluster's own; expected one for the node alone")
    for lease in dhcp.waiting(cluster.root, cluster.nodes):
        if lease.ip == found and lease.mac != mac:
            raise ValueError(f"address {found}: lent to {lease.mac} that waits to be added; expected another")
    return found


def check_name(cluster: Cluster, text: str, ip: str = "", but: int = 0) -> str:
    """Return a nodename that no node has and that /etc/hosts does not lead elsewhere; ValueError otherwise."""
    name = hostname(text)
    same = name.lower()  # names are the same in either case (RFC 4343)
    for number, others in _names(cluster).items():
        if number != but and same in others:
            raise ValueError(f"nodename {name}: node {number}'s already")
    if same in (cluster.name.lower(), f"{cluster.name.lower()}-root"):
        raise ValueError(f"nodename {name}: the cluster is called so")
    numbered = re.fullmatch(r"node([0-9]+)", same)
    if name.isdecimal() or (numbered and int(numbered[1]) != but):
        raise ValueError(f"nodename {name}: means another node's number")
    for address in _hosts(cluster.root, name):
        if ip and address not in (ip, *([node.ip for node in cluster.nodes if node.number == but])):
            raise ValueError(f"nodename {name}: is {address} in /etc/hosts; expected {ip}, or another name")
    return name


def _names(cluster: Cluster) -> dict[int, set[str]]:
    """Return all names of each node, in small letters: those of its line in /etc/hosts too, such as a full name."""
    found = {number: {name.lower(), f"node{number}"} for number, name in cluster.names.items()}
    numbers = {node.ip: node.number for node in cluster.nodes}
    for address, names in _lines(derive.text_of(cluster.root / derive.HOSTS)):
        if address in numbers:
            found[numbers[address]] |= names
    return found


def _hosts(root: Path, name: str) -> list[str]:
    """Return the addresses that the administrator's own lines of /etc/hosts give to ``name``."""
    own = _lines(blocks.strip(derive.text_of(root / derive.HOSTS), f"/{derive.HOSTS}"))
    return [address for address, names in own if name.lower() in names and not address.startswith("127.")]


def _lines(text: str) -> list[tuple[str, set[str]]]:
    """Return address and names, in small letters, of each line of /etc/hosts."""
    lines = (line.partition("#")[0].lower().split() for line in text.splitlines())
    return [(words[0], set(words[1:])) for words in lines if words]


def default_number(cluster: Cluster) -> int:
    """Return the lowest number that no node has; Error when all are taken."""
    taken = {node.number for node in cluster.nodes}
    for number in range(1, table.HIGHEST + 1):
        if number not in taken:
            return number
    raise Error(f"the cluster has all its {table.HIGHEST} nodes")


def default_ip(cluster: Cluster, number: int, mac: str = "") -> str:
    """Return an address to offer: the network's with the node's number, else the first free one outside the pool."""
    network = cluster.interconnect
    first = int(network.network_address)
    pool = [int(IPv4Address(end)) for end in cluster.settings.pool] or [0, 0]
    # A /8 has 16 million addresses; 125 nodes, the pool and a few are all that can be taken of the first 1,000.
    for n in (first + number, *range(first + 1, min(first + 1000, int(network.broadcast_address)))):
        if pool[0] <= n <= pool[1]:
            continue
        try:
            return check_ip(cluster, str(IPv4Address(n)), mac)
        except ValueError:
            continue
    raise Error(f"interconnect {network}: no free address", hint="a wider network needs ssi-create anew")


def checked(cluster: Cluster, request: Request) -> Node:
    """Return the line for ``request``; Error when anything of it is taken or does not fit."""
    try:
        number = check_number(cluster, str(request.number))
        mac = check_mac(cluster, request.mac)
        ip = check_ip(cluster, request.ip, mac)
        check_name(cluster, request.nodename, ip, number)
        table.protocol(request.protocol)
    except ValueError as problem:
        raise Error(str(problem)) from None
    if request.failover and not cluster.settings.root_failover:
        raise Error(
            f"node {number}: root failover is not enabled in this cluster",
            hint="ssi-create --root-failover yes on the init node first",
        )
    return Node(number, ip, mac, request.protocol, initnode=request.failover)


def add(root: Path, request: Request, say: Say = lambda _: None) -> Node:
    """Put a node into the cluster on the tree ``root`` and return its line; Error when it can't be.

    From the table's new line on the node is in, even if all that follows is cut off.
    """
    with state.locked(root, waiting=lambda holder: say(f"waiting for {holder}")):
        recover(root)
        cluster = state.load(root)
        node = checked(cluster, request)
        _make_directory(cluster, node, request.nodename)
        _write_table(root, table.put(_table(root), node))
        _place(root, node.number)
        follow(root, say)
    return node


def remove(root: Path, number: int, say: Say = lambda _: None) -> None:
    """Take node ``number`` out of the cluster with all that it had for itself; Error for the init node."""
    with state.locked(root, waiting=lambda holder: say(f"waiting for {holder}")):
        recover(root)
        cluster = state.load(root)
        node = cluster.node(number)
        if node == cluster.init_node:
            raise Error(f"node {number}: the init node; without it there is no cluster", hint="ssi-create --undo")
        home = state.directory(root, number)
        if home.exists():
            home.rename(_aside(root, _OLD, number))
        _write_table(root, table.drop(_table(root), number))
        path = root / "etc/fstab"
        if path.exists():
            text = path.read_bytes().decode(errors="surrogateescape")
            files.write_if_changed(path, fstab.drop_node(text, number).encode(errors="surrogateescape"))
        recover(root)
        follow(root, say)


def change(root: Path, changed: Node, nodename: str | None = None, say: Say = lambda _: None) -> None:
    """Give the node with the number of ``changed`` that line, and ``nodename``; Error when something is taken."""
    with state.locked(root, waiting=lambda holder: say(f"waiting for {holder}")):
        recover(root)
        cluster = state.load(root)
        number = changed.number
        old = cluster.node(number)
        try:
            check_mac(cluster, changed.mac, but=number)
            check_ip(cluster, changed.ip, changed.mac, but=number)
            if nodename is not None:
                check_name(cluster, nodename, changed.ip, but=number)
        except ValueError as problem:
            raise Error(str(problem)) from None
        if old == cluster.init_node and not changed.initnode:
            raise Error(f"node {number}: the init node; its line must say 1")
        if old == cluster.init_node and (old.ip, old.mac) != (changed.ip, changed.mac):
            raise Error(
                f"node {number}: the init node; address and MAC are those of its card now: {old.ip}, {old.mac}",
                hint="configure the card, then ssi-create again, which takes both from it",
            )
        _write_table(root, table.put(_table(root), changed))
        if nodename is not None:
            home = state.directory(root, number)
            files.write(home / "etc/hostname", f"{nodename}\n")
            files.write(home / "etc/nodename", f"{nodename}\n")
        follow(root, say)


def with_changes(node: Node, **changes: object) -> Node:
    """Return ``node`` with those of ``changes`` that are not None; Error when one is no value for it."""
    given = {name: value for name, value in changes.items() if value is not None}
    try:
        return dataclasses.replace(node, **given)  # type: ignore[arg-type]
    except ValueError as problem:
        raise Error(str(problem)) from None


def follow(root: Path, say: Say) -> None:
    """Bring all that follows from the table up to date, under the lock: trust, exports, DHCP, then boot entries."""
    cluster = state.load(root)
    derive.refresh(cluster, Journal(root))
    try:
        bootserver.sync(cluster)
    except Error as problem:
        say(f"warning: the boot entries are not written: {problem}; then: ssi-ksync")
    bootserver.activate(root)


def recover(root: Path) -> list[str]:
    """End what was cut off in a node's directory, as the table says; return what was done. Under the lock."""
    cdsl.recover(root)
    known = {node.number for node in table.read(root / state.TABLE)}
    files.sweep([root / state.TABLE, root / "etc/fstab"])
    done = []
    for left in sorted((root / "cluster").glob(".*-node*")):
        kind, _, digits = left.name.partition("-node")
        if kind not in (".new", ".old") or not digits.isdecimal():
            continue
        home = state.directory(root, int(digits))
        if int(digits) in known and not home.exists():
            left.rename(home)
            done.append(f"/cluster/{home.name}: put in place")
        else:
            shutil.rmtree(left)
            done.append(f"/cluster/{left.name}: removed")
    return done


def _aside(root: Path, prefix: str, number: int) -> Path:
    path = root / "cluster" / f"{prefix}{number}"
    if path.exists():
        shutil.rmtree(path)
    return path


def _make_directory(cluster: Cluster, node: Node, nodename: str) -> None:
    """Make what the node has for itself, beside its place."""
    root = cluster.root
    home = state.directory(root, node.number)
    if home.exists():
        raise Error(
            f"/cluster/{home.name}: there is one though the table has no such node",
            hint="move it away if nobody needs it",
        )
    for path in state.pernode(root):
        cdsl.check_place(Path("/", path))
    new = _aside(root, _NEW, node.number)
    for directory in ("etc/network", f"{Path(create.CHRONY).parent}", "var/lib"):
        (new / directory).mkdir(parents=True)
    own = {
        "etc/nodename": f"{nodename}\n",
        "etc/hostname": f"{nodename}\n",
        "etc/machine-id": f"{secrets.token_hex(16)}\n",
        "etc/network/interfaces": _INTERFACES,
        create.CHRONY: create.chrony_node_text(cluster.service_address),
    }
    for path, text in own.items():
        files.write(new / path, text, mode=0o444 if path == "etc/machine-id" else 0o644)
    for path in state.pernode(root):
        (new / path).parent.mkdir(parents=True, exist_ok=True)
        copy_tree(root / path, new / path, content=False)
    first = cluster.init_node.number
    others = [link for link in cdsl.of_node(root, first) if link.as_posix().lstrip("/") not in own]
    for link in others:
        cdsl.give(root, link, first, new)
    if others:
        os.sync()  # before the table says that the node is there


def own_directories(root: Path, say: Say) -> None:
    """Make the directories that /cluster/etc/pernode lists for each node that has none yet, on the init node, under the lock.

    What boots next mounts them. The init node starts with all that is there, since it was the init node's; the
    others with the directories in it, as a new node does.
    """
    cluster = state.load(root)
    first, journal = cluster.init_node, Journal(root)
    there = [node for node in cluster.nodes if state.directory(root, node.number).is_dir()]
    for path in state.pernode(root):
        try:
            cdsl.check_place(Path("/", path))
        except Error as problem:
            say(f"warning: /{state.PERNODE}: {problem}")
            continue
        missing = [] if (root / path).is_dir() else [Directory(path)]
        copies = [Copy(path, f"cluster/node{node.number}/{path}", content=node == first) for node in there]
        apply(root, [*missing, *copies], journal, say)


def _place(root: Path, number: int) -> None:
    (root / "cluster" / f"{_NEW}{number}").rename(state.directory(root, number))
    files.sync_directory(root / "cluster")


def _table(root: Path) -> str:
    return (root / state.TABLE).read_text()


def _write_table(root: Path, text: str) -> None:
    table.parse(text, f"/{state.TABLE}")
    files.write(root / state.TABLE, text)
