"""The cache of one repository: texts of chunks and their compressed forms by content, and what was last seen.

Everything here can be thrown away; the published tree is enough to make it again. What is damaged counts as absent.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from openssi import files
from openssi.errors import Error
from openssi_build.repository import xz

_DIGEST = 32


class Stale(Error):  # noqa: N818 - it is no fault of the user's and is never shown
    """The cache lacks something, or it is damaged: make it again from the published tree."""


def _gzip_member(text: bytes, effort: int) -> bytes:
    packer = zlib.compressobj(effort, zlib.DEFLATED, 31)  # 31: with gzip's header, which zlib leaves undated
    return packer.compress(text) + packer.flush()


def _zstd_frame(text: bytes, effort: int) -> bytes:
    import zstandard

    return zstandard.ZstdCompressor(level=3 * effort, write_checksum=True, write_content_size=True).compress(text)


def _joiner(empty: bytes) -> Callable[[Iterable[bytes]], Iterator[bytes]]:
    def join(pieces: Iterable[bytes]) -> Iterator[bytes]:
        some = False
        for piece in pieces:
            some = True
            yield piece
        if not some:
            yield empty

    return join


class Compression(NamedTuple):
    """How a chunk is compressed, and how compressed chunks become a file that apt reads whole."""

    pack: Callable[[bytes, int], bytes]  # a text, and the effort from 1 to 9
    join: Callable[[Iterable[bytes]], Iterator[bytes]]


COMPRESSIONS = {
    "xz": Compression(xz.block, xz.stream),
    "gz": Compression(_gzip_member, _joiner(_gzip_member(b"", 9))),
    "zst": Compression(_zstd_frame, _joiner(b"\x28\xb5\x2f\xfd\x20\x00\x01\x00\x00")),  # RFC 8878: a raw block of 0
}


class Store:
    """Chunks by content below ``directory``: ``<name>`` is a text, ``<name>.xz`` its compressed form."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._checked: set[str] = set()  # texts whose name fits, found out once
        directory.mkdir(parents=True, exist_ok=True)

    def text(self, name: str) -> bytes:
        """Return the text of a chunk; Stale when it is not there or damaged."""
        try:
            text = (self.directory / name).read_bytes()
        except FileNotFoundError:
            raise Stale(f"{self.directory / name}: no such chunk") from None
        if name not in self._checked and _name(text) != name:
            raise Stale(f"{self.directory / name}: damaged")
        self._checked.add(name)
        return text

    def put(self, text: bytes) -> str:
        """Keep ``text`` and return its name."""
        name = _name(text)
        path = self.directory / name
        if name not in self._checked:
            files.write(path, text, durable=False)
            self._checked.add(name)
        return name

    def compressed(self, name: str, form: str, effort: int) -> bytes:
        """Return the chunk ``name`` in the compressed form ``form``, made with ``effort`` when it is not kept yet."""
        path = self.directory / f"{name}.{form}"
        try:
            kept = path.read_bytes()
            if sha256(kept[_DIGEST:]).digest() == kept[:_DIGEST]:
                return kept[_DIGEST:]
        except FileNotFoundError:
            pass
        packed = COMPRESSIONS[form].pack(self.text(name), effort)
        files.write(path, sha256(packed).digest() + packed, durable=False)
        return packed

    def prune(self, used: Iterable[str]) -> None:
        """Remove every chunk whose name is not in ``used``."""
        keep = set(used)
        with os.scandir(self.directory) as entries:
            for entry in entries:
                if entry.name.partition(".")[0] not in keep:
                    Path(entry.path).unlink(missing_ok=True)


def _name(text: bytes) -> str:
    return sha256(text).hexdigest()[:40]


class Seen(NamedTuple):
    """A file as stat() saw it when its content had ``sha256``."""

    size: int
    mtime_ns: int
    inode: int
    sha256: str

    def fits(self, status: os.stat_result) -> bool:
        """Return True when ``status`` gives no reason to read the file again."""
        return (self.size, self.mtime_ns, self.inode) == (status.st_size, status.st_mtime_ns, status.st_ino)


def seen(status: os.stat_result, digest: str) -> Seen:
    """Return what is noted of a file with this stat() and hash."""
    return Seen(status.st_size, status.st_mtime_ns, status.st_ino, digest)


def read_seen(path: Path) -> dict[str, Seen]:
    """Return the notes that write_seen() left in ``path``, by file name; none when there are none or they are damaged."""
    try:
        lines = path.read_text().splitlines()
        rows = [line.rsplit("\t", 4) for line in lines]
        return {name: Seen(int(size), int(mtime), int(inode), digest) for name, size, mtime, inode, digest in rows}
    except (OSError, ValueError):
        return {}


def write_seen(path: Path, notes: dict[str, Seen]) -> None:
    """Keep ``notes`` in ``path``, for read_seen()."""
    lines = ["\t".join((name, *map(str, note))) + "\n" for name, note in notes.items()]
    files.write(path, "".join(lines), durable=False)
