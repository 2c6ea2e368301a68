"""From tables to the files of a snapshot: indexes in each compressed form, and what is signed over them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

from openssi import files
from openssi_build.repository import release, tables
from openssi_build.repository.chunks import Table
from openssi_build.repository.release import Index, Signer
from openssi_build.repository.snapshots import Snapshot
from openssi_build.repository.store import COMPRESSIONS, Store
from openssi_build.settings import Repository


def write(staging: Path, edited: Mapping[str, Table], settings: Repository, store: Store) -> dict[str, Index]:
    """Write every index in every form below ``staging``; return what they are by path, the plain ones included.

    Release must list the plain form of an index though no such file exists: without it apt takes none and says nothing.
    Indexes of one content are links to one file.
    """
    made: dict[tuple[str, ...], tuple[Index, dict[str, Index], Path]] = {}
    indexes: dict[str, Index] = {}
    for path, parts in tables.layout(settings).items():
        names = tuple(chunk.name for part in parts for chunk in edited[part].chunks)
        target = staging / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if names in made:
            plain, forms, source = made[names]
            for suffix in forms:
                os.link(f"{source}.{suffix}", f"{target}.{suffix}")
        else:
            plain = _plain(names, store)
            effort = tables.form(parts[0]).effort
            forms = {suffix: _form(f"{target}.{suffix}", names, suffix, store, effort) for suffix in settings.compress}
            made[names] = plain, forms, target
        indexes[path] = plain
        indexes |= {f"{path}.{suffix}": index for suffix, index in forms.items()}
    return indexes


def _plain(names: tuple[str, ...], store: Store) -> Index:
    digest, size = sha256(), 0
    for name in names:
        text = store.text(name)
        digest.update(text)
        size += len(text)
    return Index(size, digest.hexdigest())


def _form(target: str, names: tuple[str, ...], suffix: str, store: Store, effort: int) -> Index:
    digest, size = sha256(), 0
    chunks = (store.compressed(name, suffix, effort) for name in names)
    with files.replacing(Path(target)) as stream:
        for piece in COMPRESSIONS[suffix].join(chunks):
            stream.write(piece)
            digest.update(piece)
            size += len(piece)
    return Index(size, digest.hexdigest())


def write_releases(
    staging: Path, snapshot: Snapshot, indexes: Mapping[str, Index], settings: Repository, signer: Signer
) -> None:
    """Write Release, Release.gpg and InRelease of both trees below ``staging``."""
    keys = ",".join(release.fingerprints(signer.public_keys()))
    for prefix in snapshot.releases:
        own = {
            path.removeprefix(prefix): index
            for path, index in indexes.items()
            if (path.startswith(prefix) if prefix else not path.startswith("dists/"))
        }
        text = release.text(_fields(snapshot, settings, keys, flat=not prefix), own)
        files.write(staging / f"{prefix}Release", text)
        files.write(staging / f"{prefix}Release.gpg", signer.detach(text, snapshot.date))
        files.write(staging / f"{prefix}InRelease", signer.clearsign(text, snapshot.date))


def _fields(snapshot: Snapshot, settings: Repository, keys: str, *, flat: bool) -> dict[str, str]:
    return {
        "Origin": settings.origin,
        "Label": settings.label,
        "Suite": settings.suite,
        "Codename": settings.suite,
        "Date": release.rfc2822(snapshot.date),
        "Valid-Until": release.rfc2822(snapshot.valid_until) if snapshot.valid_until else "",
        "Acquire-By-Hash": "yes",
        # Without ``all`` here, apt leaves out binary-all without a word.
        "Architectures": " ".join(("all", *settings.architectures)),
        "Components": "" if flat else settings.component,
        "Description": settings.description,
        "Signed-By": keys,
    }
