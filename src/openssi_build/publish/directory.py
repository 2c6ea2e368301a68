"""A directory as target: a web server's own, or one that is mounted from elsewhere."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from openssi import files
from openssi.errors import Error
from openssi_build.publish import tree
from openssi_build.publish.targets import LOCK, Advance
from openssi_build.publish.tree import Item


class DirectoryTarget:
    """Files are written beside their place and renamed."""

    links = True

    def __init__(self, name: str, top: Path, *, wait: float) -> None:
        self.name = name
        self.top = top.absolute()
        self._wait = wait

    def __enter__(self) -> DirectoryTarget:
        return self

    def __exit__(self, *problem: object) -> None:
        pass

    def lock(self, waiting: Callable[[str], None]) -> AbstractContextManager[None]:
        """See Target."""
        with self._named():
            self.top.mkdir(parents=True, exist_ok=True)
        return files.lock(self.top / LOCK, timeout=self._wait, waiting=waiting)

    def listing(self) -> dict[str, int]:
        """See Target."""
        with self._named():
            return {path: item.size for path, item in tree.read(self.top).items()} if self.top.is_dir() else {}

    def read(self, path: str) -> bytes | None:
        """See Target."""
        with self._named():
            try:
                return (self.top / path).read_bytes()
            except FileNotFoundError:
                return None

    def put(self, items: Sequence[Item], advance: Advance) -> None:
        """See Target."""
        targets = [self.top / item.path for item in items]
        with self._named():
            files.sweep(targets)
            for item, target in zip(items, targets, strict=True):
                target.parent.mkdir(parents=True, exist_ok=True)
                _copy(item.source, target)
                advance(item.size)
            for directory in sorted({target.parent for target in targets}):
                files.sync_directory(directory)

    def replace(self, item: Item, expected: bytes | None) -> None:
        """See Target."""
        if self.read(item.path) != expected:
            raise Error(f"{self.name}: {item.path} was changed by another publisher")
        self.put([item], lambda _: None)

    def write(self, path: str, content: bytes) -> None:
        """See Target."""
        with self._named():
            before = files.second(self.top / path)
            files.write(self.top / path, content)
            files.date_after(self.top / path, before)

    def digests(self, items: Sequence[Item]) -> dict[str, str]:
        """See Target."""
        found: dict[str, str] = {}
        with self._named():
            for item in items:
                with contextlib.suppress(FileNotFoundError):
                    found[item.path] = Item(item.path, self.top / item.path, item.size).sha256
        return found

    def fetch(self, paths: Sequence[str], destination: Path, advance: Advance) -> None:
        """See Target."""
        with self._named():
            for path in paths:
                target = destination / path
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(self.top / path, target, follow_symlinks=False)
                advance(target.lstat().st_size)

    def delete(self, paths: Iterable[str]) -> None:
        """See Target."""
        with self._named():
            for path in paths:
                target = self.top / path
                target.unlink(missing_ok=True)
                with contextlib.suppress(OSError):  # not empty
                    target.parent.rmdir()

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except OSError as problem:
            place = problem.filename2 or problem.filename or self.top
            raise Error(
                f"{place}: {problem.strerror or problem}", hint="repair it and run again: it goes on where it stopped"
            ) from problem


def _copy(source: Path, target: Path) -> None:
    if source.is_symlink():
        files.symlink(source.readlink(), target)
        return
    before = files.second(target)
    with files.replacing(target, durable=False) as out, source.open("rb") as stream:
        shutil.copyfileobj(stream, out, 1 << 20)
        out.flush()
        os.fsync(out.fileno())
    files.date_after(target, before)
