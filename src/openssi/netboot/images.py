"""Kernels and initrds that can be served: found in /boot, named by what is in them."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from openssi.errors import Error

INITRD = "openssi-initrd.img-"  # what mkinitrd writes
_DIGITS = re.compile(r"(\d+)")
_VERSION = re.compile(r"[0-9][A-Za-z0-9.+~_-]*")


@dataclass(frozen=True)
class Image:
    """A kernel with its initrd: the version, and both files."""

    version: str
    kernel: Path
    initrd: Path

    def __post_init__(self) -> None:
        if not _VERSION.fullmatch(self.version):
            raise Error(f"{self.kernel}: kernel version {self.version!r}: expected one like 6.12.48+deb13-amd64")


@dataclass(frozen=True)
class Served:
    """An Image as the tree has it: paths from the top of the tree, and the label of its menu entry."""

    version: str
    kernel: str
    initrd: str

    @property
    def label(self) -> str:
        """The name to type at pxelinux's prompt."""
        return f"linux-{self.version}"

    @property
    def initrd_name(self) -> str:
        """The initrd's name without its directory."""
        return self.initrd.rsplit("/", 1)[-1]


def digest(path: Path) -> str:
    """Return the SHA-256 of the file in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def served(image: Image) -> Served:
    """Return the names of ``image`` in the tree; they change whenever the content does."""
    kernel, initrd = (digest(path)[:16] for path in (image.kernel, image.initrd))
    return Served(image.version, f"boot/vmlinuz-{image.version}-{kernel}", f"boot/initrd-{image.version}-{initrd}")


def age(version: str) -> list[tuple[int, str]]:
    """Return a key by which kernel versions sort as people count: 6.9 before 6.12."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in _DIGITS.split(version) if part]


def installed(root: Path) -> list[Image]:
    """Return the kernels below ``root``/boot that have an initrd by mkinitrd, newest first; Error when there is none."""
    boot = root / "boot"
    found = []
    for initrd in boot.glob(f"{INITRD}*"):
        version = initrd.name.removeprefix(INITRD)
        kernel = boot / f"vmlinuz-{version}"
        if _VERSION.fullmatch(version) and kernel.is_file():
            found.append(Image(version, kernel, initrd))
    if not found:
        raise Error(f"{boot}: no kernel with a network boot image", hint=f"mkinitrd -o {boot}/{INITRD}VERSION VERSION")
    return sorted(found, key=lambda image: age(image.version), reverse=True)


def outdated(root: Path) -> list[str]:
    """Return a line for each initrd in /boot that is older than what it was made of: its kernel or the lists of drivers."""
    lists = [root / "etc/mkinitrd/modules", *sorted((root / "etc/mkinitrd/modules.d").glob("*"))]
    lines = []
    for initrd in sorted((root / "boot").glob(f"{INITRD}*")):
        version = initrd.name.removeprefix(INITRD)
        sources = [root / "boot" / f"vmlinuz-{version}", *lists]
        made = initrd.stat().st_mtime
        newer = [f"/{each.relative_to(root)}" for each in sources if each.is_file() and each.stat().st_mtime > made]
        if newer:
            lines.append(f"/boot/{initrd.name} is older than {' and '.join(newer)}: mkinitrd {version}, then ssi-ksync")
    return lines
