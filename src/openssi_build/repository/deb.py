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
from collections.abc import Iterator

from openssi.errors import Error

# A header of ar(5): name, four fields we do not need, size, and the two bytes that end it.
_MEMBER = re.compile(rb"([^\n]{16})[^\n]{32}([0-9]{1,10}) *`\n", re.S)
_LIMIT = 64 << 20  # dictionaries above this are no package's
_PIECE = 8 << 20  # what is decompressed at a time
_CONTROL_LIMIT = 32 << 20  # of control.tar, decompressed

Archive = bytes | mmap.mmap
Span = tuple[bytes, int, int]  # suffix of the member's name, offset, size


def members(archive: Archive, where: str) -> tuple[Span, Span]:
    """Return where control.tar and data.tar lie in ``archive``; Error unless it is a Debian package of format 2."""
    if archive[:8] != b"!<arch>\n":
        raise Error(f"{where}: not a Debian package: no ar archive")
    found: list[tuple[bytes, int, int]] = []
    at = 8
    while at < len(archive):
        header = _MEMBER.fullmatch(archive[at : at + 60])
        if not header:
            raise Error(f"{where}: not a Debian package: bad ar header at byte {at}")
        size = int(header[2])
        at += 60
        if at + size > len(archive):
            raise Error(f"{where}: truncated: a member of {size} bytes ends after the file's {len(archive)}")
        name = header[1].rstrip(b" ").rstrip(b"/")
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


def _zstd(packed: bytes) -> Iterator[bytes]:
    import zstandard

    try:
        size = zstandard.frame_content_size(packed)
        if 0 <= size <= _PIECE and zstandard.get_frame_parameters(packed).window_size <= _LIMIT:
            # The quick way leaves out what follows the first frame; dpkg writes one.
            yield zstandard.ZstdDecompressor(max_window_size=_LIMIT).decompress(packed, max_output_size=_PIECE)
            return
        with zstandard.ZstdDecompressor(max_window_size=_LIMIT).stream_reader(
            packed, read_across_frames=True
        ) as stream:
            while piece := stream.read(_PIECE):
                yield piece
    except zstandard.ZstdError as problem:
        raise ValueError(str(problem)) from None


def _gzip(packed: bytes) -> Iterator[bytes]:
    stream = zlib.decompressobj(31)
    while not stream.eof:
        piece = stream.decompress(packed, _PIECE)
        packed = stream.unconsumed_tail
        if not piece and not packed and not stream.eof:
            raise ValueError("truncated")
        yield piece


def _stream(packed: bytes, kind: type[lzma.LZMADecompressor] | type[bz2.BZ2Decompressor]) -> Iterator[bytes]:
    stream = kind() if kind is bz2.BZ2Decompressor else lzma.LZMADecompressor(memlimit=2 * _LIMIT)
    piece = stream.decompress(packed, _PIECE)
    yield piece
    while not stream.eof:
        if stream.needs_input:
            raise ValueError("truncated")
        yield stream.decompress(b"", _PIECE)


def pieces(packed: bytes, suffix: bytes, where: str) -> Iterator[bytes]:
    """Yield what ``packed`` holds, a few MiB at a time; Error when it is damaged or ``suffix`` is unknown."""
    try:
        if suffix in (b".xz", b".lzma"):
            yield from _stream(packed, lzma.LZMADecompressor)
        elif suffix == b".zst":
            yield from _zstd(packed)
        elif suffix == b".gz":
            yield from _gzip(packed)
        elif suffix == b".bz2":
            yield from _stream(packed, bz2.BZ2Decompressor)
        elif suffix == b"":
            yield packed
        else:
            raise Error(f"{where}: compression {suffix.decode('ascii', 'replace')}: expected .xz, .zst, .gz or none")
    except (lzma.LZMAError, zlib.error, OSError, ValueError, EOFError) as problem:
        raise Error(f"{where}: damaged: {problem}") from None


