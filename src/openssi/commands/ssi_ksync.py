"""ssi-ksync: bring what nodes boot from in step with the kernels and initrds in /boot and with the table of nodes."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from openssi import membership
from openssi.cluster import bootserver, localboot, state
from openssi.commands import mkinitrd
from openssi.commands import root as commands_root
from openssi.netboot import dhcp, images


def main(argv: Sequence[str]) -> int:
    """Build the images if asked to, then sync the tree or say what is stale; return 1 when --check finds something."""
    options = _parser().parse_args(argv)
    root = commands_root()
    cluster = state.load(root)
    if options.build:
        _build(root)
    for line in images.outdated(root):
        print(f"warning: {line}")
    if options.check:
        changes = bootserver.check(cluster)
        print("\n".join(changes.verdict()))
        return 1 if changes.stale else 0
    with state.locked(root, waiting=lambda holder: print(f"waiting for {holder}")):
        changes = bootserver.sync(state.load(root))
    for line in changes.lines():
        print(line)
    if any(node.bootdev for node in cluster.nodes):
        living = {n for n, each in membership.members(root).items() if each.state in membership.LIVING}
        localboot.refresh(cluster, living, print)
    if not options.quiet:
        count = len(changes.waiting)
        kept = f"; {count} old kept for machines that boot just now" if count else ""
        print(f"/{dhcp.TREE}: {'brought up to date' if changes else 'as it was'}{kept}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ssi-ksync", description="put kernels, initrds and boot entries into /tftpboot"
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--check", action="store_true", help="only say what is stale; exit status 1 when something is")
    what.add_argument("--build", action="store_true", help="make the initrd of each installed kernel first")
    parser.add_argument("-q", "--quiet", action="store_true", help="say nothing when nothing changed")
    return parser


def _build(root: Path) -> None:
    """Make the initrd of every kernel in /boot whose modules are there."""
    for kernel in sorted((root / "boot").glob("vmlinuz-*")):
        version = kernel.name.removeprefix("vmlinuz-")
        if (root / "lib/modules" / version / "modules.dep").exists():
            output = root / "boot" / f"{images.INITRD}{version}"
            print(f"initrd of Linux {version}")
            mkinitrd.main(["--quiet", "--output", str(output), version])
