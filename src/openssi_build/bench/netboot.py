"""`inv bench netboot`: the same boot over the network with our image and with Debian's, and each way to our image."""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from openssi import files
from openssi.netboot import loaders, sync, tree
from openssi.netboot.images import Image
from openssi.netboot.network import network
from openssi.qemu import qemu_command
from openssi_build import apt, images, kernels, netboot
from openssi_build.bench.measure import Row, Sample, interleaved, show
from openssi_build.chroot import Chroot, base
from openssi_build.lab.netboot import TAP, Server, netdev
from openssi_build.settings import Settings

_PACKAGES = ("busybox-static", "initramfs-tools", "kmod", "nfs-common", "udev", "zstd")
_FIRMWARE = Path("/usr/share/OVMF")
_STARTING = "BdsDxe: starting"  # OVMF, with the loader in its memory
_INIT = "Run /init as init process"
_LEASE = r"ssi: interconnect up: \S+"
_TIMEOUT = 300
_MEMORY_MIB = 1024
_BAR = 0.6


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
    _Way("UEFI, shim and GRUB, TFTP", _STARTING, uefi="tftp"),
    _Way("UEFI, shim and GRUB, HTTP", _STARTING, uefi="http"),
)


def run(root: Path, cache: Path, settings: Settings, *, times: int = 3) -> bool:
    """Measure and print the table; return True when every bar is met."""
    mirror = apt.mirror(settings.repository)
    kernel = kernels.qualified(root, cache, mirror=mirror)
    with tempfile.TemporaryDirectory(prefix="openssi-bench-") as name:
        work = Path(name)
        made = images.build_all(root, cache, settings, out=work / "initrd", say=lambda _: None)[0]
        found = netboot.fetch(cache, settings.repository.suite, "amd64", mirror)
        ours = _serve(work / "ours", made.netboot, found.tree)
        debian = _serve(work / "debian", _debian(cache, settings, kernel, mirror, work), found.tree)
        to_init = {
            "ours": lambda: _boot(work / "ours", ours, WAYS[0], "", _INIT),
            "debian": lambda: _boot(work / "debian", debian, WAYS[0], "", _INIT),
        }
        samples = interleaved(to_init, times=times)
        cost = {way.name: _boot(work / "ours", ours, way, way.starts, _LEASE) for way in WAYS}
    rows = _rows("processor", lambda sample: sample.cpu_s, samples, cost, bar=_BAR)
    # A wall clock on a machine that does something else too is no bar.
    rows += _rows("wall", lambda sample: sample.wall_s, samples, cost, bar=None)
    show("netboot", rows)
    return all(row.met for row in rows)


def _rows(
    clock: str,
    seconds: Callable[[Sample], float],
    to_init: Mapping[str, list[Sample]],
    cost: Mapping[str, Sample],
    *,
    bar: float | None,
) -> list[Row]:
    mine, theirs = (statistics.median(seconds(sample) for sample in to_init[name]) for name in ("ours", "debian"))
    first = WAYS[0].name
    ways = [
        Row(f"{way}: loader to lease, {clock}", seconds(sample), first, seconds(cost[first]), "s")
        for way, sample in cost.items()
    ]
    return [Row(f"power on to init, PXE, {clock}", mine, "mkinitramfs MODULES=netboot", theirs, "s", bar), *ways]


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


def _boot(work: Path, server: Server, way: _Way, begin: str, end: str) -> Sample:
    """Return what qemu costs between the lines ``begin`` (empty: power on) and ``end``."""
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
    argv = [*qemu_command("bench", memory_mib=_MEMORY_MIB, machine=kind), *words, *netdev(), "-device", card]
    start = time.monotonic()
    with server.machine("bench", argv) as machine:
        before = 0.0
        if begin:
            machine.wait(begin, _TIMEOUT)
            start, before = time.monotonic(), machine.cpu_seconds()
        machine.wait(end, _TIMEOUT, fail="Kernel panic")
        return Sample(machine.cpu_seconds() - before, time.monotonic() - start, _MEMORY_MIB)
