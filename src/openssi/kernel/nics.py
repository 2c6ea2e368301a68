"""The network drivers of a kernel: which module is for which device, and what firmware it asks for."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator
from dataclasses import dataclass

from openssi.initrd.firmware import package_of
from openssi.kernel.modules import Modules, module_name

# Below kernel/drivers/net there is more than interfaces that a node could boot from.
_OTHERS = ("wireless/", "can/", "phy/", "mdio/", "pcs/", "ieee802154/", "hamradio/", "wan/", "ppp/", "slip/", "team/",
           "bonding/", "wireguard/", "wwan/", "ipvlan/", "netdevsim/", "dsa/", "ovpn/")  # fmt: skip
_PCI = re.compile(r"pci:v0000([0-9A-F]{4})d0000([0-9A-F]{4})")
_USB = re.compile(r"usb:v([0-9A-F]{4})p([0-9A-F]{4})")


@dataclass(frozen=True)
class Driver:
    """One network driver. ``ids`` are ``vendor:device`` in lower case with the bus before them, such as pci:8086:100e."""

    module: str
    description: str
    ids: tuple[str, ...]
    firmware: tuple[str, ...]
    packages: tuple[str, ...]  # Debian packages that have the firmware


def drivers(kernel: Modules) -> Iterator[Driver]:
    """Yield the network drivers of ``kernel`` by name."""
    for name in sorted(kernel.dependencies):
        if _is_for_cards(kernel, name):
            driver = describe(kernel, name)
            if driver.ids or name == "virtio_net":
                yield driver


def _is_for_cards(kernel: Modules, name: str) -> bool:
    _, net, below = kernel.dependencies[name][0].partition("drivers/net/")
    return bool(net) and not below.startswith(_OTHERS)


def describe(kernel: Modules, name: str) -> Driver:
    """Return what module ``name`` of ``kernel`` says of itself."""
    said = kernel.information(name)
    firmware = tuple(dict.fromkeys(said.get("firmware", [])))
    return Driver(
        module=name,
        description=" ".join(" ".join(said.get("description", [])).split()),
        ids=tuple(dict.fromkeys(each for alias in said.get("alias", []) if (each := _id(alias)))),
        firmware=firmware,
        packages=tuple(sorted({package for each in firmware if (package := package_of(each))})),
    )


def _id(alias: str) -> str:
    if found := _PCI.match(alias):
        return f"pci:{found[1]}:{found[2]}".lower()
    if found := _USB.match(alias):
        return f"usb:{found[1]}:{found[2]}".lower()
    if alias.startswith("virtio:"):
        return "virtio"
    return ""


def matching(kernel: Modules, wanted: str) -> list[Driver]:
    """Return the drivers that ``wanted`` fits: an id (``8086:100e``), a name or a pattern of names; all when empty.

    What drives no network card, or a wireless one, is none of them.
    """
    if re.fullmatch(r"[0-9A-Fa-f]{4}:[0-9A-Fa-f]{4}", wanted):
        vendor, device = (int(each, 16) for each in wanted.split(":"))
        names = kernel.of_device(vendor, device)
    elif wanted and not any(letter in wanted for letter in "*?["):
        found = kernel.find(wanted)
        names = found.modules if found else ()
    else:
        return [each for each in drivers(kernel) if not wanted or fnmatch.fnmatchcase(each.module, module_name(wanted))]
    return [describe(kernel, name) for name in names if _is_for_cards(kernel, name)]
