"""What lies beside the indexes: for people the page and the files that it tells them to take, and a list of the snapshots."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from openssi import files
from openssi_build import archive
from openssi_build.repository import Snapshot, control, release, snapshots, tables
from openssi_build.settings import Repository

PAGE = "index.html"
SOURCES = "openssi.sources"
PREFERENCES = "openssi.pref"


class Row(NamedTuple):
    """A binary or source package on the page."""

    name: str
    version: str
    architecture: str  # or ``source``
    size: str  # of a source: of all its files
    about: str  # of a source: nothing
    path: str  # of the .deb or the .dsc
    source: str  # the name of its source package


def size(count: float) -> str:
    """Return ``count`` bytes for people."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def rows(repo: Path, index: str = "Packages") -> list[Row]:
    """Return the packages that are published, or with ``Sources`` the source packages, by name, newest version first."""
    found = []
    for stanza in reversed(tables.listing(repo, index)):
        name, version, architecture = (part.decode() for part in control.identity(stanza))
        about, source = (control.value(stanza, field).decode() for field in (b"Description", b"Source"))
        listed = control.files(stanza)
        count = size(sum(each for _, each, _ in listed))
        found.append(Row(name, version, architecture, count, about, listed[0][0], source.partition(" ")[0] or name))
    return sorted(found, key=lambda row: row.name)  # of one name the order stays: the index has the oldest first


def page(repo: Path, snapshot: Snapshot, settings: Repository, keys: bytes) -> str:
    """Return the page of the published ``snapshot``: the same for the same snapshot, settings and keys."""
    packages, sources = rows(repo), rows(repo, "Sources")
    here = {row.name for row in sources}
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
        component=settings.component,
        uri=settings.uri.rstrip("/") if settings.uri else None,
        keyring=archive.KEYRING,
        keyring_name=Path(archive.KEYRING).name,
        source=archive.sources(settings),
        preference=archive.preferences(settings),
        fingerprints=[" ".join(each[at : at + 4] for at in range(0, 40, 4)) for each in release.fingerprints(keys)],
        date=release.rfc2822(snapshot.date),
        number=snapshot.number,
        sources=sources,
        packages=packages,
        without_source=sorted({row.name for row in packages if row.source not in here}),
    )


def write(repo: Path, snapshot: Snapshot, settings: Repository, keys: bytes) -> None:
    """Bring what lies beside the indexes up to the published ``snapshot``; what is right already is left alone."""
    files.write_if_changed(repo / Path(archive.KEYRING).name, keys)
    files.write_if_changed(repo / SOURCES, archive.sources(settings))
    files.write_if_changed(repo / PREFERENCES, archive.preferences(settings))
    files.write_if_changed(repo / snapshots.LIST, snapshots.listing(repo))
    files.write_if_changed(repo / PAGE, page(repo, snapshot, settings, keys))
