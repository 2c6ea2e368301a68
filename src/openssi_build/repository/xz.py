"""Writing .xz files from blocks that were compressed apart, so that a block can be kept and used again.

The format is The .xz File Format, version 1.2.1 (tukaani.org). A file here is one stream of several blocks: apt
stops reading after the first stream, but it reads any number of blocks.
"""

from __future__ import annotations

import lzma
from collections.abc import Iterable, Iterator
from struct import pack
from zlib import crc32

_MAGIC = b"\xfd7zXZ\0"
_CHECK = b"\0\x01"  # stream flags: each block is checked by CRC32, which zlib computes at full speed
_CHECK_SIZE = 4
_SIZES_PRESENT = 0xC0  # block flags: both sizes are in the header, which lets decoders work on blocks in parallel
_LZMA2 = 0x21


def number(value: int) -> bytes:
    """Return ``value`` in the format's variable-length encoding (section 1.2)."""
    coded = bytearray()
    while value >= 0x80:
        coded.append(value & 0x7F | 0x80)
        value >>= 7
    coded.append(value)
    return bytes(coded)


def _numbers(coded: bytes, at: int, count: int) -> list[int]:
    values = []
    for _ in range(count):
        value = shift = 0
        while coded[at] & 0x80:
            value |= (coded[at] & 0x7F) << shift
            shift += 7
            at += 1
        values.append(value | coded[at] << shift)
        at += 1
    return values


def _padding(size: int) -> bytes:
    return bytes(-size % 4)


def _dictionary(size: int) -> tuple[int, int]:
    """Return the code (section 5.3.1) and the bytes of the smallest dictionary that holds ``size`` bytes."""
    code = 0
    while (2 | code & 1) << (code // 2 + 11) < size:
        code += 1
    return code, (2 | code & 1) << (code // 2 + 11)


def block(content: bytes, preset: int = 6) -> bytes:
    """Return ``content`` as one complete block: header, LZMA2 data, padding and check (section 3)."""
    code, dictionary = _dictionary(len(content))
    # Made for text, which has no fields of four bytes: more context for a literal, none for its position.
    filters = [{"id": lzma.FILTER_LZMA2, "preset": preset, "dict_size": dictionary, "lc": 4, "pb": 0}]
    squeezed = lzma.compress(content, lzma.FORMAT_RAW, filters=filters)
    header = bytes([_SIZES_PRESENT]) + number(len(squeezed)) + number(len(content)) + bytes([_LZMA2, 1, code])
    header += _padding(1 + len(header))
    header = bytes([(1 + len(header)) // 4]) + header  # the size field leaves out itself and the CRC: real size / 4 - 1
    return b"".join((header, pack("<I", crc32(header)), squeezed, _padding(len(squeezed)), pack("<I", crc32(content))))


def _record(piece: bytes) -> bytes:
    """Return the index record of a block: its size without padding, and the size of what it holds (section 4.3)."""
    squeezed, plain = _numbers(piece, 2, 2)
    header = (piece[0] + 1) * 4
    return number(header + squeezed + _CHECK_SIZE) + number(plain)


def stream(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the bytes of an .xz file made of ``blocks`` (each from block()); with none, the file holds nothing."""
    yield _MAGIC + _CHECK + pack("<I", crc32(_CHECK))
    records = []
    for piece in blocks:
        records.append(_record(piece))
        yield piece
    index = b"\0" + number(len(records)) + b"".join(records)
    index += _padding(len(index))
    footer = pack("<I", len(index) // 4) + _CHECK  # backward size: the index with its CRC, in fours, less one
    yield index + pack("<I", crc32(index)) + pack("<I", crc32(footer)) + footer + b"YZ"
