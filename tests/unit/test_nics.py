"""Reading the cards that iPXE drives from its binary, and which cards the user means."""

import struct
from pathlib import Path

import pytest

from openssi.errors import Error
from openssi.netboot import ipxe
from openssi_build import nics
from openssi_build.nics import Nic

LSPCI = (
    "00:02.0 VGA compatible controller [0300]: Device [1234:1111] (rev 02)\n",
    "00:03.0 Ethernet controller [0200]: Intel Corporation 82540EM Gigabit [8086:100e] (rev 03)\n",
    "00:04.0 Network controller [0280]: Intel Corporation Wi-Fi 6 AX200 [8086:2723] (rev 1a)\n",
)


def binary(*records: tuple[str, int, int]) -> bytes:
    """Return a PE32+ file with one section: names, then a table of PCI ids as iPXE has it."""
    names, table = b"", b""
    for name, vendor, device in records:
        table += struct.pack("<QHHIQ", 0x1000 + len(names), vendor, device, 0, 0)
        names += name.encode() + b"\0"
    names = names.ljust(256, b"\0")
    content = names + table + bytes(64)
    header = b"MZ".ljust(0x3C, b"\0") + struct.pack("<I", 0x40)
    header += b"PE\0\0" + struct.pack("<HHIIIHH", 0x8664, 1, 0, 0, 0, 112, 0) + bytes(112)
    header += b".data\0\0\0" + struct.pack("<IIII", len(content), 0x1000, len(content), 0x400) + bytes(16)
    return header.ljust(0x400, b"\0") + content


def test_cards_are_read_from_the_tables_of_the_binary(tmp_path: Path) -> None:
    path = tmp_path / "ipxe.efi"
    path.write_bytes(binary(("82540em", 0x8086, 0x100E), ("pcnet32", 0x1022, 0x2000), ("3c509 (EISA)", 0x6D50, 1)))
    assert ipxe.cards(path) == {"8086:100e": "82540em", "1022:2000": "pcnet32"}


@pytest.mark.parametrize("content", [b"", b"MZ" + bytes(200), binary(("other", 1, 1))])
def test_what_is_no_ipxe_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.efi"
    path.write_bytes(content)
    with pytest.raises(Error, match=r"x\.efi"):
        ipxe.cards(path)


def test_of_a_listing_only_ethernet_cards_count() -> None:
    found = nics.ids("", LSPCI, {}, None)  # type: ignore[arg-type]  # the kernel is not asked
    assert found == {"8086:100e": "Intel Corporation 82540EM Gigabit"}


def test_a_card_that_the_image_has_no_driver_for_says_what_to_do() -> None:
    lines = "\n".join(Nic("1022:2000", "pcnet32", ("pcnet32",), included=False).lines())
    assert "etherboot.dsk" in lines
    assert "not in the boot image: add it to drivers" in lines
    assert "no driver in the kernel" in "\n".join(Nic("1:1", "", (), included=False).lines())
