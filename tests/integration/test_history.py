"""`inv snapshots` and `inv rollback` on a repository that grows."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from conftest import needs
from publishing import SignedRepository
from rich.console import Console

from openssi import run
from openssi.errors import Error
from openssi_build import history, repository, signing
from openssi_build.settings import Settings
from openssi_build.site import PAGE

pytestmark = pytest.mark.integration


@pytest.fixture
def site(tmp_path: Path) -> SignedRepository:
    """A repository with one 1.0, then 2.0 beside it, then two 1.0."""
    needs("gpg", "gpgv")
    with signing.signer(Settings().signing, tmp_path) as signer:
        site = SignedRepository(tmp_path, signer)
        site.add("one", "1.0")
        site.add("one", "2.0")
        site.add("two", "1.0")
    return site


def shown(repo: Path) -> str:
    stream = io.StringIO()
    history.show(repo, Console(file=stream, width=120))
    return stream.getvalue()


def names(repo: Path) -> set[str]:
    """Return what the public index offers, as Debian's apt-ftparchive would list it."""
    text = run.output(["xz", "--decompress", "--stdout", repo / "dists/trixie/main/binary-amd64/Packages.xz"]).decode()
    return {line.rpartition("/")[2] for line in text.splitlines() if line.startswith("Filename: ")}


def test_the_table_says_what_came_with_each_snapshot(site: SignedRepository) -> None:
    heading, *rows = shown(site.repo).splitlines()
    assert heading.split() == ["snapshot", "date", "packages", "changes"]
    assert [row.split()[0] for row in rows] == ["1", "2", "3"]
    assert rows[0].rstrip().endswith("first publish; +one 1.0")
    assert rows[1].rstrip().endswith("2 + 0 sources  +one 2.0")
    assert rows[2].rstrip().endswith("3 + 0 sources  +two 1.0")


def test_rollback_publishes_the_older_packages_signed_and_newer(site: SignedRepository, tmp_path: Path) -> None:
    said: list[str] = []
    snapshot = history.back(tmp_path, site.repo, site.base / "cache", Settings(), 1, say=said.append)
    assert (snapshot.number, snapshot.note, said) == (
        4,
        "back to 1",
        ["snapshot 4 has the packages and boot images of 1"],
    )
    assert names(site.repo) == {"one_1.0_amd64.deb"}
    text = (site.repo / PAGE).read_text()
    assert ("one_1.0_amd64.deb" in text, "one_2.0_amd64.deb" in text) == (True, False)
    run.run(["gpgv", "--keyring", site.keyring, site.repo / "dists/trixie/InRelease"])
    dates = [each.date for each in repository.every(site.repo)]
    assert dates == sorted(dates)
    (last,) = shown(site.repo).splitlines()[-1:]
    assert "back to 1; -one 2.0, -two 1.0" in last


def test_without_a_number_it_goes_to_the_one_before_and_there_and_back_again(
    site: SignedRepository, tmp_path: Path
) -> None:
    def back() -> set[str]:
        history.back(tmp_path, site.repo, site.base / "cache", Settings(), say=lambda _: None)
        return names(site.repo)

    assert back() == {"one_1.0_amd64.deb", "one_2.0_amd64.deb"}
    assert back() == {"one_1.0_amd64.deb", "one_2.0_amd64.deb", "two_1.0_amd64.deb"}


def test_it_goes_back_over_a_publish_of_boot_images_alone(site: SignedRepository, tmp_path: Path) -> None:
    with signing.signer(Settings().signing, tmp_path) as site.signer:
        for version in ("6.12-1", "6.12-2"):
            site.add_images(version)
    assert [row.rstrip().rpartition("  ")[2] for row in shown(site.repo).splitlines()[-2:]] == [
        "+netboot-amd64 6.12-1",
        "+netboot-amd64 6.12-2",
    ]
    history.back(tmp_path, site.repo, site.base / "cache", Settings(), say=lambda _: None)
    link = site.repo / "dists/trixie/main/netboot-amd64/current"
    assert str(link.readlink()) == "6.12-1"
    history.back(tmp_path, site.repo, site.base / "cache", Settings(), say=lambda _: None)
    assert str(link.readlink()) == "6.12-2"


def test_going_back_to_what_is_public_writes_nothing(site: SignedRepository, tmp_path: Path) -> None:
    said: list[str] = []
    before = (site.repo / "dists/trixie/InRelease").stat()
    snapshot = history.back(tmp_path, site.repo, site.base / "cache", Settings(), 3, say=said.append)
    assert (snapshot.number, snapshot.new) == (3, False)
    assert said == ["snapshot 3 has the packages and boot images of 3 already: nothing was written"]
    after = (site.repo / "dists/trixie/InRelease").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_an_unknown_snapshot_is_refused_with_those_that_are_there(site: SignedRepository, tmp_path: Path) -> None:
    with pytest.raises(Error, match=r"snapshots/9: no such snapshot \(there are: 1, 2, 3\)"):
        history.back(tmp_path, site.repo, site.base / "cache", Settings(), 9)


def test_where_nothing_is_published_the_remedy_is_named(tmp_path: Path) -> None:
    for ask in (shown, history.before):
        with pytest.raises(Error, match=r"nothing is published there \(inv build-repo\)"):
            ask(tmp_path)


def test_a_repository_of_one_publish_has_nothing_before_it(tmp_path: Path) -> None:
    needs("gpg")
    site = SignedRepository(tmp_path)
    site.add("one", "1.0")
    with pytest.raises(Error, match=r"no snapshot has other packages or boot images than the public one"):
        history.before(site.repo)
