"""What is thrown away after a publish: never what a Release that a client may still have names."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Sequence
from itertools import pairwise
from pathlib import Path

from openssi_build.repository import snapshots
from openssi_build.repository.snapshots import Snapshot
from openssi_build.settings import Repository

DAY = 86400
_GRACE_DAYS = 30  # how long a client is taken to go on with a Release that has no Valid-Until


def expire(repository: Path, current: Snapshot, settings: Repository, named: Collection[str]) -> None:
    """Remove old index files, old snapshots, and the pool files and boot images that nothing kept names.

    ``named`` are the paths that ``current``, the public snapshot, names.
    """
    records = snapshots.every(repository)
    snapshots.clean(repository, recent(records, settings, current.date))
    expired = outdated(records, settings, current.date)
    _forget(repository, records[:expired], records[expired:], named)
    snapshots.clean_images(repository)


def recent(records: Sequence[Snapshot], settings: Repository, date: int) -> list[Snapshot]:
    """Return the snapshots, oldest first, whose index files stay in by-hash: so many, and all replaced within a day."""
    replaced = {each.number: after.date for each, after in pairwise(records)}
    least = {each.number for each in records[-settings.by_hash_generations :]}
    return [each for each in records if each.number in least or replaced[each.number] + DAY > date]


def outdated(records: Sequence[Snapshot], settings: Repository, date: int) -> int:
    """Return how many of the oldest snapshots may go: more than are to be kept, and no client trusts their Release."""
    count = 0
    for each, after in list(pairwise(records))[: max(0, len(records) - settings.snapshots)]:
        trusted_until = each.valid_until or after.date + _GRACE_DAYS * DAY
        if trusted_until >= date:
            break  # nor may those after it: what a snapshot names is known from the ones behind it
        count += 1
    return count


def _forget(repository: Path, expired: Sequence[Snapshot], kept: Sequence[Snapshot], named: Collection[str]) -> None:
    """Remove ``expired`` and the pool files that only they name.

    A file that a snapshot dropped was named by those before it. So what the kept ones name is what the newest names and
    what all behind the oldest dropped.
    """
    if not expired:
        return
    candidates = {path for each in (*expired[1:], kept[0]) for path in _dropped(repository, each)}
    still = {path for each in kept[1:] for path in _dropped(repository, each)}
    for path in sorted(candidates - still - set(named)):
        target = repository / path
        target.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # not empty
            target.parent.rmdir()
    for each in expired:
        snapshots.discard(repository, each)


def _dropped(repository: Path, snapshot: Snapshot) -> list[str]:
    return [path for change in snapshots.changes(repository, snapshot.number).dropped for path in change.paths]
