"""service-address: put the address at which the root is served on this node's interconnect, or take it off."""

from __future__ import annotations

import argparse
import socket
import struct
import time
from collections.abc import Sequence
from ipaddress import IPv4Address

from openssi import run
from openssi.cluster import nics, state
from openssi.cluster.nics import Nic
from openssi.cluster.state import Cluster
from openssi.commands import root as commands_root
from openssi.errors import Error

_ARP = 0x0806
_BROADCAST = b"\xff" * 6


def main(argv: Sequence[str]) -> int:
    """Add the address and tell the neighbours, or remove it."""
    parser = argparse.ArgumentParser(prog="service-address", description="the address at which the root is served")
    parser.add_argument("action", choices=("add", "del"))
    parser.add_argument("--wait", type=float, default=60, metavar="S", help="for the interconnect's card (default: 60)")
    options = parser.parse_args(argv)
    cluster = state.load(commands_root())
    nic = _card(cluster, options.wait if options.action == "add" else 0)
    run.run(command(options.action, cluster.service_address, nic.name), timeout=20)
    if options.action == "add":
        announce(nic, cluster.service_address)
        print(f"{cluster.service_address} is on {nic.name}")
    return 0


def command(action: str, address: str, interface: str) -> list[str]:
    """Return the command that adds (again and again, if need be) or deletes the address."""
    verb = "replace" if action == "add" else "del"
    # /32: the card's own address stays the one that connections start from, and its route the only one.
    return ["ip", "address", verb, f"{address}/32", "dev", interface]


def own_card(cluster: Cluster, found: Sequence[Nic]) -> Nic | None:
    """Return the card of ``found`` that is on the interconnect; None when there is none."""
    return next((nic for nic in found if nic.network == cluster.interconnect), None)


def _card(cluster: Cluster, wait: float) -> Nic:
    end = time.monotonic() + wait
    while True:
        nic = own_card(cluster, nics.configured())
        if nic:
            return nic
        if time.monotonic() >= end:
            raise Error(f"no card with an address in {cluster.interconnect}", hint="see /etc/network/interfaces")
        time.sleep(0.5)


def announce(nic: Nic, address: str) -> None:
    """Tell the neighbours, by ARP, that ``address`` is ours now; who had another card in mind learns at once."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ARP)) as out:
        out.bind((nic.name, _ARP))
        out.send(gratuitous_arp(nic.mac, address))


def gratuitous_arp(mac: str, address: str) -> bytes:
    """Return the Ethernet frame of an ARP request for ``address`` by ``mac`` itself (RFC 5227, an announcement)."""
    own = bytes.fromhex(mac.replace(":", ""))
    ip = IPv4Address(address).packed
    body = struct.pack("!HHBBH6s4s6s4s", 1, 0x0800, 6, 4, 1, own, ip, bytes(6), ip)
    return _BROADCAST + own + struct.pack("!H", _ARP) + body
