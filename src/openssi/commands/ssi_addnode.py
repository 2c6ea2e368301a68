"""ssi-addnode: put a machine that waits for it, or will boot later, into the cluster."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from openssi import ask
from openssi.ask import Console
from openssi.cluster import nodes, state, table
from openssi.cluster.nodes import Request
from openssi.cluster.state import Cluster
from openssi.commands import root as commands_root
from openssi.errors import Error
from openssi.netboot import dhcp
from openssi.netboot.dhcp import Lease


def main(argv: Sequence[str]) -> int:
    """Ask what is not given, check it and admit the node."""
    options = _parser().parse_args(argv)
    root = commands_root()
    cluster = state.load(root)
    if options.waiting:
        return _show_waiting(cluster)
    if ask.at_console() and not options.yes:
        request = _ask(cluster, Console(), options)
        if request is None:
            print("not saved")
            return 1
    else:
        request = _given(cluster, options)
    node = nodes.add(root, request, print)
    print(f"node {node.number} ({request.nodename}) is in the cluster: {node.mac} boots as {node.ip}")
    if node.initnode:
        print(f"It may take over the root, so it needs a local boot device: ssi-chnode {node.number} --device DEVICE")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="ssi-addnode", description="put a machine into the cluster")
    parser.add_argument("--node-number", type=int, metavar="N", help=f"1 to {table.HIGHEST} (default: the lowest free)")
    parser.add_argument("--mac", help="hardware address of its card on the interconnect; 'waiting': the one that waits")
    parser.add_argument("--ip", metavar="ADDRESS", help="its address there (default: the network's with its number)")
    parser.add_argument("--boot-protocol", metavar="P|E", help="PXE or Etherboot (default: P)")
    parser.add_argument("--nodename", metavar="NAME", help="its hostname (default: node<N>)")
    parser.add_argument("--failover", action="store_true", default=None, help="it reaches the root's disk")
    parser.add_argument("--waiting", action="store_true", help="only list the machines that wait to be added")
    parser.add_argument("--yes", action="store_true", help="ask nothing")
    return parser


def waiting(cluster: Cluster) -> list[Lease]:
    """Return the machines that got an address by DHCP and are no nodes."""
    return dhcp.waiting(cluster.root, cluster.nodes)


def _show_waiting(cluster: Cluster) -> int:
    for lease in waiting(cluster):
        print(f"{lease.mac}\t{lease.ip}")
    return 0


def _given(cluster: Cluster, options: argparse.Namespace) -> Request:
    """Return the request of the flags, with defaults for what they leave out; Error without a MAC."""
    if not options.mac:
        raise Error("no answer for mac", hint="--mac MAC, --mac waiting, or run it at a console")
    mac = _the_waiting(cluster) if options.mac == "waiting" else options.mac
    number = nodes.default_number(cluster) if options.node_number is None else options.node_number
    return Request(
        number=number,
        mac=mac,
        ip=options.ip or nodes.default_ip(cluster, number, mac.lower()),
        protocol=options.boot_protocol or "P",
        nodename=options.nodename or f"node{number}",
        failover=bool(options.failover),
    )


def _the_waiting(cluster: Cluster) -> str:
    found = [lease.mac for lease in waiting(cluster)]
    if len(found) != 1:
        which = ", ".join(found) or "none"
        raise Error(f"--mac waiting: expected one machine that waits, found {which}", hint="name it: --mac MAC")
    return found[0]


def _ask(cluster: Cluster, console: Console, options: argparse.Namespace) -> Request | None:
    """Return the request with its gaps filled at the console, in the order of the guide; None: not to be saved."""
    number = options.node_number
    if number is None:
        number = console.ask(
            f"Node number, 1 to {table.HIGHEST}",
            lambda text: nodes.check_number(cluster, text),
            str(nodes.default_number(cluster)),
        )
    mac = options.mac if options.mac and options.mac != "waiting" else _ask_mac(cluster, console)
    ip = options.ip or console.ask(
        f"Address on the interconnect {cluster.interconnect}",
        lambda text: nodes.check_ip(cluster, text, mac),
        nodes.default_ip(cluster, number, mac),
    )
    protocol = options.boot_protocol or console.ask(
        "Network boot by (P)XE or (E)therboot", lambda text: table.protocol(text.upper()), "P"
    )
    name = options.nodename or console.ask(
        "Nodename", lambda text: nodes.check_name(cluster, text, ip, number), f"node{number}"
    )
    failover = bool(options.failover)
    if cluster.settings.root_failover and options.failover is None:
        failover = console.yes("Root failover: does this node reach the root's disk", default=False)
    request = Request(number, mac, ip, protocol, name, failover)
    node = nodes.checked(cluster, request)
    console.say(f"  {name}: {node.line.strip()}")
    return request if console.yes("Save", default=True) else None


def _ask_mac(cluster: Cluster, console: Console) -> str:
    lease = console.choose(
        "MAC address of the new node",
        lambda: [_Row(each.mac, each.ip) for each in waiting(cluster)],
        lambda text, _: _Row(nodes.check_mac(cluster, text)),
        "no machine waits for an address now",
    )
    return lease.mac


class _Row:
    """A machine to choose: its MAC, and the address that it was lent."""

    def __init__(self, mac: str, ip: str = "") -> None:
        self.mac = mac
        self.ip = ip

    def __str__(self) -> str:
        return f"{self.mac}  waiting at {self.ip}"
