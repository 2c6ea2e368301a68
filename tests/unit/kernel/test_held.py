"""Which kernel the repository has: the newest at first, then the same one, until it is moved."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
from gpgsigner import PlainSigner
from repositories import SmallRepository

from openssi.errors import Error
from openssi_build import apt, build, kernels
from openssi_build.apt import Package
from openssi_build.build import Build
from openssi_build.settings import Initrd, Repository, Settings


class Mirror:
    """A mirror that moves on."""

    def __init__(self) -> None:
        self.versions = ["6.12.2-1"]
        self.downloads: list[str] = []

    def apt(self, cache: Path, suite: str, architecture: str, _: object = None) -> FakeApt:
        return FakeApt(self, cache, architecture)


class FakeApt:
    """What kernels asks of apt."""

    def __init__(self, mirror: Mirror, cache: Path, architecture: str) -> None:
        self.mirror, self.cache, self.architecture = mirror, cache, architecture

    def update(self, *, max_age: float = 0) -> None:
        pass

    def _package(self, word: str) -> Package:
        name, _, version = word.partition("=")
        version = version or self.mirror.versions[0]
        if version not in self.mirror.versions:
            raise Error(f"{word}: not in Debian")
        content = f"{name} {version}".encode()
        digest = hashlib.sha256(content).hexdigest()
        return Package(name, version, "amd64", f"{name}_{version}_amd64.deb", digest, name, version, "")

    def versions(self, name: str) -> list[Package]:
        return [self._package(f"{name}={version}") for version in self.mirror.versions]

    def show(self, words: Iterable[str]) -> dict[str, Package]:
        return {word: self._package(word) for word in words}

    def depends(self, word: str) -> str:
        version = self._package(word).version
        return f"linux-image-{version.partition('-')[0]}+deb13-amd64 (= {version})"

    def download(self, words: Sequence[str]) -> dict[str, Path]:
        paths = {}
        for word, package in self.show(words).items():
            paths[word] = self.cache.absolute() / "debs" / package.sha256 / package.filename
            paths[word].parent.mkdir(parents=True, exist_ok=True)
            paths[word].write_text(f"{package.name} {package.version}")
            self.mirror.downloads.append(package.filename)
        return paths


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> Mirror:
    mirror = Mirror()
    monkeypatch.setattr(apt, "Apt", mirror.apt)

    def unpack(cache: Path, deb: Path) -> Path:
        tree = cache / "trees" / deb.stem
        (tree / "boot").mkdir(parents=True, exist_ok=True)
        (tree / "boot" / f"vmlinuz-{deb.name.split('_')[0].removeprefix('linux-image-')}").touch()
        return tree

    monkeypatch.setattr(kernels, "unpack", unpack)
    return mirror


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    describe(root)
    return root


def describe(root: Path, more: str = "") -> None:
    (root / "kernels").mkdir(parents=True, exist_ok=True)
    text = f'package = "linux-image-amd64"\nsuite = "trixie"\n{more}'
    (root / "kernels/trixie-amd64.toml").write_text(text)


def pool(root: Path, cache: Path) -> None:
    """Move the packages from the cache to where the repository keeps them."""
    directory = root / "out/repo/pool/main/l/linux"
    directory.mkdir(parents=True)
    for deb in list((cache / "debs").glob("*/*.deb")):
        deb.rename(directory / deb.name)


def test_the_newest_is_taken_first_and_held_when_the_mirror_moves_on(
    mirror: Mirror, tree: Path, tmp_path: Path
) -> None:
    first = kernels.qualified(tree, tmp_path)
    assert first.abi == "6.12.2+deb13-amd64"
    assert [path.name for path in first.debs] == [
        "linux-image-6.12.2+deb13-amd64_6.12.2-1_amd64.deb", "linux-image-amd64_6.12.2-1_amd64.deb",
    ]  # fmt: skip
    mirror.versions = ["6.12.3-1"]
    assert kernels.qualified(tree, tmp_path) == first
    assert len(mirror.downloads) == 2


def test_the_packages_of_a_held_kernel_come_back_from_the_repository(
    mirror: Mirror, tree: Path, tmp_path: Path
) -> None:
    first = kernels.qualified(tree, tmp_path)
    pool(tree, tmp_path)
    mirror.versions = []
    again = kernels.qualified(tree, tmp_path)
    assert again == first
    assert all(path.exists() for path in again.debs)


def test_a_package_of_the_same_name_with_other_bytes_is_not_taken(mirror: Mirror, tree: Path, tmp_path: Path) -> None:
    kernels.qualified(tree, tmp_path)
    pool(tree, tmp_path)
    next((tree / "out/repo/pool").rglob("linux-image-6*.deb")).write_text("other")
    mirror.versions = []
    with pytest.raises(Error, match=r"linux-image-6.12.2\+deb13-amd64=6.12.2-1: held .*gone from cache, repository"):
        kernels.qualified(tree, tmp_path)


def test_a_held_kernel_that_is_gone_everywhere_is_an_error_with_the_remedy(
    mirror: Mirror, tree: Path, tmp_path: Path
) -> None:
    kernels.qualified(tree, tmp_path)
    for deb in (tmp_path / "debs").glob("*/*.deb"):
        deb.unlink()
    mirror.versions = ["6.12.3-1"]
    with pytest.raises(Error, match="inv qualify moves to the newest"):
        kernels.qualified(tree, tmp_path)
    before, now = kernels.qualify(tree, tmp_path)
    assert before is not None
    assert (before.version, now.version) == ("6.12.2-1", "6.12.3-1")
    assert kernels.qualified(tree, tmp_path).abi == "6.12.3+deb13-amd64"


def test_qualify_takes_a_version_that_is_asked_for(mirror: Mirror, tree: Path, tmp_path: Path) -> None:
    mirror.versions = ["6.12.3-1", "6.12.2-1"]
    assert kernels.qualified(tree, tmp_path).abi == "6.12.3+deb13-amd64"
    assert kernels.qualify(tree, tmp_path, version="6.12.2-1")[1].version == "6.12.2-1"
    assert kernels.qualified(tree, tmp_path).abi == "6.12.2+deb13-amd64"


def test_a_described_version_is_exactly_that_one(mirror: Mirror, tree: Path, tmp_path: Path) -> None:
    mirror.versions = ["6.12.3-1", "6.12.2-1"]
    kernels.qualified(tree, tmp_path)
    describe(tree, 'version = "6.12.2-1"\n')
    assert kernels.qualified(tree, tmp_path).abi == "6.12.2+deb13-amd64"
    with pytest.raises(Error, match=r"kernels/trixie-amd64.toml: version: fixed at 6.12.2-1 \(change it there\)"):
        kernels.qualify(tree, tmp_path)


def test_a_described_version_that_left_the_mirror_is_taken_from_the_cache(
    mirror: Mirror, tree: Path, tmp_path: Path
) -> None:
    describe(tree, 'version = "6.12.2-1"\n')
    first = kernels.qualified(tree, tmp_path)
    mirror.versions = ["6.12.3-1"]
    other = tmp_path / "clone"
    describe(other, 'version = "6.12.2-1"\n')
    assert kernels.qualified(other, tmp_path) == first


def test_a_described_version_that_is_nowhere_is_an_error_that_names_what_there_is(
    mirror: Mirror, tree: Path, tmp_path: Path
) -> None:
    mirror.versions = ["6.12.3-1", "6.12.2-1"]
    describe(tree, 'version = "6.12.1-1"\n')
    with pytest.raises(Error) as caught:
        kernels.qualified(tree, tmp_path)
    assert str(caught.value) == (
        "kernels/trixie-amd64.toml: linux-image-amd64 6.12.1-1: neither in the cache nor on the mirror of Debian trixie "
        "(the mirror has 6.12.3-1, 6.12.2-1: set version to one of them, or leave it out)"
    )


def test_an_image_with_another_hash_than_described_is_refused(mirror: Mirror, tree: Path, tmp_path: Path) -> None:
    describe(tree, f'sha256 = "{"0" * 64}"\n')
    with pytest.raises(Error, match=r"sha256: linux-image-6.12.2\+deb13-amd64_6.12.2-1_amd64.deb of the mirror has"):
        kernels.qualified(tree, tmp_path)
    describe(tree, 'sha256 = "12"\n')
    with pytest.raises(Error, match="key 'sha256': expected 64 hexadecimal digits"):
        kernels.qualified(tree, tmp_path)


def test_the_record_lies_in_the_repository_and_goes_where_it_goes(mirror: Mirror, tree: Path, tmp_path: Path) -> None:
    kernels.qualified(tree, tmp_path)
    mirror.versions = ["6.12.3-1"]
    pool(tree, tmp_path)
    clone, cache = tmp_path / "clone", tmp_path / "empty"
    describe(clone)
    (clone / "out").mkdir()
    (tree / "out/repo").rename(clone / "out/repo")
    assert kernels.qualified(clone, cache).abi == "6.12.2+deb13-amd64"


def test_the_repository_carries_the_kernels_of_the_boot_images(
    mirror: Mirror, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apt, "mirror", lambda _: None)
    mirror.versions = ["6.12.3-1", "6.12.2-1"]
    (tree / "kernels/before.toml").write_text('package = "linux-image-amd64"\nsuite = "trixie"\nversion = "6.12.2-1"\n')
    images = (Initrd("one", kernel="before"), Initrd("two", kernel="before", drivers=("e1000",)))
    made = Build(tree, tmp_path, tree / "out/repo", Settings(initrd=images), PlainSigner())  # type: ignore[arg-type]
    steps = {step.name: step for step in build.STEPS}
    assert steps["qualified kernels"].act(made) == "6.12.2+deb13-amd64"
    assert [path.name for path in made.packages] == [
        "linux-image-6.12.2+deb13-amd64_6.12.2-1_amd64.deb",
        "linux-image-amd64_6.12.2-1_amd64.deb",
    ]


def test_a_newer_kernel_that_is_published_already_is_named(
    mirror: Mirror, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apt, "mirror", lambda _: None)
    published = SmallRepository(tree / "out")
    made = Build(tree, tmp_path, published.repo, Settings(), PlainSigner())  # type: ignore[arg-type]
    step = next(step for step in build.STEPS if step.name == "qualified kernels")
    published.publish(*(published.deb("linux-image-amd64", version) for version in ("6.12.1-1", "6.12.2-1")))
    assert step.act(made) == "6.12.2+deb13-amd64"
    published.publish(published.deb("linux-image-amd64", "6.12.10-1"))
    with pytest.raises(
        Error, match=r"^linux-image-amd64 6\.12\.10-1 is published, newer than 6\.12\.2-1, .*inv rollback"
    ):
        step.act(made)
    made.fresh = True
    assert step.act(made) == "6.12.2+deb13-amd64"


@pytest.mark.parametrize(
    ("repository", "error"),
    [
        (Repository(suite="bookworm"), "of Debian trixie, but [repository] suite is bookworm"),
        (Repository(architectures=("arm64",)), "for amd64, but [repository] architectures are arm64"),
    ],
)
def test_a_kernel_that_the_repositorys_clients_cannot_have_is_refused(
    tree: Path, tmp_path: Path, repository: Repository, error: str
) -> None:
    with pytest.raises(Error) as caught:
        build.build_repository(tree, tmp_path / "cache", Settings(repository=repository))
    assert str(caught.value) == f"openssi.toml: initrd 'default': key 'kernel': trixie-amd64 is {error}"
    assert not (tree / "out").exists()
