"""The answers that ssi-create asks for, in the guide's order, each with its check."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path

from openssi import config
from openssi.cluster import table
from openssi.cluster.nics import Nic
from openssi.cluster.state import check_address, check_arguments
from openssi.errors import Error

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*", re.IGNORECASE)
_LONGEST = 64  # HOST_NAME_MAX of Linux


@dataclass(frozen=True)
class Answers:
    """What was answered so far; None: not yet. The keys of an answers file are these names with hyphens."""

    node_number: int | None = None
    interconnect: str | None = None  # name of the card
    boot_protocol: str | None = None
    cvip: str | None = None  # empty: none
    clustername: str | None = None
    root_failover: bool | None = None
    # Beyond the guide; each has a default that serves.
    service_address: str | None = None
    pool: str | None = None  # FIRST-LAST
    kernel_arguments: str | None = None


@dataclass(frozen=True)
class Complete:
    """All answers, checked against the machine."""

    number: int
    nic: Nic
    protocol: str
    cvip: str | None
    clustername: str
    failover: bool
    service_address: str
    pool: tuple[str, str]
    kernel_arguments: str = ""


def read(path: Path) -> Answers:
    """Read the answers file ``path`` (TOML); Error names what is unknown or ill-typed."""
    return config.load(path, Answers)


def merged(under: Answers, over: Answers) -> Answers:
    """Return ``over`` with its gaps filled from ``under``."""
    values = {
        each.name: getattr(over, each.name) if getattr(over, each.name) is not None else getattr(under, each.name)
        for each in fields(Answers)
    }
    return Answers(**values)


def hostname(text: str) -> str:
    """Return ``text`` if it can name a machine (RFC 1123); ValueError otherwise."""
    if not _NAME.fullmatch(text) or len(text) > _LONGEST or text.rpartition(".")[2].isdecimal():
        raise ValueError(f"name '{text}': expected letters, digits and hyphens, at most {_LONGEST}")
    if text.lower() in ("localhost", "localhost.localdomain") or re.fullmatch(r"node[0-9]+-root", text):
        raise ValueError(f"name '{text}': taken by the system")
    return text


def card(text: str, nics: Sequence[Nic]) -> Nic:
    """Return the card called ``text``; ValueError lists those that are configured.

    ``NAME,MAC,ADDRESS/PREFIX`` describes one that is not in this machine: for a tree that boots elsewhere.
    """
    if text.count(",") == 2:
        return described(text)
    for nic in nics:
        if nic.name == text:
            if not 8 <= nic.network.prefixlen <= 29:
                raise ValueError(f"{nic}: expected a prefix of 8 to 29, so that there is room for nodes")
            return nic
    known = ", ".join(nic.name for nic in nics) or "none"
    raise ValueError(f"card '{text}': expected one with an address (configured: {known})")


def described(text: str) -> Nic:
    """Return the card that ``NAME,MAC,ADDRESS/PREFIX`` describes; ValueError otherwise."""
    name, mac, address = text.split(",")
    try:
        found = Nic(name, table.mac(mac), IPv4Interface(address))
    except ValueError as problem:
        raise ValueError(f"card '{text}': {problem}") from None
    table.address(found.ip)
    check_address(found.ip, found.network)
    if not 8 <= found.network.prefixlen <= 29:
        raise ValueError(f"card '{text}': expected a prefix of 8 to 29")
    return found


def virtual(text: str, nics: Sequence[Nic]) -> str | None:
    """Return the CVIP, None for the empty answer; ValueError when a card has the address itself."""
    if not text:
        return None
    found = table.address(text)
    if any(nic.ip == found for nic in nics):
        raise ValueError(f"CVIP {found}: an address of this node's own; expected one that no node has")
    return found


def service(text: str, nic: Nic, cvip: str | None) -> str:
    """Return the service address; ValueError unless it is a free one on the interconnect."""
    found = check_address(text, nic.network)
    if found in (nic.ip, cvip):
        raise ValueError(f"service address {found}: taken; expected one that no node has, since it moves")
    return found


def pool(text: str, nic: Nic, service_address: str) -> tuple[str, str]:
    """Return first and last address of ``FIRST-LAST``; ValueError when they are no range or hold one of ours."""
    first, dash, last = (part.strip() for part in text.partition("-"))
    if not dash:
        raise ValueError(f"pool '{text}': expected FIRST-LAST")
    ends = check_address(first, nic.network), check_address(last, nic.network)
    low, high = (IPv4Address(end) for end in ends)
    if low > high:
        raise ValueError(f"pool '{text}': the first address is behind the last")
    for own in (nic.ip, service_address):
        if low <= IPv4Address(own) <= high:
            raise ValueError(f"pool '{text}': holds {own}, which is taken")
    return ends


def default_service(nic: Nic, cvip: str | None = None) -> str:
    """Return the highest address of the interconnect that is neither the card's nor the CVIP."""
    top = int(nic.network.broadcast_address) - 1
    return next(text for n in range(top, top - 3, -1) if (text := str(IPv4Address(n))) not in (nic.ip, cvip))


