"""Etherboot media: a floppy, a USB stick and a CD that bring a machine without a boot ROM of its own to the boot server.

Each carries Debian's iPXE with all its drivers and a script of ours; USB stick and CD also boot under UEFI, by shim and
GRUB, which goes on alone where Secure Boot is on. Nothing asks, nothing is compiled, nothing needs root.
"""

from __future__ import annotations

import ipaddress
import os
import shutil
import struct
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from openssi import files
from openssi.errors import Error
from openssi.netboot.loaders import Loader
from openssi.netboot.network import entry_name, mac
from openssi.netboot.tree import environment
from openssi.run import Argv, find, missing, run

FLOPPY, USB, ISO = "etherboot.dsk", "etherboot.usb", "etherboot.iso"
KINDS = (FLOPPY, USB, ISO)
_LABEL = "OPENSSI"
_SERIAL = "4f50454e"
_START = 2048  # sectors before the USB stick's partition
_HEADS, _SECTORS = 64, 32
_USB_SECTORS = 16 * 2048
_EFI_KIB = 4096
_TIMEOUT = 120

PARTS = (
    Loader("ipxe.lkrn", "usr/lib/ipxe/ipxe.lkrn", "ipxe"),
    Loader("ipxe.efi", "usr/lib/ipxe/ipxe-amd64.efi", "ipxe"),
    Loader("shim", "usr/lib/shim/shimx64.efi.signed", "shim-signed"),
    Loader("grub", "usr/lib/grub/x86_64-efi-signed/grubnetx64.efi.signed", "grub-efi-amd64-signed"),
    Loader("mbr", "usr/lib/SYSLINUX/mbr.bin", "syslinux-common"),
    Loader("ldlinux.c32", "usr/lib/syslinux/modules/bios/ldlinux.c32", "syslinux-common"),
    Loader("isolinux.bin", "usr/lib/ISOLINUX/isolinux.bin", "isolinux"),
    Loader("syslinux", "usr/bin/syslinux", "syslinux"),
)
# The parts that are on each medium; syslinux carries the loader that it installs.
_EFI = ("ipxe.efi", "shim", "grub")
HOLDS = {
    FLOPPY: ("ipxe.lkrn", "syslinux"),
    USB: ("ipxe.lkrn", "syslinux", "mbr", *_EFI),
    ISO: ("ipxe.lkrn", "isolinux.bin", "ldlinux.c32", *_EFI),
}


@dataclass(frozen=True)
class Identity:
    """Who the machine is, for a medium that asks no DHCP: ``ip`` with its prefix, ``server`` the boot server's address.

    ``number`` is 0 for a machine that is no node yet; ``root`` is where the shared root is served from.
    """

    mac: str
    ip: str
    server: str
    root: str = ""
    number: int = 0

    def __post_init__(self) -> None:
        mac(self.mac)
        try:
            card, server = ipaddress.IPv4Interface(self.ip), ipaddress.IPv4Address(self.server)
        except ValueError as problem:
            raise Error(f"boot medium: {problem}", hint="expected addresses such as 10.1.0.2/24 and 10.1.0.1") from None
        if "/" not in self.ip or card.ip in (card.network.network_address, card.network.broadcast_address):
            raise Error(f"boot medium: {self.ip}: expected a machine's address with its prefix, such as 10.1.0.2/24")
        if server not in card.network or server == card.ip:
            raise Error(f"boot medium: server {server}: expected another address in the network of {self.ip}")

    @property
    def address(self) -> str:
        """The address without its prefix."""
        return str(ipaddress.IPv4Interface(self.ip).ip)

    @property
    def netmask(self) -> str:
        """The network's mask in dots."""
        return str(ipaddress.IPv4Interface(self.ip).netmask)

    @property
    def entry(self) -> str:
        """The name of the machine's boot entries on the server."""
        return entry_name(self.mac)

    @property
    def arguments(self) -> str:
        """The kernel parameters by which the initrd knows the machine where the server does not."""
        node = [f"ssi.node={self.number}"] if self.number else []
        return " ".join([*node, f"ssi.ip={self.ip}", f"ssi.server={self.root or self.server}", f"BOOTIF={self.entry}"])


