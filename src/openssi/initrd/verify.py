"""Booting an image in qemu, once for each network card that qemu has, to the lease that DHCP gives it."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from openssi import run
from openssi.errors import Error
from openssi.qemu import QEMU, Machine, qemu_command

# qemu's name of the card and the module that drives it. tulip and usb-net have no driver in Debian's kernel that works with them.
CARDS = {
    "e1000": "e1000",
    "e1000e": "e1000e",
    "igb": "igb",
    "i82559c": "e100",
    "ne2k_pci": "ne2k_pci",
    "pcnet": "pcnet32",
    "rtl8139": "8139cp",
    "virtio-net-pci": "virtio_net",
    "vmxnet3": "vmxnet3",
}
_MAC = "52:54:00:00:00:01"


@dataclass(frozen=True)
class Result:
    """One boot: the card, its driver, whether it came to a lease, the seconds it took and the last words if not."""

    card: str
    module: str
    lease: bool
    seconds: float
    words: str = ""

    def data(self) -> dict[str, object]:
        """The result as JSON-able data."""
        return asdict(self)


def cards(modules: set[str]) -> dict[str, str]:
    """Return the cards that this qemu emulates and that one of ``modules`` drives."""
    if run.find(QEMU) is None:
        raise run.missing(QEMU)
    known = run.output([QEMU, "-device", "help"], timeout=60).decode()
    return {card: module for card, module in CARDS.items() if module in modules and f'name "{card}"' in known}


def boot_command(kernel: Path, image: Path, card: str) -> list[str | Path]:
    """Return the qemu command that boots ``image`` with one ``card`` on a network of qemu's own."""
    return [
        *qemu_command(f"verify-{card}", memory_mib=512),
        "-kernel", kernel,
        "-initrd", image,
        "-append", f"console=ttyS0 BOOTIF=01-{_MAC.replace(':', '-')} ssi.node=1 ssi.server=192.0.2.1",
        "-netdev", "user,id=net,restrict=on",
        "-device", f"{card},netdev=net,mac={_MAC},romfile=",
    ]  # fmt: skip


def verify(kernel: Path, image: Path, modules: set[str], *, timeout: float = 120) -> Iterator[Result]:
    """Boot ``image`` with each card that qemu emulates and one of ``modules`` drives; yield what came of it."""
    for card, module in cards(modules).items():
        yield boot(kernel, image, card, module, timeout=timeout)


def boot(kernel: Path, image: Path, card: str, module: str, *, timeout: float = 120) -> Result:
    """Boot ``image`` with ``card`` until its interface is up, an error is told or ``timeout`` seconds have passed."""
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="openssi-verify-") as directory:
        machine = Machine(card, boot_command(kernel, image, card), Path(directory))
        with machine:
            try:
                machine.wait(r"ssi: interconnect up: \S+", timeout, fail=r"ssi: error: [^\n]*|Kernel panic[^\n]*")
            except Error as problem:
                return Result(card, module, False, time.monotonic() - begin, str(problem).splitlines()[0])
    return Result(card, module, True, time.monotonic() - begin)