def default_pool(nic: Nic, service_address: str) -> str:
    """Return the widest stretch, at most 128 addresses, in the upper half of the network that holds none of ours."""
    network = nic.network
    low, high = int(network.network_address) + network.num_addresses // 2, int(network.broadcast_address) - 1
    low = max(low, high - 160)
    taken = sorted({int(nic.address.ip), int(IPv4Address(service_address))})
    edges = [low - 1, *(each for each in taken if low <= each <= high), high + 1]
    gap = max(itertools.pairwise(edges), key=lambda pair: (pair[1] - pair[0], pair))
    first, last = gap[0] + 1, min(gap[1] - 1, gap[0] + 128)
    if last < first:
        return default_pool_small(network, taken)
    return f"{IPv4Address(first)}-{IPv4Address(last)}"


def default_pool_small(network: IPv4Network, taken: Sequence[int]) -> str:
    """Return one free address as a pool, for a network with a handful of them."""
    free = next(each for each in reversed(list(network.hosts())) if int(each) not in taken)
    return f"{free}-{free}"


_REQUIRED = {
    "node_number": "node-number",
    "interconnect": "interconnect",
    "boot_protocol": "boot-protocol",
    "clustername": "clustername",
}


def check(given: Answers, nics: Sequence[Nic], resolve: Mapping[str, str]) -> Complete:
    """Return the answers, complete and fitting together; Error names the first that is missing or wrong.

    ``resolve`` has what the cluster's name leads to outside of our own lines, if anything.
    """
    missing = [flag for name, flag in _REQUIRED.items() if getattr(given, name) is None]
    if missing:
        raise Error(
            f"no answer for {', '.join(missing)}", hint="give them as flags, in --answers FILE, or at a console"
        )
    try:
        return _complete(given, nics, resolve)
    except ValueError as problem:
        # An answer with a line's end or a bell in it is shown, and the error stays one line.
        raise Error("".join(c if c.isprintable() else repr(c)[1:-1] for c in str(problem))) from None


def _complete(given: Answers, nics: Sequence[Nic], resolve: Mapping[str, str]) -> Complete:
    number = table.number(str(given.node_number))
    nic = card(given.interconnect or "", nics)
    protocol = table.protocol(given.boot_protocol or "")
    cvip = virtual(given.cvip or "", nics)
    name = hostname(given.clustername or "")
    service_address = service(given.service_address or default_service(nic, cvip), nic, cvip)
    expected = cvip or service_address
    if resolve.get(name, expected) != expected:
        raise ValueError(
            f"clustername {name}: resolves to {resolve[name]}; expected "
            + (f"the CVIP {expected}" if cvip else f"no address but the service address {expected}")
        )
    return Complete(
        number=number,
        nic=nic,
        protocol=protocol,
        cvip=cvip,
        clustername=name,
        failover=bool(given.root_failover),
        service_address=service_address,
        pool=pool(given.pool or default_pool(nic, service_address), nic, service_address),
        kernel_arguments=check_arguments(given.kernel_arguments or ""),
    )
