"""What clients that have not updated yet still ask for: the files of earlier snapshots, as long as their Release is trusted."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from openssi.errors import Error
from openssi_build.repository import control, snapshots
from openssi_build.repository.snapshots import Snapshot
from openssi_build.verify.indexes import unpack

# So many earlier sets of indexes are asked for by clients that read InRelease before a publish.
_GENERATIONS = 3


def faults(top: Path, now: float | None = None) -> list[str]:
    """Return what is gone of the snapshots of the repository ``top`` that a client may still go by; nothing without snapshots."""
    now = time.time() if now is None else now
    try:
        known = snapshots.every(top)
    except Error as problem:
        return [str(problem)]
    found: list[str] = []
    for age, snapshot in enumerate(reversed(known)):
        if snapshot.valid_until and snapshot.valid_until < now:
            continue
        wanted = set(_pool(top, snapshot, found))
        if age < _GENERATIONS:
            wanted |= {_by_hash(path, digest) for path, digest in snapshot.indexes.items()}
        lacking = sorted(path for path in wanted if not (top / path).exists())
        found += [f"{path}: gone, but the Release of snapshot {snapshot.number} names it" for path in lacking]
    return found


def _by_hash(path: str, digest: str) -> str:
    return str(Path(path).with_name("by-hash") / "SHA256" / digest)


def _pool(top: Path, snapshot: Snapshot, found: list[str]) -> Iterator[str]:
    """Yield the paths of the pool that the indexes of ``snapshot`` name; an index that can't be read is added to ``found``."""
    for path in snapshot.indexes:
        name, _, form = path.rpartition(".")
        if Path(name).name not in ("Packages", "Sources") or "/" in name:
            continue  # those at the top name every package and source, of all architectures
        place = top / snapshot.directory / path
        try:
            text = unpack(place.read_bytes(), form)
        except OSError as problem:
            found.append(f"{place}: {problem.strerror}")
        except Error as problem:
            found.append(f"{place}: {problem}")
        else:
            for stanza in filter(None, text.strip(b"\n").split(b"\n\n")):
                yield from (each for each, _, _ in control.files(stanza))
