"""The initrd in qemu: every network card with its own driver alone, to a lease and a root over NFS; and what goes wrong."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import nfsserver
import pytest
from conftest import needs

from openssi import run
from openssi.initrd import build, codecs, cpio
from openssi.kernel.modules import module_name
from openssi.qemu import Machine, qemu_command
from openssi_build import apt, images, kernels
from openssi_build.settings import Initrd

pytestmark = [pytest.mark.boot, pytest.mark.timeout(600)]

MAC = "52:54:00:00:00:01"
BOOTIF = "BOOTIF=01-52-54-00-00-00-01"
# Card of qemu, its driver, how the image is compressed, what the boot entry says of the node.
CARDS = (
    ("e1000", "e1000", "zstd", f"ssi.node=1 {BOOTIF}"),
    ("e1000e", "8086:10d3", "gzip", f"ssi.node=2 {BOOTIF}"),
    ("rtl8139", "8139cp", "xz", "ssi.node=1"),
    ("virtio-net-pci", "virtio_net", "lz4", f"ssi.node=2 ssi.ip=10.10.0.2/24 ssi.server=10.10.0.1 ssi.mac={MAC}"),
    ("pcnet", "pcnet32", "none", "ssi.node=1"),
    ("vmxnet3", "vmxnet3", "zstd", f"ssi.node=1 {BOOTIF} ssi.opts=rsize=32768"),
    ("i82559er", "eepro100", "zstd", f"ssi.node=1 {BOOTIF}"),
    ("i82559c", "e100", "zstd", "ssi.node=1"),
)

Make = Callable[..., Path]
Boot = Callable[..., Machine]


@pytest.fixture(scope="module")
def kernel(root: Path, cache: Path) -> kernels.QualifiedKernel:
    needs("qemu-system-x86_64")
    return kernels.qualified(root, cache)


@pytest.fixture(scope="module")
def server(
    cache: Path, kernel: kernels.QualifiedKernel, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[nfsserver.Server]:
    with nfsserver.running(cache, kernel, apt.host_mirror(), tmp_path_factory.mktemp("server")) as server:
        server.dhcp(on=True)
        yield server


@pytest.fixture
def make(root: Path, cache: Path, kernel: kernels.QualifiedKernel, tmp_path: Path) -> Make:
    """Return the function that makes an image with these drivers alone."""

    def made(*drivers: str, **more: object) -> Path:
        wanted = Initrd(name="test", drivers=drivers, firmware=(), **more)  # type: ignore[arg-type]
        inputs, _ = images.inputs_of(root, cache, wanted, kernel, apt.host_mirror())
        build.build(inputs, tmp_path / "initrd.img")
        return tmp_path / "initrd.img"

    return made


@pytest.fixture
def boot(kernel: kernels.QualifiedKernel, tmp_path: Path) -> Iterator[Boot]:
    """Return the function that starts a machine with an image and devices; it is off when the test ends."""
    machines: list[Machine] = []

    def started(image: Path, arguments: str, *devices: str) -> Machine:
        argv: Sequence[str] = [
            *qemu_command("node", memory_mib=384),
            "-kernel", str(kernel.vmlinuz), "-initrd", str(image),
            "-append", f"console=ttyS0 quiet loglevel=6 {arguments}", *devices,
        ]  # fmt: skip
        machines.append(Machine("node", argv, tmp_path))
        machines[-1].start()
        return machines[-1]

    yield started
    for machine in machines:
        machine.kill()


def _card(server: nfsserver.Server, card: str) -> list[str]:
    return ["-netdev", server.client_network(), "-device", f"{card},netdev=net,mac={MAC},romfile="]


@pytest.mark.parametrize(("card", "driver", "codec", "entry"), CARDS, ids=[card[0] for card in CARDS])
def test_a_card_with_its_driver_alone_comes_to_its_root_over_nfs(
    card: str, driver: str, codec: str, entry: str, server: nfsserver.Server, make: Make, boot: Boot
) -> None:
    node = boot(make(driver, compress=codec), entry, *_card(server, card))
    address = node.wait(rf"interconnect up: \S+ {MAC} (10\.10\.0\.\d+)/24", 180, fail="error:|panic")[1]
    number = "2" if "ssi.node=2" in entry else "1"
    node.wait(rf"HANDED OVER pid 1 node {number} role node on node{number}\s", 180, fail="error:|panic")
    said = node.wait(r"nfs4 .*\n", 30)[0]
    for option in ("vers=4.2", "hard", "lookupcache=pos", f"clientaddr={address}", f"addr={nfsserver.ADDRESS}"):
        assert option in said
    assert "rsize=32768" in said or "ssi.opts" not in entry
    node.wait("OWN one LISTED first" if number == "1" else "OWN two LISTED second", 30)
    node.wait(rf"CLIENT ssi-node{number}\s[\s\S]*WROTE", 30)
    node.wait(r"LEFT BEHIND:\s*$", 30)
    assert node.wait_end(60) == 0
    assert server.do(f"cat /srv/written-by-{number}; rm /srv/written-by-{number}").strip() == "written"


def test_with_the_wrong_driver_it_says_which_card_there_is_and_offers_a_shell(
    server: nfsserver.Server, make: Make, boot: Boot
) -> None:
    node = boot(make("e1000e"), "ssi.node=1 ssi.debug", *_card(server, "e1000"))
    said = node.wait(r"ssi: error: no network interface: .*\n", 120)[0]
    assert "PCI network devices here: 8086:100e" in said
    assert "drivers in this image: e1000e" in said
    assert "add the right one to /etc/mkinitrd/modules" in said
    node.wait("a shell on the console", 120)
    assert "8086" in node.command("cat /sys/bus/pci/devices/*/vendor")[1]


@pytest.mark.parametrize("entry", [BOOTIF, f"ssi.server={nfsserver.ADDRESS}"], ids=["BOOTIF", "ssi.server"])
def test_of_two_cards_that_get_a_lease_the_one_of_the_interconnect_is_taken(
    entry: str, server: nfsserver.Server, make: Make, boot: Boot
) -> None:
    # The first card's network answers DHCP as well.
    other = ["-netdev", "user,id=other,restrict=on", "-device", "e1000,netdev=other,mac=52:54:00:00:00:aa,romfile="]
    node = boot(make("e1000", "virtio_net"), f"ssi.node=1 {entry}", *other, *_card(server, "virtio-net-pci"))
    node.wait(rf"interconnect up: \S+ {MAC} 10\.10\.0\.\d+/24", 180, fail="error:|panic")
    node.wait("HANDED OVER pid 1 node 1", 180, fail="error:|panic")


def test_late_dhcp_and_a_refused_root_are_told_and_tried_again(
    server: nfsserver.Server, make: Make, boot: Boot
) -> None:
    server.dhcp(on=False)
    server.export(on=False)
    try:
        node = boot(make("virtio_net"), f"ssi.node=1 {BOOTIF}", *_card(server, "virtio-net-pci"))
        said = node.wait(r"ssi: error: no answer to DHCP on eth0.*\n", 180)[0]
        assert "is a DHCP server on this network, is the cable in?" in said
        server.dhcp(on=True)
        node.wait(rf"interconnect up: \S+ {MAC}", 180)
        said = node.wait(rf"ssi: error: {nfsserver.ADDRESS}:/ can't be mounted.*\n", 180)[0]
        assert "is the init node up, is this address exported to?" in said
        server.export(on=True)
        node.wait("HANDED OVER pid 1 node 1", 180, fail="panic")
    finally:
        server.dhcp(on=True)
        server.export(on=True)


def test_the_rescue_entry_gives_a_shell_with_the_network_up_and_the_overlay_wins(
    server: nfsserver.Server, make: Make, boot: Boot, tmp_path: Path
) -> None:
    early, late = tmp_path / "early.cpio", tmp_path / "late.cpio"
    early.write_bytes(cpio.pack(cpio.with_directories([cpio.regular("kernel/x86/microcode/README", b"early\n")]), 0))
    drivers = cpio.regular("lib/openssi/drivers", b"from the overlay\n")
    late.write_bytes(codecs.compress(cpio.pack(cpio.with_directories([drivers]), 0), "gzip"))
    image = make("e1000", microcode=(early,), overlays=(late,))
    node = boot(image, f"{BOOTIF} ssi.rescue", *_card(server, "e1000"))
    node.wait("ssi.rescue: the interconnect is up, nothing is mounted", 180, fail="error:|panic")
    assert "10.10.0." in node.command("ip addr show eth0")[1]
    assert node.command(f"ping -c 1 -W 20 {nfsserver.ADDRESS} >/dev/null")[0] == 0
    assert node.command("cat /lib/openssi/drivers")[1].strip() == "from the overlay"


def test_a_local_root_is_found_by_its_label(
    make: Make, boot: Boot, kernel: kernels.QualifiedKernel, tmp_path: Path
) -> None:
    needs("mke2fs")
    tree, disk = tmp_path / "tree", tmp_path / "disk"
    for directory in (
        "bin",
        "sbin",
        "cluster/etc",
        "cluster/node1",
        "cluster/self",
        "proc",
        "sys",
        "dev",
        "run",
        "etc/openssi",
    ):
        (tree / directory).mkdir(parents=True, exist_ok=True)
    (tree / "cluster/etc/pernode").write_text("# none\n")
    (tree / "etc/openssi/initnode").write_text("1\n")
    shutil.copy("/bin/busybox", tree / "bin/busybox")
    script = '#!/bin/busybox sh\necho "ROOT $(/bin/busybox cat /run/ssi/role /run/ssi/nodenum)" >/dev/console\n'
    (tree / "sbin/init").write_text(script + "exec /bin/busybox poweroff -f\n")
    (tree / "sbin/init").chmod(0o755)
    run.run(["mke2fs", "-q", "-t", "ext4", "-L", "cluster", "-d", tree, disk, "64m"], timeout=60)
    drive = ["-drive", f"if=none,id=d,format=raw,file={disk}", "-device", "virtio-blk-pci,drive=d"]
    node = boot(make("virtio_blk", "ext4"), "ssi.root=LABEL=cluster", *drive)
    node.wait(r"ROOT init\s+1\s", 120, fail="error:|panic")
    assert node.wait_end(60) == 0


def _damage(path: Path, module: str) -> None:
    """Make the module in the image one that does not load."""
    image = bytearray(path.read_bytes())
    entry = next(
        entry for segment in codecs.segments(bytes(image), "image") for entry in segment.entries
        if module_name(entry.name) == module and entry.content
    )  # fmt: skip
    at = image.index(entry.content) + len(entry.content) // 2
    image[at : at + 8] = bytes(8)
    path.write_bytes(image)


def test_a_damaged_module_is_named_on_the_console(server: nfsserver.Server, make: Make, boot: Boot) -> None:
    path = make("e1000")
    _damage(path, "e1000")
    node = boot(path, "ssi.node=1", *_card(server, "e1000"))
    node.wait(r"ssi: error: module e1000 does not load", 120)
    node.wait(r"ssi: error: no network interface", 120)


def test_mkinitrd_verify_tells_of_each_card_whether_it_comes_to_a_lease(
    root: Path, kernel: kernels.QualifiedKernel, make: Make, tmp_path: Path
) -> None:
    top = tmp_path / "node"
    (top / "boot").mkdir(parents=True)
    (top / "usr/lib").mkdir(parents=True)
    (top / f"boot/vmlinuz-{kernel.abi}").symlink_to(kernel.vmlinuz)
    (top / "usr/lib/modules").symlink_to(kernel.tree / "usr/lib/modules")
    image = make("e1000", "8139cp", "r8169")
    verify: list[str | Path] = [sys.executable, root / "sbin/mkinitrd", "--verify", "-k", kernel.abi, "-o", image]
    env = os.environ | {"PYTHONPATH": str(root / "src"), "OPENSSI_ROOT": str(top)}
    status, said, problem = run.status(verify, env=env, timeout=300)
    assert status == 0, said + problem
    assert re.fullmatch(r"e1000 +e1000 +lease +\d+\.\d s\nrtl8139 +8139cp +lease +\d+\.\d s\n", said.decode())
    _damage(image, "8139cp")
    status, said, _ = run.status([*verify, "--json"], env=env, timeout=300)
    assert status == 1
    table = {row["card"]: row for row in json.loads(said)}
    assert {card: row["lease"] for card, row in table.items()} == {"e1000": True, "rtl8139": False}
    assert "module 8139cp does not load" in table["rtl8139"]["words"]


def test_an_image_that_is_cut_off_ends_in_the_kernels_own_words(make: Make, boot: Boot) -> None:
    path = make("e1000")
    path.write_bytes(path.read_bytes()[:-200_000])
    node = boot(path, "ssi.node=1")
    node.wait("Initramfs unpacking failed", 120)
    node.wait("Kernel panic", 120)