def parts(root: Path) -> dict[str, Path]:
    """Return what the media are made of, from the packages below ``root``; Error names what is missing."""
    found = {}
    for part in PARTS:
        found[part.name] = root / part.path
        if not found[part.name].is_file():
            raise Error(f"{found[part.name]}: not there", hint=f"apt install {part.package}")
    return found


def key(sources: Mapping[str, Path], identity: Identity | None = None) -> str:
    """Return a digest of all that the media are made of: the parts, the scripts, and this code."""
    made = sha256(Path(__file__).read_bytes())
    for path in sources.values():
        made.update(path.read_bytes())
    for text in _scripts(identity).values():
        made.update(text.encode())
    return made.hexdigest()


def _scripts(identity: Identity | None) -> dict[str, str]:
    templates = environment()
    script = templates.get_template("etherboot.ipxe").render(identity=identity)
    return {
        "boot.ipx": script,
        "syslinux.cfg": templates.get_template("etherboot.cfg").render(),
        "grub.cfg": templates.get_template("etherboot.grub").render(script=script),
    }


def make(
    directory: Path, sources: Mapping[str, Path], identity: Identity | None = None, *, kinds: tuple[str, ...] = ()
) -> list[Path]:
    """Write the media (``kinds``, by default all three) into ``directory`` and return them; equal input, equal bytes."""
    makers = {FLOPPY: _floppy, USB: _usb, ISO: _iso}
    made = []
    date = max(int(path.stat().st_mtime) for path in sources.values())  # kept by dpkg: the same wherever they are made
    with tempfile.TemporaryDirectory(prefix="openssi-media-") as name:
        work = _Work(Path(name), sources, date)
        work.scripts(identity)
        for kind in kinds or KINDS:
            image = work.top / kind
            makers[kind](work, image)
            files.write_if_changed(directory / kind, image.read_bytes())
            made.append(directory / kind)
    return made


class _Work:
    """A directory in which media are put together; every file in it has one date."""

    def __init__(self, top: Path, sources: Mapping[str, Path], date: int) -> None:
        self.top = top
        self.sources = sources
        self.date = date

    def scripts(self, identity: Identity | None) -> None:
        """Write the scripts that the media carry."""
        for name, text in _scripts(identity).items():
            self.put(name, text.encode())
        self.put("ipxe.krn", self.sources["ipxe.lkrn"].read_bytes())
        for name in ("ipxe.efi", "shim", "grub", "ldlinux.c32", "isolinux.bin"):
            self.put(name, self.sources[name].read_bytes())

    def put(self, name: str, content: bytes) -> Path:
        """Write a file with the media's date."""
        path = self.top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        os.utime(path, (self.date, self.date))
        return path

    def run(self, argv: Argv) -> None:
        """Run a tool; what it dates gets the media's date."""
        run(argv, cwd=self.top, env={"SOURCE_DATE_EPOCH": str(self.date), "MTOOLS_SKIP_CHECK": "1"}, timeout=_TIMEOUT)

    def format(self, image: str, *words: str, start: int = 0, drive: int = 0) -> None:
        """Make a FAT filesystem at the byte ``start`` of an image; ``drive`` is the number that a BIOS has for it."""
        self.run(["mformat", *words, "-N", _SERIAL, "-v", _LABEL, "-i", f"{image}@@{start}", "::"])
        # mtools writes its own version here, and its versions disagree about the number.
        with (self.top / image).open("r+b") as stream:
            for offset, content in ((0x03, _LABEL.ljust(8).encode()), (0x24, bytes([drive]))):
                stream.seek(start + offset)
                stream.write(content)

    def copy(self, image: str, *names: str, to: str = "") -> None:
        """Copy files to a directory of the FAT image ``image`` (a path, with @@offset), dates kept."""
        self.run(["mcopy", "-m", "-i", image, *names, f"::{to}"])

    def efi(self, image: str) -> None:
        """Copy what UEFI starts: shim finds GRUB beside itself."""
        self.run(["mmd", "-i", image, "::EFI", "::EFI/BOOT"])
        self.copy(image, "shim", to="EFI/BOOT/BOOTX64.EFI")
        self.copy(image, "grub", to="EFI/BOOT/grubx64.efi")

    def syslinux(self) -> Path:
        """Return the installer of the boot sector, which carries the loader that it installs."""
        for tool in ("mformat", "mcopy"):
            if find(tool) is None:
                raise missing(tool)
        return self.sources["syslinux"]


