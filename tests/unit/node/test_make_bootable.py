"""make-bootable: what it refuses before it writes, and what it puts where, with a directory for the device's filesystem."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from openssi.cluster import localboot
from openssi.cluster.state import Cluster, Settings
from openssi.cluster.table import Node
from openssi.netboot.images import Image

ROOT = Path(__file__).resolve().parents[3]
PROGRAM = ROOT / "node/usr/lib/openssi/make-bootable"
ESP = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
LINUX = "0fc63daf-8483-4772-8e79-3d69d8477de4"
SHIM = "usr/lib/shim/shimx64.efi.signed"
GRUB = "usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed"
BIOS_GRUB = "usr/lib/grub/i386-pc"

# The programs that ask or change a device; the device's filesystem is the directory $DISK.
STUBS = {
    "findfs": '[ "$1" = UUID=ABCD-1234 ] && echo /dev/sda1',
    "lsblk": "case $5 in /dev/sda1) echo sda ;; /dev/sda) ;; *) exit 32 ;; esac",
    "blkid": '[ -z "$(eval echo "\\$$3")" ] || eval echo "\\$$3"',
    "mount": 'rmdir "$4"; ln -s "$DISK" "$4"',
    "umount": 'rm "$1"; mkdir "$1"',
    "grub-install": 'echo "grub-install $*" >>"$LOG"; exit "$FAILS"',
    "mv": 'echo "mv ${2#*openssi-boot.*/}" >>"$LOG"; exec /bin/mv "$@"',
}


@dataclass(frozen=True)
class Bench:
    """A node's root and its disk; the node started by UEFI when /sys/firmware/efi is there."""

    directory: Path

    @property
    def root(self) -> Path:
        return self.directory / "root"

    @property
    def disk(self) -> Path:
        return self.directory / "disk"

    def uefi(self) -> None:
        (self.root / "sys/firmware/efi").mkdir(parents=True)

    def call(self, *words: str | Path, filesystem: str = "vfat", kind: str = ESP, **more: str) -> tuple[int, list[str]]:
        """Return the exit status and what was said."""
        environment = {
            **os.environ, "PATH": f"{self.directory / 'bin'}:{os.environ['PATH']}", "OPENSSI_ROOT": str(self.root),
            "DISK": str(self.disk), "LOG": str(self.directory / "log"), "FAILS": "0", "TYPE": filesystem,
            "PART_ENTRY_TYPE": kind, "PART_ENTRY_NUMBER": "1", "UUID": "ABCD-1234", **more,
        }  # fmt: skip
        done = subprocess.run(
            [PROGRAM, *words], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=20
        )
        assert list((self.root / "run").iterdir()) == []
        return done.returncode, done.stdout.splitlines()

    def names(self) -> set[str]:
        return {str(path.relative_to(self.disk)) for path in self.disk.rglob("*") if path.is_file()}

    def log(self) -> list[str]:
        path = self.directory / "log"
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    made = Bench(tmp_path)
    for directory in ("bin", "disk", "root/run", "root/boot", f"root/{BIOS_GRUB}"):
        (tmp_path / directory).mkdir(parents=True)
    for name, text in STUBS.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    for name in (SHIM, GRUB, "boot/vmlinuz-6.12.2", "boot/openssi-initrd.img-6.12.2"):
        (made.root / name).parent.mkdir(parents=True, exist_ok=True)
        (made.root / name).write_text(f"{name}\n")
    return made


@pytest.fixture
def files(bench: Bench) -> list[Path]:
    """The words behind the device: GRUB's configuration, as ssi-ksync writes it, the kernel and its initrd."""
    node = Node(2, "10.0.0.2", "52:54:00:00:00:02", "P", bootdev="UUID=ABCD-1234")
    settings = Settings(
        interconnect="10.0.0.0/24", service_address="10.0.0.254", pool=("10.0.0.128", "10.0.0.200"), interface="eth1"
    )
    cluster = Cluster(bench.root, "lab", (Node(1, "10.0.0.1", "52:54:00:00:00:01", "P", initnode=True), node), settings)
    image = Image("6.12.2", bench.root / "boot/vmlinuz-6.12.2", bench.root / "boot/openssi-initrd.img-6.12.2")
    path = bench.directory / "grub.cfg"
    path.write_text(localboot.configuration(cluster, node, [image]))
    return [path, image.kernel, image.initrd]


