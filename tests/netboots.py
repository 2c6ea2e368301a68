"""What the boots over the network share: the nodes, and how machines with each card are started."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from openssi.netboot.network import Network
from openssi.qemu import qemu_command
from openssi_build import netboot
from openssi_build.lab.netboot import Server

# What qemu emulates, in the order of the nodes' numbers from 2, and the module that drives it.
CARDS = {
    "e1000": "e1000",
    "e1000e": "e1000e",
    "rtl8139": "8139cp",
    "pcnet": "pcnet32",
    "virtio-net-pci": "virtio_net",
    "ne2k_pci": "ne2k-pci",
    "vmxnet3": "vmxnet3",
    "i82559c": "e100",
    "i82559er": "e100",
    "i82557b": "e100",
    "i82801": "e100",
    "tulip": "tulip",
}
NO_IPV6 = ["-fw_cfg", "name=opt/org.tianocore/IPv6PXESupport,string=n"]
_FIRMWARE = Path("/usr/share/OVMF")
TIMEOUT = 300  # ten times what it takes on an idle machine


@dataclass(frozen=True)
class Row:
    """A node of the tests' table."""

    number: int
    ip: str
    mac: str
    protocol: str = "P"


NODES = {card: Row(2 + at, f"10.9.0.{2 + at}", f"52:54:00:09:00:{2 + at:02x}") for at, card in enumerate(CARDS)}
NODES["etherboot"] = Row(90, "10.9.0.90", "52:54:00:09:00:90", "E")


@dataclass(frozen=True)
class Made:
    """The directory that inv netboot-images makes, for machines on ``on``, and the keyring that it is signed by."""

    directory: Path
    on: Network
    keyring: Path
    parts: dict[str, Path]  # of the media

    @property
    def tree(self) -> Path:
        """What is served."""
        return self.directory / netboot.TREE


def machine(name: str, *words: str | Path, memory_mib: int = 512, kind: str = "pc,graphics=off") -> list[str | Path]:
    """Return the qemu command of a machine with ``words`` for its devices."""
    return [*qemu_command(name, memory_mib=memory_mib, machine=kind), *words]


def uefi(directory: Path, *, secure: bool = False) -> list[str]:
    """Return the words for UEFI firmware with variables of its own; ``secure``: Secure Boot with the usual keys."""
    kind = ".ms" if secure else ""
    variables = directory / "variables.fd"
    shutil.copyfile(_FIRMWARE / f"OVMF_VARS_4M{kind}.fd", variables)
    return [
        *(["-global", "driver=cfi.pflash01,property=secure,value=on"] if secure else []),
        "-drive", f"if=pflash,format=raw,readonly=on,file={_FIRMWARE}/OVMF_CODE_4M{kind}.fd",
        "-drive", f"if=pflash,format=raw,file={variables}",
    ]  # fmt: skip


def card(name: str, mac: str, *more: str) -> Sequence[str]:
    """Return the words for a network card on the cable."""
    return ["-device", ",".join([name, "netdev=net", f"mac={mac}", *more])]


def without_dhcp(server: Server) -> None:
    """Let ``server``, which is prepared, answer by TFTP and HTTP alone."""
    configuration = server.directory / "dnsmasq.conf"
    lines = configuration.read_text().splitlines()
    configuration.write_text("\n".join(line for line in lines if not line.startswith("dhcp-")) + "\n")


def up(row: Row) -> str:
    """Return what the initrd says of the node ``row`` when its interconnect is up, as a pattern."""
    address = row.ip.replace(".", r"\.")
    return rf"ssi: interconnect up: \S+ {row.mac} {address}/24[\s\S]*ssi: mounting 10\.9\.0\.1:/ as node {row.number}\b"
