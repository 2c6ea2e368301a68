"""The boot loaders: which file of which Debian package has which name in the tree, and who gets it.

Another architecture is another row of these tables.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from openssi.errors import Error

BIOS = "pxelinux.0"
BIOS_HTTP = "lpxelinux.0"
IPXE_SCRIPT = "ipxe/boot.ipxe"


@dataclass(frozen=True)
class Loader:
    """One file of the tree: its name there, where the package has it below ``/``, the package."""

    name: str
    path: str
    package: str


LOADERS: dict[str, tuple[Loader, ...]] = {
    "amd64": (
        Loader("pxelinux.0", "usr/lib/PXELINUX/pxelinux.0", "pxelinux"),
        Loader("lpxelinux.0", "usr/lib/PXELINUX/lpxelinux.0", "pxelinux"),
        Loader("ldlinux.c32", "usr/lib/syslinux/modules/bios/ldlinux.c32", "syslinux-common"),
        # shim looks for GRUB in the root of the server, wherever itself came from.
        Loader("shimx64.efi", "usr/lib/shim/shimx64.efi.signed", "shim-signed"),
        Loader("grubx64.efi", "usr/lib/grub/x86_64-efi-signed/grubnetx64.efi.signed", "grub-efi-amd64-signed"),
        Loader("snponly.efi", "usr/lib/ipxe/snponly.efi", "ipxe"),
        Loader("ipxe.lkrn", "usr/lib/ipxe/ipxe.lkrn", "ipxe"),
    ),
}


@dataclass(frozen=True)
class Client:
    """A kind of machine by DHCP option 93, and what it gets; ``etherboot`` where the node asks for iPXE."""

    tag: str
    number: int
    loader: str
    etherboot: str = ""
    http: bool = False


# Numbers: IANA, "Processor Architecture Types" of DHCPv6/DHCP option 93. 7 is what many firmwares say for 9.
CLIENTS = (
    Client("bios", 0, BIOS),
    Client("efi64", 7, "shimx64.efi", "snponly.efi"),
    Client("efi64", 9, "shimx64.efi", "snponly.efi"),
    Client("http64", 16, "shimx64.efi", http=True),
)


def installed(root: Path, architecture: str = "amd64") -> dict[str, Path]:
    """Return the loaders by their names in the tree, from the packages below ``root``; Error names what is missing."""
    found = {}
    for loader in LOADERS.get(architecture, ()):
        path = root / loader.path
        if not path.is_file():
            raise Error(f"{path}: not there", hint=f"apt install {loader.package}")
        found[loader.name] = path
    if not found:
        raise Error(f"{architecture}: no boot loaders known (known: {', '.join(LOADERS)})")
    return found
