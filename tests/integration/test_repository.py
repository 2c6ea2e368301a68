"""Publishing, seen from outside: files, signatures, and what other programs read."""

import lzma
import time
from pathlib import Path

import pytest
from conftest import needs
from gpgsigner import GpgSigner
from repositories import SmallRepository

from openssi import run
from openssi.errors import Error
from openssi_build import repository, signing
from openssi_build.repository import release

pytestmark = pytest.mark.integration


@pytest.fixture
def site(tmp_path: Path) -> SmallRepository:
    return SmallRepository(tmp_path)


def test_release_lists_every_index_with_its_plain_form_and_by_hash_has_it(site: SmallRepository) -> None:
    site.publish(site.deb("one"), site.deb("two", architecture="all"))
    for top in (site.repo / "dists/trixie", site.repo):
        listed = release.listed((top / "InRelease").read_bytes())
        assert {name.removesuffix(".xz") for name in listed} == {name for name in listed if not name.endswith(".xz")}
        for name, index in listed.items():
            if name.endswith(".xz"):
                path = top / name
                assert path.stat().st_size == index.size
                assert (path.parent / "by-hash/SHA256" / index.sha256).samefile(path)
                plain = lzma.decompress(path.read_bytes())
                assert len(plain) == listed[name.removesuffix(".xz")].size


def test_two_publishes_in_one_second_are_two_files_to_a_client_that_asks_by_date(site: SmallRepository) -> None:
    dates = []
    for name in ("one", "two", "three"):
        site.publish(site.deb(name))
        dates.append([int((site.repo / top / "InRelease").stat().st_mtime) for top in (".", "dists/trixie")])
    assert dates[0] < dates[1] < dates[2]
    assert all(first < second for first, second in zip(dates[0], dates[2], strict=True))


def test_xz_programs_read_what_we_write(site: SmallRepository) -> None:
    needs("xz")
    site.publish(site.deb("one"))
    for path in site.repo.rglob("*.xz"):
        assert run.output(["xz", "--decompress", "--stdout", path]) == lzma.decompress(path.read_bytes())


def test_nothing_new_rewrites_not_one_byte(site: SmallRepository) -> None:
    new = [site.deb("one"), site.deb("two")]
    first = site.publish(*new)

    def state() -> dict[Path, tuple[int, int, int]]:
        found = {path: path.lstat() for path in site.repo.rglob("*") if path.name != ".lock"}
        return {path: (status.st_ino, status.st_mtime_ns, status.st_ctime_ns) for path, status in found.items()}

    before = state()
    again = site.publish(*new)
    assert (again.number, again.new, state()) == (first.number, False, before)


def test_the_same_version_with_other_bytes_is_refused_naming_both(site: SmallRepository) -> None:
    site.publish(site.deb("one", body=b"a"))
    other = site.deb("one", body=b"b")
    with pytest.raises(Error, match=rf"{other}: one 1.0 amd64 .* but the published pool/main/o/one/one_1.0_amd64.deb"):
        site.publish(other)
    assert repository.newest(site.repo).number == 1  # type: ignore[union-attr]


def test_a_corrupt_deb_is_named_and_nothing_is_published(site: SmallRepository) -> None:
    site.publish(site.deb("one"))
    bad = site.deb("two")
    bad.write_bytes(bad.read_bytes()[:-100])
    with pytest.raises(Error, match=rf"{bad}: truncated"):
        site.publish(site.deb("three"), bad)
    assert [path.name for path in site.repo.rglob("*.deb")] == ["one_1.0_amd64.deb"]


def test_signatures_are_good_and_the_key_is_named(tmp_path: Path) -> None:
    needs("gpg", "gpgv")
    site = SmallRepository(tmp_path, GpgSigner(tmp_path / "gpg"))
    site.publish(site.deb("one"))
    keyring = tmp_path / "keyring.gpg"
    keyring.write_bytes(site.signer.public_keys())
    for top in (site.repo, site.repo / "dists/trixie"):
        run.run(["gpgv", "--keyring", keyring, top / "InRelease"])
        run.run(["gpgv", "--keyring", keyring, top / "Release.gpg", top / "Release"])
        assert len(release.fields((top / "InRelease").read_bytes())["Signed-By"]) == 40


def test_a_key_that_signs_no_more_signs_nothing_though_it_is_carried(tmp_path: Path) -> None:
    needs("gpg")
    with signing.Home() as home:
        old, new = (home.generate(f"{name} <{name}@example.org>", expires="1y") for name in ("old", "new"))
        site = SmallRepository(tmp_path, signing.Signer(home, [old, new]))
        site.date = int(time.time())  # not before the keys
        site.publish(site.deb("one"))
        site.signer = signing.Signer(home, [new], also=[home.export([old])])
        assert site.publish().number == 2
        said = run.output(
            ["gpg", "--homedir", home.path, "--batch", "--verify", "--status-fd", "1", site.repo / "InRelease"]
        )
        assert [line.split()[2] for line in said.decode().splitlines() if " VALIDSIG " in line] == [new]
        assert site.publish().number == 2
