"""The list of drivers: /etc/mkinitrd/modules and modules.d/, and what its names stand for in a kernel."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from openssi.errors import Error
from openssi.kernel.modules import Modules, module_name

_PCI_ID = re.compile(r"([0-9A-Fa-f]{4}):([0-9A-Fa-f]{4})")
# Names of drivers that went away and the driver that took over the hardware; the old guide speaks of eepro100.
RENAMED = {
    "eepro100": "e100",
    "bcm5700": "tg3",
    "rtl8139": "8139too",
    "sk98lin": "skge",
    "xircom_tulip_cb": "xircom_cb",
}


@dataclass(frozen=True)
class Wish:
    """One line of the list: a name with options, and where it was written."""

    name: str
    options: tuple[str, ...]
    where: str  # file:line


@dataclass(frozen=True)
class Chosen:
    """What a list stands for in one kernel."""

    modules: tuple[str, ...]  # asked for, in order
    options: dict[str, tuple[str, ...]] = field(default_factory=dict)
    builtin: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()  # for the user: names that changed, what is built in


def parse(text: str, where: str) -> list[Wish]:
    """Return the wishes of a list: a name a line, options behind it, ``#`` begins a comment."""
    wishes = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if words:
            wishes.append(Wish(words[0], tuple(words[1:]), f"{where}:{number}"))
    return wishes


def read(path: Path) -> list[Wish]:
    """Return the wishes of the file ``path`` and of the files beside it in ``<path>.d``, by name."""
    more = path.with_name(path.name + ".d")
    names = [path, *(sorted(more.iterdir()) if more.is_dir() else [])]
    wishes = []
    for name in names:
        if name.name.startswith(".") or name.name.endswith(("~", ".dpkg-old", ".dpkg-new", ".dpkg-dist")):
            continue
        try:
            text = name.read_text("utf-8", "replace")
        except FileNotFoundError:
            raise Error(f"{name}: no such file", hint="one driver a line; openssi-mkinitrd brings a list") from None
        wishes += parse(text, str(name))
    return wishes


def choose(wishes: Iterable[Wish], kernel: Modules) -> Chosen:
    """Return the modules that ``wishes`` stand for in ``kernel``; Error gives the nearest names for one it has not."""
    chosen: dict[str, None] = {}
    options: dict[str, tuple[str, ...]] = {}
    builtin: list[str] = []
    notes: list[str] = []
    for wish in wishes:
        name = RENAMED.get(wish.name, wish.name)
        if name != wish.name and kernel.find(wish.name) is None:
            notes.append(f"{wish.where}: '{wish.name}' is called '{name}' today")
        else:
            name = wish.name
        modules = _resolve(name, wish, kernel)
        if not modules:
            builtin.append(name)
            notes.append(f"{wish.where}: '{name}' is built into {kernel.version}")
        for module in modules:
            chosen[module] = None
            if wish.options:
                options[module] = options.get(module, ()) + wish.options
    return Chosen(tuple(chosen), options, tuple(builtin), tuple(notes))


def _resolve(name: str, wish: Wish, kernel: Modules) -> Sequence[str]:
    if pci := _PCI_ID.fullmatch(name):
        return _by_pci_id(pci[1], pci[2], wish, kernel)
    if any(letter in name for letter in "*?["):
        found = fnmatch.filter(sorted(kernel.dependencies), name.replace("-", "_"))
        if not found:
            raise Error(f"{wish.where}: no module of {kernel.version} matches '{name}'")
        return found
    stands_for = kernel.find(name)
    if stands_for is not None:
        return stands_for.modules
    import difflib

    near = difflib.get_close_matches(module_name(name), [*kernel.dependencies, *kernel.builtin], 3)
    hint = f"did you mean {', '.join(near)}?" if near else "mkinitrd --list-drivers shows the network drivers"
    raise Error(f"{wish.where}: kernel {kernel.version} has no module '{name}'", hint=hint)


def _by_pci_id(vendor: str, device: str, wish: Wish, kernel: Modules) -> Sequence[str]:
    found = kernel.of_device(int(vendor, 16), int(device, 16))
    if not found:
        raise Error(f"{wish.where}: no module of {kernel.version} drives the PCI device {vendor}:{device}")
    return found
