"""ssi-swap: give a node swap space: partition, mkswap, the line in /etc/fstab, swapon; or take it away."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from openssi import ask, files, remote
from openssi.ask import Console
from openssi.cluster import fstab, state, table
from openssi.commands import root as commands_root
from openssi.errors import Error

_TIMEOUT_S = 120.0


def main(argv: Sequence[str]) -> int:
    """Set up or remove the swap device that is named; everything is looked at before anything is written."""
    parser = argparse.ArgumentParser(prog="ssi-swap", description="give a node swap space on a disk of its own")
    parser.add_argument("node", help="number, nodename or address")
    parser.add_argument("device", help="an empty disk, an empty partition, or one that is swap already")
    parser.add_argument("--off", action="store_true", help="end the use of the device and remove its line")
    parser.add_argument("--yes", action="store_true", help="ask nothing")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done")
    options = parser.parse_args(argv)
    root = commands_root()
    number = state.load(root).find(options.node).number
    try:
        device = table.device(options.device)
    except ValueError as problem:
        raise Error(str(problem)) from None
    disk = _look(number, device)
    if options.off:
        return _off(root, number, disk, dry_run=options.dry_run)
    steps = plan(disk)
    if options.dry_run:
        print(*(f"onnode {number} {step}" for step in steps), "one line in /etc/fstab", sep="\n")
        return 0
    question = f"Write on {device} of node {number}: {'; '.join(steps)}"
    if ask.at_console() and not options.yes and not Console().yes(question, default=True):
        return 1
    for step in steps[:-1]:
        _on(number, step)
    return _use(root, number, device)


def plan(disk: dict[str, Any]) -> list[str]:
    """Return the shell lines for what lsblk says of the device; Error when something is on it.

    The last one switches the swap on. A whole disk gets one partition.
    """
    device, kind = disk["path"], disk.get("fstype")
    parts = disk.get("children") or []
    if disk.get("type") == "disk" and len(parts) == 1 and parts[0].get("fstype") == "swap":
        disk, parts = parts[0], []
        device, kind = disk["path"], "swap"
    if parts:
        names = ", ".join(part["path"] for part in parts)
        raise Error(f"{device}: has partitions ({names})", hint="name one of them")
    if any(disk.get("mountpoints") or []) and kind != "swap":
        raise Error(f"{device}: mounted on {disk['mountpoints'][0]}: expected a device that nothing uses")
    if kind == "swap":
        return [f"swapon {device}"]
    if kind:
        raise Error(f"{device}: holds {kind}: expected an empty device", hint=f"wipefs --all {device} if it may go")
    if disk.get("type") == "disk":
        if disk.get("pttype"):
            raise Error(f"{device}: has an empty partition table", hint="make a partition with fdisk, and name it")
        part = f"{device}p1" if device[-1].isdigit() else f"{device}1"
        label = f"printf 'label: gpt\\nstart=1MiB, type=swap\\n' | sfdisk --quiet {device} && udevadm settle"
        return [label, f"mkswap {part}", f"swapon {part}"]
    return [f"mkswap {device}", f"swapon {device}"]


def _look(number: int, device: str) -> dict[str, Any]:
    """Return what lsblk says of the device on the node (only with NAME it nests partitions); Error when it is not there."""
    said = _on(number, f"lsblk --json --paths --output NAME,PATH,TYPE,FSTYPE,PTTYPE,UUID,MOUNTPOINTS {device}")
    try:
        found: dict[str, Any] = json.loads(said)["blockdevices"][0]
    except (ValueError, LookupError):
        raise Error(f"node {number}: {device}: no such device") from None
    return found


def _partition(disk: dict[str, Any]) -> dict[str, Any]:
    """Return the partition that a whole disk got, as lsblk tells of it; a partition itself stays."""
    return (disk.get("children") or [disk])[-1]  # type: ignore[no-any-return]


def _use(root: Path, number: int, device: str) -> int:
    disk = _partition(_look(number, device))
    # Read from the device itself: udev, whom lsblk asks, may not have seen it yet.
    tags = dict(re.findall(r"(?m)^(\w+)=(.*)$", _on(number, f"blkid -p -o export {disk['path']}")))
    if tags.get("TYPE") != "swap" or not tags.get("UUID"):
        raise Error(f"node {number}: {disk['path']}: is no swap space after mkswap")
    name = f"UUID={tags['UUID']}"
    _edit(root, lambda text: fstab.add_swap(text, name, number))
    if not any(disk.get("mountpoints") or []):
        _on(number, f"swapon {disk['path']}")
    print(f"node {number} swaps on {disk['path']} ({name}); /etc/fstab switches it on at each boot")
    return 0


def _off(root: Path, number: int, disk: dict[str, Any], *, dry_run: bool) -> int:
    disk = _partition(disk)
    names = {disk["path"], f"UUID={disk.get('uuid')}"}
    if dry_run:
        print(f"onnode {number} swapoff {disk['path']}\nthe line of {' or '.join(sorted(names))} from /etc/fstab")
        return 0
    if "[SWAP]" in (disk.get("mountpoints") or []):
        _on(number, f"swapoff {disk['path']}")
    _edit(root, lambda text: fstab.drop_swap(text, names, number))
    print(f"node {number} swaps no longer on {disk['path']}")
    return 0


def _edit(root: Path, change: Callable[[str], str]) -> None:
    with state.locked(root, waiting=lambda holder: print(f"waiting for {holder}")):
        path = root / "etc/fstab"
        text = path.read_bytes().decode(errors="surrogateescape") if path.exists() else ""
        files.write_if_changed(path, change(text).encode(errors="surrogateescape"))
    remote.on_nodes([state.load(root).init_node.number], ["systemctl", "daemon-reload"], timeout=_TIMEOUT_S)


def _on(number: int, line: str) -> str:
    """Return what the shell ``line`` says on the node; Error unless it exits 0."""
    answer = remote.on_node(number, ["sh", "-c", line], timeout=_TIMEOUT_S)
    said = answer.output.decode(errors="replace")
    if answer.status == remote.UNREACHED:
        raise Error(f"node {number}: not reached: {said.strip()}", hint="cluster -v shows who is up")
    if answer.status != 0:
        last = said.strip().splitlines()[-1:] or ["no word"]
        raise Error(f"node {number}: {line.splitlines()[-1]}: exit status {answer.status}: {last[0]}")
    return said