@pytest.mark.parametrize(
    ("device", "says"),
    [
        ("/dev/sdb1", "/dev/sdb1: no block device here"),
        ("/dev/sda", "/dev/sda: expected a partition of a disk, not a whole disk"),
        ("UUID=0-0-0", "UUID=0-0-0: no filesystem of that name here"),
    ],
)
def test_what_is_no_partition_here_is_refused(device: str, says: str, bench: Bench) -> None:
    assert bench.call("--check", device) == (1, [f"make-bootable: {says}"])


@pytest.mark.parametrize(
    ("uefi", "filesystem", "kind", "says"),
    [
        (True, "ext4", LINUX, "no EFI system partition, and this machine started by UEFI; make it one (its content goes): "
         "sfdisk --part-type /dev/sda 1 U; mkfs.vfat -F 32 /dev/sda1"),
        (True, "vfat", "0xc", "no EFI system partition, and this machine started by UEFI; make it one (its content goes): "
         "sfdisk --part-type /dev/sda 1 U; mkfs.vfat -F 32 /dev/sda1"),
        (True, "ext4", ESP, "UEFI reads FAT alone, not ext4; make it: mkfs.vfat -F 32 /dev/sda1"),
        (True, "", "0xef", "UEFI reads FAT alone, not an empty partition; make it: mkfs.vfat -F 32 /dev/sda1"),
        (False, "vfat", ESP, "an EFI system partition, but this machine started by BIOS; let it start by UEFI first "
         "(see its setup), or take another partition, with ext4"),
        (False, "", LINUX, "no filesystem there; make one: mkfs.ext4 /dev/sda1"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("check", [True, False], ids=["checked", "written"])
def test_a_partition_that_the_firmware_does_not_start_from_is_refused_before_anything_is_written(
    uefi: bool, filesystem: str, kind: str, says: str, check: bool, bench: Bench, files: list[Path]
) -> None:
    if uefi:
        bench.uefi()
    words = ["--check", "/dev/sda1"] if check else ["/dev/sda1", *files]
    assert bench.call(*words, filesystem=filesystem, kind=kind) == (1, [f"make-bootable: /dev/sda1: {says}"])
    assert (bench.names(), bench.log()) == (set(), [])


@pytest.mark.parametrize(
    ("uefi", "path", "package"),
    [
        (True, SHIM, "shim-signed"),
        (True, GRUB, "grub-efi-amd64-signed"),
        (False, BIOS_GRUB, "grub-pc-bin grub2-common"),
    ],
)
def test_a_loader_that_is_not_installed_is_named_with_its_package(
    uefi: bool, path: str, package: str, bench: Bench
) -> None:
    if uefi:
        bench.uefi()
    place = bench.root / path
    place.rmdir() if place.is_dir() else place.unlink()
    said = bench.call("--check", "/dev/sda1", kind=ESP if uefi else LINUX)
    assert said == (1, [f"make-bootable: {place}: not there; apt install {package}"])


@pytest.mark.parametrize("loader", ["EFI/debian/grub.cfg", "EFI/BOOT/BOOTX64.EFI"])
def test_the_boot_loader_of_another_system_stays(loader: str, bench: Bench, files: list[Path]) -> None:
    bench.uefi()
    (bench.disk / loader).parent.mkdir(parents=True)
    (bench.disk / loader).write_text("search.fs_uuid 1 root\n")
    for words in (["--check", "/dev/sda1"], ["/dev/sda1", *files]):
        status, said = bench.call(*words)
        assert status == 1
        assert said == [
            f"make-bootable: /dev/sda1: has the boot loader of another system, {loader}; take another partition, or "
            "make this one anew: mkfs.vfat -F 32 /dev/sda1"
        ]
    assert bench.names() == {loader}


def test_a_check_says_the_uuid_and_writes_nothing(bench: Bench) -> None:
    assert bench.call("--check", "/dev/sda1", filesystem="ext4", kind=LINUX) == (0, ["ABCD-1234"])
    bench.uefi()
    assert bench.call("--check", "UUID=ABCD-1234") == (0, ["ABCD-1234"])
    assert bench.call("--check", "/dev/sda1", kind="0xef") == (0, ["ABCD-1234"])
    assert bench.names() == set()


def test_uefi_gets_debians_signed_loaders_and_the_name_that_the_firmware_looks_for_last(
    bench: Bench, files: list[Path]
) -> None:
    bench.uefi()
    (bench.disk / "vmlinuz-6.1.1").touch()
    status, said = bench.call("UUID=ABCD-1234", *files)
    assert (status, said[-1]) == (0, "removed vmlinuz-6.1.1")
    assert bench.log() == [
        "mv vmlinuz-6.12.2", "mv openssi-initrd.img-6.12.2",
        "mv EFI/BOOT/grubx64.efi", "mv EFI/debian/grub.cfg", "mv EFI/BOOT/BOOTX64.EFI",
    ]  # fmt: skip
    assert bench.names() == {line.removeprefix("mv ") for line in bench.log()}
    assert (bench.disk / "EFI/BOOT/BOOTX64.EFI").read_text() == f"{SHIM}\n"
    assert (bench.disk / "EFI/BOOT/grubx64.efi").read_text() == f"{GRUB}\n"
    assert bench.call("UUID=ABCD-1234", *files) == (0, [])
    (bench.root / GRUB).write_text("newer\n")
    assert bench.call("UUID=ABCD-1234", *files) == (0, ["copied grubx64.efi"])


def test_what_was_interrupted_is_finished_by_the_next_run(bench: Bench, files: list[Path]) -> None:
    bench.uefi()
    (bench.directory / "bin/mv").write_text('#!/bin/sh\ncase $2 in *BOOTX64.EFI) exit 1 ;; esac\nexec /bin/mv "$@"\n')
    assert bench.call("/dev/sda1", *files)[0] == 1
    (bench.directory / "bin/mv").unlink()
    assert bench.call("/dev/sda1", *files) == (0, ["copied BOOTX64.EFI"])


def test_a_full_device_keeps_what_it_has(bench: Bench, files: list[Path]) -> None:
    bench.uefi()
    assert bench.call("/dev/sda1", *files)[0] == 0
    before = bench.names()
    (bench.root / "boot/openssi-initrd.img-6.12.2").write_text("bigger\n")
    (bench.directory / "bin/cp").write_text('#!/bin/sh\nhead -c 3 "$1" >"$2"\necho "cp: No space left" >&2\nexit 1\n')
    (bench.directory / "bin/cp").chmod(0o755)
    status, said = bench.call("/dev/sda1", *files)
    assert status == 1
    assert said[-1].endswith("/dev/sda1: no room for openssi-initrd.img-6.12.2, or it can't be written")
    assert bench.names() == before
    assert (bench.disk / "openssi-initrd.img-6.12.2").read_text() == "boot/openssi-initrd.img-6.12.2\n"


def test_bios_gets_grub_in_the_boot_record(bench: Bench, files: list[Path]) -> None:
    status, said = bench.call("/dev/sda1", *files, filesystem="ext4", kind=LINUX)
    assert (status, said[-1]) == (0, "copied grub.cfg")
    assert bench.names() == {"vmlinuz-6.12.2", "openssi-initrd.img-6.12.2", "grub/grub.cfg"}
    (call,) = (line for line in bench.log() if line.startswith("grub-install"))
    assert call.startswith("grub-install --target=i386-pc --boot-directory=") and call.endswith(" /dev/sda")
    status, said = bench.call("/dev/sda1", *files, filesystem="ext4", kind=LINUX, FAILS="1")
    assert (status, said[-1].startswith("make-bootable: /dev/sda1: grub-install: ")) == (1, True)
