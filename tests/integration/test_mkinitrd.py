"""mkinitrd as a node runs it, on a tree with Debian's kernel: the same bytes whatever surrounds it, and all or nothing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import needs

from openssi_build import apt, images, kernels

pytestmark = pytest.mark.integration

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def kernel(root: Path, cache: Path) -> kernels.QualifiedKernel:
    needs("depmod", "dpkg-deb")
    return kernels.qualified(root, cache)


@pytest.fixture
def node(root: Path, cache: Path, kernel: kernels.QualifiedKernel, tmp_path: Path) -> Callable[[str], Path]:
    """Return the function that lays the root of a node with kernel, busybox and our files below a path."""
    source = apt.Apt(cache, "trixie", mirror=apt.host_mirror())
    busybox = images.unpack(cache, source.download(["busybox-static"])["busybox-static"])

    def lay(name: str) -> Path:
        top = tmp_path / name
        for directory in (
            "usr/lib",
            "usr/bin",
            "etc/mkinitrd",
            "usr/share/openssi",
            "boot",
            "var/cache/openssi/initrd",
        ):
            (top / directory).mkdir(parents=True)
        (top / "usr/lib/modules").symlink_to(kernel.tree / "usr/lib/modules")
        shutil.copy2(busybox / "usr/bin/busybox", top / "usr/bin/busybox")
        shutil.copytree(root / "initrd", top / "usr/share/openssi/initrd")
        (top / "etc/mkinitrd/modules").write_text("e1000\n8086:10d3 # e1000e\nr8169\n")
        return top

    return lay


@pytest.fixture
def mkinitrd(root: Path, kernel: kernels.QualifiedKernel) -> Run:
    def run(
        top: Path, *arguments: str, umask: int = 0o022, cwd: Path | None = None, **env: str
    ) -> subprocess.CompletedProcess[str]:
        surroundings = {"PATH": os.environ["PATH"], "PYTHONPATH": str(root / "src"), "OPENSSI_ROOT": str(top), **env}
        return subprocess.run(
            [sys.executable, root / "sbin/mkinitrd", "-k", kernel.abi, *arguments],
            env=surroundings, cwd=cwd or top, umask=umask, capture_output=True, text=True, check=False,
        )  # fmt: skip

    return run


def test_equal_input_gives_equal_bytes_in_any_surroundings(
    node: Callable[[str], Path], mkinitrd: Run, tmp_path: Path
) -> None:
    made = []
    for number, env in enumerate(
        (
            {"LC_ALL": "C", "TZ": "UTC", "PYTHONHASHSEED": "1"},
            {"LC_ALL": "C.UTF-8", "TZ": "Asia/Tokyo", "PYTHONHASHSEED": "2", "TMPDIR": str(tmp_path)},
        )
    ):
        top = node(f"root{number}" + "/deeper" * number)
        image = tmp_path / f"out{number}.img"
        more = {"SOURCE_DATE_EPOCH": "1700000000", **env}
        result = mkinitrd(top, "-o", str(image), umask=0o077 * number, cwd=top if number else Path("/"), **more)
        assert result.returncode == 0, result.stderr
        assert image.stat().st_mode & 0o777 == 0o644
        made.append(image.read_bytes())
        # From the cache as well.
        assert mkinitrd(top, "-q", "-o", str(image), **more).returncode == 0
        made.append(image.read_bytes())
    assert made[0] == made[1] == made[2] == made[3]


def test_a_refused_list_leaves_the_old_image_and_names_what_is_near(node: Callable[[str], Path], mkinitrd: Run) -> None:
    top = node("root")
    assert mkinitrd(top).returncode == 0
    (image,) = (top / "boot").iterdir()
    before = image.read_bytes()
    (top / "etc/mkinitrd/modules").write_text("e1001\n")
    result = mkinitrd(top)
    assert result.returncode == 1
    assert "modules:1" in result.stderr
    assert "did you mean" in result.stderr
    assert result.stderr.count("\n") == 1
    assert image.read_bytes() == before
    assert list((top / "boot").iterdir()) == [image]


def test_missing_firmware_is_a_warning_with_the_package_and_an_error_when_strict(
    node: Callable[[str], Path], mkinitrd: Run
) -> None:
    top = node("root")
    result = mkinitrd(top, "-q")
    assert result.returncode == 0
    assert "r8169" in result.stderr
    assert "apt install firmware-realtek" in result.stderr
    (image,) = (top / "boot").iterdir()
    image.unlink()
    result = mkinitrd(top, "--strict")
    assert result.returncode == 1
    assert "firmware-realtek" in result.stderr
    assert not list((top / "boot").iterdir())


def test_an_old_name_a_builtin_and_realtek_are_explained_by_the_report(
    node: Callable[[str], Path], mkinitrd: Run
) -> None:
    top = node("root")
    (top / "etc/mkinitrd/modules").write_text("eepro100\nvirtio_pci\nr8169\n")
    result = mkinitrd(top, "--dry-run")
    assert "'eepro100' is called 'e100' today" in result.stdout
    assert "'virtio_pci' is built into" in result.stdout
    assert not list((top / "boot").iterdir())
    report = json.loads(mkinitrd(top, "--dry-run", "--report", "--json").stdout)
    why = {module["name"]: module["why"] for module in report["modules"]}
    assert why["realtek"] == "needed by r8169"
    assert why["e100"] == "the driver list"


def test_lz4_before_an_overlay_is_refused_with_the_reason(node: Callable[[str], Path], mkinitrd: Run) -> None:
    top = node("root")
    (top / "overlay").write_bytes(b"070701")
    result = mkinitrd(top, "-c", "lz4", "--overlay", str(top / "overlay"))
    assert result.returncode == 1
    assert "the kernel reads an lz4 stream to the end of the image" in result.stderr


def test_the_list_of_an_image_has_every_archive(node: Callable[[str], Path], mkinitrd: Run) -> None:
    top = node("root")
    assert mkinitrd(top).returncode == 0
    (image,) = (top / "boot").iterdir()
    said = mkinitrd(top, "--list", str(image)).stdout
    assert "archive 1: none" in said
    assert "zstd" in said
    for name in ("e1000.ko.xz", "e1000e.ko.xz", "realtek.ko.xz", "nfsv4.ko.xz", " init\n", "bin/busybox"):
        assert name in said
