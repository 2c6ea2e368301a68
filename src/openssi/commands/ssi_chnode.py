"""ssi-chnode: change what the cluster knows of a node, and give it a local boot device."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from openssi import ask
from openssi.ask import Console
from openssi.cluster import localboot, nodes, state, table
from openssi.cluster.state import Cluster
from openssi.cluster.table import Node
from openssi.commands import root as commands_root
from openssi.errors import Error


def main(argv: Sequence[str]) -> int:
    """Ask what is not given, change the node's line, and make its boot device one that boots."""
    options = _parser().parse_args(argv)
    root = commands_root()
    cluster = state.load(root)
    if options.node is None:
        if not ask.at_console():
            raise Error("no node named", hint="ssi-chnode NODE --device DEVICE")
        _ask(cluster, Console(), options)
    node = cluster.find(options.node)
    device = options.device
    if device and device != "none" and node != cluster.init_node:
        nodes.with_changes(node, bootdev=device)  # judged before the node is asked
        device = localboot.lasting(node, device)
    changed = nodes.with_changes(
        node,
        mac=options.mac,
        ip=options.ip,
        protocol=options.boot_protocol,
        initnode=options.failover,
        bootdev=None if device == "none" else device,
    )
    if device == "none":
        changed = Node(changed.number, changed.ip, changed.mac, changed.protocol, initnode=changed.initnode)
    if changed.initnode and not node.initnode and not cluster.settings.root_failover:
        raise Error(f"node {node.number}: root failover is not enabled in this cluster")
    if changed != node or options.nodename:
        nodes.change(root, changed, options.nodename, print)
        print(f"node {node.number}: {changed.line.strip()}")
    if device and device != "none":
        if node == cluster.init_node:
            print(f"node {node.number} is the init node: Debian keeps its /boot")
            return 0
        for line in localboot.install(state.load(root), changed):
            print(line)
        print(f"node {node.number} boots from {options.device} of its own ({device}); ssi-ksync keeps it up to date")
    if changed == node and not options.nodename and not device:
        print("nothing changed")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="ssi-chnode", description="change a node, or give it a local boot device")
    parser.add_argument("node", nargs="?", help="number, nodename or address (asked for at a console)")
    parser.add_argument("--device", metavar="DEVICE", help="local boot device, a partition with a filesystem; 'none'")
    parser.add_argument("--mac", help="hardware address of its card on the interconnect")
    parser.add_argument("--ip", metavar="ADDRESS", help="its address there")
    parser.add_argument("--boot-protocol", metavar="P|E", help="PXE or Etherboot")
    parser.add_argument("--nodename", metavar="NAME", help="its hostname, from its next boot on")
    parser.add_argument("--failover", action="store_true", default=None, help="it reaches the root's disk")
    parser.add_argument("--no-failover", dest="failover", action="store_false", help="it does not")
    return parser


def _ask(cluster: Cluster, console: Console, options: argparse.Namespace) -> None:
    for node in cluster.nodes:
        console.say(f"  {node.number}: {cluster.name_of(node.number)} {node.ip}, boot device {node.bootdev or 'none'}")
    others = [str(node.number) for node in cluster.nodes if node != cluster.init_node]
    default = others[0] if len(others) == 1 else None
    options.node = str(console.ask("Node", lambda text: cluster.find(text).number, default))
    present = cluster.find(options.node).bootdev
    options.device = console.ask("Local boot device (none: it boots from the network)", _device, present or "none")


def _device(text: str) -> str:
    return text if text == "none" else table.device(text)
