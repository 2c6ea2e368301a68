"""The indexes of a repository as tables of items, and how they are kept between two publishes.

Tables are cut by architecture: ``binary-amd64/Packages`` is the table of ``amd64`` with that of ``all`` behind it, so
that a package is compressed once, however many indexes name it.
"""

from __future__ import annotations

import json
import lzma
import zlib
from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha256
from pathlib import Path

from openssi import files
from openssi.errors import Error
from openssi_build.repository import control, release
from openssi_build.repository.chunks import Chunk, Form, Table
from openssi_build.repository.store import Store
from openssi_build.settings import Repository


def _stanzas(text: bytes) -> list[bytes]:
    return [stanza + b"\n\n" for stanza in text[:-2].split(b"\n\n")] if text else []


def _package(stanza: bytes) -> bytes:
    return stanza[9 : stanza.index(b"\n")]  # every stanza of ours begins with "Package: "


def _lines(text: bytes) -> list[bytes]:
    return text.splitlines(keepends=True) if b"\r" not in text else [line + b"\n" for line in text[:-1].split(b"\n")]


def _path(line: bytes) -> bytes:
    return line[: line.rindex(b" ")].rstrip(b" ")


# Effort 4 on 512 KiB is as small as 6 on 256 KiB, and takes little more than half of its time.
STANZAS = Form(_stanzas, _package, 512 << 10, effort=4)
# One package's paths lie far apart, so many chunks change with it; and few clients fetch Contents.
CONTENTS = Form(_lines, _path, 128 << 10, effort=3)
# A cache of other cuts would go on with them, and its indexes would not be those of a publish without it.
CUT = " ".join(str(number) for form in (STANZAS, CONTENTS) for number in (form.target, form.effort))


def contents_line(path: bytes, locations: Iterable[bytes]) -> bytes:
    """Return the line of Contents that says which packages (as section/name) install ``path``."""
    return b"%-55s %s\n" % (path, b",".join(sorted(locations)))


def locations(line: bytes) -> set[bytes]:
    """Return the packages that a line of Contents names."""
    return set(line[line.rindex(b" ") + 1 : -1].split(b","))


def groups(settings: Repository) -> tuple[str, ...]:
    """Return the names of the architectures whose packages are kept apart; ``all`` comes last."""
    return (*settings.architectures, "all")


def form(name: str) -> Form:
    """Return the form of the table ``name``."""
    return CONTENTS if name.startswith("contents-") else STANZAS


def names(settings: Repository) -> list[str]:
    """Return the names of all tables."""
    return [
        "sources",
        "translation",
        *(f"packages-{each}" for each in groups(settings)),
        *(f"contents-{each}" for each in groups(settings)),
    ]


def layout(settings: Repository) -> dict[str, tuple[str, ...]]:
    """Return which tables, one behind the other, make each index; paths are below the repository.

    ``binary-<arch>`` has the packages of ``all`` too, for the tools that read nothing else; ``binary-all`` has them for
    clients of an architecture that the repository lacks. The indexes at the top are those of ``deb URL ./``.
    """
    top = f"dists/{settings.suite}/{settings.component}"
    every = tuple(f"packages-{each}" for each in groups(settings))
    indexes: dict[str, tuple[str, ...]] = {}
    for each in settings.architectures:
        indexes[f"{top}/binary-{each}/Packages"] = (f"packages-{each}", "packages-all")
    indexes[f"{top}/binary-all/Packages"] = ("packages-all",)
    for each in groups(settings):
        indexes[f"{top}/Contents-{each}"] = (f"contents-{each}",)
    indexes[f"{top}/source/Sources"] = ("sources",)
    indexes[f"{top}/i18n/Translation-en"] = ("translation",)
    return indexes | {"Packages": every, "Sources": ("sources",), "en": ("translation",)}


def releases(settings: Repository) -> tuple[str, str]:
    """Return the prefixes of the two trees that have a Release: the suite's, and the flat one's, which is empty."""
    return f"dists/{settings.suite}/", ""


def build(settings: Repository, store: Store, items: Mapping[str, list[bytes]]) -> dict[str, Table]:
    """Return the tables of ``items``, sorted, by table name; tables without items are empty."""
    return {name: Table.build(form(name), items.get(name, []), store) for name in names(settings)}


def save(path: Path, tables: Mapping[str, Table], base: str) -> None:
    """Keep the chunks of ``tables`` in ``path``; ``base`` says which published state they are."""
    chunks = {name: [[c.name, c.size, c.first.hex()] for c in table.chunks] for name, table in tables.items()}
    files.write(path, json.dumps({"base": base, "tables": chunks}, indent=0), durable=False)


def kept(path: Path, settings: Repository, store: Store, base: str) -> dict[str, Table] | None:
    """Return the tables that save() kept for ``base``, or None."""
    try:
        document = json.loads(path.read_bytes())
        if document["base"] != base or set(document["tables"]) != set(names(settings)):
            return None
        return {
            name: Table(form(name), tuple(Chunk(n, s, bytes.fromhex(f)) for n, s, f in chunks), store)
            for name, chunks in document["tables"].items()
        }
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _plain(directory: Path, path: str, listed: Mapping[str, release.Index]) -> bytes:
    """Return the text of a published index, read from whichever form is there and checked against Release."""
    import zstandard

    for suffix in ("xz", "zst", "gz"):
        source = directory / f"{path}.{suffix}"
        if not source.exists():
            continue
        try:
            if suffix == "xz":
                text = lzma.decompress(source.read_bytes())
            elif suffix == "gz":
                text = b"".join(_members(source.read_bytes()))
            else:
                with zstandard.ZstdDecompressor().stream_reader(source.open("rb"), read_across_frames=True) as stream:
                    text = stream.read()
        except (lzma.LZMAError, zlib.error, zstandard.ZstdError) as problem:
            raise Error(f"{source}: damaged: {problem}") from None
        if path in listed and sha256(text).hexdigest() != listed[path].sha256:
            raise Error(f"{source}: damaged: not what Release lists", hint="inv rollback to an older snapshot")
        return text
    if path in listed and listed[path].size:
        raise Error(f"{directory / path}: no compressed form of it is there, but Release lists it")
    return b""


def listing(directory: Path, index: str) -> list[bytes]:
    """Return the stanzas of the index ``Packages`` or ``Sources`` at the top of ``directory``, those of a name oldest first."""
    try:
        listed = release.listed((directory / "Release").read_bytes())
    except FileNotFoundError:
        return []
    return STANZAS.split(_plain(directory, index, listed))


def _members(packed: bytes) -> Iterator[bytes]:
    while packed:
        stream = zlib.decompressobj(31)
        yield stream.decompress(packed) + stream.flush()
        packed = stream.unused_data


def published(directory: Path, settings: Repository, store: Store) -> dict[str, Table]:
    """Return the tables of what is published in ``directory``, a repository or a snapshot; empty ones when nothing is."""
    top, _ = releases(settings)
    try:
        listed = release.listed((directory / f"{top}Release").read_bytes())
    except FileNotFoundError:
        listed = {}
    listed = {top + name: index for name, index in listed.items()}
    items: dict[str, list[bytes]] = {name: [] for name in names(settings)}
    for path, parts in layout(settings).items():
        if path not in listed or (len(parts) == 1 and items[parts[0]]):
            continue
        own = parts[0]
        for item in form(own).split(_plain(directory, path, listed)):
            if len(parts) == 1 or control.value(item, b"Architecture") != b"all":
                items[own].append(item)
    return build(settings, store, items)
