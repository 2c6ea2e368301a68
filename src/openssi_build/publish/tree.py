"""The files of a published tree, in the order in which they may become public."""

from __future__ import annotations

import base64
import os
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from itertools import pairwise
from pathlib import Path

_SIGNED = ("Release.gpg", "Release", "InRelease")
# What is never overwritten: its name tells its content.
PHASES = ("packages", "snapshots", "by-hash", "indexes", *_SIGNED)
_IMMUTABLE = frozenset(PHASES[:3])
CURRENT = "current"  # the link to the boot images of the newest version
_TYPES = {
    ".deb": "application/vnd.debian.binary-package",
    ".xz": "application/x-xz",
    ".gz": "application/gzip",
    ".zst": "application/zstd",
    ".html": "text/html; charset=utf-8",
    ".json": "application/json",
    ".gpg": "application/octet-stream",
}


@dataclass(frozen=True)
class Item:
    """A file of the tree: ``path`` below its top, ``source`` where it lies here."""

    path: str
    source: Path
    size: int

    @property
    def phase(self) -> str:
        """Return which of PHASES it belongs to."""
        return phase(self.path)

    @property
    def immutable(self) -> bool:
        """Return True when the content under this name never changes."""
        return self.phase in _IMMUTABLE

    @property
    def cache_control(self) -> str:
        """Return the Cache-Control header that a web server should send with it."""
        return "public, max-age=31536000, immutable" if self.immutable else "public, max-age=60, must-revalidate"

    @property
    def content_type(self) -> str:
        """Return its media type."""
        return _TYPES.get(
            self.source.suffix, "text/plain; charset=utf-8" if not self.immutable else "application/octet-stream"
        )

    @cached_property
    def sha256(self) -> str:
        """Return the hash of its content; of a symbolic link, of where it points."""
        if self.source.is_symlink():
            return sha256(os.fsencode(self.source.readlink())).hexdigest()
        with self.source.open("rb") as stream:
            digest = sha256()
            while block := stream.read(1 << 20):
                digest.update(block)
        return digest.hexdigest()

    @property
    def checksum(self) -> str:
        """Return the hash as object storage wants it: base64."""
        return base64.b64encode(bytes.fromhex(self.sha256)).decode()


def phase(path: str) -> str:
    """Return which of PHASES the file ``path`` of a tree belongs to."""
    parts = path.split("/")
    if parts[0] == "pool":
        return "packages"
    if parts[0] == "snapshots":
        return "snapshots"
    if "by-hash" in parts:
        return "by-hash"
    if any(part.startswith("netboot-") and after != CURRENT for part, after in pairwise(parts[:-1])):
        return "packages"  # boot images of a version
    return parts[-1] if parts[-1] in _SIGNED else "indexes"


def read(top: Path, *, links: bool = True) -> dict[str, Item]:
    """Return the files and symbolic links below ``top`` by their path, sorted; hidden ones are not part of the tree.

    Without ``links`` what the link to the current boot images leads to stands in its place, and other links are left out.
    """
    found: dict[str, Item] = {}
    pending = [top]
    while pending:
        directory = pending.pop()
        with os.scandir(directory) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir(follow_symlinks=not links and entry.name == CURRENT):
                    pending.append(Path(entry.path))
                    continue
                if entry.is_symlink() and not links:
                    continue
                path = os.path.relpath(entry.path, top)
                found[path] = Item(path, Path(entry.path), entry.stat(follow_symlinks=False).st_size)
    return dict(sorted(found.items()))


def in_order(items: dict[str, Item]) -> list[tuple[str, list[Item]]]:
    """Return ``(phase, its files)`` in the order of PHASES."""
    phases: dict[str, list[Item]] = {name: [] for name in PHASES}
    for item in items.values():
        phases[item.phase].append(item)
    return list(phases.items())
