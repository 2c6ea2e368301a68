"""The interconnect as a boot server sees it."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Protocol

from openssi.errors import Error

_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_INTERFACE = re.compile(r"[A-Za-z0-9_.:@-]{1,15}")


class Node(Protocol):
    """What network boot must know of a node; the cluster's own table rows fit."""

    @property
    def number(self) -> int:
        """Its number, 1 to 125."""

    @property
    def ip(self) -> str:
        """Its address on the interconnect."""

    @property
    def mac(self) -> str:
        """The hardware address of its interconnect NIC."""

    @property
    def protocol(self) -> str:
        """``P`` (PXE) or ``E`` (Etherboot)."""


@dataclass(frozen=True)
class Network:
    """The interconnect: where this boot server is on it, and what it may give to machines that are no nodes yet.

    ``service`` is the address the shared root is served from; it may move to another node. ``arguments`` go to
    every kernel (``console=ttyS0,115200``). With ``http`` kernels are fetched by HTTP where the loader can.
    """

    interface: str
    address: str
    prefix: int
    service: str
    first: str
    last: str
    arguments: str = ""
    http: bool = True

    def __post_init__(self) -> None:
        if not _INTERFACE.fullmatch(self.interface):
            raise Error(f"interconnect: interface {self.interface!r}: expected a name such as eth1")
        if "\n" in self.arguments:
            raise Error("interconnect: kernel arguments: expected one line")
        for what, address in (("address", self.address), ("first", self.first), ("last", self.last)):
            if ipaddress.IPv4Address(_ipv4(address)) not in self.subnet:
                raise Error(f"interconnect: {what} {address}: expected an address in {self.subnet}")
        _ipv4(self.service)

    @property
    def subnet(self) -> ipaddress.IPv4Network:
        """The network that the server's address and prefix span."""
        try:
            return ipaddress.IPv4Network(f"{_ipv4(self.address)}/{self.prefix}", strict=False)
        except ValueError:
            raise Error(f"interconnect: prefix {self.prefix}: expected 1 to 30") from None

    @property
    def ula(self) -> str:
        """An IPv6 address for the server, from RFC 4193's range: iPXE waits 13 s for a router that never speaks.

        The subnet's own number is in it, so that two clusters on one switch differ.
        """
        number = int(self.subnet.network_address)
        return str(ipaddress.IPv6Address((0xFD73_7369 << 96) | (number << 64) | 1))


def network(interface: str, address: str, *, service: str = "", arguments: str = "", http: bool = True) -> Network:
    """Return the Network of ``interface`` with ``address`` ("10.1.0.1/24").

    The last quarter of the subnet, or the half that the server is not in when it is small, is for machines that
    are no nodes yet.
    """
    try:
        card = ipaddress.IPv4Interface(address)
    except ValueError:
        raise Error(f"{interface}: address {address!r}: expected ADDRESS/PREFIX such as 10.1.0.1/24") from None
    if not 1 <= card.network.prefixlen <= 29:
        raise Error(f"{interface}: {address}: expected a prefix of 1 to 29: there must be room for nodes")
    first, last = _pool(card)
    return Network(
        interface,
        str(card.ip),
        card.network.prefixlen,
        service or str(card.ip),
        str(first),
        str(last),
        arguments,
        http,
    )


def _pool(card: ipaddress.IPv4Interface) -> tuple[ipaddress.IPv4Address, ipaddress.IPv4Address]:
    """Return the ends of the range: at most 256 addresses, never the server's own."""
    start, end = int(card.network.network_address), int(card.network.broadcast_address)
    size = end - start + 1
    low, high = max(start + size * 3 // 4, end - 256), end - 1
    if low <= int(card.ip) <= high:
        low, high = start + size // 4, start + size // 2 - 1
    return ipaddress.IPv4Address(low), ipaddress.IPv4Address(high)


def mac(text: str) -> str:
    """Return the hardware address ``text`` in lower case with colons; Error when it is none of a card."""
    plain = text.strip().lower().replace("-", ":")
    if not _MAC.fullmatch(plain) or int(plain[:2], 16) & 1:
        raise Error(f"hardware address {text!r}: expected six bytes such as 52:54:00:12:34:56, not a group's")
    return plain


def entry_name(text: str) -> str:
    """Return the name that pxelinux asks for: ARP type 01 (Ethernet), dashes, lower case."""
    return "01-" + mac(text).replace(":", "-")


def node_arguments(node: Node, on: Network) -> str:
    """Return the kernel parameters that tell the initrd which node it is."""
    _ipv4(node.ip)
    words = [f"ssi.node={node.number}", f"ssi.ip={node.ip}/{on.prefix}", f"ssi.server={on.service}"]
    return " ".join(words)


def _ipv4(text: str) -> str:
    try:
        return str(ipaddress.IPv4Address(text))
    except ValueError:
        raise Error(f"address {text!r}: expected an IPv4 address such as 10.1.0.2") from None
