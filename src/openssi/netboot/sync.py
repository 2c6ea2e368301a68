"""Putting a plan in place under machines that boot from it: images first, then what names them, then what none names."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from openssi import files
from openssi.errors import Error
from openssi.netboot.images import digest
from openssi.netboot.tree import ENTRIES, IMAGES, Plan

# A machine that has read its entry may fetch what it names this much later.
GRACE_S = 300
_NAMED = re.compile(rf"{IMAGES}/[A-Za-z0-9.+~_-]+")
_TEMPORARY = re.compile(r"\..+\.[A-Za-z0-9_.]+")


@dataclass
class Changes:
    """What sync() did or, when only checking, would do: names relative to the tree's top."""

    added: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    pruned: list[str] = field(default_factory=list)  # images that no entry names
    waiting: list[str] = field(default_factory=list)  # such images too, kept for machines that boot just now

    def __bool__(self) -> bool:
        return self.stale or bool(self.pruned)

    @property
    def stale(self) -> bool:
        """True when what machines boot would be (or was) another; images that nothing names do not count."""
        return bool(self.added or self.changed or self.removed)

    def verdict(self) -> list[str]:
        """Return what a check says as lines to show: what is stale, or that nothing is."""
        if self.stale:
            return self.lines()
        return [f"up to date; the next call removes {len(self.pruned)} old files" if self.pruned else "up to date"]

    def lines(self) -> list[str]:
        """Return the changes as lines to show."""
        return [
            *(f"new      {name}" for name in self.added),
            *(f"changed  {name}" for name in self.changed),
            *(f"removed  {name}" for name in (*self.removed, *self.pruned)),
        ]


def check(tree: Path, plan: Plan) -> Changes:
    """Return what sync() would do; nothing is written."""
    return _Sync(tree, plan, GRACE_S).compare()


def sync(tree: Path, plan: Plan, *, grace: float = GRACE_S, timeout: float | None = 60) -> Changes:
    """Make ``tree`` what ``plan`` says and return what changed.

    At every moment each entry names a kernel and an initrd that are there whole: images come first, under names that tell
    their content; then entries, each replaced in one step; links; and at last images that no entry has named for ``grace``
    seconds are removed. May be interrupted anywhere; the next call goes on. One at a time, by a lock beside the tree.
    """
    tree.mkdir(parents=True, exist_ok=True)
    with files.lock(tree.parent / f".{tree.name}.lock", timeout=timeout):
        work = _Sync(tree, plan, grace)
        changes = work.compare()
        work.apply(changes)
    return changes


