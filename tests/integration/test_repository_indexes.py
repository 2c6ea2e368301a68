"""What the indexes say, in every form, beside what apt-ftparchive says of the same pool; and what stays for how long."""

from __future__ import annotations

import gzip
import lzma
import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
import zstandard
from conftest import needs
from debian.deb822 import Deb822
from gpgsigner import GpgSigner
from repositories import DATE, SmallRepository

from openssi import run
from openssi.errors import Error
from openssi_build import repository
from openssi_build.bench import pool
from openssi_build.repository import release
from openssi_build.repository.retention import DAY
from openssi_build.settings import Repository

pytestmark = pytest.mark.integration


def unzstd(packed: bytes) -> bytes:
    with zstandard.ZstdDecompressor().stream_reader(packed, read_across_frames=True) as stream:
        return stream.read()


FORMS: dict[str, Callable[[bytes], bytes]] = {"xz": lzma.decompress, "gz": gzip.decompress, "zst": unzstd}


def test_every_form_that_is_configured_holds_what_release_lists(tmp_path: Path) -> None:
    site = SmallRepository(tmp_path, compress=tuple(FORMS))
    pool.generate(tmp_path / "made", 60)
    site.publish(*pool.debs(tmp_path / "made/pool"))
    listed = release.listed((site.repo / "dists/trixie/Release").read_bytes())
    plain = [name for name in listed if name.rpartition(".")[2] not in FORMS]
    assert {name.rpartition("/")[2] for name in plain} == {
        "Packages", "Sources", "Translation-en", "Contents-amd64", "Contents-arm64", "Contents-all"
    }  # fmt: skip
    for name in plain:
        for form, unpack in FORMS.items():
            text = unpack((site.repo / f"dists/trixie/{name}.{form}").read_bytes())
            assert (len(text), sha256(text).hexdigest()) == (listed[name].size, listed[name].sha256)


def test_one_form_alone_leaves_no_other(tmp_path: Path) -> None:
    site = SmallRepository(tmp_path, compress=("zst",))
    site.publish(site.deb("one"))
    forms = {path.suffix for path in site.repo.rglob("*") if path.name.startswith(("Packages", "Contents", "Sources"))}
    assert forms == {".zst"}


@pytest.fixture
def made(tmp_path: Path) -> SmallRepository:
    """A repository of a generated pool, in two publishes."""
    site = SmallRepository(tmp_path)
    pool.generate(tmp_path / "made", 150)
    packages = list(pool.debs(tmp_path / "made/pool"))
    site.publish(*packages[::2])
    site.publish(*packages)
    return site


def test_packages_say_what_apt_ftparchive_says(made: SmallRepository) -> None:
    needs("apt-ftparchive")
    theirs = run.output(["apt-ftparchive", "--arch", "amd64", "packages", "pool"], cwd=made.repo)

    def stanzas(text: str | bytes) -> dict[tuple[str, str], dict[str, str]]:
        found = {}
        for each in Deb822.iter_paragraphs(text, use_apt_pkg=False):
            fields = {name: str(value) for name, value in each.items() if name not in ("MD5sum", "SHA1", "SHA512")}
            found[each["Package"], each["Architecture"]] = fields
        return found

    ours, peers = stanzas(made.plain("dists/trixie/main/binary-amd64/Packages")), stanzas(theirs)
    assert ours.keys() == peers.keys()
    assert {architecture for _, architecture in ours} == {"amd64", "all"}
    translations = {each["Description-md5"]: each for each in Deb822.iter_paragraphs(
        made.plain("dists/trixie/main/i18n/Translation-en"), use_apt_pkg=False)}  # fmt: skip
    for key, peer in peers.items():
        own = ours[key]
        # The long description lies in Translation-en, by the hash that apt-ftparchive reckons too.
        translation = translations[own.pop("Description-md5")]
        assert (translation["Package"], translation["Description-en"]) == (key[0], peer.pop("Description"))
        assert own.pop("Description") == translation["Description-en"].split("\n")[0]
        assert own == peer


