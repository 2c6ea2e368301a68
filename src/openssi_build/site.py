"""What lies beside the indexes for people: the page, and the files that it tells them to take."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from openssi import files
from openssi_build import archive
from openssi_build.repository import Snapshot, control, release, tables
from openssi_build.settings import Repository

PAGE = "index.html"
SOURCES = "openssi.sources"
PREFERENCES = "openssi.pref"


class Row(NamedTuple):
    """A package on the page."""

    name: str
    version: str
    architecture: str
    size: str
    about: str
    path: str


def size(count: float) -> str:
    """Return ``count`` bytes for people."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def rows(repo: Path, settings: Repository) -> list[Row]:
    """Return the packages that are published, by name, newest version first."""
    found = []
    for stanza in reversed(tables.listing(repo, settings)):
        name, version, architecture, about = (
            control.value(stanza, field).decode() for field in (b"Package", b"Version", b"Architecture", b"Description")
        )
        [(path, count, _)] = control.files(stanza)
        found.append(Row(name, version, architecture, size(count), about, path))
    return sorted(found, key=lambda row: row.name)  # of one name the order stays: the index has the oldest first


def page(repo: Path, snapshot: Snapshot, settings: Repository, keys: bytes) -> str:
    """Return the page of the published ``snapshot``: the same for the same snapshot, settings and keys."""
    environment = Environment(
        loader=FileSystemLoader(archive.TEMPLATES),
        undefined=StrictUndefined,
        trim_blocks=True,
        autoescape=True,
    )
    return environment.get_template("repository.html.j2").render(
        label=settings.label,
        description=settings.description,
        suite=settings.suite,
        uri=settings.uri.rstrip("/") if settings.uri else None,
        keyring=archive.KEYRING,
        keyring_name=Path(archive.KEYRING).name,
        source=archive.sources(settings),
        preference=archive.preferences(settings),
        fingerprints=[" ".join(each[at : at + 4] for at in range(0, 40, 4)) for each in release.fingerprints(keys)],
        date=release.rfc2822(snapshot.date),
        number=snapshot.number,
        sources=snapshot.sources,
        packages=rows(repo, settings),
    )


def write(repo: Path, snapshot: Snapshot, settings: Repository, keys: bytes) -> None:
    """Bring the page and what it offers up to the published ``snapshot``; what is right already is left alone."""
    files.write_if_changed(repo / Path(archive.KEYRING).name, keys)
    files.write_if_changed(repo / SOURCES, archive.sources(settings))
    files.write_if_changed(repo / PREFERENCES, archive.preferences(settings))
    files.write_if_changed(repo / PAGE, page(repo, snapshot, settings, keys))
