"""Making, extending, serving and undoing a cluster, killed before every single change of the disk."""

from __future__ import annotations

import os
import shutil
from functools import partial
from itertools import count, takewhile
from pathlib import Path

import pytest
from unit.cluster import killed
from unit.cluster import test_create as create
from unit.cluster import test_nodes as nodes
from unit.test_netboot_tree import bootable

from openssi.cluster import bootserver, state
from openssi.cluster import nodes as cluster
from openssi.commands import call, ssi_ksync
from openssi.netboot import loaders

pytestmark = pytest.mark.integration


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fsync", lambda _: None)
    monkeypatch.setattr("os.sync", lambda: None)


def test_making_the_first_node_can_be_killed_anywhere(tmp_path: Path) -> None:
    assert len(list(takewhile(partial(create.killed_make, tmp_path), count(1)))) > 100


def test_undoing_can_be_killed_anywhere(tmp_path: Path) -> None:
    assert len(list(takewhile(partial(create.killed_undo, tmp_path), count(1)))) > 100


def test_adding_a_node_can_be_killed_anywhere(tmp_path: Path) -> None:
    assert len(list(takewhile(partial(nodes.killed_add, tmp_path), count(1)))) > 60


def test_removing_a_node_can_be_killed_anywhere(tmp_path: Path) -> None:
    assert len(list(takewhile(partial(nodes.killed_remove, tmp_path), count(1)))) > 30


def ksync() -> None:
    assert call(ssi_ksync.main, "ssi-ksync") == 0


def stale(root: Path) -> Path:
    """A cluster of two nodes that has a new kernel, other loaders, a foreign entry and an image that nothing names since long."""
    cluster.add(nodes.made(root), nodes.EARTH)
    for name in ("boot/vmlinuz-6.12.2-amd64", "boot/openssi-initrd.img-6.12.2-amd64"):
        (root / name).write_text(name)
    for loader in loaders.LOADERS["amd64"]:
        (root / loader.path).write_text(f"{loader.name} 2")
    (root / "tftpboot/pxelinux.cfg/01-52-54-00-00-00-77").write_text("DEFAULT other\n")
    unnamed = root / "tftpboot/boot/vmlinuz-6.12.0-amd64-0123456789abcdef"
    unnamed.touch()
    os.utime(unnamed, (0, 0))
    return root


def killed_ksync(directory: Path, monkeypatch: pytest.MonkeyPatch, step: int) -> bool:
    """Kill ssi-ksync at ``step`` and run it again; return False when there was no such step."""
    root = directory / str(step)
    shutil.copytree(directory / "stale", root, symlinks=True)
    monkeypatch.setenv("OPENSSI_ROOT", str(root))
    died = killed.at(step, root, ksync)
    bootable(root / "tftpboot")
    ksync()
    bootable(root / "tftpboot")
    assert not bootserver.check(state.load(root)), f"step {step}"
    assert not list((root / "tftpboot").rglob(".*")), f"step {step}"
    return died


def test_ssi_ksync_can_be_killed_anywhere_and_what_nodes_boot_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stale(tmp_path / "stale")
    monkeypatch.setattr("sys.argv", ["ssi-ksync"])
    assert len(list(takewhile(partial(killed_ksync, tmp_path, monkeypatch), count(1)))) > 60
