"""What a target must be able to do, and which kind of target an address means."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from openssi.errors import Error
from openssi_build import settings
from openssi_build.publish.tree import Item

Advance = Callable[[int], None]
LOCK = ".publish.lock"


class Target(Protocol):
    """A place that holds a published tree. Paths are relative to its top. Every method raises Error when it can't."""

    name: str
    links: bool  # it can hold symbolic links

    def __enter__(self) -> Target:
        """Connect."""

    def __exit__(self, *problem: object) -> None:
        """Disconnect."""

    def lock(self, waiting: Callable[[str], None]) -> AbstractContextManager[None]:
        """Keep other publishers out; ``waiting`` is told once who is in."""

    def listing(self) -> dict[str, int]:
        """Return the size of every file by its path, hidden ones left out."""

    def read(self, path: str) -> bytes | None:
        """Return the content of a small file, or None when there is none."""

    def put(self, items: Sequence[Item], advance: Advance) -> None:
        """Write files, each of them at once or not at all, in any order; ``advance`` is told of bytes written."""

    def replace(self, item: Item, expected: bytes | None) -> None:
        """Write one file if its content still is ``expected`` (None: not there); Error if another publisher was quicker."""

    def write(self, path: str, content: bytes) -> None:
        """Write a small file of our own that no client reads."""

    def digests(self, items: Sequence[Item]) -> dict[str, str]:
        """Return the SHA256 of files as the target has them, by path; what is not there is left out."""

    def fetch(self, paths: Sequence[str], destination: Path, advance: Advance) -> None:
        """Copy files of the target below the directory ``destination``."""

    def delete(self, paths: Iterable[str]) -> None:
        """Remove files; those that are gone already are no error."""


_HOST_PATH = re.compile(r"(?:[\w.-]+@)?(?:[\w.-]+|\[[0-9a-fA-F:]+\]):.+")


def find(configured: Sequence[settings.Publish], name: str) -> settings.Publish:
    """Return the [[publish]] target called ``name``, else one made from ``name`` as an address; Error when it is neither."""
    for each in configured:
        if each.name == name:
            return each
    if "/" in name or ":" in name:
        return settings.Publish(name=name, to=name)
    known = ", ".join(each.name for each in configured) or "none"
    raise Error(
        f"--to {name}: no [[publish]] target of that name in openssi.toml (there are: {known}) and no address",
        hint="give a name, ./DIRECTORY, HOST:/DIRECTORY or s3://BUCKET/PREFIX",
    )


def open_target(chosen: settings.Publish, root: Path) -> Target:
    """Return the target, which is connected in a ``with`` block; relative paths are below ``root``."""
    from openssi_build.publish.directory import DirectoryTarget

    to = chosen.to
    if to.startswith("s3://"):
        from openssi_build.publish.objects import ObjectTarget

        return ObjectTarget(chosen)
    if to.startswith("ssh://"):
        try:
            url = urlsplit(to)
            port = url.port
        except ValueError as problem:
            raise Error(f"{to}: {problem}") from None
        if not url.hostname or url.path in ("", "/"):
            raise Error(f"{to}: expected ssh://[USER@]HOST[:PORT]/DIRECTORY")
        return _remote(chosen, root, f"{url.username}@{url.hostname}" if url.username else url.hostname, url.path, port)
    if "://" in to:
        raise Error(
            f"{to}: no such kind of target",
            hint="a directory, HOST:/DIRECTORY, ssh://HOST/DIRECTORY or s3://BUCKET/PREFIX",
        )
    if not to.startswith(("/", ".")) and _HOST_PATH.fullmatch(to):
        host, _, path = to.rpartition(":") if to.startswith("[") else to.partition(":")
        return _remote(chosen, root, host, path, None)
    return DirectoryTarget(chosen.name, root / to, wait=chosen.wait_s)


def _remote(chosen: settings.Publish, root: Path, host: str, path: str, port: int | None) -> Target:
    from openssi_build.publish.remote import RemoteTarget

    files = {key: root / value for key in ("identity", "known_hosts") if (value := getattr(chosen, key))}
    return RemoteTarget(replace(chosen, **files), host, path, port)
