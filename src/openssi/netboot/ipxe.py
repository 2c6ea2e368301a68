"""The network cards that an iPXE binary drives, read from the binary itself: its tables of PCI ids."""

from __future__ import annotations

import re
import struct
from pathlib import Path
from typing import NamedTuple

from openssi.errors import Error

# struct pci_device_id of a 64-bit iPXE (include/ipxe/pci.h): const char *name; uint16_t vendor, device; unsigned long
# driver_data. The names of ISA and EISA tables, which look alike, have blanks.
_RECORD = struct.Struct("<QHHIQ")
_NAME = re.compile(rb"[A-Za-z0-9][A-Za-z0-9_.,/+-]{1,38}")


class _Section(NamedTuple):
    address: int
    offset: int
    size: int


def cards(path: Path) -> dict[str, str]:
    """Return the name that iPXE has for each card, by ``vendor:device`` in lower case, of the EFI binary ``path``.

    Error when it is no such binary, or one whose tables are built in another way.
    """
    try:
        image = path.read_bytes()
        sections = _sections(image)
    except (OSError, struct.error, ValueError) as problem:
        raise Error(f"{path}: not a 64-bit EFI binary: {problem}", hint="apt install ipxe") from None
    found = {}
    for section in sections:
        for at in range(section.offset, section.offset + section.size - _RECORD.size, 8):
            pointer, vendor, device, gap, _ = _RECORD.unpack_from(image, at)
            if gap or vendor in (0, 0xFFFF):
                continue
            if name := _name(image, sections, pointer):
                found[f"{vendor:04x}:{device:04x}"] = name
    if "8086:100e" not in found:
        raise Error(f"{path}: no tables of PCI ids found in it", hint="this iPXE keeps them in another form")
    return found


def _sections(image: bytes) -> list[_Section]:
    """Return the sections of a PE32+ file (PE/COFF specification, sections 2 to 4)."""
    (header,) = struct.unpack_from("<I", image, 0x3C)
    if image[header : header + 4] != b"PE\0\0":
        raise ValueError("no PE header")
    count, optional = struct.unpack_from("<H", image, header + 6)[0], struct.unpack_from("<H", image, header + 20)[0]
    (base,) = struct.unpack_from("<Q", image, header + 48)
    sections = []
    for number in range(count):
        place = header + 24 + optional + 40 * number + 8
        _, address, size, offset = struct.unpack_from("<IIII", image, place)
        if offset:
            sections.append(_Section(base + address, offset, size))
    return sections


def _name(image: bytes, sections: list[_Section], pointer: int) -> str:
    for section in sections:
        if section.address <= pointer < section.address + section.size:
            start = section.offset + pointer - section.address
            text = image[start : image.find(b"\0", start, start + 40)]
            return text.decode() if _NAME.fullmatch(text) else ""
    return ""
