"""Machines without a boot ROM boot from our media: floppy with each card, USB stick, CD, under BIOS and UEFI."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from netboots import CARDS, NODES, TIMEOUT, Made, card, machine, up, without_dhcp

from openssi.netboot import media
from openssi.netboot.media import Identity
from openssi.qemu import Machine
from openssi_build.lab.netboot import Server, netdev

pytestmark = pytest.mark.boot


def floppy(image: Path) -> list[str]:
    return ["-boot", "a", "-drive", f"if=floppy,format=raw,readonly=on,file={image}"]


def usb(image: Path) -> list[str]:
    drive = f"if=none,id=stick,format=raw,readonly=on,file={image}"
    return ["-drive", drive, "-device", "qemu-xhci", "-device", "usb-storage,drive=stick,bootindex=0"]


def iso(image: Path) -> list[str]:
    return ["-boot", "d", "-cdrom", str(image)]


@pytest.mark.parametrize("name", CARDS)
def test_a_node_without_a_rom_boots_from_the_floppy(name: str, slirp: Made, tmp_path: Path) -> None:
    row = NODES[name]
    net = ["-netdev", f"user,id=net,restrict=on,tftp={slirp.tree},bootfile=pxelinux.0"]
    argv = machine(name, *floppy(slirp.directory / media.FLOPPY), *net, *card(name, row.mac, "romfile="))
    with Machine(name, argv, tmp_path) as node:
        # qemu's tulip brings a machine up to the kernel; the kernel's driver finds no cable in it
        node.wait("ssi: openssi initrd, kernel" if name == "tulip" else up(row), TIMEOUT)


@pytest.mark.parametrize(("kind", "words"), [(media.USB, usb), (media.ISO, iso)], ids=["usb", "iso"])
def test_usb_stick_and_cd_boot_a_bios_machine(kind: str, words: object, served: Made, server: Server) -> None:
    row = NODES["e1000"]
    devices: Sequence[str] = words(served.directory / kind)  # type: ignore[operator]
    with server.machine(kind, machine(kind, *devices, *netdev(), *card("e1000", row.mac, "romfile="))) as node:
        node.wait(up(row), TIMEOUT)


def test_a_medium_with_an_identity_needs_no_dhcp(served: Made, server: Server, root: Path, tmp_path: Path) -> None:
    row = NODES["e1000"]
    identity = Identity(row.mac, f"{row.ip}/24", "10.9.0.1", number=row.number)
    (image,) = media.make(tmp_path, served.parts, identity, kinds=(media.FLOPPY,))
    without_dhcp(server)
    argv = machine("identity", *floppy(image), *netdev(), *card("e1000", row.mac, "romfile="))
    with server.machine("identity", argv) as node:
        node.wait(up(row), TIMEOUT)
    assert "DHCPACK" not in server.log.read_text()
