"""What old Releases name stays as long as a client may go by them, and not longer."""

from __future__ import annotations

import lzma
import re
from pathlib import Path

import pytest
from repositories import DATE, SmallRepository

from openssi_build import repository
from openssi_build.repository import release

pytestmark = pytest.mark.integration
DAY = 86400


def named(repo: Path) -> tuple[set[str], set[str]]:
    """Return the paths that the public Release leads to: index files by their hash, and packages."""
    top = "dists/trixie/"
    listed = release.listed((repo / f"{top}InRelease").read_bytes())
    indexes = {
        f"{top}{name.rpartition('/')[0]}/by-hash/SHA256/{index.sha256}"
        for name, index in listed.items()
        if name.endswith(".xz")
    }
    packages: set[str] = set()
    for name in listed:
        if name.endswith("/Packages.xz"):
            text = lzma.decompress((repo / top / name).read_bytes()).decode()
            packages.update(re.findall(r"^Filename: (\S+)", text, re.M))
    return indexes, packages


def at(site: SmallRepository, date: int, *new: Path) -> None:
    site.date = date - 1
    site.publish(*new)


@pytest.mark.parametrize("days", [30, 0])
def test_no_package_goes_that_a_release_names_which_a_client_may_still_have(tmp_path: Path, days: int) -> None:
    site = SmallRepository(tmp_path, keep=1, snapshots=2, valid_for_days=days)
    cached: list[tuple[int, set[str]]] = []  # what each Release names, and until when a client goes by it
    gone = 0
    for number in range(15):
        date = DATE + 5 * number * DAY
        at(site, date, site.deb("one", f"{number}.0"), site.deb(f"more{number % 3}", f"{number}.0"))
        if days == 0 and cached:
            # Without Valid-Until a client goes by the Release until it has seen the next one, thirty days at most.
            cached[-1] = (date + 30 * DAY, cached[-1][1])
        cached.append((date + days * DAY if days else 1 << 40, named(site.repo)[1]))
        for until, paths in cached:
            missing = {path for path in paths if not (site.repo / path).exists()}
            assert not missing or until < date, (number, missing)
            gone += bool(missing)
    assert gone, "nothing was ever removed"
    kept = {path.relative_to(site.repo).as_posix() for path in site.repo.glob("pool/**/*.deb")}
    assert kept <= set().union(*(paths for until, paths in cached if until >= date - 15 * DAY))


def test_index_files_stay_for_a_day_and_at_least_so_many_generations(tmp_path: Path) -> None:
    site = SmallRepository(tmp_path, by_hash_generations=3)
    every: list[set[str]] = []

    def there(indexes: set[str]) -> bool:
        return all((site.repo / path).exists() for path in indexes)

    for number in range(8):
        at(site, DATE + number * 3600, site.deb(f"one{number}"))
        every.append(named(site.repo)[0])
    assert [there(indexes) for indexes in every] == [True] * 8, "all of one day"
    for number in range(8, 12):
        at(site, DATE + number * 10 * DAY, site.deb(f"one{number}"))
        every.append(named(site.repo)[0])
    assert [there(indexes) for indexes in every] == [False] * 9 + [True] * 3


def test_a_rollback_finds_the_packages_of_every_snapshot_that_is_listed(tmp_path: Path) -> None:
    site = SmallRepository(tmp_path, keep=1, snapshots=3)
    for number in range(7):
        at(site, DATE + 20 * number * DAY, site.deb("one", f"{number}.0"))
    numbers = [each.number for each in repository.every(site.repo)]
    assert len(numbers) < 7
    for number in numbers:
        repository.rollback(
            site.repo, number, settings=site.settings, cache=tmp_path / "cache", signer=site.signer, date=site.date
        )
        assert named(site.repo)[1] == {f"pool/main/o/one/one_{number - 1}.0_amd64.deb"}
