"""Network cards that have an address: the candidates for the interconnect."""

from __future__ import annotations

import json
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv4Network
from typing import Any

from openssi import run
from openssi.cluster import table
from openssi.errors import Error


@dataclass(frozen=True)
class Nic:
    """A card: ``address`` is its first IPv4 address with the prefix; ``dynamic`` when DHCP gave it."""

    name: str
    mac: str
    address: IPv4Interface
    dynamic: bool = False

    @property
    def network(self) -> IPv4Network:
        """The network that the card is on."""
        return self.address.network

    @property
    def ip(self) -> str:
        """The address alone."""
        return str(self.address.ip)

    def __str__(self) -> str:
        """The card as a line to choose."""
        return f"{self.name}  {self.address}  {self.mac}{'  (address from DHCP)' if self.dynamic else ''}"


def parse(listing: str | bytes) -> list[Nic]:
    """Return the cards in what ``ip -json address`` says: Ethernet, with a broadcast address, not the loopback."""
    try:
        links = json.loads(listing)
        found = [_nic(link) for link in links]
    except (ValueError, TypeError, KeyError, AttributeError) as problem:
        raise Error(f"ip -json address: not understood: {problem}") from None
    return [nic for nic in found if nic]


def _nic(link: dict[str, Any]) -> Nic | None:
    if link.get("link_type") != "ether":
        return None
    for each in link.get("addr_info", []):
        if each.get("family") != "inet" or each.get("scope") != "global" or not 1 <= each["prefixlen"] <= 30:
            continue
        try:
            card = table.mac(link["address"])
        except ValueError:
            return None
        address = IPv4Interface(f"{each['local']}/{each['prefixlen']}")
        return Nic(str(link["ifname"]), card, address, bool(each.get("dynamic")))
    return None


def configured() -> list[Nic]:
    """Return this machine's cards that have an address."""
    # Not with -4: ip then leaves the MAC out.
    return parse(run.output(["ip", "-json", "address"], timeout=20) or b"[]")