def _floppy(work: _Work, image: Path) -> None:
    work.format(image.name, "-C", "-f", "1440")
    work.run([work.syslinux(), "--install", image.name])
    work.copy(image.name, "ipxe.krn", "boot.ipx", "syslinux.cfg")


def _usb(work: _Work, image: Path) -> None:
    sectors = _USB_SECTORS - _START
    with image.open("wb") as stream:
        stream.truncate(_USB_SECTORS * 512)
        stream.write(_master_boot_record(work.sources["mbr"].read_bytes(), sectors))
    inside = f"{image.name}@@{_START * 512}"
    geometry = ["-h", str(_HEADS), "-s", str(_SECTORS), "-H", str(_START), "-T", str(sectors)]
    work.format(image.name, *geometry, start=_START * 512, drive=0x80)
    work.run([work.syslinux(), "--offset", str(_START * 512), "--install", image.name])
    work.copy(inside, "ipxe.krn", "boot.ipx", "syslinux.cfg")
    work.efi(inside)
    work.run(["mmd", "-i", inside, "::grub"])
    work.copy(inside, "grub.cfg", to="grub/grub.cfg")
    work.copy(inside, "ipxe.efi")


def _master_boot_record(code: bytes, sectors: int) -> bytes:
    """Return the first sector: syslinux's code, one active FAT partition, reached by logical block address."""
    entry = struct.pack("<B3sB3sII", 0x80, b"\xfe\xff\xff", 0x0E, b"\xfe\xff\xff", _START, sectors)
    return code[:440].ljust(440, b"\0") + b"SSI\0\0\0" + entry + bytes(48) + b"\x55\xaa"


def _iso(work: _Work, image: Path) -> None:
    work.format("efi.img", "-C", "-T", str(_EFI_KIB * 2), "-h", str(_HEADS), "-s", str(_SECTORS))
    work.efi("efi.img")
    tree = work.top / "iso"
    shutil.rmtree(tree, ignore_errors=True)
    for name, source in (
        ("isolinux/isolinux.bin", "isolinux.bin"),
        ("isolinux/ldlinux.c32", "ldlinux.c32"),
        ("isolinux/isolinux.cfg", "syslinux.cfg"),
        ("isolinux/ipxe.krn", "ipxe.krn"),
        ("isolinux/boot.ipx", "boot.ipx"),
        ("efi.img", "efi.img"),
        # GRUB, started from efi.img, sees the CD and not what is in that image.
        ("grub/grub.cfg", "grub.cfg"),
        ("ipxe.efi", "ipxe.efi"),
    ):
        work.put(f"iso/{name}", (work.top / source).read_bytes())
    for directory in (tree / "isolinux", tree / "grub", tree):
        os.utime(directory, (work.date, work.date))
    work.run([
        "xorriso", "-as", "mkisofs",
        "-quiet",
        "-volid", _LABEL,
        "-preparer", _LABEL,  # else xorriso's version
        "-rational-rock",
        "-output", image.name,
        "-eltorito-boot", "isolinux/isolinux.bin",
        "-eltorito-catalog", "isolinux/boot.cat",
        "-no-emul-boot", "-boot-load-size", "4", "-boot-info-table",
        "-eltorito-alt-boot",
        "-e", "efi.img",
        "-no-emul-boot",
        "iso",
    ])  # fmt: skip
