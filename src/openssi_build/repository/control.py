"""Control data: from the fields of a .deb or .dsc to the stanzas of Packages, Translation-en and Sources.

Formats: deb-control(5), dsc(5) and the Debian repository format.
"""

from __future__ import annotations

import re
from hashlib import md5
from pathlib import PurePosixPath
from typing import NamedTuple

from openssi.errors import Error

_FIELD = re.compile(rb"[!-,.-9;-~][!-9;-~]*")
# A field with its continuation lines, each of which says something.
_STANZA = re.compile(rb"([!-,.-9;-~][!-9;-~]*):([^\n]*(?:\n[ \t]+[^\s][^\n]*)*)(?:\n|\Z)")
_GOOD: set[tuple[bytes, ...]] = set()
_LOWER: dict[bytes, bytes] = {}
_CONTINUES = (b" ", b"\t", b"")
_NAME = re.compile(rb"[a-z0-9][a-z0-9.+-]+")
_VERSION = re.compile(rb"(?:[0-9]+:)?[0-9A-Za-z.+~-]+")
_WORD = re.compile(rb"[a-z0-9-]+")
_SECTION = re.compile(rb"[A-Za-z0-9.+/-]+")
# What the index itself says about a file; a control file that says it too is not believed.
_OURS = frozenset(
    (b"filename", b"size", b"md5sum", b"sha1", b"sha256", b"sha512", b"description-md5"),
)
_SIGNED = b"-----BEGIN PGP SIGNED MESSAGE-----"


class Binary(NamedTuple):
    """What the indexes say of one .deb."""

    package: bytes
    version: bytes
    architecture: bytes
    source: bytes
    section: bytes
    head: bytes  # the fields of Packages but Filename, Size and SHA256, each with its line end
    translation: bytes  # the stanza of Translation-en, or nothing when there is no long description
    description: bytes  # hexadecimal MD5 of the description, by which Packages and Translation-en meet


class File(NamedTuple):
    """A file that a .dsc names."""

    name: str
    size: int
    sha256: str


class Source(NamedTuple):
    """What the indexes say of one .dsc."""

    package: bytes
    version: bytes
    fields: dict[bytes, bytes]
    files: tuple[File, ...]


def fields(text: bytes, where: str) -> dict[bytes, bytes]:
    """Return the fields of the one stanza ``text`` in their order, values as they stand behind the colon.

    Error when it is not deb822, holds more than one stanza, repeats a field or is not UTF-8.
    """
    stripped = text.strip(b"\n")
    found = _STANZA.findall(stripped)
    names = tuple([name for name, _ in found])
    if sum([len(name) + len(value) for name, value in found]) + 2 * len(found) != len(stripped) + 1:
        result = _fields_by_line(stripped, where)
    elif names in _GOOD or _distinct(names):
        result = dict(found)
    else:
        result = _fields_by_line(stripped, where)
    if not text.isascii():
        _check_utf8(text, where)
    if b"\0" in text:
        raise Error(f"{where}: control data: not text: it has a NUL byte")
    return result


def _distinct(names: tuple[bytes, ...]) -> bool:
    """Return True when no field comes twice; the few orders that there are come again and again."""
    distinct = len({name.lower() for name in names}) == len(names)
    if distinct and len(_GOOD) < 1000:
        _GOOD.add(names)
    return distinct


def _fields_by_line(text: bytes, where: str) -> dict[bytes, bytes]:
    """Do what fields() does, line by line: it names the line that is wrong."""
    result: dict[bytes, bytes] = {}
    seen: set[bytes] = set()
    name = b""
    more: list[bytes] = []
    for line in text.split(b"\n"):
        if line[:1] in _CONTINUES:
            if not name or line.isspace() or not line:
                raise _not_fields(where, line)
            more.append(line)
            continue
        if more:
            result[name] = b"\n".join((result[name], *more))
            more = []
        name, colon, value = line.partition(b":")
        lower = _LOWER.get(name) or _lower(name)
        if not colon or not lower:
            raise _not_fields(where, line)
        if lower in seen:
            raise Error(f"{where}: control data: {name.decode()}: the field is there twice")
        seen.add(lower)
        result[name] = value
    if more:
        result[name] = b"\n".join((result[name], *more))
    return result


def _lower(name: bytes) -> bytes:
    """Return a field's name in lower case, or nothing when it is none; the names there are come again and again."""
    if not _FIELD.fullmatch(name):
        return b""
    if len(_LOWER) < 1000:
        _LOWER[name] = name.lower()
    return name.lower()


def _not_fields(where: str, line: bytes) -> Error:
    shown = line[:40].decode("utf-8", "replace")
    return Error(f"{where}: control data: not of the form 'Name: value': {shown!r}")


def _check_utf8(text: bytes, where: str) -> None:
    try:
        text.decode()
    except UnicodeDecodeError:
        raise Error(f"{where}: control data: not UTF-8") from None


def _need(found: dict[bytes, bytes], name: bytes, form: re.Pattern[bytes], where: str) -> bytes:
    value = found.get(name, b"").strip()
    if not form.fullmatch(value):
        said = f"'{value.decode()}' is not valid" if value else "missing"
        raise Error(f"{where}: control data: {name.decode()}: {said}")
    return value


