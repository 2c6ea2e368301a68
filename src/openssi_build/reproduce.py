"""`inv reproduce`: the tree built twice, and what differs between the packages, named down to the file and the line."""

from __future__ import annotations

import gzip
import io
import lzma
import tarfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from itertools import zip_longest
from pathlib import Path

from openssi.errors import Error
from openssi_build import apt, archive, deb, signing
from openssi_build.deb import Surroundings
from openssi_build.repository.deb import members, pieces
from openssi_build.settings import Repository, Settings

# The other place, time, umask, locale, time zone, user and number of jobs. Turkish writes numbers with a comma, and its
# small and capital I are not ours.
ELSEWHERE = Surroundings(
    directory="/srv/elsewhere/tree",
    umask="077",
    locale="tr_TR.UTF-8",
    timezone="XYZ-14",
    user=4242,
    jobs=1,
    clock="+400 days",
)
_SHOWN = 60  # characters of a line that differs
_ATTRIBUTES = ("type", "mode", "uid", "gid", "uname", "gname", "mtime", "linkname", "size")


def packages(one: Sequence[Path], other: Sequence[Path]) -> list[str]:
    """Return what differs between two builds, a line each; files are met by name."""
    lines = []
    mine, theirs = ({path.name: path for path in each} for each in (one, other))
    for name in sorted(mine.keys() | theirs.keys()):
        if name in mine and name in theirs:
            lines += [f"{name}: {line}" for line in differences(mine[name], theirs[name])]
        else:
            lines.append(f"{name}: only in the {'first' if name in mine else 'second'} build")
    return lines


def differences(one: Path, other: Path) -> list[str]:
    """Return what differs between two files of one name; nothing when their bytes are equal."""
    mine, theirs = one.read_bytes(), other.read_bytes()
    if mine == theirs:
        return []
    if one.suffix == ".deb":
        return _debs(mine, theirs, one.name)
    if one.name.endswith(".tar.xz"):
        found = list(_tars(lzma.decompress(mine), lzma.decompress(theirs)))
        return found or ["the same entries, packed or compressed in another way"]
    return [_content(mine, theirs)]


def _debs(mine: bytes, theirs: bytes, where: str) -> list[str]:
    lines = []
    spans = zip(("control.tar", "data.tar"), members(mine, where), members(theirs, where), strict=True)
    for name, one, other in spans:
        lines += [f"{name}: {line}" for line in _tars(_unpacked(mine, one, where), _unpacked(theirs, other, where))]
    return lines or ["the same entries, packed or compressed in another way"]


def _unpacked(package: bytes, span: tuple[bytes, int, int], where: str) -> bytes:
    suffix, at, size = span
    return b"".join(pieces(package[at : at + size], suffix, where))


def _tars(mine: bytes, theirs: bytes) -> Iterator[str]:
    """Yield what differs between two tar archives: entries, their order, attributes and content."""
    with tarfile.open(fileobj=io.BytesIO(mine)) as one, tarfile.open(fileobj=io.BytesIO(theirs)) as other:
        first, second = ({entry.name: entry for entry in each.getmembers()} for each in (one, other))
        for name in sorted(first.keys() ^ second.keys()):
            yield f"{name}: only in the {'first' if name in first else 'second'} build"
        common = [name for name in first if name in second]
        if common != [name for name in second if name in first]:
            yield "the entries come in another order"
        for name in common:
            yield from _entries(name, (one, first[name]), (other, second[name]))


def _entries(
    name: str, mine: tuple[tarfile.TarFile, tarfile.TarInfo], theirs: tuple[tarfile.TarFile, tarfile.TarInfo]
) -> Iterator[str]:
    for attribute in _ATTRIBUTES:
        one, other = (getattr(entry, attribute) for _, entry in (mine, theirs))
        if one != other:
            said = [oct(each) if attribute == "mode" else repr(each) for each in (one, other)]
            yield f"{name}: {attribute} {said[0]} or {said[1]}"
    if mine[1].isreg() and theirs[1].isreg():
        one, other = (_read(*each) for each in (mine, theirs))
        if one != other:
            yield f"{name}: {_content(one, other)}"


def _read(tar: tarfile.TarFile, entry: tarfile.TarInfo) -> bytes:
    stream = tar.extractfile(entry)
    assert stream  # a plain file has content
    return stream.read()


def _content(mine: bytes, theirs: bytes) -> str:
    """Return where two contents part: the line of a text, gzip-compressed or not, else the byte."""
    plain = _gunzipped(mine), _gunzipped(theirs)
    if plain[0] and plain[1]:
        if plain[0] == plain[1]:
            return "the same content, compressed in another way"
        mine, theirs = plain
    try:
        lines = zip_longest(mine.decode().splitlines(), theirs.decode().splitlines(), fillvalue="")
        for number, (one, other) in enumerate(lines, 1):
            if one != other:
                at = next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), 0)
                start = max(0, at - _SHOWN // 2)
                return f"line {number}: {one[start : start + _SHOWN]!r} or {other[start : start + _SHOWN]!r}"
    except UnicodeDecodeError:
        pass
    at = next((at for at, (a, b) in enumerate(zip(mine, theirs, strict=False)) if a != b), min(len(mine), len(theirs)))
    return f"byte {at}: {mine[at : at + 16].hex(' ')} or {theirs[at : at + 16].hex(' ')}"


def _gunzipped(content: bytes) -> bytes:
    if content[:2] != b"\x1f\x8b":
        return b""
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error):
        return b""


def reproduce(root: Path, cache: Path, settings: Settings, say: Callable[[str], None]) -> None:
    """Build the tree ``root`` twice with the keys of ``settings``; see twice()."""
    with signing.signer(settings.signing, root) as signer:
        keys = signer.public_keys()
    twice(root, cache, settings.repository, keys, say)


def twice(root: Path, cache: Path, repository: Repository, keys: bytes, say: Callable[[str], None]) -> None:
    """Build the tree ``root`` twice, in other surroundings the second time; Error when any package differs.

    What differs is told through ``say``. A build that the cache has is not made again: it is of another time.
    """
    log = root / "out" / "log"
    generated = archive.generated(repository, keys)
    mirror = apt.mirror(repository)
    tree = deb.key(root, generated, "", ELSEWHERE)
    say("built as always")
    one = deb.build(root, cache, repository.suite, generated, log / "openssi.log", mirror=mirror)
    say(f"built again: {describe(ELSEWHERE)}")
    other = deb.build(
        root, cache, repository.suite, generated, log / "openssi-elsewhere.log", mirror=mirror, surroundings=ELSEWHERE
    )
    if deb.key(root, generated, "", ELSEWHERE) != tree:
        raise Error(f"{root}: the tree changed while it was built", hint="inv reproduce again")
    lines = packages(one, other)
    for line in lines:
        say(f"  {line}")
    differing = {line.partition(":")[0] for line in lines}
    if differing:
        raise Error(f"{len(differing)} of {len(one)} files differ between the two builds", hint="what differs is above")
    say(f"{len(one)} files are the same, bit for bit: {', '.join(path.name for path in one)}")


def describe(surroundings: Surroundings) -> str:
    """Return in words where and how a build goes on."""
    return (
        f"in {surroundings.directory}, {surroundings.clock or 'now'}, umask {surroundings.umask}, "
        f"LC_ALL={surroundings.locale}, TZ={surroundings.timezone}, user {surroundings.user}, {surroundings.jobs} at a time"
    )
