"""cpio archives in the "newc" form that the kernel unpacks (Documentation/driver-api/early-userspace/buffer-format)."""

from __future__ import annotations

import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from openssi.errors import Error

MAGIC = b"070701"
_HEADER = 110
_TRAILER = "TRAILER!!!"


@dataclass(frozen=True)
class Entry:
    """One file: ``mode`` with its type bits (stat(2)); the content of a link is its target."""

    name: str  # relative, without a leading slash
    mode: int
    content: bytes = b""
    device: tuple[int, int] = (0, 0)  # of a device node: major, minor


def directory(name: str, mode: int = 0o755) -> Entry:
    """Return the entry of a directory."""
    return Entry(name, stat.S_IFDIR | mode)


def regular(name: str, content: bytes, mode: int = 0o644) -> Entry:
    """Return the entry of a regular file."""
    return Entry(name, stat.S_IFREG | mode, content)


def symlink(name: str, target: str) -> Entry:
    """Return the entry of a symbolic link."""
    return Entry(name, stat.S_IFLNK | 0o777, target.encode())


def with_directories(entries: Iterable[Entry]) -> list[Entry]:
    """Return ``entries`` sorted by name, with every directory above them that is not among them."""
    named = {entry.name: entry for entry in entries}
    for name in list(named):
        parts = name.split("/")[:-1]
        for i in range(1, len(parts) + 1):
            above = "/".join(parts[:i])
            named.setdefault(above, directory(above))
    return [named[name] for name in sorted(named)]


def pack(entries: Iterable[Entry], date: int) -> bytes:
    """Return the archive of ``entries`` in the order given, all dated ``date`` and owned by root.

    Inode numbers are counted from 1, so equal input gives equal bytes.
    """
    parts: list[bytes] = []
    for number, entry in enumerate(entries, 1):
        parts += _record(entry, number, date)
    parts += _record(Entry(_TRAILER, 0), 0, 0)
    archive = b"".join(parts)
    return archive + bytes(-len(archive) % 512)


def _record(entry: Entry, number: int, date: int) -> list[bytes]:
    name = entry.name.encode() + b"\0"
    links = 2 if stat.S_ISDIR(entry.mode) else 1
    numbers = (number, entry.mode, 0, 0, links, date, len(entry.content), 0, 0, *entry.device, len(name), 0)
    header = MAGIC + b"".join(b"%08X" % each for each in numbers) + name
    return [header, bytes(-len(header) % 4), entry.content, bytes(-len(entry.content) % 4)]


def unpack(archive: bytes, where: str, start: int = 0) -> tuple[list[Entry], int]:
    """Return the entries of the archive that begins at ``start``, and where it ends; Error when it is damaged.

    Names that are absolute or lead out with ``..`` are refused.
    """
    entries: list[Entry] = []
    at = start
    while True:
        entry, at = _read(archive, at, where)
        if entry.name == _TRAILER:
            return entries, at
        entries.append(entry)
        if not archive[at : at + 1].strip(b"\0") and not archive[at:].strip(b"\0"):
            return entries, at  # the kernel takes an archive without a trailer too


def _read(archive: bytes, at: int, where: str) -> tuple[Entry, int]:
    header = archive[at : at + _HEADER]
    if len(header) < _HEADER or header[:6] not in (MAGIC, b"070702"):
        raise Error(f"{where}: no cpio header at byte {at}")
    try:
        field = [int(header[6 + 8 * i : 14 + 8 * i], 16) for i in range(13)]
    except ValueError:
        raise Error(f"{where}: broken cpio header at byte {at}") from None
    mode, size, name_size = field[1], field[6], field[11]
    name_end = at + _HEADER + name_size
    content_at = name_end + (-(_HEADER + name_size) % 4)
    end = content_at + size
    if end > len(archive) or name_size < 1:
        raise Error(f"{where}: the cpio archive ends early, at byte {len(archive)}")
    name = archive[at + _HEADER : name_end - 1].decode("utf-8", "replace")
    if name.startswith("/") or ".." in name.split("/"):
        raise Error(f"{where}: {name!r} leads out of the archive")
    entry = Entry(name.removeprefix("./"), mode, archive[content_at:end], (field[9], field[10]))
    return entry, end + (-size % 4)


def walk(archive: bytes, where: str) -> Iterator[Entry]:
    """Yield the entries of one archive without its trailer."""
    yield from unpack(archive, where)[0]
