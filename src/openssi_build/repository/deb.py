"""Reading binary packages: ar, then tar, then the control file, with one read and one decompression.

Formats: deb(5), and POSIX.1-1988 ustar with GNU's and pax's long names. What does not fit raises Error with ``where``
in front; no input makes anything else.
"""

from __future__ import annotations

import bz2
import lzma
import mmap
import re
import zlib
from collections.abc import Callable, Iterator
from functools import cache
from typing import TYPE_CHECKING

from openssi.errors import Error

if TYPE_CHECKING:
    from zstandard import ZstdDecompressor

# A header of ar(5): name, four fields we do not need, size, and the two bytes that end it.
_MEMBER = re.compile(rb"([^\n]{16})[^\n]{32}(?=([0-9]+) *`)[0-9 ]{10}`\n")
_LIMIT = 64 << 20  # dictionaries above this are no package's
_PIECE = 8 << 20  # what is decompressed at a time
_HEAD = 1 << 10  # of control.tar at first: the control file lies in front, and decompressing is most of the work
_CONTROL_LIMIT = 32 << 20  # of control.tar, decompressed

# What stands in front of the entry it belongs to: GNU's long names and link targets, pax records.
_NAMING = frozenset((b"L", b"K", b"x", b"g"))
_WITHOUT_CONTENT = frozenset((b"1", b"2", b"3", b"4", b"5", b"6"))
_NAME_LIMIT = 1 << 20
_PAX_LENGTH = re.compile(rb"([0-9]{1,9}) ")

Archive = bytes | mmap.mmap
Span = tuple[bytes, int, int]  # suffix of the member's name, offset, size


def members(archive: Archive, where: str) -> tuple[Span, Span]:
    """Return where control.tar and data.tar lie in ``archive``; Error unless it is a Debian package of format 2."""
    if archive[:8] != b"!<arch>\n":
        raise Error(f"{where}: not a Debian package: no ar archive")
    found: list[tuple[bytes, int, int]] = []
    at = 8
    while at < len(archive):
        header = _MEMBER.match(archive, at)
        if not header:
            raise Error(f"{where}: not a Debian package: bad ar header at byte {at}")
        size = int(header[2])
        at += 60
        if at + size > len(archive):
            raise Error(f"{where}: truncated: a member of {size} bytes ends after the file's {len(archive)}")
        name = header[1].rstrip(b" /")
        if not name.startswith(b"_"):  # deb(5): such members are for others
            found.append((name, at, size))
        at += size + (size & 1)
    return _expected(archive, found, where)


def _expected(archive: Archive, found: list[Span], where: str) -> tuple[Span, Span]:
    names = [name for name, _, _ in found]
    if len(found) < 3 or names[0] != b"debian-binary" or names[1][:11] != b"control.tar" or names[2][:8] != b"data.tar":
        shown = b", ".join(names[:4]).decode("ascii", "replace") or "nothing"
        raise Error(f"{where}: not a Debian package: expected debian-binary, control.tar, data.tar; found {shown}")
    _, at, size = found[0]
    if archive[at : at + min(size, 2)] != b"2.":
        raise Error(f"{where}: not a Debian package of format 2")
    (_, control_at, control_size), (_, data_at, data_size) = found[1:3]
    return (names[1][11:], control_at, control_size), (names[2][8:], data_at, data_size)


@cache
def _zstd_decompressor() -> ZstdDecompressor:
    import zstandard

    return zstandard.ZstdDecompressor(max_window_size=_LIMIT)


def _zstd(packed: bytes, _size: int) -> Iterator[bytes]:
    import zstandard

    try:
        if 0 <= zstandard.frame_content_size(packed) <= _PIECE:
            # The quick way leaves out what follows the first frame; dpkg writes one.
            yield _zstd_decompressor().decompress(packed, max_output_size=_PIECE)
            return
        with _zstd_decompressor().stream_reader(packed, read_across_frames=True) as stream:
            while piece := stream.read(_PIECE):
                yield piece
    except zstandard.ZstdError as problem:
        raise ValueError(str(problem)) from None


