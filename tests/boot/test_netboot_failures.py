"""A kernel that is missing, a server that dies half-way: the machine says so, asks again, and boots when all is there."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from netboots import NO_IPV6, NODES, TIMEOUT, Made, card, machine, uefi, up

from openssi import run
from openssi.qemu import Machine
from openssi_build.lab.netboot import TAP, Server, netdev

pytestmark = pytest.mark.boot
DYING = Path(__file__).parent.parent / "dying_httpd.py"


@dataclass(frozen=True)
class Way:
    """A loader: the card, what it says when it fetches, when a file is missing, and when the server is silent."""

    card: str
    fetches: str
    missing: str
    dead: str
    ipxe: bool = True
    uefi: bool = False


# A dot follows when it listens: keys that come with the line itself are thrown away.
_WAITS = r"Boot failed: press a key to retry, or wait for reset\.\.\.\s+\."
_IPXE = "cannot load boot/vmlinuz"
_GRUB = "cannot load the kernel or its initrd"
WAYS = {
    "pxelinux": Way("e1000", "Loading boot/initrd", r"No such file|not found", _WAITS, ipxe=False),
    "grub": Way("virtio-net-pci", "OpenSSI: node", _GRUB, _GRUB, uefi=True),
    "ipxe": Way("e1000", r"trying TFTP[\s\S]*/vmlinuz", _IPXE, _IPXE),
}


def booted(way: Way, server: Server) -> list[str | Path]:
    row = NODES[way.card]
    firmware = [*uefi(server.directory), *NO_IPV6] if way.uefi else ["-boot", "n"]
    nic = card(way.card, row.mac, *(["romfile=", "bootindex=0"] if way.uefi else []))
    kind = "q35" if way.uefi else "pc,graphics=off" if way.ipxe else "pc"
    return machine("node", *firmware, *netdev(), *nic, memory_mib=1024, kind=kind)


def children(pid: int) -> dict[str, int]:
    """Return the process numbers of the children of ``pid`` by their names."""
    numbers = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return {Path(f"/proc/{number}/comm").read_text().strip(): int(number) for number in numbers}


@contextmanager
def dnsmasq_again(server: Server, node: Machine) -> Iterator[None]:
    """Run the server's dnsmasq once more on the cable of ``node``."""
    argv = ["nsenter", f"--target={node.pid}", "--user", "--net", "--preserve-credentials",
            "dnsmasq", "-d", f"--conf-file={server.directory / 'dnsmasq.conf'}"]  # fmt: skip
    process = run.start([*run.ENDING, *argv], log_to=server.directory / "again.log")
    try:
        yield
    finally:
        run.stop(process)


def sent(node: Machine) -> int:
    """Return how many bytes the server has sent to ``node``."""
    lines = Path(f"/proc/{node.pid}/net/dev").read_text().splitlines()
    (fields,) = (line.split() for line in lines if line.strip().startswith(f"{TAP}:"))
    return int(fields[9])


@pytest.mark.parametrize("name", WAYS)
def test_a_kernel_that_is_missing_is_told_and_asked_for_again(name: str, served: Made, server: Server) -> None:
    way = WAYS[name]
    server.prepare(list(NODES.values()), ipxe=way.ipxe)
    kernel = next((served.tree / "boot").glob("vmlinuz-*"))
    away = kernel.with_name("away")
    with server.machine(name, booted(way, server)) as node:
        kernel.rename(away)
        try:
            node.wait(way.missing, TIMEOUT)
        finally:
            away.rename(kernel)
        node.wait(up(NODES[way.card]), TIMEOUT)


def test_a_server_that_dies_half_way_is_told_and_asked_again(served: Made, tmp_path: Path) -> None:
    with ExitStack() as stack:
        waiting = {}
        for name, way in WAYS.items():
            server = Server(replace(served.on, http=False), served.tree, tmp_path / name)
            server.prepare(list(NODES.values()), ipxe=way.ipxe)
            node = stack.enter_context(server.machine(name, booted(way, server)))
            node.wait(way.fetches, TIMEOUT)
            before = sent(node)
            while sent(node) < before + 1_000_000:
                time.sleep(0.01)
            os.kill(children(node.pid)["dnsmasq"], signal.SIGKILL)
            assert f"sent {served.tree}/boot/initrd" not in server.log.read_text()
            waiting[name] = server, node
        for name, (server, node) in waiting.items():
            node.wait(WAYS[name].dead, TIMEOUT)
            stack.enter_context(dnsmasq_again(server, node))
            if name == "pxelinux":  # by itself it starts again after five minutes
                node.send("\n")
        for name, (_, node) in waiting.items():
            node.wait(up(NODES[WAYS[name].card]), TIMEOUT)


@pytest.mark.parametrize("how", ["cut", "silent"])
def test_a_web_server_that_dies_half_way_is_told_and_tftp_takes_over(how: str, served: Made, tmp_path: Path) -> None:
    way = WAYS["ipxe"]
    server = Server(replace(served.on, http=False), served.tree, tmp_path)
    server.prepare(list(NODES.values()))
    web = [sys.executable, str(DYING), served.on.address, str(served.tree), how]
    argv = ["sh", "-c", f'{shlex.join(web)} & exec "$@"', "sh", *booted(way, server)]
    with server.machine(how, argv) as node:
        node.wait("no answer by HTTP, trying TFTP", TIMEOUT)
        node.wait(up(NODES[way.card]), TIMEOUT)
    assert "/boot/vmlinuz" in server.log.read_text()