class _Sync:
    def __init__(self, tree: Path, plan: Plan, grace: float) -> None:
        self.tree = tree
        self.plan = plan
        self.grace = grace

    def compare(self) -> Changes:
        changes = Changes()
        for name in self.plan.images:
            self._note(changes, name, partial(_holds_its_digest, name))
        for name, source in self.plan.loaders.items():
            self._note(changes, name, partial(_equals, source))
        for name, text in self.plan.entries.items():
            self._note(changes, name, partial(_reads, text))
        for name, target in self.plan.links.items():
            path = self.tree / name
            if not path.is_symlink():
                changes.added.append(name)
            elif str(path.readlink()) != target:
                changes.changed.append(name)
        changes.removed += self._stray_entries()
        self._unnamed(changes)
        return changes

    def _note(self, changes: Changes, name: str, same: Callable[[Path], bool]) -> None:
        path = self.tree / name
        if path.is_symlink() or not path.is_file():
            changes.added.append(name)
        elif not same(path) or path.stat().st_mode & 0o777 != 0o644:
            changes.changed.append(name)

    def _stray_entries(self) -> list[str]:
        found = (
            f"{directory}/{path.name}"
            for directory in ENTRIES
            if (self.tree / directory).is_dir()
            for path in (self.tree / directory).iterdir()
        )
        return sorted(name for name in found if name not in self.plan.entries and not self._temporary(name))

    def _unnamed(self, changes: Changes) -> None:
        directory = self.tree / IMAGES
        if not directory.is_dir():
            return
        now = time.time()
        still = named(self.tree)
        for path in sorted(directory.iterdir()):
            name = f"{IMAGES}/{path.name}"
            if name in self.plan.images or self._temporary(name):
                continue
            # What an entry names until this moment counts from now on.
            fresh = name in still or now - path.stat().st_mtime < self.grace
            (changes.waiting if fresh and self.grace > 0 else changes.pruned).append(name)

    @staticmethod
    def _temporary(name: str) -> bool:
        return _TEMPORARY.fullmatch(name.rsplit("/", 1)[-1]) is not None

    def apply(self, changes: Changes) -> None:
        todo = {*changes.added, *changes.changed}
        for directory in (IMAGES, *ENTRIES):
            (self.tree / directory).mkdir(exist_ok=True)
        self._sweep()
        still = named(self.tree)
        for name in changes.waiting:
            if name in still:
                os.utime(self.tree / name)
        self._replace((name, source) for name, source in self.plan.images.items() if name in todo)
        self._replace((name, source) for name, source in self.plan.loaders.items() if name in todo)
        self._replace((name, text.encode()) for name, text in self.plan.entries.items() if name in todo)
        for name, target in self.plan.links.items():
            if name in todo:
                files.symlink(target, self.tree / name)
        for name in (*changes.removed, *changes.pruned):
            _remove(self.tree / name)

    def _sweep(self) -> None:
        """Remove what an interrupted run left half written; the lock says that none is running."""
        for directory in (self.tree, *(self.tree / name for name in (IMAGES, *ENTRIES))):
            for path in directory.iterdir():
                if self._temporary(path.name) and not path.is_dir():
                    path.unlink()

    def _replace(self, wanted: Iterable[tuple[str, Path | bytes]]) -> None:
        """Write all of ``wanted`` beside their places, make that durable at one stroke, then rename one by one."""
        staged = [(self._stage(name, content), self.tree / name) for name, content in wanted]
        if not staged:
            return
        # One sync for hundreds of small files: an fsync each would take seconds.
        os.sync()
        for temporary, path in staged:
            temporary.replace(path)
        for directory in {path.parent for _, path in staged}:
            files.sync_directory(directory)

    def _stage(self, name: str, content: Path | bytes) -> Path:
        path = self.tree / name
        temporary = path.with_name(f".{path.name}.new")
        if isinstance(content, bytes):
            temporary.write_bytes(content)
        else:
            _copy(content, temporary)
            if name in self.plan.images and not _holds_its_digest(name, temporary):
                raise Error(f"{content}: changed while it was copied", hint="run ssi-ksync again")
        temporary.chmod(0o644)
        return temporary


def _holds_its_digest(name: str, path: Path) -> bool:
    return digest(path).startswith(name.rsplit("-", 1)[1])


def _equals(source: Path, path: Path) -> bool:
    return path.read_bytes() == source.read_bytes()


def _reads(text: str, path: Path) -> bool:
    return path.read_bytes() == text.encode()


def _copy(source: Path, target: Path) -> None:
    try:
        shutil.copyfile(source, target)
    except OSError as problem:
        raise Error(f"{target}: {problem.strerror}", hint="is the disk full?") from None


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def named(tree: Path) -> set[str]:
    """Return the images that the tree's entries and links name."""
    found: set[str] = set()
    for path in _entries(tree):
        found.update(_NAMED.findall(path.read_text(errors="replace")))
    for path in tree.iterdir() if tree.is_dir() else ():
        if path.is_symlink():
            found.add(str(path.readlink()))
    return found


def _entries(tree: Path) -> Iterator[Path]:
    for directory in ENTRIES:
        if (tree / directory).is_dir():
            yield from (path for path in (tree / directory).iterdir() if path.is_file())
