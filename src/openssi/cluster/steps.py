"""The steps that make a cluster: data that can be shown, done, done again and undone."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from openssi import files, run
from openssi.cluster.journal import Journal
from openssi.errors import Error


class Step(Protocol):
    """One change; ``apply`` does it unless it is done, and returns True when it did something."""

    @property
    def title(self) -> str:
        """What is changed, in one line."""

    def apply(self, root: Path, journal: Journal) -> bool:
        """Make the change on the tree ``root``; note what was before."""


@dataclass(frozen=True)
class Directory:
    """A directory that must be there; with ``tree`` undoing removes all that is in it."""

    path: str
    mode: int = 0o755
    tree: bool = False

    @property
    def title(self) -> str:
        """The path, as a directory."""
        return f"directory /{self.path}/"

    def apply(self, root: Path, journal: Journal) -> bool:
        """Make it."""
        place = root / self.path
        journal.save(self.path, "tree" if self.tree else "whole")
        if place.is_dir():
            return False
        place.mkdir(parents=True)
        place.chmod(self.mode)
        return True


@dataclass(frozen=True)
class File:
    """A file with its whole content; ``kind`` and ``node`` tell the journal how to undo it."""

    path: str
    content: str | bytes
    mode: int = 0o644
    kind: str = "whole"
    node: int = 0

    @property
    def title(self) -> str:
        """The path with the file's size."""
        return f"file /{self.path} ({len(self.data)} bytes)"

    @property
    def data(self) -> bytes:
        """The content as it will be on the disk."""
        return self.content if isinstance(self.content, bytes) else self.content.encode(errors="surrogateescape")

    def apply(self, root: Path, journal: Journal) -> bool:
        """Write it."""
        journal.save(self.path, self.kind, self.node)
        place = root / self.path
        place.parent.mkdir(parents=True, exist_ok=True)
        if place.is_symlink():
            files.write(place, self.data, mode=self.mode)
            return True
        return files.write_if_changed(place, self.data, mode=self.mode)


@dataclass(frozen=True)
class Link:
    """A symbolic link; ``cdsl`` when it leads every node to a file of its own."""

    path: str
    target: str
    cdsl: bool = False
    node: int = 0

    @property
    def title(self) -> str:
        """The link and where it leads."""
        return f"link /{self.path} -> {self.target}"

    def apply(self, root: Path, journal: Journal) -> bool:
        """Make it."""
        place = root / self.path
        journal.save(self.path, "cdsl" if self.cdsl else "whole", self.node)
        if place.is_symlink() and str(place.readlink()) == self.target:
            return False
        place.parent.mkdir(parents=True, exist_ok=True)
        if place.is_dir() and not place.is_symlink():
            raise Error(f"/{self.path}: a directory: expected a file or nothing")
        files.symlink(self.target, place)
        return True


@dataclass(frozen=True)
class Copy:
    """A copy of the directory ``source`` at ``path``, which only this step fills; without ``content``, its directories."""

    source: str
    path: str
    content: bool = True

    @property
    def title(self) -> str:
        """From where to where."""
        return f"directory /{self.path}/ as /{self.source}/"

    def apply(self, root: Path, journal: Journal) -> bool:
        """Copy it beside its place, then rename."""
        place = root / self.path
        if place.is_dir():
            return False
        journal.save(self.path)
        place.parent.mkdir(parents=True, exist_ok=True)
        new = place.with_name(f".{place.name}.new")
        if new.exists():
            shutil.rmtree(new)
        copy_tree(root / self.source, new, content=self.content)
        new.rename(place)
        return True


@dataclass(frozen=True)
class Run:
    """A program to run on a live system, again each time; a failure is told and does not end the rest."""

    argv: tuple[str, ...]
    why: str

    @property
    def title(self) -> str:
        """The command line and its purpose."""
        return f"run {run.pasteable(self.argv)} ({self.why})"

    def apply(self, root: Path, journal: Journal) -> bool:
        """Run it; on a tree that is not the running system's this does nothing."""
        if root != Path("/"):
            return False
        run.run(self.argv, timeout=1800)
        return True


def copy_tree(source: Path, target: Path, *, content: bool) -> None:
    """Copy the directory ``source`` with owners and modes, but no other filesystem's, sockets or devices.

    Without ``content`` only the directories are made. A missing source makes an empty directory.
    """
    if not source.is_dir():
        target.mkdir()
        return
    target.mkdir()
    for each in sorted(os.scandir(source), key=lambda entry: entry.name):
        place = target / each.name
        if each.is_dir(follow_symlinks=False):
            # A mount point (rpc_pipefs) is copied as the empty directory that it is.
            inside = Path(each.path) if not Path(each.path).is_mount() else Path("/nonexistent")
            copy_tree(inside, place, content=content)
            if not inside.is_dir():
                _as(Path(each.path), place)
        elif content and (each.is_symlink() or stat.S_ISREG(each.stat(follow_symlinks=False).st_mode)):
            shutil.copy2(each.path, place, follow_symlinks=False)
            _own(Path(each.path), place)
    _as(source, target)


def _as(source: Path, target: Path) -> None:
    _own(source, target)
    target.chmod(stat.S_IMODE(source.stat().st_mode))


def _own(source: Path, target: Path) -> None:
    if os.geteuid() == 0:
        found = source.lstat()
        os.chown(target, found.st_uid, found.st_gid, follow_symlinks=False)


def apply(root: Path, steps: Iterable[Step], journal: Journal, say: Callable[[str], None]) -> list[str]:
    """Do ``steps`` in order and tell of each that changed something; return what programs failed, and how."""
    failed = []
    steps = list(steps)
    files.sweep(root / step.path for step in steps if isinstance(step, File | Link))
    for step in steps:
        try:
            if step.apply(root, journal):
                say(step.title)
        except Error as problem:
            if not isinstance(step, Run):
                raise
            failed.append(f"{run.pasteable(step.argv)}: {problem}")
    return failed
