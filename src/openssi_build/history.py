"""`inv snapshots` and `inv rollback`: what was published when, and going back to it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

from rich.console import Console
from rich.table import Table

from openssi.errors import Error
from openssi_build import repository, signing, site
from openssi_build.repository import Snapshot, snapshots
from openssi_build.settings import Settings


def show(repo: Path, console: Console | None = None) -> None:
    """Print a table of the snapshots of ``repo``, newest last, with what changed; Error when nothing is published."""
    rows = snapshots.table(repo)
    if not rows:
        raise _unpublished(repo)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("snapshot", justify="right")
    table.add_column("date", no_wrap=True)
    table.add_column("packages", no_wrap=True)
    table.add_column("changes", overflow="fold")
    for row in rows:
        table.add_row(*row.values())
    (console or Console()).print(table, highlight=False, markup=False)


def before(repo: Path) -> int:
    """Return the number of the newest snapshot that has other packages or boot images than the public one; Error when none has."""
    known = repository.every(repo)
    if not known:
        raise _unpublished(repo)
    for older, newer in reversed(list(pairwise(known))):
        images = [snapshots.boot_images(repo, each) for each in (older, newer)]
        if any(repository.changes(repo, newer.number)) or images[0] != images[1]:
            return older.number
    raise Error(
        f"{repo}: no snapshot has other packages or boot images than the public one", hint="inv snapshots lists them"
    )


def back(
    root: Path,
    repo: Path,
    cache: Path,
    settings: Settings,
    number: int = 0,
    *,
    say: Callable[[str], None] = print,
) -> Snapshot:
    """Publish the packages and boot images of snapshot ``number`` again (0: of the one before) and say so.

    Error, with nothing written, when there is no such snapshot.
    """
    number = number or before(repo)
    snapshots.read(repo, number)  # refuses before a key is asked for
    with signing.signer(settings.signing, root) as signer:
        snapshot = repository.rollback(
            repo,
            number,
            settings=settings.repository,
            cache=cache,
            signer=signer,
            waiting=lambda holder: say(f"waiting for {holder}"),
        )
        site.write(repo, snapshot, settings.repository, signer.public_keys())
    if snapshot.new:
        say(f"snapshot {snapshot.number} has the packages and boot images of {number}")
    else:
        say(f"snapshot {snapshot.number} has the packages and boot images of {number} already: nothing was written")
    return snapshot


def _unpublished(repo: Path) -> Error:
    return Error(f"{repo}: nothing is published there", hint="inv build-repo")
