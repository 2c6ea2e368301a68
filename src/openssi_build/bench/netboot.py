"""`inv bench netboot`: the same boot over the network with our image and with Debian's, and each way to our image."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from openssi import files
from openssi.netboot import loaders, sync, tree
from openssi.netboot.images import Image
from openssi.netboot.network import network
from openssi.qemu import qemu_command
from openssi_build import apt, images, kernels, netboot
from openssi_build.bench.measure import Row, show
from openssi_build.chroot import Chroot, base
from openssi_build.lab.netboot import TAP, Server, netdev
from openssi_build.settings import Settings

_PACKAGES = ("busybox-static", "initramfs-tools", "kmod", "nfs-common", "udev", "zstd")
_FIRMWARE = Path("/usr/share/OVMF")
_INIT = "Run /init as init process"
_LEASE = r"ssi: interconnect up: \S+"
_TIMEOUT = 900


@dataclass(frozen=True)
class _Node:
    number: int = 2
    ip: str = "10.9.0.2"
    mac: str = "52:54:00:09:00:02"
    protocol: str = "P"


@dataclass(frozen=True)
class _Way:
    """One way to boot: the loader that BIOS machines get, the line that says that it has started, the machine."""

    name: str
    starts: str
    bios: str = loaders.BIOS
    ipxe: bool = False
    uefi: str = ""  # "tftp" or "http"


WAYS = (
    _Way("pxelinux, TFTP", "PXELINUX"),
    _Way("lpxelinux, HTTP", "PXELINUX", bios=loaders.BIOS_HTTP),
    _Way("iPXE, HTTP", r"boot\.ipxe", ipxe=True),
    _Way("UEFI, shim and GRUB, TFTP", "Fetching Netboot Image", uefi="tftp"),
    _Way("UEFI, shim and GRUB, HTTP", "Fetching Netboot Image", uefi="http"),
)


def run(root: Path, cache: Path, settings: Settings) -> bool:
    """Measure and print the table; return True when every bar is met."""
    mirror = apt.mirror(settings.repository)
    kernel = kernels.qualified(root, cache, mirror=mirror)
    with tempfile.TemporaryDirectory(prefix="openssi-bench-") as name:
        work = Path(name)
        made = images.build_all(root, cache, settings, out=work / "initrd", say=lambda _: None)[0]
        found = netboot.fetch(cache, settings.repository.suite, "amd64", mirror)
        ours = _serve(work / "ours", made.netboot, found.tree)
        debian = _serve(work / "debian", _debian(cache, settings, kernel, mirror, work), found.tree)
        first = WAYS[0]
        mine, theirs = (_boot(work / each, server, first, "", _INIT) for each, server in
                        (("ours", ours), ("debian", debian)))  # fmt: skip
        rows = [Row("power on to init, PXE", mine, "mkinitramfs MODULES=netboot", theirs, "s", 0.6)]
        cost = {way.name: _boot(work / "ours", ours, way, way.starts, _LEASE) for way in WAYS}
        rows += [Row(f"{way}: loader to lease", each, first.name, cost[first.name], "s") for way, each in cost.items()]
    show("netboot: processor seconds of qemu", rows)
    return all(row.met for row in rows)


def _debian(cache: Path, settings: Settings, kernel: kernels.QualifiedKernel, mirror: apt.Mirror, work: Path) -> Image:
    """Return the kernel with the image that Debian's mkinitramfs makes for machines without a disk."""
    tarball = base(cache, settings.repository.suite, _PACKAGES, mirror=mirror)
    with Chroot(tarball) as chroot:
        chroot.copy_in(kernel.tree / "boot", "/boot")
        chroot.copy_in(kernel.tree / "usr/lib/modules" / kernel.abi, f"/usr/lib/modules/{kernel.abi}")
        directory = chroot.path / "srv/conf"
        shutil.copytree(chroot.path / "etc/initramfs-tools", directory, symlinks=True)
        files.write(directory / "initramfs.conf", "MODULES=netboot\nCOMPRESS=zstd\nBUSYBOX=auto\nBOOT=nfs\n")
        chroot.run(["mkinitramfs", "-d", "/srv/conf", "-o", "/srv/initrd", kernel.abi])
        initrd = work / "debian.img"
        shutil.copyfile(chroot.path / "srv/initrd", initrd)
    return Image(kernel.abi, kernel.vmlinuz, initrd)


def _serve(directory: Path, image: Image, packages: Path) -> Server:
    on = network(TAP, "10.9.0.1/24", arguments="console=ttyS0,115200")
    plan = tree.plan(on, [_Node()], [image], loaders.installed(packages))
    sync.sync(directory / "tree", plan)
    return Server(on, directory / "tree", directory / "server")


def _boot(work: Path, server: Server, way: _Way, begin: str, end: str) -> float:
    """Return the processor seconds of qemu between the lines ``begin`` (empty: power on) and ``end``."""
    server.prepare([_Node()], bios=way.bios, ipxe=way.ipxe)
    if way.uefi:
        variables = work / "variables.fd"
        shutil.copyfile(_FIRMWARE / "OVMF_VARS_4M.fd", variables)
        words = ["-drive", f"if=pflash,format=raw,readonly=on,file={_FIRMWARE}/OVMF_CODE_4M.fd",
                 "-drive", f"if=pflash,format=raw,file={variables}",
                 "-fw_cfg", "name=opt/org.tianocore/IPv6PXESupport,string=n"]  # fmt: skip
        if way.uefi == "http":
            words += ["-fw_cfg", "name=opt/org.tianocore/IPv4PXESupport,string=n"]
    else:
        words = ["-boot", "n"]
    card = f"virtio-net-pci,netdev=net,mac={_Node.mac},bootindex=0" + (",romfile=" if way.uefi else "")
    kind = "q35" if way.uefi else "q35,graphics=off"
    argv = [*qemu_command("bench", memory_mib=1024, machine=kind), *words, *netdev(), "-device", card]
    with server.machine("bench", argv) as machine:
        before = 0.0
        if begin:
            machine.wait(begin, _TIMEOUT)
            before = machine.cpu_seconds()
        machine.wait(end, _TIMEOUT, fail="Kernel panic")
        return machine.cpu_seconds() - before
