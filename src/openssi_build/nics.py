"""`inv nics`: which way a network card can boot a node, and which driver it has afterwards, by what the packages hold."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from openssi.errors import Error
from openssi.kernel import nics
from openssi.kernel.modules import Modules
from openssi.netboot import ipxe, media
from openssi_build import apt, images, kernels, netboot
from openssi_build.settings import Settings

# What boots in qemu have shown (tests/boot), by id.
SHOWN = {
    "8086:100e": "PXE, floppy, USB, CD",
    "8086:10d3": "PXE, floppy",
    "10ec:8139": "PXE, floppy",
    "1022:2000": "PXE, floppy",
    "1af4:1000": "PXE, floppy, UEFI with and without Secure Boot, USB and CD by UEFI",
    "10ec:8029": "PXE, floppy",
    "15ad:07b0": "PXE, floppy",
    "8086:1229": "PXE, floppy",
    "8086:1209": "PXE, floppy",
    "8086:2449": "PXE, floppy",
    "1011:0019": "floppy, up to the kernel only: its driver finds no cable in qemu's card",
}
_ID = re.compile(r"[0-9a-fA-F]{4}:[0-9a-fA-F]{4}")
# Ethernet alone: wireless and InfiniBand boot no node.
_LSPCI = re.compile(r"\[0200\]: (?P<name>.*) \[(?P<id>[0-9a-f]{4}:[0-9a-f]{4})\]")


@dataclass(frozen=True)
class Nic:
    """One card: what iPXE calls it (empty: it has no driver) and the kernel's modules for it."""

    id: str
    ipxe: str
    modules: tuple[str, ...]
    included: bool  # one of the modules is in the boot image
    name: str = ""

    def title(self) -> str:
        """Return its id and what it is called."""
        return f"{self.id} {self.name or self.ipxe}".rstrip()

    def lines(self) -> list[str]:
        """Return what to tell of it."""
        if not self.ipxe and not self.modules:
            return ["  unknown    neither iPXE nor the kernel has a driver for this id: it can't be a node's card"]
        ways = ["PXE, where the card or the firmware has a boot ROM", "UEFI, where the firmware drives it"]
        if self.ipxe:
            ways.append(f"without one: {media.FLOPPY}, {media.USB}, {media.ISO} (iPXE drives it)")
        if not self.modules:
            after = "no driver in the kernel: it can't be a node's"
        elif self.included:
            after = f"{', '.join(self.modules)}, in the boot image"
        else:
            after = f"{', '.join(self.modules)}, not in the boot image: add it to drivers in openssi.toml"
        return [
            *(f"  boots by   {way}" for way in ways),
            f"  then       {after}",
            f"  shown      {SHOWN.get(self.id, 'by no boot test')}",
        ]


def told(cards: Iterable[Nic]) -> list[str]:
    """Return what to tell of ``cards``, those of which the same is to be told together."""
    alike: dict[tuple[str, ...], list[str]] = {}
    for nic in cards:
        alike.setdefault(tuple(nic.lines()), []).append(nic.title())
    return [line for lines, titles in alike.items() for line in (*_wrapped(titles), *lines)]


def _wrapped(titles: Sequence[str]) -> list[str]:
    return textwrap.wrap(", ".join(titles), 100, break_long_words=False, break_on_hyphens=False)


def ids(wanted: str, listing: Iterable[str], known: Mapping[str, str], kernel: Modules) -> dict[str, str]:
    """Return the names by id of the cards that ``wanted`` (an id, or a name) or the lines of ``lspci -nn`` mean."""
    if not wanted:
        return {found["id"]: found["name"] for line in listing if (found := _LSPCI.search(line))}
    if _ID.fullmatch(wanted):
        return {wanted.lower(): ""}
    mine = {each: "" for each, name in known.items() if wanted.lower() in name.lower()}
    for driver in nics.matching(kernel, wanted):
        mine |= {each.removeprefix("pci:"): "" for each in driver.ids if each.startswith("pci:")}
    return dict(sorted(mine.items()))


def find(root: Path, cache: Path, settings: Settings, wanted: str, listing: Iterable[str]) -> list[Nic]:
    """Return the cards that are meant; Error when there are none."""
    repository = settings.repository
    first = settings.initrd[0]
    mirror = apt.mirror(repository)
    found = netboot.fetch(cache, repository.suite, repository.architectures[0], mirror)
    known = ipxe.cards(media.parts(found.tree)["ipxe.efi"])
    kernel = images.kernel_modules(root, cache, settings)
    inputs, _ = images.inputs_of(
        root, cache, first, kernels.qualified(root, cache, first.kernel, mirror=mirror), mirror
    )
    return cards(ids(wanted, listing, known, kernel), known, kernel, set(inputs.chosen.modules), wanted or "stdin")


def cards(
    names: Mapping[str, str], known: Mapping[str, str], kernel: Modules, included: Collection[str], where: str
) -> list[Nic]:
    """Return the cards ``names`` (by id); Error, beginning with ``where``, when none of them is an Ethernet card.

    ``known`` are the names that iPXE has, ``included`` the modules of the boot image.
    """
    made, others = [], set[str]()
    for each, name in names.items():
        modules = tuple(driver.module for driver in nics.matching(kernel, each))
        vendor, device = (int(part, 16) for part in each.split(":"))
        if not modules and (other := kernel.of_device(vendor, device)):
            others.update(other)
            continue
        made.append(Nic(each, known.get(each, ""), modules, not set(included).isdisjoint(modules), name))
    if not made:
        raise Error(
            f"{where}: no Ethernet card" + (f": its driver is {', '.join(sorted(others))}" if others else " found"),
            hint="give an id such as 8086:100e, a name, or: lspci -nn | inv nics",
        )
    return made
