"""The disk of the lab's first machine: a plain Debian with GRUB in its master boot record, cached by content."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import struct
import tempfile
from dataclasses import dataclass
from pathlib import Path

from openssi import files, run
from openssi.errors import Error
from openssi_build import apt

_SECTOR = 512
_FIRST = 2048  # where the partition starts: the gap before it holds GRUB's core image
OFFSET = _FIRST * _SECTOR  # of the file system, in bytes
_TIMEOUT = 1800

# What an administrator's Debian has, and what the cluster's packages depend on: the machine that installs
# them needs no mirror of Debian then, only our repository.
PACKAGES = (
    "apt-utils",
    "busybox-static",
    "ca-certificates",
    "chrony",
    "cron",
    "dbus",
    "debian-archive-keyring",
    "dnsmasq-base",
    "dosfstools",
    "e2fsprogs",
    "fdisk",
    "grub-efi-amd64-signed",
    "grub-pc-bin",
    "grub2-common",
    "ifupdown",
    "initramfs-tools",
    "iproute2",
    "ipxe",
    "iputils-ping",
    "kmod",
    "less",
    "libpam-systemd",
    "linux-image-amd64",
    "login",
    "nfs-common",
    "nfs-kernel-server",
    "nftables",
    "openssh-client",
    "openssh-server",
    "passwd",
    "procps",
    "psmisc",
    "pxelinux",
    "python3",
    "python3-jinja2",
    "python3-zstandard",
    "serf",
    "shim-signed",
    "syslinux-common",
    "systemd-sysv",
    "udev",
    "zstd",
)

# GRUB's own modules in the core image: enough to read its configuration from the partition.
_GRUB_MODULES = ("biosdisk", "part_msdos", "ext2", "normal", "search", "configfile", "linux", "serial", "terminal")


@dataclass(frozen=True)
class Machine:
    """What the disk holds: the suite, its size, and files to add by path (text by absolute path in the guest)."""

    suite: str = "trixie"
    size_mib: int = 4096
    packages: tuple[str, ...] = PACKAGES

    @property
    def key(self) -> str:
        """The name of the cached image: what went into it."""
        parts = [self.suite, self.size_mib, sorted(self.packages), sorted(guest_files().items()), _customize(self)]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def guest_files() -> dict[str, str]:
    """Return what a person at the installer would have set up, text by path: network, serial console, boot loader.

    The first NIC leads outside (qemu's user network); the second, the interconnect's, is not set up yet.
    """
    return {
        "/etc/fstab": "LABEL=root / ext4 errors=remount-ro,noatime 0 1\n",
        "/etc/hostname": "node1\n",
        "/etc/hosts": "127.0.0.1 localhost\n10.10.0.1 node1\n",
        "/etc/network/interfaces": (
            "source /etc/network/interfaces.d/*\n\nauto lo\niface lo inet loopback\n\n"
            "auto enp0s16\niface enp0s16 inet static\n  address 10.0.2.15/24\n  gateway 10.0.2.2\n\n"
        ),
        "/etc/default/grub": (
            "GRUB_DEFAULT=0\nGRUB_TIMEOUT=0\nGRUB_DISTRIBUTOR=Debian\nGRUB_DISABLE_OS_PROBER=true\n"
            'GRUB_CMDLINE_LINUX_DEFAULT=""\nGRUB_CMDLINE_LINUX="console=ttyS0,115200"\n'
            'GRUB_TERMINAL=serial\nGRUB_SERIAL_COMMAND="serial --speed=115200"\n'
        ),
        # The disk is virtual, so the first image of an installation is small: it boots in half the time.
        "/etc/initramfs-tools/conf.d/lab": "MODULES=list\nCOMPRESS=zstd\nCOMPRESSLEVEL=3\n",
        "/etc/initramfs-tools/modules": "virtio_pci\nvirtio_blk\nvirtio_net\next4\n",
        "/etc/systemd/system/serial-getty@ttyS0.service.d/lab.conf": (
            "[Service]\nExecStart=\n"
            "ExecStart=-/sbin/agetty --autologin root --noclear --keep-baud 115200,57600,38400,9600 - linux\n"
        ),
        "/root/.profile": "PS1='# '\nstty cols 500 2>/dev/null\n",
        "/root/.inputrc": "set enable-bracketed-paste off\n",
    }


def disk(cache: Path, machine: Machine, *, log_to: Path) -> Path:
    """Return the raw disk image of ``machine``, made unless the cache has it: 2-4 minutes and 400 MB of packages."""
    directory = cache / "lab" / machine.key
    image = directory / "disk.img"
    with files.lock(cache / "lab" / f"{machine.key}.lock"):
        if not image.exists():
            _build(machine, directory, log_to)
    return image


def _build(machine: Machine, directory: Path, log_to: Path) -> None:
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="lab.", dir=directory.parent) as name:
        work = Path(name)
        work.chmod(0o755)  # the user namespace's root must reach the files below
        tree = work / "files"
        _lay(guest_files(), tree)
        parts = work / "parts"
        parts.mkdir()
        run.run(mmdebstrap_command(machine, tree, parts), log_to=log_to, timeout=_TIMEOUT)
        image = work / "disk.img"
        assemble(parts, image, machine.size_mib)
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir()
        image.rename(directory / "disk.img")


def _lay(texts: dict[str, str], tree: Path) -> None:
    for path, text in texts.items():
        target = tree / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)


def mmdebstrap_command(machine: Machine, tree: Path, parts: Path) -> list[str | Path]:
    """Return the command that makes ``parts``/{boot.img,core.img,root.zst} of ``machine``, as root or in a user namespace."""
    sources = apt.host_mirror().sources(machine.suite)
    source_file = tree.parent / "sources"
    source_file.write_text(sources)
    return [
        "mmdebstrap",
        "--variant=minbase",
        "--format=null",
        "--architectures=amd64",
        f"--include={','.join(machine.packages)}",
        "--aptopt=Apt::Install-Recommends false",
        "--dpkgopt=path-exclude=/usr/share/doc/*",
        "--dpkgopt=path-exclude=/usr/share/locale/*",
        # before the kernel's scripts run: they make the initramfs from these settings
        f"--essential-hook=tar-in {_tar(tree)} /",
        f"--customize-hook={_customize(machine)}",
        f"--customize-hook=copy-out /lab/boot.img /lab/core.img {parts}",
        f"--customize-hook=download /lab/root.zst {parts / 'root.zst'}",
        machine.suite,
        "-",
        source_file,
    ]  # fmt: skip


def _tar(tree: Path) -> Path:
    archive = tree.parent / "files.tar"
    run.run(["tar", "--create", "--file", archive, "--owner=0", "--group=0", "--directory", tree, "."])
    return archive


def _customize(machine: Machine) -> str:
    """Return the shell line that turns the tree ``$1`` into a bootable file system and GRUB's two images."""
    filesystem_kib = (machine.size_mib - _FIRST * _SECTOR // 2**20) * 1024
    modules = " ".join(_GRUB_MODULES)
    return "; ".join(
        [
            "set -e",
            # the files again: packages may have replaced them
            'chroot "$1" useradd --create-home --shell /bin/bash alice',
            'chroot "$1" passwd --delete root >/dev/null',
            'mkdir -p "$1/boot/grub/i386-pc" "$1/lab"',
            'cp "$1"/usr/lib/grub/i386-pc/*.mod "$1"/usr/lib/grub/i386-pc/*.lst "$1/boot/grub/i386-pc/"',
            'v=$(basename "$1"/boot/vmlinuz-*); v=${v#vmlinuz-}',
            'printf "set root=(hd0,msdos1)\\nlinux /boot/vmlinuz-%s root=LABEL=root ro console=ttyS0,115200\\n'
            'initrd /boot/initrd.img-%s\\nboot\\n" "$v" "$v" >"$1/boot/grub/grub.cfg"',
            'rm -f "$1"/etc/ssh/ssh_host_* "$1/etc/machine-id" "$1"/var/cache/apt/*.bin',
            ': >"$1/etc/machine-id"',
            'chroot "$1" ssh-keygen -A >/dev/null',
            'rm -rf "$1"/var/lib/apt/lists/*',
            # mmdebstrap's own, which it removes after this
            'rm -f "$1/usr/sbin/policy-rc.d" "$1/usr/sbin/start-stop-daemon.REAL"',
            # The trial stays on this machine: the packages that it takes are there, or in our repository.
            'for each in "$1"/etc/apt/sources.list.d/*; do mv "$each" "$1/root/debian.sources"; done',
            'chroot "$1" grub-mkimage --format=i386-pc --prefix="(hd0,msdos1)/boot/grub" '
            f"--output=/lab/core.img {modules}",
            'mv "$1/lab" "$1.lab"',
            'cp "$1/usr/lib/grub/i386-pc/boot.img" "$1.lab/"',
            # a bind mount shows the tree without /proc and the like that are mounted in it now
            'mkdir "$1.lab/tree"; mount --bind "$1" "$1.lab/tree"',
            f'mke2fs -q -t ext4 -L root -d "$1.lab/tree" "$1.lab/root" {filesystem_kib}k >/dev/null',
            'umount "$1.lab/tree"; rmdir "$1.lab/tree"',
            'zstd -q -3 --rm "$1.lab/root" -o "$1.lab/root.zst"',
            'mv "$1.lab" "$1/lab"',
        ]
    )


def assemble(parts: Path, image: Path, size_mib: int) -> None:
    """Write ``image``: GRUB's boot and core images, a partition table with one active Linux partition, the file system.

    The boot image loads the sector behind it, the core image's first sector the sectors behind that one: written
    contiguously from sector 1, neither needs a patched block list (GRUB's defaults in boot.S and diskboot.S).
    """
    boot, core = (parts / "boot.img").read_bytes(), (parts / "core.img").read_bytes()
    if len(core) > (_FIRST - 1) * _SECTOR:
        raise Error(f"{parts / 'core.img'}: {len(core)} bytes: expected at most {(_FIRST - 1) * _SECTOR}")
    run.run(["zstd", "-q", "-d", "--sparse", parts / "root.zst", "-o", parts / "root"], timeout=_TIMEOUT)
    with image.open("wb") as stream:
        stream.truncate(size_mib * 2**20)
        stream.write(master_boot_record(boot, size_mib * 2**20 // _SECTOR))
        stream.write(core)
        _copy_sparse(parts / "root", stream.fileno(), OFFSET)
    (parts / "root").unlink()


def master_boot_record(boot: bytes, sectors: int) -> bytes:
    """Return the 512 bytes of sector 0: the first 440 of GRUB's boot image, one active partition of type 0x83."""
    entry = struct.pack("<B3sB3sII", 0x80, b"\xfe\xff\xff", 0x83, b"\xfe\xff\xff", _FIRST, sectors - _FIRST)
    return boot[:440] + b"SSI\0\0\0" + entry + bytes(48) + b"\x55\xaa"


def _copy_sparse(source: Path, target: int, offset: int) -> None:
    """Copy the data of ``source``, not its holes, to ``offset`` of the descriptor ``target``."""
    fd = os.open(source, os.O_RDONLY)
    try:
        end = os.fstat(fd).st_size
        at = 0
        while at < end:
            try:
                start = os.lseek(fd, at, os.SEEK_DATA)
            except OSError:  # nothing but a hole follows
                return
            at = os.lseek(fd, start, os.SEEK_HOLE)
            while start < at:
                start += os.sendfile(target, fd, start, at - start) if _seek(target, offset + start) else 0
    finally:
        os.close(fd)


def _seek(fd: int, position: int) -> bool:
    return os.lseek(fd, position, os.SEEK_SET) == position
