"""The second machine of the initrd's boot tests: DHCP and a root over NFS 4.2, served by a kernel with Debian's nfs-utils."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from openssi.initrd import build, codecs, cpio
from openssi.kernel.modules import modules
from openssi.qemu import Machine, qemu_command
from openssi_build import apt, images, kernels

ADDRESS = "10.10.0.1"
# nfs-kernel-server's programs and the libraries that they are linked with.
_PACKAGES = (
    "nfs-kernel-server", "libc6", "libblkid1", "libcap2", "libcom-err2", "libevent-core-2.1-7t64", "libgssapi-krb5-2",
    "libk5crypto3", "libkeyutils1", "libkrb5-3", "libkrb5support0", "liblzma5", "libsqlite3-0", "libtirpc3t64",
    "libuuid1", "libwrap0", "libxml2", "zlib1g",
)  # fmt: skip
_PROGRAMS = ("exportfs", "nfsdcld", "rpc.mountd", "rpc.nfsd")
# The client's first process: it says over which mount and as whom it runs, then switches the machine off.
_CLIENT_INIT = """#!/bin/busybox sh
PATH=/bin
busybox --install -s /bin
{
    echo "HANDED OVER pid $$ node $(cat /run/ssi/nodenum) role $(cat /run/ssi/role) on $(hostname)"
    grep ' / nfs4 ' /proc/mounts
    echo "OWN $(cat /cluster/self/name) LISTED $(cat /var/lib/own/name)"
    echo "CLIENT $(cat /sys/module/nfs/parameters/nfs4_unique_id)"
    echo written >/written-by-$(cat /run/ssi/nodenum) && echo "WROTE"
    echo "LEFT BEHIND: $(ls /lib/openssi 2>/dev/null)"
} >/dev/console
[ ! -e /stay ] || exec sh </dev/console >/dev/console 2>&1
poweroff -f
"""
_INIT = """#!/bin/sh
export PATH=/bin:/usr/sbin
/bin/busybox --install -s /bin
mount -t proc proc /proc; mount -t sysfs sysfs /sys; mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /run; mount -t tmpfs tmpfs /srv; mount -t tmpfs tmpfs /var/lib/nfs
while read -r file; do insmod "$file"; done </modules
mount -t nfsd nfsd /proc/fs/nfsd
mkdir -p /var/lib/nfs/nfsdcld /var/lib/nfs/rpc_pipefs /var/lib/nfs/v4recovery
mount -t rpc_pipefs rpc_pipefs /var/lib/nfs/rpc_pipefs
: >/var/lib/nfs/etab; : >/var/lib/nfs/rmtab
cp -a /root-of-nodes/. /srv/
mkdir -p /srv/dev /srv/proc /srv/sys /srv/run /srv/tmp
ip link set lo up
ip link set eth0 up
ip addr add 10.10.0.1/24 dev eth0
nfsdcld; rpc.mountd -N 2 -N 3
exportfs -a
rpc.nfsd -N 3 -G 10 -L 10 4
echo SERVING
exec setsid cttyhack sh
"""
_UDHCPD = """start 10.10.0.20
end 10.10.0.60
interface eth0
siaddr 10.10.0.1
lease_file /run/leases
option subnet 255.255.255.0
option lease 3600
"""


@dataclass
class Server:
    """The running server; ``machine`` has a shell on its console, ``far`` is the port where a client's packets come from."""

    machine: Machine
    near: int
    far: int

    def client_network(self) -> str:
        """Return the -netdev of the one client at a time that the server's wire leads to, with the id ``net``."""
        return f"socket,id=net,udp=127.0.0.1:{self.near},localaddr=127.0.0.1:{self.far}"

    def do(self, line: str) -> str:
        """Run ``line`` in the server's shell; return what it said, fail unless it exits 0."""
        status, said = self.machine.command(line)
        assert status == 0, said
        return said

    def dhcp(self, *, on: bool) -> None:
        """Start or stop the DHCP server."""
        self.do("killall udhcpd 2>/dev/null; : >/run/leases" + ("; udhcpd -S /etc/udhcpd.conf" if on else ""))

    def export(self, *, on: bool) -> None:
        """Export the root to the nodes, or refuse it."""
        self.do("exportfs -a" if on else "exportfs -ua; exportfs -f")


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@contextlib.contextmanager
def running(cache: Path, kernel: kernels.QualifiedKernel, mirror: apt.Mirror, directory: Path) -> Iterator[Server]:
    """Start the server, wait until it serves, and end it with the block."""
    directory.mkdir(parents=True, exist_ok=True)
    image = directory / "server.img"
    image.write_bytes(_image(cache, kernel, mirror))
    near, far = _free_ports(2)
    argv = [
        *qemu_command("server", memory_mib=512),
        "-kernel", str(kernel.vmlinuz), "-initrd", str(image), "-append", "console=ttyS0 quiet",
        "-netdev", f"socket,id=net,udp=127.0.0.1:{far},localaddr=127.0.0.1:{near}",
        "-device", "virtio-net-pci,netdev=net,romfile=",
    ]  # fmt: skip
    with Machine("server", argv, directory) as machine:
        machine.wait("SERVING", 240, fail="Kernel panic|not found|error while loading")
        yield Server(machine, near, far)


