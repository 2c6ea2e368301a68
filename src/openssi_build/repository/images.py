"""Boot images beside the packages: ``dists/SUITE/COMPONENT/netboot-ARCH/VERSION/images/`` with ``current``, as Debian
publishes its installer's. The signed Release lists each SHA256SUMS, and with it every file."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from openssi import files
from openssi.errors import Error
from openssi_build.repository.release import Index
from openssi_build.settings import Repository

SUMS = "SHA256SUMS"
_CURRENT = "current"


def directory(settings: Repository, architecture: str) -> str:
    """Return where the images of ``architecture`` lie below the repository."""
    return f"dists/{settings.suite}/{settings.component}/netboot-{architecture}"


@dataclass(frozen=True)
class Images:
    """Files to be published: ``names`` below ``source``, SHA256SUMS among them, as ``version`` of ``architecture``."""

    source: Path
    names: tuple[str, ...]
    architecture: str
    version: str

    def place(self, repo: Path, settings: Repository) -> bool:
        """Put them into the repository ``repo``, whose lock the caller has, and make them ``current``; False when they are.

        What is there under a version never changes: Error when it is there with other bytes. Old versions go when there
        are more than ``settings.keep``.
        """
        top = repo / directory(settings, self.architecture)
        target = top / self.version / "images"
        top.mkdir(parents=True, exist_ok=True)
        for stray in top.glob(".*.new"):
            shutil.rmtree(stray)
        new = not target.exists()
        if new:
            self._copy(top / f".{self.version}.new").rename(top / self.version)
        elif (target / SUMS).read_bytes() != (self.source / SUMS).read_bytes():
            raise Error(f"{target}: published already with other files", hint="another version needs another name")
        link = top / _CURRENT
        if not link.is_symlink() or str(link.readlink()) != self.version:
            files.symlink(self.version, link)
            new = True
        _expire(top, self.version, settings.keep)
        return new

    def _copy(self, staging: Path) -> Path:
        for name in self.names:
            copy = staging / "images" / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.source / name, copy)
            copy.chmod(0o644)
        sums = staging / "images" / SUMS
        by_hash = staging / "images/by-hash/SHA256"
        by_hash.mkdir(parents=True)
        os.link(sums, by_hash / sha256(sums.read_bytes()).hexdigest())
        os.sync()
        return staging


def _expire(top: Path, version: str, keep: int) -> None:
    """Remove the versions that are older than the ``keep`` newest."""
    old = [path for path in top.iterdir() if path.is_dir() and not path.is_symlink() and path.name != version]
    old.sort(key=lambda path: path.stat().st_mtime)
    for path in old[: max(len(old) - (keep - 1), 0)]:
        shutil.rmtree(path)


def listed(repo: Path, settings: Repository) -> dict[str, Index]:
    """Return what Release lists of the images: SHA256SUMS of every version and of ``current``, by path below ``repo``."""
    return {path: Index(len(text), sha256(text).hexdigest()) for path, text in _sums(repo, settings)}


def _sums(repo: Path, settings: Repository) -> Iterator[tuple[str, bytes]]:
    for architecture in settings.architectures:
        place_ = directory(settings, architecture)
        for path in sorted((repo / place_).glob(f"[!.]*/images/{SUMS}")):
            yield str(path.relative_to(repo)), path.read_bytes()
