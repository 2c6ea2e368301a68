"""A published tree to read from: a directory, or the place that an http server shows."""

from __future__ import annotations

import hashlib
import http.client
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Protocol

from openssi.errors import Error

_TIMEOUT = 60
_BLOCK = 1 << 20


class Tree(Protocol):
    """Where a repository's files are read, by their paths below its top."""

    name: str

    def open(self, path: str) -> IO[bytes] | None:
        """Return a stream of the file at ``path``, or None when there is none; Error when nobody can tell."""


class Directory:
    """A tree on this machine."""

    def __init__(self, top: Path) -> None:
        if not top.is_dir():
            raise Error(f"{top}: no such directory", hint="inv build-repo makes out/repo")
        self.top = top
        self.name = str(top)

    def open(self, path: str) -> IO[bytes] | None:
        """Return a stream of the file at ``path``, or None when there is none."""
        try:
            return (self.top / path).open("rb")
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None
        except OSError as problem:
            raise Error(f"{self.top / path}: {problem.strerror}") from None


class Site:
    """A tree behind http or https."""

    def __init__(self, uri: str) -> None:
        self.name = uri.rstrip("/")

    def open(self, path: str) -> IO[bytes] | None:
        """Return a stream of the file at ``path``, or None when the server has none; Error says what it answered."""
        uri = f"{self.name}/{urllib.parse.quote(path, safe='/+~:')}"
        try:
            stream: IO[bytes] = urllib.request.urlopen(uri, timeout=_TIMEOUT)  # noqa: S310 - tree() lets only http in
        except urllib.error.HTTPError as problem:
            if problem.code in (404, 410):
                return None
            raise Error(f"{uri}: the server says {problem.code} {problem.reason}") from None
        except (OSError, http.client.HTTPException) as problem:
            raise Error(f"{uri}: {getattr(problem, 'reason', problem)}") from None
        return stream


def tree(where: str) -> Directory | Site:
    """Return the tree at ``where``: an http or https URL, or a directory; Error when it is neither."""
    scheme, colon, _ = where.partition("://")
    if not colon:
        return Directory(Path(where))
    if scheme not in ("http", "https"):
        raise Error(f"{where}: expected a directory or a URL of http or https")
    return Site(where)


def _blocks(stream: IO[bytes], name: str) -> Iterator[bytes]:
    try:
        while block := stream.read(_BLOCK):
            yield block
    except (OSError, http.client.HTTPException) as problem:
        raise Error(f"{name}: {problem}") from None


def read(tree: Tree, path: str) -> bytes | None:
    """Return the content of the file at ``path``, or None when there is none."""
    stream = tree.open(path)
    if stream is None:
        return None
    with stream:
        return b"".join(_blocks(stream, f"{tree.name}/{path}"))


def digest(tree: Tree, path: str, algorithm: str) -> tuple[int, str] | None:
    """Return size and hash (``algorithm`` as hashlib calls it) of the file at ``path``, or None when there is none."""
    stream = tree.open(path)
    if stream is None:
        return None
    with stream:
        made, size = hashlib.new(algorithm, usedforsecurity=False), 0
        for block in _blocks(stream, f"{tree.name}/{path}"):
            made.update(block)
            size += len(block)
    return size, made.hexdigest()
