"""What a publish changes: decided in full, and refused in full, before anything is written."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cmp_to_key
from hashlib import sha256
from pathlib import Path

from openssi.errors import Error
from openssi_build.repository import control, deb, images, pool, tables
from openssi_build.repository.chunks import Table
from openssi_build.repository.pool import Incoming, Package
from openssi_build.repository.snapshots import Change, Changes, Snapshot
from openssi_build.settings import Repository

OTHER_BYTES = (
    "a published version never changes: raise it, by dch -i in debian/changelog or revision in "
    "packaging/derived/*/recipe.toml; while nobody uses the repository: inv build-repo --fresh"
)


@dataclass
class Plan:
    """New items of each table by key, and what comes and goes."""

    changes: dict[str, dict[bytes, list[bytes]]] = field(default_factory=dict)
    added: list[Package] = field(default_factory=list)
    dropped: list[bytes] = field(default_factory=list)  # stanzas
    shared: set[str] = field(default_factory=set)  # paths that a dropped source names, but a kept one too
    skipped: list[Package] = field(default_factory=list)  # older than the versions that are kept


def by_version(stanzas: Iterable[bytes]) -> list[bytes]:
    """Return ``stanzas`` of one package, oldest version first."""
    ordered = list(stanzas)
    if len(ordered) > 1:
        from debian.debian_support import version_compare

        def compare(one: bytes, other: bytes) -> int:
            return int(version_compare(*(control.value(each, b"Version").decode() for each in (one, other))))

        ordered.sort(key=cmp_to_key(compare))
    return ordered


def change(stanza: bytes, shared: Collection[str] = ()) -> Change:
    """Return how a snapshot records the coming or going of ``stanza``, whose files in ``shared`` stay."""
    package, version, architecture = (part.decode() for part in control.identity(stanza))
    return Change(
        package, version, architecture, tuple(path for path, _, _ in control.files(stanza) if path not in shared)
    )


def coming(package: Package) -> Change:
    """Return how a snapshot records the coming of ``package``."""
    name, version, architecture = (part.decode() for part in package.identity)
    return Change(name, version, architecture, tuple(each.path for each in package.incoming))


def table_of(architecture: bytes) -> str:
    """Return the name of the table for packages of ``architecture``, or of sources."""
    return "sources" if architecture == b"source" else f"packages-{architecture.decode()}"


def make(repository: Path, current: dict[str, Table], packages: Sequence[Package], settings: Repository) -> Plan:
    """Return what adding ``packages`` changes; Error when a version is there already with other bytes."""
    plan = Plan()
    by_table: dict[str, dict[bytes, list[Package]]] = {}
    for package in packages:
        name, _, architecture = package.identity
        by_table.setdefault(table_of(architecture), {}).setdefault(name, []).append(package)
    for table, new in by_table.items():
        plan.changes[table] = {}
        for name, old in current[table].find(new).items():
            stanzas = _merged(plan, old, new[name], settings.keep)
            if stanzas is not None:
                plan.changes[table][name] = stanzas
    _refuse_shared_paths(plan.added)
    _translations(plan, current)
    _contents(repository, plan, current)
    plan.changes = {table: changes for table, changes in plan.changes.items() if changes}
    return plan


def _merged(plan: Plan, old: list[bytes], new: list[Package], keep: int) -> list[bytes] | None:
    """Return the stanzas that one package name has from now on, or None when nothing changes."""
    known = {control.identity(stanza): stanza for stanza in old}
    coming: dict[bytes, Package] = {}
    for package in new:
        before = known.get(package.identity)
        if before is None:
            known[package.identity] = package.stanza
            coming[package.stanza] = package
        elif _hash(before) != _hash(package.stanza):
            raise _other_bytes(package, before, coming.get(before))
    if not coming:
        return None
    ordered = by_version(known.values())
    kept = ordered[-keep:]
    for stanza in ordered[:-keep]:
        if stanza in coming:
            plan.skipped.append(coming[stanza])
        else:
            plan.dropped.append(stanza)
    plan.added += [coming[stanza] for stanza in kept if stanza in coming]
    plan.shared |= {path for stanza in kept for path, _, _ in control.files(stanza)}
    return None if kept == old else kept


def _hash(stanza: bytes) -> str:
    return control.files(stanza)[0][2]


def _other_bytes(package: Package, before: bytes, given: Package | None) -> Error:
    name, version, architecture = (part.decode() for part in package.identity)
    path, _, digest = control.files(before)[0]
    place = str(given.incoming[0].origin) if given else f"the published {path}"
    origin = package.incoming[0]
    return Error(
        f"{origin.origin}: {name} {version} {architecture} with SHA256 {origin.note.sha256[:16]}…, but {place} is the same "
        f"version with SHA256 {digest[:16]}…",
        hint=OTHER_BYTES,
    )


def _refuse_shared_paths(packages: Iterable[Package]) -> None:
    places: dict[str, Incoming] = {}
    for package in packages:
        for each in package.incoming:
            other = places.setdefault(each.path, each)
            if other.note.sha256 != each.note.sha256:
                raise Error(f"{each.origin} and {other.origin} would both be {each.path}, with different content")


def _translations(plan: Plan, current: dict[str, Table]) -> None:
    """Plan Translation-en: each description that a stanza of a changed package refers to, once."""
    changed = {name for table, each in plan.changes.items() if table.startswith("packages-") for name in each}
    new: dict[bytes, list[bytes]] = {name: [] for name in changed}
    for package in plan.added:
        if package.translation:
            new[package.identity[0]].append(package.translation)
    if not changed:
        return
    referred: dict[bytes, set[bytes]] = {name: set() for name in changed}
    for table, items in current.items():
        if table.startswith("packages-"):
            old = items.find(changed)
            for name in changed:
                stanzas = plan.changes.get(table, {}).get(name, old[name])
                referred[name].update(control.value(stanza, b"Description-md5") for stanza in stanzas)
    changes = plan.changes["translation"] = {}
    for name, old_items in current["translation"].find(changed).items():
        items_by_md5 = {control.value(item, b"Description-md5"): item for item in (*old_items, *new[name])}
        kept = [items_by_md5[digest] for digest in sorted(items_by_md5) if digest in referred[name]]
        if kept != old_items:
            changes[name] = kept


def location(section: bytes, package: bytes) -> bytes:
    """Return how Contents names a package."""
    return section + b"/" + package if section else package


def _contents(repository: Path, plan: Plan, current: dict[str, Table]) -> None:
    """Plan Contents: lines for the paths of new packages, and none for what only dropped ones had."""
    new: dict[str, dict[bytes, set[bytes]]] = {}
    gone: dict[str, dict[bytes, set[bytes]]] = {}
    for package in plan.added:
        name, _, architecture = package.identity
        _note(new, architecture, package.paths, location(package.section, name))
    for stanza in plan.dropped:
        name, _, architecture = control.identity(stanza)
        if architecture == b"source":
            continue
        paths, place = _installed(repository, stanza)
        for kept in plan.changes[table_of(architecture)][name]:
            if not any(package.stanza is kept for package in plan.added):
                others, same = _installed(repository, kept)
                _note(new, architecture, others, same)
        _note(gone, architecture, paths, place)
    for table in {*new, *gone}:
        coming, going = new.get(table, {}), gone.get(table, {})
        old = current[table].find({*coming, *going})
        plan.changes[table] = {}
        for path, lines in old.items():
            places = set().union(*(tables.locations(line) for line in lines))
            places = (places - going.get(path, set())) | coming.get(path, set())
            after = [tables.contents_line(path, places)] if places else []
            if after != lines:
                plan.changes[table][path] = after


def _note(where: dict[str, dict[bytes, set[bytes]]], architecture: bytes, paths: list[bytes], place: bytes) -> None:
    if not paths:
        return
    table = where.setdefault(f"contents-{architecture.decode()}", {})
    for path in paths:
        if path and b"\n" not in path:  # Contents has no way to say a line break
            table.setdefault(path, set()).add(place)


def _installed(repository: Path, stanza: bytes) -> tuple[list[bytes], bytes]:
    """Return what a published package installs, and how Contents names it."""
    path, _, digest = control.files(stanza)[0]
    archive, _ = pool.content(repository / path)
    if sha256(archive).hexdigest() != digest:
        raise Error(f"{repository / path}: not the file that was published: its SHA256 differs")
    _, data = deb.members(archive, path)
    place = location(control.value(stanza, b"Section"), control.value(stanza, b"Package"))
    return deb.names(archive, data, path), place


def counts(edited: dict[str, Table], before: Snapshot | None, changes: Changes) -> tuple[int, int]:
    """Return the number of binary and of source packages: counted, or reckoned from the snapshot before."""
    if before is None:
        binaries = sum(sum(1 for _ in table.items()) for name, table in edited.items() if name.startswith("packages-"))
        return binaries, sum(1 for _ in edited["sources"].items())
    packages, sources = before.packages, before.sources
    for sign, each in ((1, changes.added), (-1, changes.dropped)):
        of_source = sum(change.architecture == "source" for change in each)
        of_images = sum(change.architecture == images.ARCHITECTURE for change in each)
        sources += sign * of_source
        packages += sign * (len(each) - of_source - of_images)
    return packages, sources
