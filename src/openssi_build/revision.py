"""The version of our source package once its keys or settings have changed: a published version never gets other bytes."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path

from debian.changelog import Changelog

from openssi_build import deb

_DEBIAN = ".debian.tar.xz"


def revised(root: Path, pool: Path, generated: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return ``generated`` with the changelog of version ``+k1``, ``+k2`` … where ``pool`` has the version of the tree with others.

    What is generated, keys above all, lies in the source package, so that each of its packages gets the new version.
    """
    what = deb.version(root)
    form = re.compile(rf"{re.escape(f'{what.source}_{what.version}')}(?:\+k([0-9]+))?{re.escape(_DEBIAN)}")
    found = {int(match[1] or 0): path for path in pool.rglob(f"*{_DEBIAN}") if (match := form.fullmatch(path.name))}
    if not found:
        return dict(generated)
    newest = max(found)
    number = newest if _has(found[newest], generated) else newest + 1
    return {**generated, "debian/changelog": _changelog(root, what, number)} if number else dict(generated)


def _has(tarball: Path, generated: Mapping[str, bytes]) -> bool:
    """Return True when the ``tarball`` of a source package's debian directory has the files that are generated now."""
    with tarfile.open(tarball) as tar:
        streams = {entry.name.removeprefix("./"): tar.extractfile(entry) for entry in tar if entry.isfile()}
        packed = {name: stream.read() for name, stream in streams.items() if stream and name in generated}
    return packed == generated


def _changelog(root: Path, what: deb.Version, number: int) -> bytes:
    """Return the changelog with an entry for ``number``; its date, too, depends on nothing else."""
    text = (root / "debian/changelog").read_text(encoding="utf-8")
    newest = Changelog(text, max_blocks=1)
    entry = (
        f"{what.source} ({what.version}+k{number}) {newest.distributions}; urgency={newest.urgency}\n\n"
        "  * Keys or apt configuration of the repository have changed.\n\n"
        f" -- {newest.author}  {format_datetime(datetime.fromtimestamp(what.epoch + number, UTC))}\n\n"
    )
    return (entry + text).encode()