def _gzip(packed: bytes, size: int) -> Iterator[bytes]:
    stream = zlib.decompressobj(31)
    total = 0
    while not stream.eof:
        piece = stream.decompress(packed, _more(size, total))
        total += len(piece)
        packed = stream.unconsumed_tail
        if not piece and not packed and not stream.eof:
            raise ValueError("truncated")
        yield piece


def _stream(packed: bytes, size: int, stream: lzma.LZMADecompressor | bz2.BZ2Decompressor) -> Iterator[bytes]:
    yield (piece := stream.decompress(packed, size))
    total = len(piece)
    while not stream.eof:
        if stream.needs_input:
            raise ValueError("truncated")
        yield (piece := stream.decompress(b"", _more(size, total)))
        total += len(piece)


def _more(size: int, total: int) -> int:
    """Return how much comes next: in proportion to what was there, or joining small pieces would take for ever."""
    return min(max(size, total // 2), _PIECE)


_DECODERS: dict[bytes, Callable[[bytes, int], Iterator[bytes]]] = {
    b".xz": lambda packed, size: _stream(packed, size, lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=2 * _LIMIT)),
    b".zst": _zstd,
    b".gz": _gzip,
    b"": lambda packed, _: iter((packed,)),
    b".bz2": lambda packed, size: _stream(packed, size, bz2.BZ2Decompressor()),
    b".lzma": lambda packed, size: _stream(packed, size, lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=2 * _LIMIT)),
}


def pieces(packed: bytes, suffix: bytes, where: str, size: int = _PIECE) -> Iterator[bytes]:
    """Yield what ``packed`` holds, about ``size`` bytes at first and more later; Error when it is damaged or ``suffix`` unknown."""
    if suffix not in _DECODERS:
        raise Error(f"{where}: compression {suffix.decode('ascii', 'replace')}: expected .xz, .zst, .gz or none")
    try:
        yield from _DECODERS[suffix](packed, size)
    except (lzma.LZMAError, zlib.error, OSError, ValueError, EOFError) as problem:
        raise Error(f"{where}: damaged: {problem}") from None


def _octal(field: bytes, where: str) -> int:
    try:
        if field[:1] == b"\x80":  # GNU's binary form for sizes over 8 GiB
            return int.from_bytes(field[1:], "big")
        digits = field.strip(b" \0")
        if digits and not digits.isdigit():
            raise ValueError
        return int(digits, 8) if digits else 0
    except ValueError:
        raise Error(f"{where}: damaged: bad number in a tar header") from None


def _check(header: bytes, where: str) -> None:
    """Raise Error unless ``header``, which lacks ustar's magic, has a tar header's sum."""
    if _octal(header[148:156], where) != sum(header) - sum(header[148:156]) + 8 * 0x20:
        raise Error(f"{where}: damaged: no tar header where one belongs")


def _pax_path(records: bytes) -> bytes:
    """Return the path in pax records, ``<length> <key>=<value>\\n`` each, or nothing."""
    at = 0
    path = b""
    while match := _PAX_LENGTH.match(records, at):
        end = at + int(match[1])
        if end <= match.end() or end > len(records):
            break
        key, _, value = records[match.end() : end - 1].partition(b"=")
        if key == b"path":
            path = value
        at = end
    return path


def _refilled(source: Iterator[bytes], buffer: bytes, at: int, size: int, where: str) -> tuple[bytes, int]:
    """Return a buffer and an offset in it behind which there are ``size`` bytes; ``at`` may lie behind ``buffer``."""
    while len(buffer) - at < size:
        more = next(source, None)
        if more is None:
            raise Error(f"{where}: damaged: tar archive ends early")
        behind = at - len(buffer)
        buffer = more if behind >= 0 else buffer[at:] + more
        at = max(behind, 0)
    return buffer, at