class _Tar:
    """A tar archive that is read forward only."""

    def __init__(self, source: Iterator[bytes], where: str) -> None:
        self._source = source
        self._where = where
        self._buffer = b""
        self._at = 0

    def take(self, size: int) -> bytes:
        """Return the next ``size`` bytes and go past them."""
        while len(self._buffer) - self._at < size:
            more = next(self._source, None)
            if more is None:
                raise Error(f"{self._where}: damaged: tar archive ends early")
            behind = self._at - len(self._buffer)
            self._buffer = more if behind >= 0 else self._buffer[self._at :] + more
            self._at = max(behind, 0)
        self._at += size
        return self._buffer[self._at - size : self._at]

    def skip(self, size: int) -> None:
        """Go past ``size`` bytes without having them."""
        self._at += size


def _octal(field: bytes, where: str) -> int:
    digits = field.strip(b" \0")
    try:
        if field[:1] == b"\x80":  # GNU's binary form for sizes over 8 GiB
            return int.from_bytes(field[1:], "big")
        return int(digits, 8) if digits else 0
    except ValueError:
        raise Error(f"{where}: damaged: bad size in a tar header") from None


def _pax_path(records: bytes) -> bytes | None:
    at = 0
    path = None
    while match := re.compile(rb"([0-9]{1,9}) ").match(records, at):
        end = at + int(match[1])
        if end <= match.end() or end > len(records):
            break
        key, _, value = records[match.end() : end - 1].partition(b"=")
        if key == b"path":
            path = value
        at = end
    return path


def entries(source: Iterator[bytes], where: str, wanted: bytes = b"") -> Iterator[tuple[bytes, bytes, bytes]]:
    """Yield ``(name, type, content)`` of each entry of a tar archive; the content only of a file named ``wanted``.

    Names lose their leading ``./``. Types are those of ustar's typeflag, ``b"0"`` for a plain file.
    """
    tar = _Tar(source, where)
    take, skip = tar.take, tar.skip
    long: bytes | None = None
    while True:
        header = take(512)
        if header[0] == 0:
            return
        if header[257:262] != b"ustar" and _octal(header[148:156], where) != sum(header) - sum(header[148:156]) + 256:
            raise Error(f"{where}: damaged: no tar header where one belongs")
        size = _octal(header[124:136], where)
        kind = header[156:157]
        if kind in b"LxgK" and kind != b"":
            if size > 1 << 20:
                raise Error(f"{where}: damaged: a name of {size} bytes in a tar header")
            extra = take(size + -size % 512)[:size]
            if kind == b"L":
                long = extra.rstrip(b"\0")
            elif kind == b"x":
                long = _pax_path(extra) or long
            continue
        name = long or _short_name(header)
        long = None
        if name[:2] == b"./":
            name = name[2:]
        stored = 0 if kind in b"12345" else size
        if name == wanted and wanted:
            if size > _CONTROL_LIMIT:
                raise Error(f"{where}: {wanted.decode()}: {size} bytes are too many")
            yield name, kind, take(stored + -stored % 512)[:stored]
        else:
            yield name, kind, b""
            skip(stored + -stored % 512)


def _short_name(header: bytes) -> bytes:
    name = header[:100].split(b"\0", 1)[0]
    if header[345] and header[257:263] == b"ustar\0":
        return header[345:500].split(b"\0", 1)[0] + b"/" + name
    return name


def control(archive: Archive, span: Span, where: str) -> bytes:
    """Return the control file of a package; ``span`` comes from members()."""
    suffix, at, size = span
    source = pieces(archive[at : at + size], suffix, where)
    for _, kind, content in entries(source, where, b"control"):
        if content and kind in (b"0", b"\0"):
            return content
    raise Error(f"{where}: not a Debian package: no control file in control.tar")


def names(archive: Archive, span: Span, where: str) -> list[bytes]:
    """Return the paths of all that data.tar installs but directories, in its order; the archive is read to its end."""
    suffix, at, size = span
    source = pieces(archive[at : at + size], suffix, where)
    paths = [name for name, kind, _ in entries(source, where) if kind != b"5"]
    for _ in source:  # damage behind the last name is damage too
        pass
    return paths
