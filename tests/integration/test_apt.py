"""Our own apt when Debian's mirror is away: the reason is said, and nothing is taken for fresh."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import needs
from gpgsigner import GpgSigner
from repositories import SmallRepository

from openssi.errors import Error
from openssi_build import apt, images

pytestmark = pytest.mark.integration


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SmallRepository]:
    """A small Debian of one package, trusted as Debian is."""
    needs("apt-get", "gpg")
    site = SmallRepository(tmp_path, GpgSigner(tmp_path / "gpg"), valid_for_days=0)
    site.publish(site.deb("one"))
    keyring = tmp_path / "debian.gpg"
    keyring.write_bytes(site.signer.public_keys())
    monkeypatch.setattr(apt, "KEYRING", keyring)
    monkeypatch.setattr(apt.Mirror, "sources", sources)
    monkeypatch.setattr(apt, "_unreachable", set())
    yield site


def sources(self: apt.Mirror, suite: str, *, deb_src: bool = False, component: str = "main") -> str:
    return f"Types: deb\nURIs: {self.archive}\nSuites: {suite}\nComponents: main\nSigned-By: {apt.KEYRING}\n"


def client(site: SmallRepository) -> apt.Apt:
    return apt.Apt(site.base / "client", "trixie", mirror=apt.Mirror(f"file:{site.repo}"))


def test_a_mirror_that_is_away_is_the_reason_and_is_asked_again(mirror: SmallRepository) -> None:
    away = mirror.repo.rename(mirror.base / "away")
    with pytest.raises(Error, match="trixie: apt-get update: "):
        client(mirror).show(["one"])
    away.rename(mirror.repo)
    assert client(mirror).show(["one"])["one"].version == "1.0"


def test_old_lists_serve_on_while_the_mirror_is_away_but_are_not_taken_for_new(
    mirror: SmallRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    client(mirror).update()
    stamp = client(mirror).root / "updated"
    os.utime(stamp, (1, 1))
    away = mirror.repo.rename(mirror.base / "away")
    assert client(mirror).show(["one"])["one"].version == "1.0"
    assert stamp.stat().st_mtime == 1
    away.rename(mirror.repo)
    mirror.publish(mirror.deb("one", "2.0"))
    assert client(mirror).show(["one"])["one"].version == "1.0", "asked twice in one run"
    monkeypatch.setattr(apt, "_unreachable", set())
    assert client(mirror).show(["one"])["one"].version == "2.0"


def test_firmware_that_debian_lacks_is_a_warning_and_firmware_that_cannot_be_fetched_an_error(
    mirror: SmallRepository,
) -> None:
    source = client(mirror)
    trees, problems = images._firmware(mirror.base / "client", ["firmware-none", "one"], source)
    assert len(trees) == 1
    assert [each.partition(" (")[0] for each in problems] == [
        "no firmware from firmware-none: firmware-none: not in Debian trixie"
    ]
    mirror.repo.rename(mirror.base / "away")
    os.utime(source.root / "updated", (1, 1))
    (next((mirror.base / "client/debs").glob("*/*.deb"))).unlink()
    with pytest.raises(Error, match="apt-get"):
        images._firmware(mirror.base / "client", ["one"], client(mirror))
