"""A node starts from its own disk: Debian makes the disk bootable, the firmware finds GRUB there, with kernel and initrd."""

from __future__ import annotations

import re
import shutil
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import needs
from netboots import NODES, TIMEOUT, Made, card, machine, uefi, up

from openssi import run
from openssi.cluster import localboot
from openssi.cluster.state import Cluster, Settings
from openssi.cluster.table import Node
from openssi.netboot import images
from openssi.qemu import Machine
from openssi_build import apt
from openssi_build.lab import image
from openssi_build.lab.netboot import Server, netdev

pytestmark = pytest.mark.boot

ROW = NODES["virtio-net-pci"]
NEWER = "99.0"
_MAKE = "/new/make-bootable"


@dataclass(frozen=True)
class Kernels:
    """What Debian is given: a tree with make-bootable, kernels in /boot and GRUB's configurations of node ROW."""

    tree: Path
    version: str

    def configure(self, name: str) -> str:
        """Write the configuration for the kernels in /boot as ``name``; return make-bootable's words behind the device."""
        first = Node(1, "10.9.0.1", "52:54:00:09:00:01", "P", initnode=True)
        node = Node(ROW.number, ROW.ip, ROW.mac, "P", bootdev="/dev/vdb1")
        settings = Settings(
            interconnect="10.9.0.0/24", service_address="10.9.0.1", pool=("10.9.0.192", "10.9.0.254"),
            interface="eth0", kernel_arguments="console=ttyS0,115200",
        )  # fmt: skip
        found = images.installed(self.tree)
        text = localboot.configuration(Cluster(self.tree, "lab", (first, node), settings), node, found)
        (self.tree / name).write_text(text)
        files = [each.name for one in found for each in (one.kernel, one.initrd)]
        return " ".join([f"/new/{name}", *(f"/new/boot/{each}" for each in files)])

    def copied(self, *loaders: str) -> list[str]:
        """Return what make-bootable says when all is new."""
        return [f"copied {name}" for name in (f"vmlinuz-{self.version}", f"{images.INITRD}{self.version}", *loaders)]


@dataclass(frozen=True)
class Maker:
    """Debian with ``kernels`` in /new, which starts with a shell and nothing else to make disks bootable."""

    kernels: Kernels
    plain: Path  # its own disk
    directory: Path
    first: str  # make-bootable's words for the kernel, and when there is a newer one
    second: str

    @contextmanager
    def working_on(self, disk: Path, firmware: Sequence[str]) -> Iterator[Machine]:
        """Start it by ``firmware``; ``disk``, made when it is not there, is /dev/vdb."""
        if not disk.exists():
            with disk.open("wb") as stream:
                stream.truncate(400 << 20)
        payload = self.directory / "payload.tar"
        (kernel,), (initrd,) = (self.directory.glob(f"boot/{name}-*") for name in ("vmlinuz", "initrd.img"))
        drives = ((self.plain, "snapshot=on"), (disk, "cache=writeback"), (payload, "readonly=on"))
        words = [word for path, how in drives for word in ("-drive", f"if=virtio,format=raw,file={path},{how}")]
        argv = machine(
            "debian", *firmware, *words, "-kernel", kernel, "-initrd", initrd,
            "-append", "root=LABEL=root rw console=ttyS0 quiet init=/bin/sh", memory_mib=1024, kind="q35",
        )  # fmt: skip
        with Machine("debian", argv, disk.parent) as debian:
            debian.wait("# $", TIMEOUT, fail="Kernel panic")
            # without prompt and echo, which come in any order
            said(
                debian,
                "PS1=; stty -echo; mount -t proc proc /proc; mount -t sysfs sysfs /sys; mount -t tmpfs tmpfs /run",
            )
            said(debian, "mkdir /new && tar -x -C /new -f /dev/vdc && dpkg -i /new/*.deb")
            yield debian


def said(debian: Machine, line: str, *, status: int = 0) -> list[str]:
    """Return the lines that ``line`` says on the console, without empty ones: the end of the one before may be late."""
    ended, text = debian.command(line, TIMEOUT)
    assert ended == status, text
    return [each for each in text.splitlines() if each]


def refused(debian: Machine, device: str) -> str:
    """Return why make-bootable does not take ``device``."""
    (line,) = said(debian, f"{_MAKE} --check {device}", status=1)
    return line.removeprefix(f"make-bootable: {device}: ")