def binary(text: bytes, where: str) -> Binary:
    """Return what the indexes need of the control file ``text`` of a .deb; Error names what is wrong in it."""
    found = fields(text, where)
    package = _need(found, b"Package", _NAME, where)
    version = _need(found, b"Version", _VERSION, where)
    architecture = _need(found, b"Architecture", _WORD, where)
    source = found.get(b"Source", package).split(b"(", 1)[0].strip()
    if not _NAME.fullmatch(source):
        raise Error(f"{where}: control data: Source: '{source.decode()}' is not valid")
    section = found.get(b"Section", b"").strip()
    if section and not _SECTION.fullmatch(section):
        raise Error(f"{where}: control data: Section: '{section.decode()}' is not valid")
    translation = description = b""
    if b"Description" in found:
        found[b"Description"], translation, description = _description(package, found[b"Description"].strip())
    return Binary(package, version, architecture, source, section, _head(found), translation, description)


def _head(found: dict[bytes, bytes]) -> bytes:
    """Return the fields as Packages has them, Package first: python-apt and others look for it there."""
    package = found.pop(b"Package").strip()
    if not _OURS.isdisjoint(map(bytes.lower, found)):
        found = {name: value for name, value in found.items() if name.lower() not in _OURS}
    return b"Package: %s\n%s\n" % (package, b"\n".join(map(b":".join, found.items())))


def _description(package: bytes, value: bytes) -> tuple[bytes, bytes, bytes]:
    """Return the field's value in Packages, the stanza of Translation-en, and the MD5 that ties them."""
    short, _, long = value.partition(b"\n")
    if not long:
        return b" " + short, b"", b""
    digest = md5(value + b"\n", usedforsecurity=False).hexdigest().encode()
    stanza = b"Package: %s\nDescription-md5: %s\nDescription-en: %s\n\n" % (package, digest, value)
    return b" %s\nDescription-md5: %s" % (short, digest), stanza, digest


def packages_stanza(found: Binary, path: str, size: int, sha256: str) -> bytes:
    """Return the stanza of Packages, with the empty line behind it, of the .deb that lies at ``path``."""
    return b"%sFilename: %s\nSize: %d\nSHA256: %s\n\n" % (found.head, path.encode(), size, sha256.encode())


def _unsigned(text: bytes, where: str) -> bytes:
    """Return ``text`` without a clear signature around it (RFC 9580, section 7)."""
    if not text.lstrip().startswith(_SIGNED):
        return text
    body = text.partition(b"\n\n")[2].partition(b"\n-----BEGIN PGP SIGNATURE-----")[0]
    if not body:
        raise Error(f"{where}: signed, but without a text")
    return re.sub(rb"^- ", b"", body, flags=re.M) + b"\n"


def source(text: bytes, where: str) -> Source:
    """Return what the indexes need of the .dsc ``text``, signed or not; Error names what is wrong in it."""
    found = fields(_unsigned(text, where), where)
    package = _need(found, b"Source", _NAME, where)
    version = _need(found, b"Version", _VERSION, where)
    files = []
    for line in found.get(b"Checksums-Sha256", b"").splitlines():
        if not line.strip():
            continue
        match = re.fullmatch(rb"\s*([0-9a-f]{64})\s+([0-9]{1,15})\s+([A-Za-z0-9][A-Za-z0-9.+~_:-]*)", line)
        if not match:
            raise Error(f"{where}: Checksums-Sha256: not a checksum, a size and a name: {line.decode().strip()!r}")
        files.append(File(match[3].decode(), int(match[2]), match[1].decode()))
    if not files:
        raise Error(f"{where}: control data: Checksums-Sha256: missing")
    return Source(package, version, found, tuple(files))


def sources_stanza(found: Source, path: str, size: int, sha256: str) -> bytes:
    """Return the stanza of Sources, with the empty line behind it, of the .dsc that lies at ``path``."""
    lines = [b"Package: " + found.package + b"\n"]
    skipped = {b"Source", b"Checksums-Sha1", b"Files", b"Checksums-Sha256", b"Directory"}
    lines += [name + b":" + value + b"\n" for name, value in found.fields.items() if name not in skipped]
    own = PurePosixPath(path)
    lines.append(b"Directory: " + str(own.parent).encode() + b"\nChecksums-Sha256:\n")
    for each in (File(own.name, size, sha256), *found.files):
        lines.append(f" {each.sha256} {each.size} {each.name}\n".encode())
    return b"".join(lines) + b"\n"


def value(stanza: bytes, name: bytes) -> bytes:
    """Return the first line of field ``name`` in a stanza that we made, or nothing."""
    head = name + b":"
    if stanza.startswith(head):
        start = 0
    else:
        start = stanza.find(b"\n" + head) + 1
        if not start:
            return b""
    start += len(head)
    end = stanza.find(b"\n", start)
    return stanza[start : end if end >= 0 else None].strip()


def identity(stanza: bytes) -> tuple[bytes, bytes, bytes]:
    """Return package, version and architecture of a stanza that we made; architecture of a source is ``source``."""
    architecture = b"source" if b"\nDirectory: " in stanza else value(stanza, b"Architecture")
    return value(stanza, b"Package"), value(stanza, b"Version"), architecture


def files(stanza: bytes) -> list[tuple[str, int, str]]:
    """Return ``(path, size, sha256)`` of every file that a stanza of ours names, a .dsc first among its own."""
    directory = value(stanza, b"Directory").decode()
    if not directory:
        path, size, digest = (value(stanza, name).decode() for name in (b"Filename", b"Size", b"SHA256"))
        return [(path, int(size), digest)]
    listed = re.findall(rb"^ ([0-9a-f]{64}) ([0-9]+) (\S+)$", stanza, re.M)
    return [(f"{directory}/{name.decode()}", int(size), digest.decode()) for digest, size, name in listed]
