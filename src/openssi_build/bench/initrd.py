"""`inv bench initrd`: mkinitrd beside mkinitramfs and dracut, in one chroot, with one list of drivers and one firmware."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from openssi import files
from openssi.kernel.modules import Modules, modules
from openssi.qemu import Machine, qemu_command
from openssi_build import apt, images, kernels
from openssi_build.bench.measure import Row, Sample, interleaved, median_cpu, once, show
from openssi_build.chroot import Chroot, base
from openssi_build.settings import Initrd, Settings

# The list with which the peers were measured first.
DRIVERS = ("e1000", "e1000e", "igb", "ixgbe", "r8169", "tg3", "bnx2", "virtio_net")
_NFS = ("nfs", "nfsv4")
_PACKAGES = (
    "busybox-static", "dracut-core", "dracut-network", "initramfs-tools", "iproute2", "isc-dhcp-client", "kmod",
    "nfs-common", "python3", "python3-zstandard", "udev", "zstd",
)  # fmt: skip
_SCRATCH = "srv/bench"
# Drivers to add one after the other: a list that changes.
_MORE = ("atlantic", "vmxnet3", "pcnet32", "e100", "8139cp", "sky2", "skge", "forcedeth", "via_rhine", "sis900")
_FIFTY = """
import sys, time
from pathlib import Path
from openssi.initrd import build, drivers
from openssi.kernel.modules import modules
root, version, names = Path("/"), sys.argv[1], sys.argv[2:]
kernel = modules(root, version)
firmware = tuple(build.firmware_directories(root, kernel))
for number in range(50):
    text = "\\n".join([*names[:8], names[8 + number]])
    chosen = drivers.choose(drivers.parse(text, "list"), kernel)
    inputs = build.Inputs(kernel, chosen, build.busybox(root), Path("/usr/share/openssi/initrd"), firmware,
                          cache=Path("/srv/bench/fifty"))
    build.build(inputs, Path(f"/srv/bench/fifty-{number}.img"))
"""
_MEMORY = """
import runpy, sys
sys.argv = ["mkinitrd", *sys.argv[1:]]
try:
    runpy.run_path("/usr/sbin/mkinitrd", run_name="__main__")
except SystemExit as end:
    assert not end.code, end
print(open("/proc/self/status").read())
"""
_CLOSURE = """
import sys
from pathlib import Path
from openssi.kernel.modules import modules
kernel = modules(Path("/"), sys.argv[1])
for name in kernel.dependencies:
    kernel.closure([name])