@pytest.fixture(scope="module")
def maker(served: Made, root: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Maker:
    needs("mmdebstrap", "debugfs")
    directory = tmp_path_factory.mktemp("debian")
    boot = directory / "payload/boot"
    boot.mkdir(parents=True)
    (kernel,), (initrd,) = (served.tree.glob(f"boot/{kind}-*") for kind in ("vmlinuz", "initrd"))
    version = kernel.name.removeprefix("vmlinuz-").rpartition("-")[0]
    kernels = Kernels(boot.parent, version)
    shutil.copy(root / "node/usr/lib/openssi/make-bootable", kernels.tree)
    debs = apt.Apt(cache, "trixie", "amd64", apt.host_mirror()).download(["dosfstools"])
    shutil.copy(debs["dosfstools"], kernels.tree)
    words = []
    for name in (version, NEWER):
        shutil.copy(kernel, boot / f"vmlinuz-{name}")
        shutil.copy(initrd, boot / f"{images.INITRD}{name}")
        words.append(kernels.configure(f"{name}.cfg"))
    with tarfile.open(directory / "payload.tar", "w") as archive:
        archive.add(kernels.tree, ".")
    plain = image.disk(cache, image.Machine(), log_to=directory / "disk.log")
    run.run(["debugfs", "-R", f"rdump /boot {directory}", f"{plain}?offset={image.OFFSET}"])
    return Maker(kernels, plain, directory, *words)


@pytest.fixture(scope="module")
def cut(maker: Maker, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The disk of a UEFI machine that starts a kernel, and was to get a newer one when the power failed."""
    disk = tmp_path_factory.mktemp("uefi") / "disk.img"
    with maker.working_on(disk, uefi(disk.parent)) as debian:
        said(debian, r"printf 'label: gpt\nsize=200M,type=U\nsize=50M,type=L\ntype=U\n' | sfdisk -q /dev/vdb")
        said(debian, "mkfs.vfat -F 32 /dev/vdb1 && mkfs.ext4 -q /dev/vdb2 && mkfs.vfat /dev/vdb3")
        remedy = refused(debian, "/dev/vdb2").removeprefix(
            "no EFI system partition, and this machine started by UEFI; make it one (its content goes): "
        )
        said(debian, remedy)
        assert len(said(debian, f"{_MAKE} --check /dev/vdb2")) == 1
        said(debian, "mount /dev/vdb3 /mnt && mkdir -p /mnt/efi/boot && echo >/mnt/efi/boot/bootx64.efi && umount /mnt")
        assert refused(debian, "/dev/vdb3").startswith("has the boot loader of another system, EFI/BOOT/BOOTX64.EFI")
        (uuid,) = said(debian, f"{_MAKE} --check /dev/vdb1")
        make = f"{_MAKE} UUID={uuid}"
        assert said(debian, f"{make} {maker.first}") == maker.kernels.copied("grubx64.efi", "grub.cfg", "BOOTX64.EFI")
        assert said(debian, f"{make} {maker.first}") == []
        debian.send(f"{make} {maker.second}\n")
        debian.wait(f"copied vmlinuz-{NEWER}", TIMEOUT)
        debian.kill()
    return disk


def starts(server: Server, disk: Path, firmware: Sequence[str], version: str, *, kind: str = "q35") -> str:
    """Wait until the node has come from ``disk`` with Linux ``version`` to its root; return all that it said."""
    drive = ["-drive", f"if=none,id=disk,format=raw,snapshot=on,file={disk}"]
    words = [*firmware, *drive, "-device", "virtio-blk-pci,drive=disk,bootindex=0", *netdev()]
    argv = machine("node", *words, *card("virtio-net-pci", ROW.mac, "romfile="), memory_mib=1024, kind=kind)
    with server.machine("node", argv) as node:
        # said twice: a busy serial line may lose a letter
        node.wait(rf"ommand line: BOOT_IMAGE=\S*/vmlinuz-{re.escape(version)} ", TIMEOUT)
        node.wait(up(ROW), TIMEOUT)
        assert "DHCPACK" not in server.log.read_text()
        return node.text


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "secure-boot"])
def test_a_uefi_machine_starts_from_its_own_disk_also_after_a_power_cut(
    secure: bool, maker: Maker, cut: Path, server: Server
) -> None:
    firmware = uefi(server.directory, secure=secure)
    text = starts(server, cut, firmware, maker.kernels.version, kind="q35,smm=on" if secure else "q35")
    assert ("Kernel is locked down" in text) == secure


def test_what_the_power_cut_left_undone_is_done_by_the_next_run(
    maker: Maker, cut: Path, server: Server, tmp_path: Path
) -> None:
    disk = tmp_path / "disk.img"
    shutil.copy(cut, disk)
    with maker.working_on(disk, uefi(tmp_path)) as debian:
        assert said(debian, f"{_MAKE} /dev/vdb1 {maker.second}")[-1] == "copied grub.cfg"
        said(debian, "mount /dev/vdb1 /mnt")
        names = {
            f"{kind}{version}" for kind in ("vmlinuz-", images.INITRD) for version in (maker.kernels.version, NEWER)
        }
        assert set(said(debian, "ls -1 /mnt")) == {"EFI", *names}
        debian.kill()
    starts(server, disk, uefi(server.directory), NEWER)


def test_a_bios_machine_starts_from_its_own_disk(maker: Maker, server: Server, tmp_path: Path) -> None:
    disk = tmp_path / "disk.img"
    with maker.working_on(disk, []) as debian:
        said(debian, r"printf 'label: dos\nsize=200M,type=83\ntype=U\n' | sfdisk -q /dev/vdb")
        said(debian, "mkfs.ext4 -q /dev/vdb1 && mkfs.vfat -F 32 /dev/vdb2")
        assert refused(debian, "/dev/vdb2").startswith("an EFI system partition, but this machine started by BIOS")
        assert said(debian, f"{_MAKE} /dev/vdb1 {maker.first}") == maker.kernels.copied("grub.cfg")
        debian.kill()
    starts(server, disk, [], maker.kernels.version)
