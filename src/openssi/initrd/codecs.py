"""Compressing an archive for the kernel, and taking apart any initrd: archives one behind the other, each its own codec."""

from __future__ import annotations

import lzma
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from openssi.errors import Error
from openssi.initrd import cpio

_LARGEST = 1 << 30
_LZ4_LEGACY = b"\x02\x21\x4c\x18"
_LZ4_BLOCK = 8 << 20

MAGICS = {
    "none": cpio.MAGIC,
    "gzip": b"\x1f\x8b",
    "xz": b"\xfd7zXZ\0",
    "zstd": b"\x28\xb5\x2f\xfd",
    "lz4": _LZ4_LEGACY,
    "lzma": b"\x5d\0\0",
    "bzip2": b"BZh",
}
CODECS = ("zstd", "gzip", "xz", "lz4", "none")
LEVELS = {"zstd": 9, "gzip": 6, "xz": 6, "lz4": 9, "none": 0}


def compress(archive: bytes, codec: str, level: int | None = None) -> bytes:
    """Return ``archive`` compressed as the kernel takes it (lib/decompress*.c); the same bytes on every machine."""
    if codec not in CODECS:
        raise Error(f"compression '{codec}': expected one of {', '.join(CODECS)}")
    return _COMPRESSORS[codec](archive, LEVELS[codec] if level is None else level)


def _zstd(archive: bytes, level: int) -> bytes:
    import zstandard

    # One thread: more give other bytes, and no speed at this size.
    return zstandard.ZstdCompressor(level=level, write_checksum=False, write_content_size=True).compress(archive)


def _gzip(archive: bytes, level: int) -> bytes:
    compressor = zlib.compressobj(level, wbits=31)  # no name, no date
    return compressor.compress(archive) + compressor.flush()


def _xz(archive: bytes, level: int) -> bytes:
    # The kernel's decoder knows CRC32 and no other check (Documentation/staging/xz.rst).
    return lzma.compress(archive, check=lzma.CHECK_CRC32, preset=level)


def _lz4(archive: bytes, level: int) -> bytes:
    try:
        import lz4.block
    except ImportError:
        raise Error("compression 'lz4': python3-lz4 is not installed", hint="apt install python3-lz4") from None
    parts = [_LZ4_LEGACY]
    for at in range(0, len(archive), _LZ4_BLOCK):
        block = lz4.block.compress(
            archive[at : at + _LZ4_BLOCK], mode="high_compression", compression=level, store_size=False
        )
        parts += [struct.pack("<I", len(block)), block]
    return b"".join(parts)


_COMPRESSORS: dict[str, Callable[[bytes, int], bytes]] = {
    "zstd": _zstd,
    "gzip": _gzip,
    "xz": _xz,
    "lz4": _lz4,
    "none": lambda archive, _: archive,
}


@dataclass(frozen=True)
class Segment:
    """One archive of an initrd: how it is compressed, its bytes in the image, and what it holds."""

    codec: str
    size: int
    entries: tuple[cpio.Entry, ...]


def segments(image: bytes, where: str) -> Iterator[Segment]:
    """Yield the archives of the initrd ``image`` in order; Error says at which byte it can't be read."""
    at = 0
    while at < len(image):
        if image[at] == 0:  # the kernel skips zeros between archives
            at += 1
            continue
        codec = next((name for name, magic in MAGICS.items() if image.startswith(magic, at)), None)
        if codec is None:
            raise Error(f"{where}: neither a cpio archive nor a known compression at byte {at}")
        if codec == "none":
            entries, end = cpio.unpack(image, where, at)
        else:
            plain, end = _decompress(image, at, codec, where)
            entries = [entry for each in _archives(plain, where) for entry in each]
        yield Segment(codec, end - at, tuple(entries))
        at = end


def _archives(plain: bytes, where: str) -> Iterator[list[cpio.Entry]]:
    at = 0
    while at < len(plain):
        if plain[at] == 0:
            at += 1
            continue
        entries, at = cpio.unpack(plain, where, at)
        yield entries


def _decompress(image: bytes, at: int, codec: str, where: str) -> tuple[bytes, int]:
    try:
        return _DECOMPRESSORS[codec](image, at)
    except (EOFError, OSError, ValueError, lzma.LZMAError, zlib.error, struct.error) as problem:
        raise Error(f"{where}: broken {codec} stream at byte {at}: {problem}") from None


def _stream(decompressor: object, image: bytes, at: int) -> tuple[bytes, int]:
    plain = decompressor.decompress(image[at:], _LARGEST)  # type: ignore[attr-defined]
    if not decompressor.eof:  # type: ignore[attr-defined]
        raise EOFError("it ends early")
    return plain, len(image) - len(decompressor.unused_data)  # type: ignore[attr-defined]


def _unbzip2(image: bytes, at: int) -> tuple[bytes, int]:
    import bz2

    return _stream(bz2.BZ2Decompressor(), image, at)


def _ungzip(image: bytes, at: int) -> tuple[bytes, int]:
    return _stream(zlib.decompressobj(wbits=31), image, at)


def _unzstd(image: bytes, at: int) -> tuple[bytes, int]:
    import zstandard

    try:
        decompressor = zstandard.ZstdDecompressor().decompressobj()
        plain = decompressor.decompress(image[at:])
    except zstandard.ZstdError as problem:
        raise ValueError(str(problem)) from None
    if not decompressor.eof:
        raise EOFError("it ends early")
    return plain, len(image) - len(decompressor.unused_data)


def _unlz4(image: bytes, at: int) -> tuple[bytes, int]:
    try:
        import lz4.block
    except ImportError:
        raise Error("an lz4 archive: python3-lz4 is not installed", hint="apt install python3-lz4") from None
    at += 4
    parts = []
    # The stream has no end of its own: zeros, another archive or the end of the image end it.
    while image[at : at + 4].strip(b"\0") and not image.startswith(tuple(MAGICS.values()), at):
        (size,) = struct.unpack_from("<I", image, at)
        if size > len(image) - at - 4:
            raise EOFError("it ends early")
        try:
            parts.append(lz4.block.decompress(image[at + 4 : at + 4 + size], uncompressed_size=_LZ4_BLOCK))
        except lz4.block.LZ4BlockError as problem:
            raise ValueError(str(problem)) from None
        at += 4 + size
    if not parts:
        raise EOFError("it ends early")
    return b"".join(parts), at


_DECOMPRESSORS: dict[str, Callable[[bytes, int], tuple[bytes, int]]] = {
    "gzip": _ungzip,
    "xz": lambda image, at: _stream(lzma.LZMADecompressor(), image, at),
    "lzma": lambda image, at: _stream(lzma.LZMADecompressor(lzma.FORMAT_ALONE), image, at),
    "bzip2": _unbzip2,
    "zstd": _unzstd,
    "lz4": _unlz4,
}