"""
_IDS = """
import sys, time
from pathlib import Path
from openssi.kernel.modules import modules
begin = time.process_time()
kernel = modules(Path("/"), sys.argv[1])
assert kernel.of_device(0x8086, 0x100e) == ("e1000",)
print(time.process_time() - begin)
"""


@dataclass(frozen=True)
class _Peers:
    """The chroot with everything in it, and what the kernel in it is called."""

    chroot: Chroot
    version: str

    def cost(self, *argv: str) -> Sample:
        """Return what ``argv`` costs in the chroot."""
        return once(self.chroot.command(argv))

    def ours(self, directory: str, *, warm: bool = False) -> Sample:
        """Return what mkinitrd costs with the list in ``directory``, with its cache or without."""
        if not warm:
            shutil.rmtree(self.chroot.path / "var/cache/openssi/initrd", ignore_errors=True)
            (self.chroot.path / "var/cache/openssi/initrd").mkdir(parents=True)
        return self.cost(
            "mkinitrd", "-q", "-d", f"/{_SCRATCH}/{directory}", "-o", f"/{_SCRATCH}/ours.img", self.version
        )

    def size(self, image: str) -> int:
        """Return the bytes of an image."""
        return (self.chroot.path / _SCRATCH / image).stat().st_size


def run(root: Path, cache: Path, settings: Settings, *, times: int = 3) -> bool:
    """Measure and print the table; return True when every bar is met."""
    mirror = apt.mirror(settings.repository)
    kernel = kernels.qualified(root, cache, mirror=mirror)
    tarball = base(cache, settings.repository.suite, _PACKAGES, mirror=mirror)
    with Chroot(tarball) as chroot, tempfile.TemporaryDirectory(prefix="openssi-bench-") as scratch:
        peers = _Peers(chroot, kernel.abi)
        _furnish(root, cache, chroot, kernel, mirror)
        rows = [*_builds(peers, times), *_boots(peers, kernel, Path(scratch))]
    show("initrd: processor seconds (less what entering the chroot costs), bytes, MiB", rows)
    return all(row.met for row in rows)


def _furnish(root: Path, cache: Path, chroot: Chroot, kernel: kernels.QualifiedKernel, mirror: apt.Mirror) -> None:
    """Put the kernel, firmware, our mkinitrd and everybody's configuration into the chroot."""
    inputs, _ = images.inputs_of(root, cache, Initrd(), kernel, mirror)
    chroot.copy_in(kernel.tree / "boot", "/boot")
    chroot.copy_in(inputs.kernel.directory, f"/usr/lib/modules/{kernel.abi}")
    for firmware in inputs.firmware:
        chroot.copy_in(firmware, "/usr/lib/firmware")
    chroot.copy_in(root / "src/openssi", "/usr/lib/python3/dist-packages/openssi")
    chroot.copy_in(root / "sbin/mkinitrd", "/usr/sbin/mkinitrd")
    chroot.copy_in(root / "initrd", "/usr/share/openssi/initrd")
    chroot.run(["python3", "-m", "compileall", "-q", "/usr/lib/python3/dist-packages/openssi"])
    scratch = chroot.path / _SCRATCH
    for name, more in (("list", ()), *((f"more-{each}", (each,)) for each in _MORE)):
        (scratch / name).mkdir(parents=True)
        files.write(scratch / name / "modules", "".join(f"{each}\n" for each in (*DRIVERS, *more)))
    shutil.copytree(chroot.path / "etc/initramfs-tools", scratch / "mkinitramfs", symlinks=True)
    files.write(scratch / "mkinitramfs/initramfs.conf", "MODULES=list\nCOMPRESS=zstd\nBUSYBOX=auto\nBOOT=local\n")
    files.write(scratch / "mkinitramfs/modules", "".join(f"{each}\n" for each in (*DRIVERS, *_NFS)))


def _dracut(peers: _Peers, kernel: Modules, image: str, *, generic: bool) -> Callable[[], Sample]:
    argv = ["dracut", "--force", "--quiet", "--no-hostonly", "--kver", peers.version, "--add", "network nfs"]
    if not generic:
        wanted = kernel.closure([*DRIVERS, *_NFS])
        left = " ".join(sorted(set(kernel.dependencies) - set(wanted)))
        argv += ["--omit", "kernel-modules", "--omit-drivers", left, "--add-drivers", " ".join([*DRIVERS, *_NFS])]
    return lambda: peers.cost(*argv, f"/{_SCRATCH}/{image}")


