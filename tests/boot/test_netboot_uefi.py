"""UEFI machines boot over the network and from our media; with Secure Boot only what Debian has signed."""

import shutil
from pathlib import Path

import pytest
from netboots import NODES, TIMEOUT, Made, card, machine, up

from openssi.netboot import media
from openssi_build.lab.netboot import Server, netdev

pytestmark = pytest.mark.boot
FIRMWARE = Path("/usr/share/OVMF")
NO_IPV6 = ["-fw_cfg", "name=opt/org.tianocore/IPv6PXESupport,string=n"]
NO_PXE = [*NO_IPV6, "-fw_cfg", "name=opt/org.tianocore/IPv4PXESupport,string=n"]


def uefi(directory: Path, *, secure: bool = False) -> list[str]:
    """Return the words for UEFI firmware with variables of its own; ``secure``: Secure Boot with the usual keys."""
    kind = ".ms" if secure else ""
    variables = directory / "variables.fd"
    shutil.copyfile(FIRMWARE / f"OVMF_VARS_4M{kind}.fd", variables)
    return [
        *(["-global", "driver=cfi.pflash01,property=secure,value=on"] if secure else []),
        "-drive", f"if=pflash,format=raw,readonly=on,file={FIRMWARE}/OVMF_CODE_4M{kind}.fd",
        "-drive", f"if=pflash,format=raw,file={variables}",
    ]  # fmt: skip


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


def test_a_usb_stick_boots_a_uefi_machine(served: Made, server: Server) -> None:
    argv = booted(server, *stick(served.directory / media.USB), medium=True)
    with server.machine("medium", argv) as node:
        node.wait(up(NODES["virtio-net-pci"]), TIMEOUT)


def test_a_usb_stick_under_secure_boot_says_why_it_finds_no_card(served: Made, server: Server) -> None:
    # This firmware starts a network card only when it boots from it, and iPXE, which has drivers, is refused.
    argv = booted(server, *stick(served.directory / media.USB), secure=True, medium=True)
    with server.machine("medium", argv) as node:
        node.wait("Secure Boot refuses iPXE and its drivers", TIMEOUT)
