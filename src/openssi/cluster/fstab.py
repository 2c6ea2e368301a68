"""One /etc/fstab for all nodes: ``x-ssi.node=`` in the options says who mounts a line.

``N`` one node, ``N:M`` nodes in the order of preference, ``*`` every node; a line without it is the init node's.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from openssi.errors import Error

OPTION = "x-ssi.node="
_EVERYWHERE = {"proc", "sysfs", "tmpfs", "devpts", "devtmpfs", "debugfs", "tracefs", "configfs", "securityfs", "mqueue"}
_REMOVABLE = re.compile(r"/dev/(sr|cdrom|fd|floppy)\w*")
_EXPORTABLE = {"ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs"}
_FIELD = re.compile(r"\S+")
# spec, file, vfstype, options: fstab(5)
_OPTIONS = 3


@dataclass(frozen=True)
class Entry:
    """One line: what, where, how."""

    device: str
    point: str
    kind: str
    options: tuple[str, ...]

    @property
    def nodes(self) -> str | None:
        """The value of ``x-ssi.node=``, None without it."""
        return next((each.removeprefix(OPTION) for each in self.options if each.startswith(OPTION)), None)


def _entry(line: str) -> Entry | None:
    words = line.split()
    if len(words) < _OPTIONS or words[0].startswith("#"):
        return None
    options = words[_OPTIONS].split(",") if len(words) > _OPTIONS else []
    return Entry(words[0], words[1], words[2], tuple(options))


def entries(text: str) -> list[Entry]:
    """Return the lines of ``text`` that mount or swap something."""
    return [entry for line in text.split("\n") if (entry := _entry(line))]


def mark(text: str, number: int) -> str:
    """Return ``text`` with every line that says no nodes given to node ``number``, pseudo filesystems to all."""
    return "\n".join(_marked(line, number) for line in text.split("\n"))


def _marked(line: str, number: int) -> str:
    entry = _entry(line)
    if entry is None or entry.nodes is not None:
        return line
    removable = "noauto" in entry.options and _REMOVABLE.fullmatch(entry.device)
    option = OPTION + ("*" if entry.kind in _EVERYWHERE or removable else str(number))
    fields = list(_FIELD.finditer(line))
    if len(fields) == _OPTIONS:
        return line.rstrip() + f"\tdefaults,{option}"
    end = fields[_OPTIONS].end()
    return f"{line[:end]},{option}{line[end:]}"


def unmark(text: str) -> str:
    """Return ``text`` without any ``x-ssi.node=``."""
    return re.sub(rf"(?m)^(?![ \t]*#)(.*?),{re.escape(OPTION)}[\d:*]+(?=[,\s]|$)", r"\1", text)


def restored(current: str, original: str, number: int) -> str:
    """Return ``current`` as a single machine's: exactly ``original`` if nothing else was changed since mark()."""
    return original if current == mark(original, number) else unmark(current)


def exported(text: str, number: int) -> list[str]:
    """Return the mount points that other nodes must be given beside ``/``: local disks of the init node ``number``, in order."""
    return sorted({each.point for each in _at_boot(text, number) if each.kind in _EXPORTABLE and each.point != "/"})


def apart(text: str, number: int, paths: Collection[str]) -> list[str]:
    """Return the mount points, beside ``/``, of the init node ``number`` that ``paths`` lie on, in order."""
    points = {each.point for each in _at_boot(text, number) if each.point != "/"}
    return sorted(point for point in points if any(f"{path}/".startswith(f"{point.rstrip('/')}/") for path in paths))


def _at_boot(text: str, number: int) -> list[Entry]:
    """Return the lines that the init node ``number`` mounts when it boots, without those of all nodes."""
    own = str(number)
    return [
        each
        for each in entries(text)
        if each.point.startswith("/") and "noauto" not in each.options and (each.nodes or own).split(":")[0] == own
    ]


def add_swap(text: str, device: str, number: int) -> str:
    """Return ``text`` with ``device`` as swap of node ``number``; Error when another line has the device there."""
    for entry in entries(text):
        if entry.device == device and entry.nodes in (None, "*", str(number)):
            if entry.kind == "swap" and entry.nodes == str(number):
                return text
            raise Error(f"/etc/fstab: {device} is there already: {entry.kind} on {entry.point}", hint="edit that line")
    gap = "" if not text or text.endswith("\n") else "\n"
    # nofail: a disk that was taken out must not stop the node's boot.
    return f"{text}{gap}{device}\tnone\tswap\tsw,nofail,{OPTION}{number}\t0\t0\n"


def drop_swap(text: str, names: Collection[str], number: int) -> str:
    """Return ``text`` without node ``number``'s swap lines for any of ``names`` (a device, ``UUID=…``)."""
    lines = text.splitlines(keepends=True)
    return "".join(line for line in lines if not _is_swap(_entry(line), names, str(number)))


def _is_swap(entry: Entry | None, names: Collection[str], number: str) -> bool:
    return entry is not None and entry.kind == "swap" and entry.device in names and entry.nodes == number


def drop_node(text: str, number: int) -> str:
    """Return ``text`` without the lines that are node ``number``'s alone."""
    gone = str(number)
    lines = text.splitlines(keepends=True)
    return "".join(line for line in lines if not ((entry := _entry(line)) and entry.nodes == gone))
