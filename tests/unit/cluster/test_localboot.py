"""Swap and local boot devices of nodes: what is decided from what the node says."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from openssi import remote
from openssi.cluster import fstab, localboot
from openssi.cluster.state import Cluster, Settings
from openssi.cluster.table import Node
from openssi.commands import ssi_swap, ssi_timesync
from openssi.errors import Error
from openssi.netboot import images
from openssi.netboot.images import Image
from openssi.remote import UNREACHED, Answer


def test_an_empty_disk_gets_one_partition_and_an_empty_partition_none() -> None:
    label, *rest = ssi_swap.plan({"path": "/dev/nvme0n1", "type": "disk", "fstype": None, "pttype": None})
    assert "type=swap" in label and "sfdisk --quiet /dev/nvme0n1 " in label
    assert rest == ["mkswap /dev/nvme0n1p1", "swapon /dev/nvme0n1p1"]
    part = {"path": "/dev/sda3", "type": "part", "fstype": None, "mountpoints": [None]}
    assert ssi_swap.plan(part) == ["mkswap /dev/sda3", "swapon /dev/sda3"]


def test_what_is_swap_already_is_only_switched_on_also_as_the_one_partition_of_a_disk() -> None:
    part = {"path": "/dev/sda1", "type": "part", "fstype": "swap", "mountpoints": []}
    assert ssi_swap.plan(part) == ["swapon /dev/sda1"]
    assert ssi_swap.plan({"path": "/dev/sda", "type": "disk", "pttype": "gpt", "children": [part]}) == [
        "swapon /dev/sda1"
    ]


@pytest.mark.parametrize(
    ("device", "says"),
    [
        ({"path": "/dev/sda1", "type": "part", "fstype": "ext4"}, "/dev/sda1: holds ext4"),
        ({"path": "/dev/sda1", "type": "part", "fstype": "xfs", "mountpoints": ["/srv"]}, "mounted on /srv"),
        ({"path": "/dev/sda", "type": "disk", "pttype": "gpt"}, "has an empty partition table"),
        (
            {"path": "/dev/sda", "type": "disk", "children": [{"path": "/dev/sda1"}, {"path": "/dev/sda2"}]},
            "sda1, /dev/sda2",
        ),
    ],
)
def test_a_device_with_anything_on_it_is_refused(device: dict[str, object], says: str) -> None:
    with pytest.raises(Error, match=says):
        ssi_swap.plan(device)


def test_the_swap_line_goes_and_that_of_another_node_stays() -> None:
    text = fstab.add_swap(fstab.add_swap("", "UUID=a", 2), "UUID=a", 3)
    assert fstab.entries(fstab.drop_swap(text, {"UUID=a", "/dev/sda1"}, 2))[0].nodes == "3"
    assert len(fstab.entries(fstab.drop_swap(text, {"UUID=a"}, 2))) == 1


def test_a_clock_is_judged_by_what_chronyc_says() -> None:
    line = b"0A0A00FE,node1,11,1764000000.1,-0.000012345,0.1,0.1,0,0,0,0,0,0,Normal\n"
    assert ssi_timesync.verdict(Answer(2, 0, line)) == (True, "-0.000012 s from the init node's clock")
    assert not ssi_timesync.verdict(Answer(2, 0, line.replace(b"-0.000012345", b"1.5")))[0]
    assert ssi_timesync.verdict(Answer(2, UNREACHED, b"no route\n")) == (False, "not set: no route")
    assert not ssi_timesync.verdict(Answer(2, 0, b"what?\n"))[0]


def test_grub_starts_the_newest_kernel_with_the_parameters_of_the_node(tmp_path: Path) -> None:
    first = Node(1, "10.0.0.1", "52:54:00:00:00:01", "P", initnode=True)
    node = Node(2, "10.0.0.2", "52:54:00:00:00:02", "P", bootdev="/dev/sda1")
    settings = Settings(
        interconnect="10.0.0.0/24", service_address="10.0.0.254", pool=("10.0.0.128", "10.0.0.200"),
        interface="eth1", kernel_arguments="console=ttyS0",
    )  # fmt: skip
    cluster = Cluster(tmp_path, "lab", (first, node), settings)
    found = [Image("6.12.2", Path("/boot/vmlinuz-6.12.2"), Path("/boot/openssi-initrd.img-6.12.2"))]
    text = localboot.configuration(cluster, node, found)
    assert (
        "    linux /vmlinuz-6.12.2 ssi.node=2 ssi.ip=10.0.0.2/24 ssi.server=10.0.0.254 BOOTIF=01-52-54-00-00-00-02"
        in text
    )
    assert " console=ttyS0\n" in text
    assert "    initrd /openssi-initrd.img-6.12.2\n" in text
    with pytest.raises(Error, match="node 1: has no local boot device"):
        localboot.install(cluster, first)


def test_an_initrd_older_than_a_list_of_drivers_is_named(tmp_path: Path) -> None:
    (tmp_path / "boot").mkdir()
    (tmp_path / "etc/mkinitrd/modules.d").mkdir(parents=True)
    initrd = tmp_path / "boot/openssi-initrd.img-6.12.2"
    extra = tmp_path / "etc/mkinitrd/modules.d/local"
    for path in (initrd, extra):
        path.touch()
    os.utime(extra, (1, 1))
    assert images.outdated(tmp_path) == []
    os.utime(initrd, (0, 0))
    assert images.outdated(tmp_path) == [
        "/boot/openssi-initrd.img-6.12.2 is older than /etc/mkinitrd/modules.d/local: mkinitrd 6.12.2, then ssi-ksync"
    ]


@pytest.mark.parametrize(
    ("status", "said", "expected"),
    [
        (1, b"make-bootable: /dev/sda1: no filesystem there\n", "^node 2: /dev/sda1: no filesystem there$"),
        (127, b"", "^node 2: /usr/lib/openssi/make-bootable: exit status 127$"),
        (0, b"what?\n", r"/dev/sda1: expected the UUID of its filesystem, not 'what\?'"),
        (UNREACHED, b"no route\n", "node 2: no route"),
    ],
)
def test_a_boot_device_that_the_node_refuses_is_refused(
    status: int, said: bytes, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "on_node", lambda *_, **__: Answer(2, status, said))
    with pytest.raises(Error, match=expected):
        localboot.lasting(Node(2, "10.0.0.2", "52:54:00:00:00:02", "P"), "/dev/sda1")


@pytest.mark.parametrize("uuid", ["1b2c-0a", "ABCD-1234"])
def test_a_boot_device_is_kept_by_what_does_not_change(uuid: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "on_node", lambda *_, **__: Answer(2, 0, f"{uuid}\n".encode()))
    node = Node(2, "10.0.0.2", "52:54:00:00:00:02", "P")
    assert localboot.lasting(node, "/dev/sda1") == f"UUID={uuid}"
    assert localboot.lasting(node, "LABEL=boot") == "LABEL=boot"