@pytest.mark.parametrize("architecture", ["amd64", "arm64"])
def test_contents_say_what_apt_ftparchive_says(architecture: str, made: SmallRepository) -> None:
    needs("apt-ftparchive")
    theirs = run.output(["apt-ftparchive", "--arch", architecture, "contents", "pool"], cwd=made.repo).decode()

    def lines(text: str) -> dict[str, set[str]]:
        pairs = (line.rsplit(None, 1) for line in text.splitlines())
        return {path: {place.rpartition("/")[2] for place in places.split(",")} for path, places in pairs}

    ours = [lines(made.plain(f"dists/trixie/main/Contents-{each}")) for each in (architecture, "all")]
    merged = {path: ours[0].get(path, set()) | ours[1].get(path, set()) for path in ours[0].keys() | ours[1].keys()}
    # Called like this, apt-ftparchive leaves the section out.
    assert merged == lines(theirs)
    stanzas = Deb822.iter_paragraphs(made.plain("Packages"), use_apt_pkg=False)
    sections = {f"{each['Section']}/{each['Package']}" for each in stanzas}
    assert {line.rsplit(None, 1)[1] for line in made.plain("dists/trixie/main/Contents-all").splitlines()} <= sections


def test_sources_name_every_file_with_its_hash(made: SmallRepository) -> None:
    sources = list(Deb822.iter_paragraphs(made.plain("dists/trixie/main/source/Sources"), use_apt_pkg=False))
    assert len(sources) > 1
    for each in sources:
        rows = [line.split() for line in each["Checksums-Sha256"].split("\n") if line.strip()]
        assert sum(name.endswith(".dsc") for _, _, name in rows) == 1
        for digest, size, name in rows:
            content = (made.repo / each["Directory"] / name).read_bytes()
            assert (len(content), sha256(content).hexdigest()) == (int(size), digest)


def test_adding_in_steps_gives_the_same_bytes_as_all_at_once(made: SmallRepository, tmp_path: Path) -> None:
    other = SmallRepository(tmp_path / "other")
    other.publish(*pool.debs(tmp_path / "made/pool"))
    for path in other.repo.rglob("*.xz"):
        if "snapshots" not in path.parts and "by-hash" not in path.parts and "pool" not in path.parts:
            assert path.read_bytes() == (made.repo / path.relative_to(other.repo)).read_bytes(), path


def test_without_its_cache_the_next_publish_goes_on_from_the_tree(made: SmallRepository, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "cache")
    before = made.plain("Packages")
    made.publish(made.deb("aaa"))
    added = "".join(f"{each}\n\n" for each in made.plain("Packages")[:-2].split("\n\n") if "Package: aaa\n" not in each)
    assert added == before


def test_two_runs_with_source_date_epoch_are_byte_for_byte_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs("gpg")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", str(DATE))
    signer = GpgSigner(tmp_path / "gpg")
    trees = []
    for name in ("first", "second"):
        site = SmallRepository(tmp_path / name, signer)
        for new in ([site.deb("one"), site.deb("two", architecture="all")], [site.deb("one", "2.0")]):
            repository.publish(site.repo, new, settings=site.settings, cache=site.base / "cache", signer=signer)
        found = (path for path in site.repo.rglob("*") if path.is_file() and path.name != ".lock")
        trees.append({str(path.relative_to(site.repo)): path.read_bytes() for path in found})
    assert b"BEGIN PGP SIGNATURE" in trees[0]["dists/trixie/InRelease"]
    assert trees[0] == trees[1]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda content: b"no package\n" * 9, "not a Debian package: no ar archive"),
        (lambda content: content[:-100], "truncated"),
        (lambda content: content[:-300] + bytes([content[-300] ^ 1]) + content[-299:], "damaged"),
        (lambda content: content.replace(b"data.tar.xz ", b"data.tar.qq "), "expected .xz, .zst, .gz or none"),
        (lambda content: b"", "not a Debian package"),
    ],
    ids=["other", "truncated", "bit", "unknown", "empty"],
)
def test_a_damaged_deb_is_named_and_nothing_is_published(
    damage: Callable[[bytes], bytes], said: str, tmp_path: Path
) -> None:
    site = SmallRepository(tmp_path)
    site.publish(site.deb("one"))
    bad = site.deb("two", body=bytes(range(256)) * 9)
    bad.write_bytes(damage(bad.read_bytes()))
    before = (site.repo / "dists/trixie/InRelease").read_bytes()
    with pytest.raises(Error, match=f"{bad}: .*{said}"):
        site.publish(site.deb("three"), bad)
    assert (site.repo / "dists/trixie/InRelease").read_bytes() == before
    assert [path.name for path in site.repo.rglob("*.deb")] == ["one_1.0_amd64.deb"]


