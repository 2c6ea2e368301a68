"""Reading the cards that iPXE drives from its binary, and which cards the user means."""

import struct
from pathlib import Path

import netboots
import pytest
from modfiles import elf

from openssi.errors import Error
from openssi.kernel.modules import Modules
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
    assert "no driver in the kernel" in "\n".join(Nic("1:1", "x", (), included=False).lines())


@pytest.fixture
def kernel(tmp_path: Path) -> Modules:
    """A kernel with an Ethernet, a Wi-Fi and a sound driver."""
    drivers = {
        "e1000": ("drivers/net/ethernet/intel/e1000/e1000.ko", ("8086:100e", "8086:100f")),
        "iwlwifi": ("drivers/net/wireless/intel/iwlwifi/iwlwifi.ko", ("8086:2723",)),
        "snd_hda_intel": ("sound/pci/hda/snd-hda-intel.ko", ("8086:2668",)),
    }
    directory = tmp_path / "6.1-test"
    aliases = ""
    for name, (path, ids) in drivers.items():
        pci = [f"pci:v0000{each[:4].upper()}d0000{each[5:].upper()}sv*sd*bc*sc*i*" for each in ids]
        target = directory / "kernel" / path
        target.parent.mkdir(parents=True)
        target.write_bytes(elf(modinfo_text="".join(f"alias={each}\0" for each in pci).encode()))
        aliases += "".join(f"alias {each} {name}\n" for each in pci)
    (directory / "modules.dep").write_text("".join(f"kernel/{path}:\n" for path, _ in drivers.values()))
    (directory / "modules.alias").write_text(aliases)
    for table in ("softdep", "symbols", "builtin"):
        (directory / f"modules.{table}").write_text("")
    return Modules(directory)


def told(wanted: str, kernel: Modules) -> list[str]:
    known = {"8086:100e": "82540em", "168c:0030": "ar9300"}
    return nics.told(nics.cards(nics.ids(wanted, [], known, kernel), known, kernel, {"e1000"}, wanted))


def test_cards_of_which_the_same_is_told_are_told_of_once(kernel: Modules) -> None:
    with_ipxe, *_ = text = told("e1000", kernel)
    assert with_ipxe == "8086:100e 82540em"
    assert [line.split()[0] for line in text if not line.startswith(" ")] == ["8086:100e", "8086:100f"]
    same = [Nic(f"8086:{number:04x}", f"card{number}", ("e1000",), included=True) for number in range(0x1020, 0x1040)]
    lines = nics.told(same)
    assert sum("boots by" in line for line in lines) == 3
    assert len(lines) < 20
    assert all(nic.id in "\n".join(lines) for nic in same)


@pytest.mark.parametrize(
    ("wanted", "error"),
    [
        ("snd_hda_intel", "snd_hda_intel: no Ethernet card found (give an id"),
        ("iwlwifi", "iwlwifi: no Ethernet card found (give an id"),
        ("8086:2723", "8086:2723: no Ethernet card: its driver is iwlwifi (give an id"),
    ],
)
def test_what_is_no_ethernet_card_is_refused(wanted: str, error: str, kernel: Modules) -> None:
    with pytest.raises(Error) as caught:
        told(wanted, kernel)
    assert str(caught.value).startswith(error)


def test_an_id_that_nobody_knows_is_said_to_be_unknown(kernel: Modules) -> None:
    title, line = told("1b21:1142", kernel)
    assert title == "1b21:1142"
    assert line.startswith("  unknown    neither iPXE nor the kernel has a driver for this id")


def test_only_cards_that_boot_tests_have_are_shown() -> None:
    qemu = {
        "8086:100e": "e1000", "8086:10d3": "e1000e", "10ec:8139": "rtl8139", "1022:2000": "pcnet",
        "1af4:1000": "virtio-net-pci", "10ec:8029": "ne2k_pci", "15ad:07b0": "vmxnet3",
        "8086:1229": "i82559c", "8086:1209": "i82559er", "8086:2449": "i82801", "1011:0019": "tulip",
    }  # fmt: skip
    # i82557b has the id of i82559c
    assert {qemu.get(each) for each in nics.SHOWN} == set(netboots.CARDS) - {"i82557b"}
