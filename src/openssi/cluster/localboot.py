"""Local boot devices: a node that has one starts kernel and initrd from it, by GRUB, and needs no boot server for that."""

from __future__ import annotations

import re
from collections.abc import Callable

from openssi import files, remote
from openssi.cluster import derive, state
from openssi.cluster.state import Cluster
from openssi.cluster.table import Node
from openssi.errors import Error
from openssi.netboot import images
from openssi.netboot.images import Image
from openssi.netboot.network import entry_name, node_arguments

_PROGRAM = "/usr/lib/openssi/make-bootable"
_TIMEOUT_S = 300.0


def configuration(cluster: Cluster, node: Node, found: list[Image]) -> str:
    """Return GRUB's configuration for ``node``: an entry a kernel, the newest first, all with the node's own parameters."""
    on = derive.network(cluster)
    words = f"{node_arguments(node, on)} BOOTIF={entry_name(node.mac)} {on.arguments}".strip()
    lines = ["# Written by OpenSSI; changes are lost.", "set timeout=2", "set default=0"]
    for image in found:
        lines += [
            f'menuentry "OpenSSI node {node.number}, Linux {image.version}" {{',
            f"    linux /{image.kernel.name} {words}",
            f"    initrd /{image.initrd.name}",
            "}",
        ]
    return "\n".join(lines) + "\n"


def lasting(node: Node, device: str) -> str:
    """Return ``UUID=…`` of the filesystem on the node's ``device``: a disk is sda at one boot and sdb at the next.

    A name that lasts stays as it is. Error when the node can't boot from ``device``; nothing is written there.
    """
    *_, uuid = _make_bootable(node, ["--check", device]) or [""]
    if not re.fullmatch(r"[0-9A-Fa-f-]+", uuid):
        raise Error(f"node {node.number}: {device}: expected the UUID of its filesystem, not {uuid!r}")
    return device if "=" in device else f"UUID={uuid}"


def _make_bootable(node: Node, words: list[str]) -> list[str]:
    """Return the lines that make-bootable says on ``node``; its complaint is an Error."""
    answer = remote.on_node(node.number, [_PROGRAM, *words], timeout=_TIMEOUT_S)
    said = answer.output.decode(errors="replace").strip().splitlines()
    if answer.status != 0:
        last = said[-1] if said else f"{_PROGRAM}: exit status {answer.status}"
        raise Error(f"node {node.number}: {last.removeprefix('make-bootable: ')}")
    return said


def install(cluster: Cluster, node: Node) -> list[str]:
    """Put kernels, initrds and GRUB on the node's boot device; return what changed. Error when it can't be done.

    GRUB is the one for BIOS or for UEFI, by which the node started. The init node's own /boot is Debian's business.
    """
    if node.bootdev is None:
        raise Error(f"node {node.number}: has no local boot device", hint=f"ssi-chnode {node.number} --device DEVICE")
    found = images.installed(cluster.root)
    path = state.directory(cluster.root, node.number) / "grub.cfg"
    files.write_if_changed(path, configuration(cluster, node, found))
    names = [str(each) for image in found for each in (image.kernel, image.initrd)]
    return _make_bootable(node, [node.bootdev, str(path), *names])


def refresh(cluster: Cluster, there: set[int], say: Callable[[str], None]) -> None:
    """Bring the boot devices of all nodes that are ``there`` up to date; say what could not be done."""
    for node in cluster.nodes:
        if node.bootdev is None or node == cluster.init_node:
            continue
        if node.number not in there:
            say(f"warning: node {node.number} is not up: its boot device {node.bootdev} is as it was; later: ssi-ksync")
            continue
        try:
            for line in install(cluster, node):
                say(f"node {node.number}: {node.bootdev}: {line}")
        except Error as problem:
            say(f"warning: {problem}")
