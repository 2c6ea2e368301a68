"""The module tables that depmod writes (modules.dep(5)), read the way libkmod reads them."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from openssi.errors import Error
from openssi.kernel import modinfo

_SUFFIXES = ("", ".xz", ".zst", ".gz")
_KEY = len("v00008086")
_WILDCARD = re.compile(r"[*?\[]")
# PCI ids of virtio devices: 0x1040 and the device's number, or an old one ("Virtual I/O Device", 4.1.2).
_VIRTIO = 0x1AF4
_VIRTIO_OF_OLD = {0x1000: 1, 0x1001: 2, 0x1002: 5, 0x1003: 3, 0x1004: 8, 0x1005: 4, 0x1009: 9}


def module_name(path: str) -> str:
    """Return the module's name of a file name or of the name as a user writes it: ``-`` and ``_`` are the same."""
    name = path[path.rfind("/") + 1 :]
    stem, ko, suffix = name.rpartition(".ko")
    return (stem if ko and suffix in _SUFFIXES else name).replace("-", "_")


@dataclass(frozen=True)
class Found:
    """What a name stands for: modules to load, or, with none, something that is built into the kernel."""

    modules: tuple[str, ...]
    builtin: bool = False


class Modules:
    """The modules of one kernel, below ``directory`` (``…/lib/modules/<version>``); every table is read on first use."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.version = directory.name
        self._plain_aliases: dict[str, list[str]] = {}
        if not (directory / "modules.dep").is_file():
            raise Error(f"{directory}: no modules.dep", hint="is the kernel installed? else: depmod VERSION")

    def _text(self, table: str) -> str:
        try:
            return (self.directory / table).read_text("utf-8", "replace")
        except FileNotFoundError:
            return ""

    def _lines(self, table: str) -> Iterator[str]:
        for line in self._text(table).splitlines():
            if line and not line.startswith("#"):
                yield line

    @cached_property
    def dependencies(self) -> dict[str, tuple[str, tuple[str, ...]]]:
        """By name: the file relative to ``directory`` and the files it needs, the one to load last first."""
        table: dict[str, tuple[str, tuple[str, ...]]] = {}
        for line in self._lines("modules.dep"):
            path, colon, needed = line.partition(":")
            if not colon:
                raise Error(f"{self.directory}/modules.dep: not 'file: files…': {line[:60]!r}")
            files = tuple(needed.split())
            if ".." in line or "/" in (path[:1], needed[:1]) or " /" in line:
                self._refuse_outside((path, *files))
            table[module_name(path)] = (path, files)
        return table

    def _refuse_outside(self, files: Iterable[str]) -> None:
        for each in files:
            if each.startswith("/") or ".." in each.split("/"):
                raise Error(f"{self.directory}/modules.dep: {each!r} leads out of the directory")

    @cached_property
    def builtin(self) -> frozenset[str]:
        """Names of the modules that are part of the kernel image."""
        return frozenset(module_name(line) for line in self._lines("modules.builtin"))

    @cached_property
    def softdeps(self) -> dict[str, tuple[tuple[str, ...], tuple[str, ...]]]:
        """By name: what to load before and what after, as the module wishes (modprobe.d(5))."""
        table: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {}
        for line in self._lines("modules.softdep"):
            words = line.split()
            if len(words) < 3 or words[0] != "softdep":
                continue
            known = table.get(module_name(words[1]), ((), ()))
            before, after = list(known[0]), list(known[1])
            target = before  # without "pre:" libkmod takes the names as pre
            for word in words[2:]:
                if word in ("pre:", "post:"):
                    target = before if word == "pre:" else after
                else:
                    target.append(word)
            table[module_name(words[1])] = (tuple(before), tuple(after))
        return table

    def _alias_table(self, table: str) -> list[tuple[str, str]]:
        found = []
        for line in self._lines(table):
            words = line.split()
            if len(words) == 3 and words[0] == "alias":
                found.append((words[1], module_name(words[2])))
        return found

    @cached_property
    def _alias_text(self) -> str:
        return "\n" + self._text("modules.alias")

    def _plain_alias(self, name: str) -> list[str]:
        """Return the modules of an alias without wildcards; searched in the text, which is quicker than parsing it once."""
        if name not in self._plain_aliases:
            # To libkmod hyphen and underscore are one letter. The literal start makes the search quick.
            spelled = "[-_]".join(map(re.escape, re.split("[-_]", name)))
            found = re.findall(rf"\nalias {spelled}[ \t]+(\S+)", self._alias_text)
            self._plain_aliases[name] = [module_name(each) for each in found]
        return self._plain_aliases[name]

    def _patterns(self, start: str) -> Iterator[tuple[str, str]]:
        """Yield ``(pattern, module)`` of modules.alias that a name may match that begins with ``start``, in file order.

        ``start`` has the bus, such as ``pci:v00008086``. The table is searched as text: some milliseconds, parsing it takes forty.
        """
        bus, _, key = start.partition(":")
        same_bus = rf"{re.escape(bus)}:(?:{re.escape(key)}|[^\s*?\[]{{0,{len(key)}}}[*?\[])\S*"
        any_bus = r"[^\s:*?\[]*[*?\[]\S*"  # such as dmi*:
        for line in re.finditer(rf"\nalias ({same_bus}|{any_bus})[ \t]+(\S+)", self._alias_text):
            yield line[1], module_name(line[2])

    @cached_property
    def _symbols(self) -> dict[str, str]:
        return dict(self._alias_table("modules.symbols"))

    @cached_property
    def _builtin_aliases(self) -> list[str]:
        path = self.directory / "modules.builtin.modinfo"
        if not path.is_file():
            return []
        words = (each.partition(b".alias=")[2] for each in path.read_bytes().split(b"\0") if b".alias=" in each)
        return [word.decode("utf-8", "replace") for word in words]

    def find(self, name: str) -> Found | None:
        """Return what ``name`` (a module, an alias, a modalias) stands for, or None.

        In libkmod's order: modules.dep, modules.symbols, modules.alias, the builtin kernel's aliases, modules.builtin.
        """
        plain = module_name(name)
        if plain in self.dependencies:
            return Found((plain,))
        if name.startswith("symbol:") and name in self._symbols:
            return Found((self._symbols[name],))
        by_alias = self._by_alias(name)
        if by_alias:
            return Found(by_alias)
        if plain in self.builtin or any(fnmatch.fnmatchcase(name, pattern) for pattern in self._builtin_aliases):
            return Found((), builtin=True)
        return None

    def _by_alias(self, name: str) -> tuple[str, ...]:
        plain = self._plain_alias(name)
        if ":" not in name:
            return tuple(dict.fromkeys(plain))
        # A modalias such as pci:v…; its bus and nine letters, those of a PCI vendor, leave little to try.
        start = name[: name.index(":") + 1 + _KEY]
        matching = (
            module
            for pattern, module in self._patterns(start)
            if name.startswith(_WILDCARD.split(pattern, maxsplit=1)[0]) and fnmatch.fnmatchcase(name, pattern)
        )
        return tuple(dict.fromkeys([*plain, *matching]))

    def of_device(self, vendor: int, device: int) -> tuple[str, ...]:
        """Return the modules for the PCI or USB device, whatever the card says of its subsystem and class.

        A virtio device is behind a driver of PCI that Debian's kernel has built in; its modules are those of the virtio bus.
        """
        if vendor == _VIRTIO and (number := _VIRTIO_OF_OLD.get(device, device - 0x1040)) > 0:
            return self._by_alias(f"virtio:d{number:08X}v{vendor:08X}")
        found = (
            module
            for start, end in ((f"pci:v{vendor:08X}d{device:08X}", "s"), (f"usb:v{vendor:04X}p{device:04X}", "d"))
            for pattern, module in self._patterns(start)
            if pattern.startswith(start + end)
        )
        return tuple(dict.fromkeys(found))

    def path(self, name: str) -> Path:
        """Return the file of module ``name``."""
        return self.directory / self.dependencies[module_name(name)][0]

    def closure(self, names: Iterable[str]) -> list[str]:
        """Return modules ``names`` with all they need, in the order in which they are to be loaded.

        What a softdep names and the kernel does not have is passed over, as modprobe does. The set is that of
        ``modprobe --show-depends``.
        """
        order: dict[str, None] = {}
        for name in names:
            self._visit(module_name(name), order, set())
        return list(order)

    def _visit(self, name: str, order: dict[str, None], open_: set[str]) -> None:
        if name in order or name in open_:
            return
        open_.add(name)
        if name not in self.dependencies:
            raise Error(f"{self.directory}/modules.dep: {name} is needed, but not listed", hint="depmod VERSION")
        before, after = self.softdeps.get(name, ((), ()))
        for each in before:
            self._visit_soft(each, order, open_)
        for file in reversed(self.dependencies[name][1]):
            self._visit(module_name(file), order, open_)
        order[name] = None
        for each in after:
            self._visit_soft(each, order, open_)

    def _visit_soft(self, name: str, order: dict[str, None], open_: set[str]) -> None:
        found = self.find(name)
        for module in found.modules if found else ():
            self._visit(module, order, open_)

    def information(self, name: str) -> dict[str, list[str]]:
        """Return what module ``name`` says of itself: description, firmware, alias …, by key."""
        path = self.path(name)
        return modinfo.fields(modinfo.read(path), str(path))


def modules(root: Path, version: str) -> Modules:
    """Return the modules of kernel ``version`` installed below ``root``; Error names the versions there are."""
    top = root / "usr/lib/modules"
    if not top.is_dir():
        top = root / "lib/modules"
    if not (top / version).is_dir():
        there = sorted(each.name for each in top.iterdir()) if top.is_dir() else []
        raise Error(
            f"{top / version}: no such kernel ({'there are: ' + ', '.join(there) if there else 'none is installed'})"
        )
    return Modules(top / version)
