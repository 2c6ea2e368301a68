"""Numbered snapshots: each publish is written as one, then linked into its public places.

A snapshot is the directory ``snapshots/<number>``: the indexes and Release files of both trees under their public names,
a link to the pool, ``snapshot.json``, and ``changes.json`` with what came and went. It is complete before the first public name changes, so what was interrupted is
carried to its end by the next writer.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from openssi import files
from openssi.errors import Error
from openssi_build.repository import images
from openssi_build.repository.release import rfc2822

DIRECTORY = "snapshots"
LIST = "snapshots.json"  # their numbers, for who reads by http and sees no directories
SIGNED = ("Release.gpg", "Release", "InRelease")  # in the order they become public
RECORD = "snapshot.json"
_CHANGES = "changes.json"
_STAGING = ".new"


class Change(NamedTuple):
    """A package that came or went."""

    package: str
    version: str
    architecture: str  # or ``source``; of boot images ``images``
    paths: tuple[str, ...]  # its files below the repository that came or went with it


class Changes(NamedTuple):
    """What a snapshot has that the one before had not, and the other way round."""

    added: tuple[Change, ...]
    dropped: tuple[Change, ...]


@dataclass(frozen=True)
class Snapshot:
    """One publish."""

    number: int
    date: int  # of Release, seconds since 1970
    valid_until: int  # 0: for ever
    note: str
    identity: str  # changes with the settings and the keys
    releases: tuple[str, ...]  # prefixes of the trees
    indexes: dict[str, str]  # SHA256 of every index file by its path below the repository
    packages: int
    sources: int
    current: dict[str, str] = field(default_factory=dict)  # the version of boot images by their directory
    new: bool = field(default=False, compare=False)  # this call published it

    @property
    def directory(self) -> str:
        """The snapshot's directory below the repository."""
        return f"{DIRECTORY}/{self.number}"


def numbers(repository: Path) -> list[int]:
    """Return the numbers of the snapshots that are there, in their order."""
    try:
        return sorted(int(path.name) for path in (repository / DIRECTORY).iterdir() if path.name.isdigit())
    except FileNotFoundError:
        return []


def read(repository: Path, number: int) -> Snapshot:
    """Return snapshot ``number``; Error when it is not there or not readable."""
    path = repository / DIRECTORY / str(number) / RECORD
    try:
        return parse(path.read_bytes(), str(path))
    except FileNotFoundError:
        known = ", ".join(map(str, numbers(repository))) or "none"
        raise Error(f"{path.parent}: no such snapshot", hint=f"there are: {known}") from None


def parse(record: bytes, where: str) -> Snapshot:
    """Return the snapshot that the content of a snapshot.json says; Error when it is not readable."""
    try:
        document = json.loads(record)
        return Snapshot(**{**document, "releases": tuple(document["releases"])})
    except (ValueError, TypeError, KeyError) as problem:
        raise Error(f"{where}: damaged: {problem}") from None


def listing(repository: Path) -> str:
    """Return the content of LIST."""
    return json.dumps({"snapshots": numbers(repository)}) + "\n"


def parse_listing(text: bytes, where: str) -> list[int]:
    """Return the numbers in the content of LIST; Error when it is not readable."""
    try:
        return [int(each) for each in json.loads(text)["snapshots"]]
    except (ValueError, TypeError, KeyError) as problem:
        raise Error(f"{where}: damaged: {problem}") from None


def changes(repository: Path, number: int) -> Changes:
    """Return what came and went with snapshot ``number``; Error when that is not readable."""
    path = repository / DIRECTORY / str(number) / _CHANGES
    try:
        document = json.loads(path.read_bytes())
        added, dropped = (
            tuple(
                Change(name, version, architecture, tuple(paths))
                for name, version, architecture, paths in document[field]
            )
            for field in Changes._fields
        )
        return Changes(added, dropped)
    except (OSError, ValueError, TypeError, KeyError) as problem:
        raise Error(f"{path}: damaged: {problem}") from None


def every(repository: Path) -> list[Snapshot]:
    """Return all snapshots, oldest first."""
    return [read(repository, number) for number in numbers(repository)]


def newest(repository: Path) -> Snapshot | None:
    """Return the newest snapshot, or None."""
    known = numbers(repository)
    return read(repository, known[-1]) if known else None


def stage(repository: Path) -> Path:
    """Return an empty directory in which a snapshot is prepared; what an interrupted writer left there is removed."""
    staging = repository / DIRECTORY / _STAGING
    if staging.exists():
        shutil.rmtree(staging)
    staging.mkdir(parents=True)
    return staging


def complete(repository: Path, staging: Path, snapshot: Snapshot, changed: Changes) -> None:
    """Make the prepared ``staging`` the snapshot it is, durably."""
    (staging / "pool").symlink_to("../../pool")
    files.write(staging / _CHANGES, json.dumps(changed._asdict()) + "\n")
    document = {name: value for name, value in vars(snapshot).items() if name != "new"}
    files.write(staging / RECORD, json.dumps(document, indent=1, sort_keys=True) + "\n")
    staging.rename(repository / snapshot.directory)
    files.sync_directory(repository / DIRECTORY)