def _builds(peers: _Peers, times: int) -> list[Row]:
    kernel = modules(peers.chroot.path, peers.version)
    conf, image = f"/{_SCRATCH}/mkinitramfs", f"/{_SCRATCH}/mkinitramfs.img"
    runs: dict[str, Callable[[], Sample]] = {
        "nothing": lambda: peers.cost("true"),
        "cold": lambda: peers.ours("list"),
        "mkinitramfs": lambda: peers.cost("mkinitramfs", "-d", conf, "-o", image, peers.version),
    }
    cpu = {name: median_cpu(samples) for name, samples in interleaved(runs, times=times).items()}
    peers.ours("list")
    changed = [peers.ours(f"more-{name}", warm=True) for name in _MORE]
    dracut = {
        name: _dracut(peers, kernel, f"{name}.img", generic=name == "generic")().cpu_s for name in ("same", "generic")
    }
    free = cpu["nothing"]
    peers.ours("list")
    others = sorted(name for name in kernel.dependencies if "drivers/net/ethernet/" in kernel.dependencies[name][0])[
        :50
    ]
    fifty = peers.cost("python3", "-c", _FIFTY, peers.version, *DRIVERS, *others).cpu_s
    closure = peers.cost("python3", "-c", _CLOSURE, peers.version).cpu_s
    first_id = float(peers.chroot.output(["python3", "-c", _IDS, peers.version], timeout=60))
    cold, warm = cpu["cold"] - free, median_cpu(changed) - free
    theirs = cpu["mkinitramfs"] - free
    return [
        Row("cold build", cold, "mkinitramfs list, zstd", theirs, "s", 1 / 6),
        Row("cold build", cold, "dracut, same list", dracut["same"] - free, "s", 1 / 25),
        Row("cold build", cold, "dracut, generic", dracut["generic"] - free, "s", 1 / 60),
        Row("list changed, warm", warm, "mkinitramfs list, zstd", theirs, "s", 1 / 25),
        Row("list changed, warm", warm, "limit", 0.10, "s", 1),
        Row("50 lists, one process", fifty - free, "limit", 5, "s", 1),
        Row("closure of all modules", closure - free, "limit", 0.5, "s", 1),
        Row("first PCI id to its module", first_id, "limit", 0.02, "s", 1),
        Row("image", peers.size("ours.img") / 1e6, "mkinitramfs list, zstd", peers.size("mkinitramfs.img") / 1e6, "MB", 0.35),
        Row("image", peers.size("ours.img") / 1e6, "dracut, same list", peers.size("same.img") / 1e6, "MB"),
        Row("peak memory, cold", _peak(peers), "limit", 80, "MiB", 1),
    ]  # fmt: skip


def _peak(peers: _Peers) -> float:
    """Return the largest resident size of a cold build, as the process itself reads it, in MiB."""
    shutil.rmtree(peers.chroot.path / "var/cache/openssi/initrd")
    argv = ["python3", "-c", _MEMORY, "-q", "-d", f"/{_SCRATCH}/list", "-o", f"/{_SCRATCH}/ours.img", peers.version]
    said = peers.chroot.output(argv, timeout=300).decode()
    found = re.search(r"VmHWM:\s*(\d+) kB", said)
    assert found, said
    return int(found[1]) / 1024


def _boots(peers: _Peers, kernel: kernels.QualifiedKernel, directory: Path) -> list[Row]:
    """Boot both images by iPXE over TFTP to a lease; the processor time of qemu from iPXE's hand-over on."""
    shutil.copy(kernel.vmlinuz, directory / "vmlinuz")
    ours = "ssi.node=1 ssi.server=192.0.2.1"
    theirs = "boot=nfs ip=dhcp root=/dev/nfs nfsroot=192.0.2.1:/"
    cost = {
        "ours": _boot(peers, directory, "ours.img", ours, r"interconnect up: \S+"),
        "theirs": _boot(peers, directory, "mkinitramfs.img", theirs, r"IP-Config: \S+ complete"),
    }
    return [Row("iPXE to DHCP lease", cost["ours"], "mkinitramfs list, zstd", cost["theirs"], "s", 0.6)]


def _boot(peers: _Peers, directory: Path, image: str, arguments: str, lease: str) -> float:
    shutil.copy(peers.chroot.path / _SCRATCH / image, directory / "initrd.img")
    files.write(
        directory / "boot.ipxe",
        "#!ipxe\n"
        f"kernel vmlinuz initrd=initrd.img console=ttyS0 {arguments}\n"
        "initrd initrd.img\necho HANDING OVER\nboot\n",
        durable=False,
    )
    argv = [
        *qemu_command("bench", memory_mib=768, machine="q35,graphics=off"),
        "-netdev", f"user,id=net,restrict=on,tftp={directory},bootfile=boot.ipxe",
        "-device", "virtio-net-pci,netdev=net,bootindex=1", "-boot", "n",
    ]  # fmt: skip
    with Machine("bench", argv, directory) as machine:
        machine.wait("HANDING OVER", 180)
        begin = machine.cpu_seconds()
        machine.wait(lease, 300, fail="Kernel panic")
        return machine.cpu_seconds() - begin
