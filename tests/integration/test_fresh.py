"""`inv build-repo --fresh`: while one develops, what is published may be forgotten; what clients know may not."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import needs
from repositories import SmallRepository

from openssi.errors import Error
from openssi_build import build, repository, signing
from openssi_build.build import Build, Step
from openssi_build.settings import Settings, Signing

pytestmark = pytest.mark.integration


def test_a_repository_begins_again_with_what_it_refused(tmp_path: Path) -> None:
    site = SmallRepository(tmp_path)
    site.publish(site.deb("one", body=b"a"), site.deb("two"))
    other = site.deb("one", body=b"b")
    with pytest.raises(Error, match=r"dch -i in debian/changelog .* inv build-repo --fresh"):
        site.publish(other)
    repository.start_anew(site.repo)
    assert [path.name for path in site.repo.iterdir()] == [".lock"]
    snapshot = site.publish(other)
    assert (snapshot.number, snapshot.packages) == (1, 1)
    [deb] = site.repo.glob("pool/**/*.deb")
    assert deb.read_bytes() == other.read_bytes()


def test_what_was_interrupted_begins_again_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = SmallRepository(tmp_path)
    site.publish(site.deb("one", body=b"a"))
    rename = Path.rename

    def interrupted(self: Path, target: Path) -> Path:
        if self.name == "pool":
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        repository.start_anew(site.repo)
    monkeypatch.undo()
    assert site.publish(site.deb("two")).number == 1
    repository.start_anew(site.repo)
    assert site.publish(site.deb("one", body=b"b")).packages == 1


@pytest.fixture
def tree(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tree that builds one package, with other bytes each time."""
    needs("gpg", "gpgv")
    monkeypatch.delenv("OPENSSI_SIGNING_KEY", raising=False)
    (tmp_path / "kernels").symlink_to(root / "kernels")
    made = SmallRepository(tmp_path / "made")

    def make(build: Build) -> str:
        made.date += 1
        build.packages.append(made.deb("one", body=str(made.date).encode()))
        return "made"

    steps = [Step("packages", "1 s", make), *(step for step in build.STEPS if step.name == "publish")]
    monkeypatch.setattr(build, "STEPS", steps)
    return tmp_path


def build_once(tree: Path, settings: Settings | None = None, *, fresh: bool = False) -> None:
    build.build_repository(tree, tree / "cache", settings or Settings(), fresh=fresh)


def test_the_development_keys_repository_is_forgotten_when_asked(tree: Path) -> None:
    build_once(tree, fresh=True)  # where there is none yet, too
    with pytest.raises(Error, match="inv build-repo --fresh"):
        build_once(tree)
    build_once(tree, fresh=True)
    assert [each.number for each in repository.every(tree / "out/repo")] == [1]


def test_what_clients_may_know_is_never_forgotten(tree: Path) -> None:
    build_once(tree)
    before = (tree / "out/repo/InRelease").read_bytes()
    (tree / "gpg").mkdir(mode=0o700)
    with signing.Home(tree / "gpg", agent=False) as home:
        other = home.generate("Other <other@example.org>", expires="1y")
    theirs = Settings(signing=Signing(keys=(other,), home=tree / "gpg"))
    with pytest.raises(Error, match=r"^--fresh: the keys of \[signing\] sign .*/out/repo \(clients may know"):
        build_once(tree, theirs, fresh=True)
    assert (tree / "out/repo/InRelease").read_bytes() == before
    # Once published by a key of [signing], it is not for the development key to forget.
    repository.start_anew(tree / "out/repo")
    build_once(tree, theirs)
    with pytest.raises(Error, match=r"^--fresh: .*/InRelease: not signed by the development key"):
        build_once(tree, fresh=True)
    assert (tree / "out/repo/InRelease").exists()
