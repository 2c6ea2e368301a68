"""Kernel modules made up for tests."""

from __future__ import annotations

import struct


def elf(*, modinfo_text: bytes, section: bytes = b".modinfo") -> bytes:
    """Return a minimal ELF64 with one named section."""
    names = b"\0.shstrtab\0" + section + b"\0"
    content = names + modinfo_text
    table = 64 + len(content)
    header = (
        b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HHIQQQIHHHHHH", 1, 62, 1, 0, 0, table, 0, 64, 0, 0, 64, 3, 1)
    )

    def entry(name: int, offset: int, length: int) -> bytes:
        return struct.pack("<IIQQQQIIQQ", name, 1, 0, 0, offset, length, 0, 0, 1, 0)

    sections = entry(0, 0, 0) + entry(1, 64, len(names)) + entry(11, 64 + len(names), len(modinfo_text))
    return header + content + sections
