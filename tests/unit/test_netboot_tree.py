"""The tftp tree: what the plan says, and that it is in place whole at every moment."""

import errno
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from openssi.errors import Error
from openssi.netboot import Network, sync, tree
from openssi.netboot.images import Image, age, installed
from openssi.netboot.network import network


@dataclass(frozen=True)
class Row:
    number: int
    ip: str
    mac: str
    protocol: str = "P"


ON = network("eth1", "10.1.0.1/24", arguments="console=ttyS0,115200 ssi.opts=nconnect=2")
NODES = (Row(2, "10.1.0.2", "52:54:00:00:00:02"), Row(3, "10.1.0.3", "52-54-00-00-00-AB", "E"))


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sync", lambda: None)


@pytest.fixture
def image(tmp_path: Path) -> Image:
    return make_image(tmp_path, "6.12.9-amd64", b"one")


def make_image(directory: Path, version: str, content: bytes) -> Image:
    kernel, initrd = directory / f"k-{version}", directory / f"i-{version}"
    kernel.write_bytes(b"kernel " + content)
    initrd.write_bytes(b"initrd " + content)
    return Image(version, kernel, initrd)


def make_loaders(directory: Path, content: bytes = b"") -> dict[str, Path]:
    found = {}
    for name in ("pxelinux.0", "ldlinux.c32", "grubx64.efi"):
        found[name] = directory / name
        found[name].write_bytes(name.encode() + content)
    return found


def bootable(top: Path) -> None:
    """Assert what a booting machine relies on: every entry's images are there, whole, as are links and loaders."""
    entries = [path for name in tree.ENTRIES for path in (top / name).glob("[!.]*")]
    assert entries
    for path in entries:
        for name in re.findall(r"boot/[\w.+~-]+", path.read_text()):
            image = top / name
            assert image.is_file(), f"{path} names {name}, which is not there"
            assert sync._holds_its_digest(name, image), f"{name} is not whole"
    assert (top / "pxelinux.cfg/default").is_file()
    for link in ("vmlinuz", "initrd.img"):
        assert (top / link).is_file()
    for name in ("pxelinux.0", "ldlinux.c32", "grubx64.efi"):
        assert (top / name).stat().st_size > 0


def test_a_node_has_an_entry_for_each_loader_and_the_parameters_that_waiting_machines_poll(image: Image) -> None:
    plan = tree.plan(ON, NODES, [image], {})
    assert {name for name in plan.entries if "01-52-54-00-00-00-02" in name} == {
        "pxelinux.cfg/01-52-54-00-00-00-02",
        "ipxe/01-52-54-00-00-00-02.ipxe",
        "grub/01-52-54-00-00-00-02.cfg",
        "ssi/01-52-54-00-00-00-02",
    }
    own = "ssi.node=2 ssi.ip=10.1.0.2/24 ssi.server=10.1.0.1"
    assert plan.entries["ssi/01-52-54-00-00-00-02"] == f"{own} ssi.opts=nconnect=2\n"
    full = f"{own} BOOTIF=01-52-54-00-00-00-02 console=ttyS0,115200 ssi.opts=nconnect=2"
    for name in (
        "pxelinux.cfg/01-52-54-00-00-00-02",
        "ipxe/01-52-54-00-00-00-02.ipxe",
        "grub/01-52-54-00-00-00-02.cfg",
    ):
        assert full in plan.entries[name]


def test_a_machine_without_entry_gets_no_node_number(image: Image) -> None:
    plan = tree.plan(ON, NODES, [image], {})
    for name in ("pxelinux.cfg/default", "ipxe/default.ipxe", "grub/default.cfg"):
        assert "ssi.node" not in plan.entries[name]
    assert "ssi/default" not in plan.entries


def test_a_name_in_the_tree_changes_with_the_content_and_only_with_it(tmp_path: Path) -> None:
    first = tree.plan(ON, (), [make_image(tmp_path, "6.12.9-amd64", b"one")], {})
    again = tree.plan(ON, (), [make_image(tmp_path, "6.12.9-amd64", b"one")], {})
    other = tree.plan(ON, (), [make_image(tmp_path, "6.12.9-amd64", b"two")], {})
    assert first == again
    assert not set(first.images) & set(other.images)


def test_two_nodes_with_one_hardware_address_are_refused(image: Image) -> None:
    with pytest.raises(Error, match="node 4: 52:54:00:00:00:02 belongs to another node too"):
        tree.plan(ON, [*NODES, Row(4, "10.1.0.4", "52:54:00:00:00:02")], [image], {})


def test_a_second_sync_writes_nothing(tmp_path: Path, image: Image) -> None:
    top = tmp_path / "tftpboot"
    plan = tree.plan(ON, NODES, [image], make_loaders(tmp_path))
    assert sync.check(top, plan).stale
    assert sync.sync(top, plan).stale
    before = {path: path.lstat().st_mtime_ns for path in top.rglob("*")}
    assert not sync.sync(top, plan)
    assert not sync.check(top, plan)
    assert before == {path: path.lstat().st_mtime_ns for path in top.rglob("*")}
    bootable(top)


def test_a_removed_node_loses_its_entries_and_a_foreign_file_in_them_goes(tmp_path: Path, image: Image) -> None:
    top = tmp_path / "tftpboot"
    sync.sync(top, tree.plan(ON, NODES, [image], {}))
    (top / "pxelinux.cfg/C0A80001").write_text("DEFAULT other\n")
    changes = sync.sync(top, tree.plan(ON, NODES[:1], [image], {}))
    assert len(changes.removed) == 5
    assert not list(top.rglob("*00-00-00-ab*"))
    assert not (top / "pxelinux.cfg/C0A80001").exists()


