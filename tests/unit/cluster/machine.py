"""A Debian machine as a tree, and what changed in it."""

from __future__ import annotations

import os
import stat
from ipaddress import IPv4Interface
from pathlib import Path

from openssi.cluster.nics import Nic
from openssi.netboot import loaders

NIC = Nic("eth1", "52:54:00:00:00:01", IPv4Interface("10.0.0.1/24"))
OUTER = Nic("eth0", "52:54:00:00:00:f1", IPv4Interface("192.168.1.5/24"), dynamic=True)

FILES = {
    "etc/hostname": "sun\n",
    "etc/machine-id": "0123456789abcdef0123456789abcdef\n",
    "etc/hosts": "127.0.0.1\tlocalhost\n127.0.1.1\tsun.example.org\tsun\n",
    "etc/fstab": "UUID=1-2 / ext4 errors=remount-ro 0 1\nUUID=3-4 /home ext4 defaults 0 2\nUUID=5-6 none swap sw 0 0\n",
    "etc/network/interfaces": "auto lo\niface lo inet loopback\nauto eth1\niface eth1 inet static\n  address 10.0.0.1/24\n",
    "etc/ssh/ssh_host_ed25519_key.pub": "ssh-ed25519 AAAAC3Nz root@sun\n",
    "etc/ssh/ssh_host_rsa_key.pub": "ssh-rsa AAAAB3Nz root@sun\n",
    "etc/ssh/sshd_config": "Include /etc/ssh/sshd_config.d/*.conf\n",
    "etc/chrony/chrony.conf": "confdir /etc/chrony/conf.d\n",
    "etc/chrony/conf.d/README": "\n",
    "etc/systemd/system/multi-user.target.wants/.keep": "",
    "root/.profile": "\n",
    "var/lib/systemd/random-seed": "x",
    "var/lib/nfs/etab": "",
    "usr/lib/systemd/system/openssi-service-address.service": "[Install]\nWantedBy=multi-user.target\n",
    "usr/lib/systemd/system/openssi-node.target": "[Unit]\nDescription=x\n",
}


def make(root: Path) -> Path:
    """Fill the tree ``root`` with what a fresh Debian machine has, as far as it matters here."""
    for name, content in FILES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    (root / "etc/machine-id").chmod(0o444)
    for path in (root / "etc/hosts", root / "etc/fstab", root / "etc/machine-id"):
        os.utime(path, (1_700_000_000, 1_700_000_000))
    (root / "var/lib/nfs/sm").mkdir()
    (root / "var/lib/openssi").mkdir()
    (root / "var/lib/openssi/create.lock").touch()
    return root


Picture = dict[str, tuple[str, int, bytes]]


def picture(root: Path) -> Picture:
    """Return everything in the tree: path -> (kind, mode, content or target)."""
    found = {}
    for path in sorted(root.rglob("*")):
        info = path.lstat()
        kind = "link" if path.is_symlink() else "directory" if path.is_dir() else "file"
        content = os.fsencode(path.readlink()) if kind == "link" else path.read_bytes() if kind == "file" else b""
        found[str(path.relative_to(root))] = (kind, stat.S_IMODE(info.st_mode) if kind != "link" else 0, content)
    return found


def bootable(root: Path) -> Path:
    """Put stand-ins for a kernel, its boot image and the loaders into the tree."""
    for name in ("boot/vmlinuz-6.12.1-amd64", "boot/openssi-initrd.img-6.12.1-amd64"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(name)
    for loader in loaders.LOADERS["amd64"]:
        path = root / loader.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(loader.name)
    return root
