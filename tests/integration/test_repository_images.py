"""Boot images in the repository: public with the Release that lists them, kept as long as one does, and brought back."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from repositories import DATE, SmallRepository, missing_images

from openssi.errors import Error
from openssi_build import repository
from openssi_build.repository import release, snapshots
from openssi_build.settings import Repository

pytestmark = pytest.mark.integration
DAY = 86400
TOP = "dists/trixie/main/netboot-amd64"


@pytest.fixture
def site(tmp_path: Path) -> SmallRepository:
    """A repository that keeps one version, and has replaced the images v0 by v1."""
    site = SmallRepository(tmp_path, keep=1)
    site.publish(site.deb("one"), images=[site.images("v0")])
    site.publish(images=[site.images("v1")])
    return site


def tree(top: Path) -> dict[str, bytes]:
    """Return the files and links below ``top`` but the lock."""
    found = {}
    for path in top.rglob("*"):
        if path.is_symlink():
            found[str(path.relative_to(top))] = bytes(path.readlink())
        elif path.is_file() and path.name != ".lock":
            found[str(path.relative_to(top))] = path.read_bytes()
    return found


def current(site: SmallRepository) -> str:
    return str((site.repo / TOP / "current").readlink())


def lose_a_package(site: SmallRepository) -> list[Path]:
    next(site.repo.glob("pool/**/*.deb")).unlink()
    return []


def corrupt_package(site: SmallRepository) -> list[Path]:
    path = site.deb("broken")
    path.write_bytes(path.read_bytes()[:200])
    return [path]


def package_with_other_bytes(site: SmallRepository) -> list[Path]:
    return [site.deb("one", body=b"y")]


@pytest.mark.parametrize("cause", [lose_a_package, corrupt_package, package_with_other_bytes])
def test_a_publish_that_fails_leaves_the_boot_images_alone(
    site: SmallRepository, cause: Callable[[SmallRepository], list[Path]]
) -> None:
    new = cause(site)
    before = tree(site.repo)
    with pytest.raises(Error):
        site.publish(*new, images=[site.images("v2")])
    assert tree(site.repo) == before
    assert current(site) == "v1"


def test_a_signer_that_fails_leaves_the_boot_images_alone(
    site: SmallRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(data: bytes, date: int) -> bytes:
        raise Error("no key")

    new, before = site.images("v2"), tree(site.repo)
    monkeypatch.setattr(site.signer, "clearsign", refuse)
    with pytest.raises(Error, match="no key"):
        site.publish(site.deb("two"), images=[new])
    assert tree(site.repo) == before


@pytest.mark.parametrize("fails_at", range(2))
def test_a_disk_that_fails_while_names_change_brings_everything_back(
    site: SmallRepository, fails_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    link, left = snapshots.link, fails_at

    def failing(source: Path, target: Path) -> None:
        nonlocal left
        if target.name == "InRelease":
            left -= 1
            if left == -1:
                raise OSError(5, "Input/output error", str(target))
        link(source, target)

    before = tree(site.repo)
    monkeypatch.setattr(snapshots, "link", failing)
    with pytest.raises(Error, match="nothing was published"):
        site.publish(site.deb("two"), images=[site.images("v2")])
    after = tree(site.repo)
    # Indexes that no Release names are left to the next publish.
    strays = {path for path in after.keys() - before.keys() if "by-hash/" in path and not path.startswith(TOP)}
    assert {path: content for path, content in after.items() if path not in strays} == before


def test_a_version_with_other_files_is_refused(site: SmallRepository) -> None:
    before = tree(site.repo)
    with pytest.raises(Error, match=r"netboot-amd64/v1/images: published already with other files"):
        site.publish(site.deb("two"), images=[site.images("v1", b"other")])
    assert tree(site.repo) == before


def test_images_that_are_not_what_their_sums_say_are_refused(site: SmallRepository) -> None:
    images, before = site.images("v2"), tree(site.repo)
    (images.source / "linux").write_bytes(b"changed")
    with pytest.raises(Error, match=r"v2/linux: not what SHA256SUMS says"):
        site.publish(images=[images])
    assert tree(site.repo) == before


def test_the_same_images_are_not_published_twice(site: SmallRepository) -> None:
    before, images = tree(site.repo), site.images("v1")
    assert not site.publish(images=[images]).new
    assert tree(site.repo) == before


@pytest.mark.parametrize("version", ["v0-by-another-key", "v2-by-another-key"])
def test_the_same_files_under_another_version_become_current(site: SmallRepository, version: str) -> None:
    site.settings = Repository(architectures=("amd64", "arm64"), keep=2)
    images = site.images("v1")
    site.publish(images=[repository.Images(images.source, images.names, "amd64", version)])
    assert current(site) == version
    assert site.rollback(2).new
    assert current(site) == "v1"
    assert site.rollback(3).new
    assert current(site) == version


def test_an_architecture_that_the_repository_lacks_is_refused(site: SmallRepository) -> None:
    images = site.images("v2")
    with pytest.raises(Error, match="architecture riscv64: expected amd64, arm64"):
        site.publish(images=[repository.Images(images.source, images.names, "riscv64", "v2")])


def test_images_that_are_gone_are_named_and_nothing_is_published(site: SmallRepository) -> None:
    shutil.rmtree(site.repo / TOP / "v1")
    before = tree(site.repo)
    with pytest.raises(Error, match=r"v1/images/SHA256SUMS: published, but gone"):
        site.publish(site.deb("two"))
    assert tree(site.repo) == before


@pytest.mark.parametrize("days", [30, 0])
def test_no_image_goes_that_a_release_names_which_a_client_may_still_have(tmp_path: Path, days: int) -> None:
    site = SmallRepository(tmp_path, keep=2, snapshots=2, valid_for_days=days)
    cached: list[tuple[int, bytes]] = []  # Releases, and until when a client goes by them
    gone = 0
    for number in range(15):
        site.date = DATE + 5 * number * DAY
        site.publish(images=[site.images(f"v{number}")])
        if days == 0 and cached:
            cached[-1] = (site.date + 30 * DAY, cached[-1][1])
        cached.append(
            (site.date + days * DAY if days else 1 << 40, (site.repo / "dists/trixie/InRelease").read_bytes())
        )
        for until, signed in cached:
            lacking = missing_images(site.repo, signed)
            assert not lacking or until < site.date, (number, lacking)
            gone += bool(lacking)
    assert gone, "nothing was ever removed"
    there = {path.name for path in (site.repo / TOP).iterdir()}
    assert "v0" not in there
    assert there >= {"current", "v13", "v14"}


def test_of_publishes_within_seconds_every_release_stays_good(tmp_path: Path) -> None:
    site = SmallRepository(tmp_path, keep=3)
    signed = []
    for number in range(5):
        site.publish(images=[site.images(f"v{number}")])
        signed.append((site.repo / "dists/trixie/InRelease").read_bytes())
    assert [missing_images(site.repo, each) for each in signed] == [set()] * 5
    listed = {path.split("/")[2] for path in release.listed(signed[-1]) if "/netboot-" in path}
    assert listed == {"current", "v2", "v3", "v4"}


def test_rollback_brings_the_images_of_the_snapshot_back(tmp_path: Path) -> None:
    site = SmallRepository(tmp_path, keep=3)
    for number in range(5):
        site.publish(images=[site.images(f"v{number}")])
    latest = (site.repo / "dists/trixie/InRelease").read_bytes()
    assert site.rollback(1).new
    assert current(site) == "v0"
    signed = (site.repo / "dists/trixie/InRelease").read_bytes()
    assert {path.split("/")[2] for path in release.listed(signed) if "/netboot-" in path} == {"current", "v0"}
    assert missing_images(site.repo, signed) == missing_images(site.repo, latest) == set()
    assert not site.rollback(1).new
    assert site.rollback(5).new
    assert current(site) == "v4"
    # Made again as they were: current once more, though no version is new.
    site.publish(images=[site.images("v3")])
    assert current(site) == "v3"
    assert [row["changes"] for row in snapshots.table(site.repo)] == [
        "first publish; +netboot-amd64 v0",
        "+netboot-amd64 v1",
        "+netboot-amd64 v2",
        "+netboot-amd64 v3, -netboot-amd64 v0",
        "+netboot-amd64 v4, -netboot-amd64 v1",
        "back to 1; +netboot-amd64 v0, -netboot-amd64 v2, -netboot-amd64 v3, -netboot-amd64 v4",
        "back to 5; +netboot-amd64 v2, +netboot-amd64 v3, +netboot-amd64 v4, -netboot-amd64 v0",
        "netboot-amd64 v3 again",
    ]
    assert {row["packages"] for row in snapshots.table(site.repo)} == {"0 + 0 sources"}
