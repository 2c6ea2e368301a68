"""UEFI machines boot over the network and from our media; with Secure Boot only what Debian has signed."""

from collections.abc import Callable
from pathlib import Path

import pytest
from netboots import NO_IPV6, NODES, TIMEOUT, Made, card, machine, uefi, up, without_dhcp

from openssi.netboot import media
from openssi.netboot.media import Identity
from openssi.qemu import Machine
from openssi_build.lab.netboot import Server, netdev

pytestmark = pytest.mark.boot
NO_PXE = [*NO_IPV6, "-fw_cfg", "name=opt/org.tianocore/IPv4PXESupport,string=n"]


def booted(
    server: Server, *words: str, secure: bool = False, node: str = "virtio-net-pci", medium: bool = False
) -> list[str | Path]:
    """Return the command of a UEFI machine on the server's cable; it boots from its card, or with ``medium`` from that."""
    nic = card("virtio-net-pci", NODES[node].mac, "romfile=", *([] if medium else ["bootindex=0"]))
    devices = [*uefi(server.directory, secure=secure), *words, *netdev(), *nic]
    return machine("uefi", *devices, memory_mib=1024, kind="q35,smm=on" if secure else "q35")


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "secure-boot"])
def test_shim_and_grub_boot_a_node_by_tftp(secure: bool, server: Server) -> None:
    with server.machine("uefi", booted(server, *NO_IPV6, secure=secure)) as node:
        node.wait(up(NODES["virtio-net-pci"]), TIMEOUT)
        assert ("Kernel is locked down" in node.text) == secure


def test_uefi_boots_by_http(server: Server) -> None:
    with server.machine("http", booted(server, *NO_PXE)) as node:
        node.wait(up(NODES["virtio-net-pci"]), TIMEOUT)
    assert "shimx64.efi" not in server.log.read_text().replace("http://10.9.0.1/shimx64.efi", "")


def test_a_machine_without_entry_says_its_address_by_uefi_http(server: Server) -> None:
    mac = "52:54:00:09:00:77"
    devices = [*uefi(server.directory), *NO_PXE, *netdev(), *card("virtio-net-pci", mac, "romfile=", "bootindex=0")]
    with server.machine("new", machine("new", *devices, memory_mib=1024, kind="q35")) as node:
        node.wait(rf"ssi: this machine: {mac}", TIMEOUT)
        node.wait("ssi: waiting to be added: run ssi-addnode", TIMEOUT)
        assert "syntax error" not in node.text


def press(node: Machine, *keys: str) -> None:
    """Press keys of the keyboard, one after the other; firmware and GRUB both listen to the serial line, and may lose some."""
    for key in keys:
        node.monitor("send-key", keys=[{"type": "qcode", "data": key}])


def test_escape_shows_the_choices_and_the_rescue_shell_is_one(server: Server) -> None:
    with server.machine("menu", booted(server, *NO_IPV6)) as node:
        node.wait("Esc shows the choices", TIMEOUT)
        press(node, "esc")
        node.wait("Rescue shell", TIMEOUT)
        press(node, "down", "ret")
        node.wait("ssi: ssi.rescue: the interconnect is up", TIMEOUT)


def test_ipxe_boots_a_node_that_asks_for_etherboot(server: Server) -> None:
    with server.machine("ipxe", booted(server, *NO_IPV6, node="etherboot")) as node:
        node.wait(up(NODES["etherboot"]), TIMEOUT)
    assert "snponly.efi" in server.log.read_text()


def test_secure_boot_refuses_ipxe(server: Server) -> None:
    with server.machine("refused", booted(server, *NO_IPV6, secure=True, node="etherboot")) as node:
        node.wait("Access Denied|Security Violation", TIMEOUT)
        assert "ssi:" not in node.text


def stick(image: Path) -> list[str]:
    drive = f"if=none,id=medium,format=raw,readonly=on,file={image}"
    return ["-drive", drive, "-device", "qemu-xhci", "-device", "usb-storage,drive=medium,bootindex=0"]


def disc(image: Path) -> list[str]:
    drive = f"if=none,id=medium,format=raw,media=cdrom,readonly=on,file={image}"
    return ["-drive", drive, "-device", "ide-cd,drive=medium,bootindex=0"]


MEDIA = pytest.mark.parametrize(("kind", "words"), [(media.USB, stick), (media.ISO, disc)], ids=["usb", "iso"])


@MEDIA
def test_usb_stick_and_cd_boot_a_uefi_machine(
    kind: str, words: Callable[[Path], list[str]], served: Made, server: Server
) -> None:
    with server.machine("medium", booted(server, *words(served.directory / kind), medium=True)) as node:
        node.wait(up(NODES["virtio-net-pci"]), TIMEOUT)


@MEDIA
def test_a_medium_under_secure_boot_says_why_it_finds_no_card(
    kind: str, words: Callable[[Path], list[str]], served: Made, server: Server
) -> None:
    # This firmware starts a network card only when it boots from it, and iPXE, which has drivers, is refused.
    argv = booted(server, *words(served.directory / kind), secure=True, medium=True)
    with server.machine("medium", argv) as node:
        node.wait("Secure Boot refuses iPXE and its drivers", TIMEOUT)


def test_a_cd_with_an_identity_needs_no_dhcp_under_uefi(served: Made, server: Server, tmp_path: Path) -> None:
    row = NODES["virtio-net-pci"]
    identity = Identity(row.mac, f"{row.ip}/24", "10.9.0.1", number=row.number)
    (image,) = media.make(tmp_path, served.parts, identity, kinds=(media.ISO,))
    without_dhcp(server)
    with server.machine("medium", booted(server, *disc(image), medium=True)) as node:
        node.wait(up(row), TIMEOUT)
    assert "DHCPACK" not in server.log.read_text()
