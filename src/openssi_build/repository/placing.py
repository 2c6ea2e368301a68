"""The pool: what is in it as it was published, and putting more into it so that it can be taken back."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from hashlib import sha256
from pathlib import Path

from openssi import files
from openssi.errors import Error
from openssi_build.repository import control, plan, pool, snapshots
from openssi_build.repository.chunks import Table
from openssi_build.repository.images import Images
from openssi_build.repository.pool import Incoming, Package
from openssi_build.repository.store import Seen, seen
from openssi_build.settings import Repository

_JOURNAL = ".incoming"  # paths that an unfinished publish may have put into the pool; there are new boot images too


def named(tables: dict[str, Table]) -> dict[str, Seen]:
    """Return notes on every file that ``tables`` name; nobody has looked at the files yet."""
    notes = {}
    for name, table in tables.items():
        if name.startswith("packages-") or name == "sources":
            for stanza in table.items():
                for path, size, digest in control.files(stanza):
                    notes[path] = Seen(size, 0, 0, digest)
    return notes


def check(repository: Path, notes: dict[str, Seen]) -> bool:
    """Compare the pool with ``notes`` and read again what looks different; return True when a note was renewed.

    Error names a file that is gone or is not the one that was published.
    """
    top = f"{repository}/"
    renewed = {}
    for path, note in notes.items():
        try:
            status = os.stat(top + path)  # noqa: PTH116 - for 10,000 files, making the Path takes longer than stat
        except FileNotFoundError:
            raise Error(f"{top}{path}: published, but gone", hint="put the file back") from None
        if not note.fits(status):
            archive, status = pool.content(Path(top + path))
            if sha256(archive).hexdigest() != note.sha256:
                raise Error(f"{top}{path}: not the file that was published: SHA256 differs", hint="put it back")
            renewed[path] = seen(status, note.sha256)
    notes |= renewed
    return bool(renewed)


def place(
    repository: Path, added: Iterable[Package], notes: dict[str, Seen], boot: Sequence[Images], settings: Repository
) -> list[str]:
    """Put the files of ``added`` into the pool, note them, and return the paths that were not there before.

    The boot images ``boot`` are put under their versions.

    Error, with nothing put, when a name is taken by other content.
    """
    coming: list[Incoming] = []
    for package in added:
        for each in package.incoming:
            target = repository / each.path
            if each.origin == str(target):
                notes[each.path] = each.note
            elif target.exists():
                notes[each.path] = _equal(each, target)
            else:
                coming.append(each)
    placed = [each.path for each in coming]
    if coming or boot:
        files.write(repository / _JOURNAL, json.dumps(placed))
    try:
        for each in coming:
            notes[each.path] = pool.put(repository, each)
        for each_images in boot:
            each_images.place(repository, settings)
    except BaseException:
        take_back(repository, placed)
        raise
    return placed


def _equal(each: Incoming, target: Path) -> Seen:
    archive, status = pool.content(target)
    if sha256(archive).hexdigest() != each.note.sha256:
        raise Error(f"{each.origin}: {target} has that name and other content", hint=plan.OTHER_BYTES)
    return seen(status, each.note.sha256)


def take_back(repository: Path, placed: Sequence[str]) -> None:
    """Remove what place() put into the repository, whole or in part."""
    for path in placed:
        target = repository / path
        pool.temporary(target).unlink(missing_ok=True)
        target.unlink(missing_ok=True)
    snapshots.clean_images(repository)
    done(repository)


def done(repository: Path) -> None:
    """Note that what place() put into the repository is published."""
    (repository / _JOURNAL).unlink(missing_ok=True)


def recover(repository: Path) -> None:
    """Take back what an interrupted writer put into the repository and did not publish."""
    files.sweep([repository / _JOURNAL])
    try:
        placed = json.loads((repository / _JOURNAL).read_bytes())
    except FileNotFoundError:
        return
    newest = snapshots.newest(repository)
    # The journal goes away after each publish, so only the newest snapshot can have what it lists.
    added = snapshots.changes(repository, newest.number).added if newest else ()
    published = {path for change in added for path in change.paths}
    take_back(repository, [path for path in placed if path not in published])