def discard(repository: Path, snapshot: Snapshot) -> None:
    """Remove a snapshot; its record goes first, so that it is never half there."""
    doomed = repository / DIRECTORY / f".old-{snapshot.number}"
    (repository / snapshot.directory).rename(doomed)
    shutil.rmtree(doomed)


def tidy(repository: Path) -> None:
    """Remove what interrupted writers left beside the snapshots."""
    top = repository / DIRECTORY
    for path in top.glob(".*"):
        shutil.rmtree(path)


def link(source: Path, target: Path) -> None:
    """Make ``target`` a hard link to ``source``, atomically replacing what is there."""
    temporary = target.with_name(f".{target.name}.new")
    temporary.unlink(missing_ok=True)
    os.link(source, temporary)
    temporary.replace(target)
    # Between two links to one file, rename(2) does nothing and says nothing.
    temporary.unlink(missing_ok=True)


def _public(repository: Path, snapshot: Snapshot) -> Iterator[tuple[Path, Path]]:
    """Yield ``(source, target)`` of every link that makes ``snapshot`` public, in their order."""
    own = repository / snapshot.directory
    for path, digest in snapshot.indexes.items():
        target = repository / path
        yield own / path, target.with_name("by-hash") / "SHA256" / digest
    for path in snapshot.indexes:
        yield own / path, repository / path
    for prefix in snapshot.releases:
        for name in SIGNED:
            yield own / f"{prefix}{name}", repository / f"{prefix}{name}"


def _same(source: Path, target: Path) -> bool:
    try:
        return source.samefile(target) or source.read_bytes() == target.read_bytes()
    except FileNotFoundError:
        return False


def is_public(repository: Path, snapshot: Snapshot) -> bool:
    """Return True when every public name of ``snapshot`` is in place."""
    own = repository / snapshot.directory
    return all(_same(own / f"{prefix}InRelease", repository / f"{prefix}InRelease") for prefix in snapshot.releases)


def install(repository: Path, snapshot: Snapshot) -> None:
    """Make ``snapshot`` the public one: by-hash, then the names of indexes and boot images, what is signed, InRelease last."""
    directories: set[Path] = set()
    boot = boot_images(repository, snapshot)
    images.offer(repository, boot)
    images.switch(repository, boot)
    for source, target in _public(repository, snapshot):
        if _same(source, target):
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.name == SIGNED[0]:
            _sync(directories)
        files.date_after(source, files.second(target))
        link(source, target)
        directories.add(target.parent)
    _sync(directories)


def _sync(directories: set[Path]) -> None:
    for directory in sorted(directories):
        files.sync_directory(directory)
    directories.clear()


def boot_images(repository: Path, snapshot: Snapshot) -> images.Listed:
    """Return what the Release of ``snapshot`` lists of boot images."""
    found: images.Listed = {}
    for prefix in snapshot.releases:
        found |= images.of_release(
            (repository / snapshot.directory / f"{prefix}InRelease").read_bytes(), prefix, snapshot.current
        )
    return found


def clean_images(repository: Path) -> None:
    """Remove the boot images that no snapshot has."""
    if images.directories(repository):
        images.clean(repository, (boot_images(repository, each) for each in every(repository)))


def clean(repository: Path, kept: list[Snapshot]) -> None:
    """Remove public names of indexes that no snapshot in ``kept`` (the public one last) has."""
    current = kept[-1]
    wanted: dict[Path, set[str]] = {}
    for snapshot in kept:
        for path, digest in snapshot.indexes.items():
            wanted.setdefault((repository / path).with_name("by-hash") / "SHA256", set()).add(digest)
    for directory, digests in wanted.items():
        for each in directory.glob("*"):
            if each.name not in digests:
                each.unlink()
    earlier = {path for snapshot in kept[:-1] for path in snapshot.indexes}
    for name in sorted(earlier - set(current.indexes)):
        (repository / name).unlink(missing_ok=True)


def table(repository: Path) -> list[dict[str, str]]:
    """Return the rows of a table of all snapshots, oldest first: number, date, packages, what changed."""
    rows = []
    for each in every(repository):
        changed = changes(repository, each.number)
        words = [f"+{change.package} {change.version}" for change in changed.added]
        words += [f"-{change.package} {change.version}" for change in changed.dropped]
        shown = ", ".join(words[:4]) + (f" and {len(words) - 4} more" if len(words) > 4 else "")
        rows.append(
            {
                "snapshot": str(each.number),
                "date": rfc2822(each.date),
                "packages": f"{each.packages} + {each.sources} sources",
                "changes": "; ".join(filter(None, (each.note, shown))),
            }
        )
    return rows