def _image(cache: Path, kernel: kernels.QualifiedKernel, mirror: apt.Mirror) -> bytes:
    own = modules(kernel.tree, kernel.abi)
    source = apt.Apt(cache, "trixie", "amd64", mirror)
    trees = {name: images.unpack(cache, deb) for name, deb in source.download(_PACKAGES).items()}
    busybox = build.busybox(images.unpack(cache, source.download(["busybox-static"])["busybox-static"])).read_bytes()
    order = [own.path(name) for name in own.closure(["virtio_net", "nfsd"])]
    texts = {
        "init": _INIT, "modules": "".join(f"/modules.d/{path.name}\n" for path in order),
        "etc/exports": "/srv 10.10.0.0/24(rw,no_root_squash,no_subtree_check,fsid=0,sec=sys,async)\n",
        "etc/udhcpd.conf": _UDHCPD, "etc/nfs.conf": "", "etc/hosts": "127.0.0.1 localhost\n",
        "etc/passwd": "root:x:0:0::/root:/bin/sh\n", "etc/group": "root:x:0:\n",
        "etc/netconfig": "tcp tpi_cots_ord v inet tcp - -\nudp tpi_clts v inet udp - -\n",
        "etc/services": "nfs 2049/tcp\nnfs 2049/udp\n",
        "etc/protocols": "tcp 6 TCP\nudp 17 UDP\n",
        "root-of-nodes/sbin/init": _CLIENT_INIT, "root-of-nodes/cluster/etc/pernode": "/var/lib/own\n",
        "root-of-nodes/cluster/node1/name": "one\n", "root-of-nodes/cluster/node1/var/lib/own/name": "first\n",
        "root-of-nodes/cluster/node2/name": "two\n", "root-of-nodes/cluster/node2/var/lib/own/name": "second\n",
    }  # fmt: skip
    entries = [cpio.regular(name, text.encode(), 0o755) for name, text in texts.items()]
    entries += [cpio.regular(f"{top}bin/busybox", busybox, 0o755) for top in ("", "root-of-nodes/")]
    entries += [cpio.symlink("bin/sh", "busybox"), cpio.symlink("sbin", "bin")]
    entries += [cpio.regular(f"modules.d/{path.name}", path.read_bytes()) for path in order]
    entries += [cpio.directory(name) for name in ("proc", "sys", "dev", "run", "srv", "tmp", "root", "var/lib/nfs")]
    entries += [cpio.directory(f"root-of-nodes/{name}") for name in ("cluster/self", "var/lib/own")]
    entries += [cpio.symlink("lib", "usr/lib"), cpio.symlink("lib64", "usr/lib64")]
    entries += list(_userland(trees))
    return codecs.compress(cpio.pack(cpio.with_directories(entries), 0), "zstd", 1)


def _userland(trees: dict[str, Path]) -> Iterator[cpio.Entry]:
    for program in _PROGRAMS:
        yield cpio.regular(
            f"usr/sbin/{program}", (trees["nfs-kernel-server"] / "usr/sbin" / program).read_bytes(), 0o755
        )
    for tree in trees.values():
        for path in sorted(tree.glob("usr/lib*/**/*.so*")):
            name = str(path.relative_to(tree))
            if path.is_symlink():
                yield cpio.symlink(name, str(path.readlink()))
            elif path.is_file() and "gconv" not in name:
                yield cpio.regular(name, path.read_bytes(), 0o755)
