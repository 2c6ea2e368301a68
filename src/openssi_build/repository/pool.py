"""Files on their way into the pool: read, judged, and put in their place."""

from __future__ import annotations

import contextlib
import gc
import mmap
import os
import shutil
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from openssi import files
from openssi.errors import Error
from openssi_build.repository import control, deb
from openssi_build.repository.store import Seen, seen

_MAPPED = 32 << 20  # bigger files are mapped instead of read


class Incoming(NamedTuple):
    """A file that belongs into the pool: where it is, where it shall be, and how it looked when it was read."""

    origin: str
    path: str  # below the repository
    note: Seen


class Package(NamedTuple):
    """A .deb or a .dsc with the files that it names, and what the indexes say of it."""

    identity: tuple[bytes, bytes, bytes]  # package, version, architecture or ``source``
    stanza: bytes
    translation: bytes
    section: bytes
    paths: list[bytes]  # what it installs
    incoming: tuple[Incoming, ...]  # the .deb, or the .dsc first


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Put off Python's search for cycles: indexing makes none, and to look through all that was read takes 5 %."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def content(path: str | Path) -> tuple[bytes | mmap.mmap, os.stat_result]:
    """Return the bytes of ``path`` (mapped when they are many) and its stat(); Error when it can't be read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as problem:
        raise Error(f"{path}: {problem.strerror}") from None
    try:
        status = os.fstat(fd)
        if status.st_size > _MAPPED:
            return mmap.mmap(fd, 0, access=mmap.ACCESS_READ), status
        data = os.read(fd, status.st_size + 1)
        while len(data) < status.st_size and (more := os.read(fd, status.st_size)):
            data += more
        return data, status
    except OSError as problem:
        raise Error(f"{path}: {problem.strerror}") from None
    finally:
        os.close(fd)


def directory(component: str, source: str) -> str:
    """Return the directory of a source package's files: Debian's layout, ``pool/main/libx/libxyz``."""
    return f"pool/{component}/{source[:4] if source.startswith('lib') else source[0]}/{source}"


def _in_pool(origin: str, repository: str) -> str:
    """Return where below the repository a file lies that is in its pool already and stays there, or nothing."""
    return origin[len(repository) :] if origin.startswith(f"{repository}pool/") else ""


def read_deb(origin: str, repository: str, component: str, *, contents: bool = True) -> Package:
    """Return what is to be said of the .deb ``origin``; Error names it and what is wrong.

    ``repository`` is the absolute path of the repository with a slash at its end. Without ``contents`` the paths that
    the package installs are left out, and with them nearly all the work.
    """
    archive, status = content(origin)
    digest = sha256(archive).hexdigest()
    control_span, data_span = deb.members(archive, origin)
    found = control.binary(deb.control(archive, control_span, origin, whole=contents), origin)
    paths = deb.names(archive, data_span, origin) if contents else []
    path = _in_pool(origin, repository)
    if not path:
        name = b"%s_%s_%s.deb" % (found.package, found.version.rpartition(b":")[2], found.architecture)
        path = f"{directory(component, found.source.decode())}/{name.decode()}"
    return Package(
        (found.package, found.version, found.architecture),
        control.packages_stanza(found, path, status.st_size, digest),
        found.translation,
        found.section,
        paths,
        (Incoming(origin, path, seen(status, digest)),),
    )


def read_dsc(origin: str, repository: str, component: str) -> Package:
    """Return what is to be said of the source package ``origin``; its files must lie beside it."""
    text, status = content(origin)
    found = control.source(bytes(text), origin)
    digest = sha256(text).hexdigest()
    upstream = found.version.rpartition(b":")[2].decode()
    proper = directory(component, found.package.decode())
    path = _in_pool(origin, repository) or f"{proper}/{found.package.decode()}_{upstream}.dsc"
    incoming = [Incoming(origin, path, seen(status, digest))]
    for each in found.files:
        part = str(Path(origin).with_name(each.name))
        data, status = content(part)
        if len(data) != each.size or sha256(data).hexdigest() != each.sha256:
            raise Error(f"{part}: not the file that {Path(origin).name} names: size or SHA256 differs")
        incoming.append(
            Incoming(part, _in_pool(part, repository) or f"{proper}/{each.name}", seen(status, each.sha256))
        )
    stanza = control.sources_stanza(found, path, len(text), digest)
    return Package((found.package, found.version, b"source"), stanza, b"", b"", [], tuple(incoming))


def read(origin: str, repository: str, component: str, architectures: Sequence[str]) -> Package:
    """Return what is to be said of a .deb or a .dsc; Error for other files and other architectures."""
    if origin.endswith(".dsc"):
        return read_dsc(origin, repository, component)
    if not origin.endswith(".deb"):
        raise Error(f"{origin}: expected a .deb or a .dsc")
    package = read_deb(origin, repository, component)
    architecture = package.identity[2].decode()
    if architecture != "all" and architecture not in architectures:
        raise Error(
            f"{origin}: architecture {architecture}: expected all or {', '.join(architectures)}",
            hint=f"add '{architecture}' to repository.architectures in openssi.toml",
        )
    return package


def temporary(target: Path) -> Path:
    """Return the name under which put() writes ``target``."""
    return target.with_name(f".{target.name}.new")


def put(repository: Path, each: Incoming) -> Seen:
    """Copy a file to its place in the pool, durably and atomically, and return how it looks there."""
    target = repository / each.path
    target.parent.mkdir(parents=True, exist_ok=True)
    new = temporary(target)
    try:
        with Path(each.origin).open("rb") as source, new.open("wb") as copy:
            shutil.copyfileobj(source, copy, 1 << 20)
            copy.flush()
            os.fchmod(copy.fileno(), 0o644)
            os.fsync(copy.fileno())
        data, status = content(new)
        if sha256(data).hexdigest() != each.note.sha256:
            raise Error(f"{each.origin}: changed while it was read")
        new.replace(target)
        files.sync_directory(target.parent)
    finally:
        new.unlink(missing_ok=True)
    return seen(status, each.note.sha256)