def test_a_damaged_file_is_found_and_put_right(tmp_path: Path, image: Image) -> None:
    top = tmp_path / "tftpboot"
    plan = tree.plan(ON, NODES, [image], make_loaders(tmp_path))
    sync.sync(top, plan)
    kernel = next(name for name in plan.images if "vmlinuz" in name)
    (top / kernel).write_bytes(b"half")
    (top / "pxelinux.0").write_bytes(b"")
    (top / "grub/grub.cfg").chmod(0o600)
    assert set(sync.check(top, plan).changed) == {kernel, "pxelinux.0", "grub/grub.cfg"}
    sync.sync(top, plan)
    bootable(top)


def test_an_old_image_stays_for_machines_that_boot_just_now_and_is_pruned_later(tmp_path: Path, image: Image) -> None:
    top = tmp_path / "tftpboot"
    old = tree.plan(ON, NODES, [image], {})
    sync.sync(top, old)
    for name in old.images:
        os.utime(top / name, (0, 0))  # served for years: what counts is when it was last named
    new = tree.plan(ON, NODES, [make_image(tmp_path, "6.12.11-amd64", b"two")], {})
    assert set(sync.sync(top, new).waiting) == set(old.images)
    assert not sync.sync(top, new)
    assert all((top / name).exists() for name in old.images)
    assert sync.check(top, new).verdict() == ["up to date"]
    for name in old.images:
        os.utime(top / name, (0, 0))
    assert not sync.check(top, new).stale
    assert sync.check(top, new).verdict() == ["up to date; the next call removes 2 old files"]
    assert set(sync.sync(top, new).pruned) == set(old.images)
    assert {f"boot/{path.name}" for path in (top / "boot").iterdir()} == set(new.images)


class PowerCut(BaseException):
    """Not an Exception: no handler of the code under test runs on a power cut."""


def cut_at(step: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let the ``step``-th call that changes a directory or a file not happen, and nothing after it."""
    count = [0]

    def guard(function: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(*arguments: Any, **options: Any) -> Any:
            count[0] += 1
            if count[0] >= step:
                raise PowerCut
            return function(*arguments, **options)

        return guarded

    for owner, names in (
        (os, ("replace", "rename", "symlink", "utime", "unlink")),
        (Path, ("replace", "rename", "unlink", "symlink_to", "write_bytes", "chmod", "mkdir")),
        (shutil, ("copyfile",)),
    ):
        for name in names:
            monkeypatch.setattr(owner, name, guard(getattr(owner, name)))
    return count


def test_a_sync_cut_at_any_step_leaves_a_bootable_tree_and_the_next_one_finishes(
    tmp_path: Path, image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "new").mkdir()
    old = tree.plan(ON, NODES, [image], make_loaders(tmp_path))
    other = Network(**{**ON.__dict__, "service": "10.1.0.250"})
    new = tree.plan(
        other, NODES[:1], [make_image(tmp_path, "6.12.11-amd64", b"2")], make_loaders(tmp_path / "new", b"2")
    )
    steps = 0
    for step in range(1, 400):
        top = tmp_path / f"at{step}" / "tftpboot"
        sync.sync(top, old)
        with monkeypatch.context() as patch:
            count = cut_at(step, patch)
            try:
                sync.sync(top, new, grace=0)
            except PowerCut:
                pass
            else:
                steps = count[0]
        bootable(top)
        sync.sync(top, new, grace=0)
        bootable(top)
        assert not sync.check(top, new)
        assert not list(top.rglob(".*"))
        if steps:
            break
    assert steps > 30


def test_a_full_disk_leaves_the_old_tree(tmp_path: Path, image: Image, monkeypatch: pytest.MonkeyPatch) -> None:
    top = tmp_path / "tftpboot"
    sync.sync(top, tree.plan(ON, NODES, [image], make_loaders(tmp_path)))

    def full(source: Path, target: Path) -> None:
        target.write_bytes(b"ha")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    new = tree.plan(ON, NODES, [make_image(tmp_path, "6.12.11-amd64", b"two")], make_loaders(tmp_path))
    with pytest.raises(Error, match="No space left"):
        sync.sync(top, new)
    bootable(top)


def test_boot_is_searched_for_pairs_newest_first(tmp_path: Path) -> None:
    boot = tmp_path / "boot"
    boot.mkdir()
    for version in ("6.12.9+deb13-amd64", "6.12.48+deb13-amd64", "6.1.0-amd64"):
        (boot / f"vmlinuz-{version}").touch()
    (boot / "openssi-initrd.img-6.12.9+deb13-amd64").touch()
    (boot / "openssi-initrd.img-6.12.48+deb13-amd64").touch()
    (boot / "openssi-initrd.img-6.99").touch()
    assert [image.version for image in installed(tmp_path)] == ["6.12.48+deb13-amd64", "6.12.9+deb13-amd64"]


def test_no_pair_in_boot_is_an_error_that_names_mkinitrd(tmp_path: Path) -> None:
    (tmp_path / "boot").mkdir()
    with pytest.raises(Error, match="mkinitrd"):
        installed(tmp_path)


def test_versions_sort_as_people_count() -> None:
    versions = ["6.12.48+deb13-amd64", "6.9.1", "6.12.9+deb13-amd64", "6.12"]
    assert sorted(versions, key=age) == ["6.9.1", "6.12", "6.12.9+deb13-amd64", "6.12.48+deb13-amd64"]
