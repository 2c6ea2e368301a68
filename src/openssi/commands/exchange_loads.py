"""exchange-loads: the daemon that tells this node's load to the others and keeps theirs."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Sequence
from pathlib import Path

from openssi import commands, files, loads
from openssi.cluster import state
from openssi.errors import Error


def main(argv: Sequence[str]) -> int:
    """Run until ended. The table of nodes is read anew each minute, so that an added node is heard."""
    root = commands.root()
    number = state.this_node(root)
    if number is None:
        raise Error("/run/ssi/nodenum: no number", hint="this machine did not boot as a node")
    while True:
        cluster = state.load(root)
        with _socket(cluster, number) as endpoint:
            exchange(root, endpoint, cluster, number, seconds=60)


def _socket(cluster: state.Cluster, number: int) -> socket.socket:
    """Return the socket that hears: bound to the broadcast address of the interconnect, so nothing else reaches it."""
    endpoint = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    endpoint.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    endpoint.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    endpoint.bind((str(cluster.interconnect.broadcast_address), loads.PORT))
    return endpoint


def exchange(root: Path, endpoint: socket.socket, cluster: state.Cluster, number: int, *, seconds: float) -> None:
    """Send our load each two seconds and take in those of the others, for ``seconds``."""
    numbers = {node.ip: node.number for node in cluster.nodes}
    target = (str(cluster.interconnect.broadcast_address), loads.PORT)
    known = loads.read(root)
    sender = _sender(cluster, number)
    end = time.monotonic() + seconds
    due = time.monotonic()
    with sender:
        while (now := time.monotonic()) < end:
            if now >= due:
                due = now + loads.PERIOD_S
                mine = loads.measure(root, number)
                known[number] = loads.decode(loads.encode(mine), time.time())
                _send(sender, loads.encode(mine), target)
                fresh = time.time() - loads.STALE_S
                known = {key: each for key, each in known.items() if each.when >= fresh}
                files.write(root / loads.FILE, loads.dump(known), durable=False)
            if select.select([endpoint], [], [], max(0.0, due - time.monotonic()))[0]:
                _take(endpoint, numbers, known)


def _sender(cluster: state.Cluster, number: int) -> socket.socket:
    """Return the socket that sends: from our own address, by a port that only root may use."""
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    sender.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sender.bind((cluster.node(number).ip, loads.PORT))
    return sender


def _send(sender: socket.socket, datagram: bytes, target: tuple[str, int]) -> None:
    try:
        sender.sendto(datagram, target)
    except OSError:
        pass  # a cable that is out comes back; until then nobody could hear us


def _take(endpoint: socket.socket, numbers: dict[str, int], known: dict[int, loads.Load]) -> None:
    """Take one datagram: only a node may speak, from the port of root, and only for itself."""
    datagram, (address, port) = endpoint.recvfrom(2048)
    try:
        load = loads.decode(datagram, time.time())
    except ValueError:
        return
    if port == loads.PORT and numbers.get(address) == load.number:
        known[load.number] = load
