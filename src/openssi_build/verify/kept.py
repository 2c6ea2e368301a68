"""What clients that have not updated yet still ask for: the files of earlier snapshots, as long as their Release is trusted."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from openssi.errors import Error
from openssi_build.repository import control, snapshots
from openssi_build.repository import images as boot
from openssi_build.repository.snapshots import Snapshot
from openssi_build.verify import images, trees
from openssi_build.verify.indexes import Digests, fault, unpack
from openssi_build.verify.trees import Tree

# So many earlier sets of indexes are asked for by clients that read InRelease before a publish.
_GENERATIONS = 3


def numbers(tree: Tree) -> list[int] | None:
    """Return the numbers of the snapshots of ``tree``, in their order; None when it is read by http and does not tell."""
    if isinstance(tree, trees.Directory):
        return snapshots.numbers(tree.top)
    listed = trees.read(tree, snapshots.LIST)
    return None if listed is None else sorted(snapshots.parse_listing(listed, f"{tree.name}/{snapshots.LIST}"))


def faults(tree: Tree, known: list[int], digests: Digests | None = None, now: float | None = None) -> list[str]:
    """Return what is gone or changed of the snapshots ``known`` that a client may still go by.

    ``digests`` is what is known of the tree's files already.
    """
    digests = {} if digests is None else digests
    now = time.time() if now is None else now
    found: list[str] = []
    asked: set[tuple[str, str]] = set()  # what a newer snapshot names too is told once
    for age, number in enumerate(reversed(known)):
        try:
            snapshot = read(tree, number)
            if snapshot.valid_until and snapshot.valid_until < now:
                continue
            found += _public(tree, snapshot) if age == 0 else ()
            wanted = dict(_pool(tree, snapshot)) | dict(_images(tree, snapshot))
        except Error as problem:
            found.append(str(problem))
            continue
        if age < _GENERATIONS:
            wanted |= {_by_hash(path, digest): digest for path, digest in snapshot.indexes.items()}
        for path, digest in sorted(wanted.items() - asked):
            if wrong := fault(tree, path, digest, digests):
                found.append(f"{path}: {wrong}, but the Release of snapshot {number} names it")
        asked |= wanted.items()
    return found


def _public(tree: Tree, newest: Snapshot) -> Iterator[str]:
    """Yield the InRelease files that are not those of the newest snapshot."""
    for prefix in newest.releases:
        name = f"{prefix}InRelease"
        if trees.read(tree, name) != trees.read(tree, f"{newest.directory}/{name}"):
            yield f"{name}: not that of snapshot {newest.number}, the newest"


def read(tree: Tree, number: int) -> Snapshot:
    """Return snapshot ``number`` of ``tree``; Error when its record can't be read."""
    return snapshots.parse(_read(tree, f"{snapshots.DIRECTORY}/{number}/{snapshots.RECORD}"), f"snapshot {number}")


def _read(tree: Tree, path: str) -> bytes:
    content = trees.read(tree, path)
    if content is None:
        raise Error(f"{path}: gone")
    return content


def _by_hash(path: str, digest: str) -> str:
    return str(Path(path).with_name("by-hash") / "SHA256" / digest)


def _images(tree: Tree, snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    for prefix in snapshot.releases:
        signed = _read(tree, f"{snapshot.directory}/{prefix}InRelease")
        yield from images.asked_for(tree, boot.of_release(signed, prefix, snapshot.current))


def _pool(tree: Tree, snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    """Yield path and SHA256 of each file of the pool that the indexes of ``snapshot`` name; Error when one can't be read."""
    for path in snapshot.indexes:
        name, _, form = path.rpartition(".")
        if Path(name).name not in ("Packages", "Sources") or "/" in name:
            continue  # those at the top name every package and source, of all architectures
        place = f"{snapshot.directory}/{path}"
        packed = _read(tree, place)
        try:
            text = unpack(packed, form)
        except Error as problem:
            raise Error(f"{place}: {problem}") from None
        for stanza in filter(None, text.strip(b"\n").split(b"\n\n")):
            yield from ((each, digest) for each, _, digest in control.files(stanza))