def test_a_deb_in_the_pool_that_was_changed_since_is_named(tmp_path: Path) -> None:
    site = SmallRepository(tmp_path)
    site.publish(site.deb("one"))
    [published] = site.repo.glob("pool/**/*.deb")
    published.write_bytes(published.read_bytes()[:-1] + b"?")
    with pytest.raises(Error, match=f"{published}: not the file that was published"):
        site.publish(site.deb("two"))
    assert repository.newest(site.repo).number == 1  # type: ignore[union-attr]


def test_two_files_of_one_version_in_one_call_are_refused_naming_both(tmp_path: Path) -> None:
    site = SmallRepository(tmp_path)
    one = site.deb("one", body=b"a").rename(tmp_path / "mine.deb")
    other = site.deb("one", body=b"b")
    with pytest.raises(Error, match=f"{other}: one 1.0 amd64 .* but {one} is the same version"):
        site.publish(one, other)
    assert not (site.repo / "dists").exists()


def test_nothing_goes_that_a_release_in_someones_cache_names(tmp_path: Path) -> None:
    site = SmallRepository(tmp_path, keep=1, snapshots=1, by_hash_generations=3, valid_for_days=7)
    published: list[tuple[int, dict[str, release.Index], set[str]]] = []  # date, indexes and pool files of each Release
    gone = 0
    for step in range(24):
        site.date = DATE + step * DAY
        site.publish(site.deb("one", f"{step}.0"), site.deb("steady"))
        indexes = release.listed((site.repo / "dists/trixie/InRelease").read_bytes())
        stanzas = Deb822.iter_paragraphs(site.plain("Packages"), use_apt_pkg=False)
        published.append((site.date, indexes, {each["Filename"] for each in stanzas}))
        for date, _, names in published:
            if date + 7 * DAY >= site.date:
                assert all((site.repo / name).is_file() for name in names)
            else:
                gone += sum(not (site.repo / name).is_file() for name in names)
        for _, indexes, _ in published[-3:]:
            for name, index in indexes.items():
                if name.endswith(".xz"):
                    by_hash = (site.repo / "dists/trixie" / name).parent / "by-hash/SHA256" / index.sha256
                    assert len(by_hash.read_bytes()) == index.size
    assert gone > 0, "nothing was ever removed"
    assert len(list(site.repo.glob("pool/**/one_*.deb"))) < 12


def test_what_was_replaced_within_a_day_stays_by_hash(tmp_path: Path) -> None:
    site = SmallRepository(tmp_path, by_hash_generations=3)
    sizes = []
    for step in range(8):
        site.date = DATE + step * 3600
        site.publish(site.deb("one", f"{step}.0"))
        sizes.append(len(list(site.repo.glob("by-hash/SHA256/*"))))
    assert sizes == sorted(sizes)
    site.date = DATE + 3 * DAY
    site.publish(site.deb("one", "99.0"))
    # Three generations of Packages and en; Sources is the same in all.
    assert len(list(site.repo.glob("by-hash/SHA256/*"))) == 3 * 2 + 1


def test_settings_that_keep_too_little_are_refused() -> None:
    with pytest.raises(ValueError, match="'by-hash-generations': expected at least 3"):
        Repository(by_hash_generations=2)
