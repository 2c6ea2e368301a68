"""What a kernel module says of itself: the .modinfo section of .ko, .ko.xz, .ko.zst and .ko.gz files."""

from __future__ import annotations

import lzma
import struct
import zlib
from pathlib import Path

from openssi.errors import Error

# A module is far smaller; a stream that claims more is broken or hostile.
_LARGEST = 256 << 20


def read(path: Path) -> bytes:
    """Return the ELF image of the module ``path``, decompressed by its suffix; Error when the stream is broken."""
    return decompress(path.read_bytes(), path)


def decompress(content: bytes, path: Path) -> bytes:
    """Return ``content`` of the file ``path`` without the compression that its suffix names."""
    try:
        if path.suffix == ".xz":
            return _limited(lzma.LZMADecompressor(), content, path)
        if path.suffix == ".gz":
            return _gzip(content)
        if path.suffix == ".zst":
            import zstandard

            try:
                return zstandard.ZstdDecompressor().decompress(content, max_output_size=_LARGEST)
            except zstandard.ZstdError as problem:
                raise Error(f"{path}: broken zstd stream: {problem}") from None
    except (lzma.LZMAError, EOFError, zlib.error, OSError) as problem:
        raise Error(f"{path}: broken {path.suffix[1:]} stream: {problem}") from None
    return content


def _gzip(content: bytes) -> bytes:
    decompressor = zlib.decompressobj(wbits=31)
    plain = decompressor.decompress(content, _LARGEST)
    if not decompressor.eof:
        raise EOFError("it ends early")
    return plain


def _limited(decompressor: lzma.LZMADecompressor, content: bytes, path: Path) -> bytes:
    plain = decompressor.decompress(content, _LARGEST)
    if not decompressor.eof:
        raise Error(f"{path}: broken xz stream: it ends early")
    return plain


def fields(image: bytes, where: str) -> dict[str, list[str]]:
    """Return ``.modinfo`` of the ELF ``image`` as values by key, in file order; Error when it is not such a file.

    The section is a run of NUL-ended ``key=value`` strings (include/linux/module.h); ELF64 as in elf(5).
    """
    section = _section(image, b".modinfo", where)
    found: dict[str, list[str]] = {}
    for entry in section.split(b"\0"):
        key, equals, value = entry.partition(b"=")
        if equals:
            found.setdefault(key.decode("ascii", "replace"), []).append(value.decode("utf-8", "replace"))
    return found


def _section(image: bytes, wanted: bytes, where: str) -> bytes:
    if image[:4] != b"\x7fELF":
        raise Error(f"{where}: not an ELF file")
    if image[4:6] != b"\x02\x01":
        raise Error(f"{where}: not a 64-bit little-endian ELF file")
    try:
        (table,) = struct.unpack_from("<Q", image, 40)
        size, count, names = struct.unpack_from("<HHH", image, 58)
        # Of each section header: where its name lies, where its content lies and how long it is.
        headers = [struct.unpack_from("<I20xQQ", image, table + size * i) for i in range(count)]
        strings = _slice(image, *headers[names][1:])
        for name, offset, length in headers:
            if strings[name : name + len(wanted) + 1] == wanted + b"\0":
                return _slice(image, offset, length)
    except (struct.error, IndexError, OverflowError):
        raise Error(f"{where}: broken ELF section table") from None
    raise Error(f"{where}: no {wanted.decode()} section: not a kernel module")


def _slice(image: bytes, offset: int, length: int) -> bytes:
    if offset + length > len(image):
        raise IndexError
    return image[offset : offset + length]