def entries(source: Iterator[bytes], where: str, wanted: bytes = b"") -> Iterator[tuple[bytes, bytes, bytes]]:
    """Yield ``(name, type, content)`` of each entry of a tar archive; the content only of what is named ``wanted``.

    Names lose their leading ``./``. Types are those of ustar's typeflag, ``b"0"`` for a plain file.
    """
    buffer, at, long = b"", 0, b""
    while True:
        if len(buffer) - at < 512:
            buffer, at = _refilled(source, buffer, at, 512, where)
        header = buffer[at : at + 512]
        at += 512
        if not header[0]:
            return
        if header[257:262] != b"ustar":
            _check(header, where)
        size = _octal(header[124:136], where)
        kind = header[156:157]
        content = b""
        if kind in _NAMING:
            if size > _NAME_LIMIT:
                raise Error(f"{where}: damaged: a name of {size} bytes in a tar header")
            buffer, at = _refilled(source, buffer, at, size, where)
            long = _long_name(kind, buffer[at : at + size]) or long
            at += size + -size % 512
            continue
        if kind in _WITHOUT_CONTENT:
            size = 0
        name, long = long or _short_name(header), b""
        if name[:2] == b"./":
            name = name[2:]
        if wanted and name == wanted:
            if size > _CONTROL_LIMIT:
                raise Error(f"{where}: {wanted.decode()}: {size} bytes are too many")
            buffer, at = _refilled(source, buffer, at, size, where)
            content = buffer[at : at + size]
        yield name, kind, content
        at += size + -size % 512


def _long_name(kind: bytes, extra: bytes) -> bytes:
    """Return the name that an entry in front of another gives it, or nothing."""
    if kind == b"L":
        return extra.rstrip(b"\0")
    return _pax_path(extra) if kind == b"x" else b""


def _short_name(header: bytes) -> bytes:
    name = header[:100].partition(b"\0")[0]
    if header[345] and header[257:263] == b"ustar\0":
        return header[345:500].split(b"\0", 1)[0] + b"/" + name
    return name


def control(archive: Archive, span: Span, where: str, *, whole: bool = True) -> bytes:
    """Return the control file of a package; ``span`` comes from members().

    With ``whole`` the member is read to its end, where its check lies; else only as far as the control file.
    """
    suffix, at, size = span
    source = pieces(archive[at : at + size], suffix, where, _HEAD)
    found = _usual_control(next(source, b""), source)
    if not found:
        source = pieces(archive[at : at + size], suffix, where, _HEAD)
        inside = entries(source, where, b"control")
        found = next((content for _, kind, content in inside if content and kind in (b"0", b"\0")), b"")
    if not found:
        raise Error(f"{where}: not a Debian package: no control file in control.tar")
    if whole:
        _read_out(source)
    return found


def _usual_control(tar: bytes, source: Iterator[bytes]) -> bytes:
    """Return the control file where it lies as dpkg-deb packs it, behind the top directory; nothing where it does not.

    ``source`` has what follows ``tar``.
    """
    at = 512 if tar[:3] == b"./\0" and tar[156:157] == b"5" else 0
    content = at + 512
    header = tar[at:content]
    if header[:10] != b"./control\0" or header[156:157] != b"0" or header[257:262] != b"ustar":
        return b""
    digits = header[124:135]
    end = content + (int(digits, 8) if digits.isdigit() else 0)
    while len(tar) < end <= _CONTROL_LIMIT:
        piece = next(source, None)
        if piece is None:
            return b""
        tar += piece
    return tar[content:end] if len(tar) >= end else b""


def _read_out(source: Iterator[bytes]) -> None:
    for _ in source:  # damage behind what is wanted is damage too
        pass


def names(archive: Archive, span: Span, where: str) -> list[bytes]:
    """Return the paths of all that data.tar installs but directories, in its order; the archive is read to its end."""
    suffix, at, size = span
    source = pieces(archive[at : at + size], suffix, where)
    paths = [name for name, kind, _ in entries(source, where) if kind != b"5"]
    _read_out(source)
    return paths
