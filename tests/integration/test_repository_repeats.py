"""Two runs with one SOURCE_DATE_EPOCH give the same bytes, signatures and all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from conftest import needs
from repositories import DATE, SmallRepository

from openssi_build import repository, signing, site
from openssi_build.settings import Repository, Signing

pytestmark = pytest.mark.integration


def files(top: Path) -> dict[str, tuple[int, bytes]]:
    """Return mode and content of each file, and of each link where it leads to; the lock is nobody's business."""
    return {
        path.relative_to(top).as_posix(): (
            path.lstat().st_mode,
            os.fsencode(path.readlink()) if path.is_symlink() else path.read_bytes() if path.is_file() else b"",
        )
        for path in top.rglob("*")
        if path.name != ".lock"
    }


def test_the_whole_tree_is_the_same_in_another_place_order_and_umask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs("gpg")
    made = SmallRepository(tmp_path)
    first = [made.deb("one"), made.deb("two", architecture="all"), made.deb("three", "1:2.0~rc1")]
    second = [made.deb("one", "2.0"), made.deb("four")]
    first.append(made.source("three", "2.0~rc1", ["three"]))
    settings = Repository(compress=("xz", "gz", "zst"))
    trees = []
    for number, place in enumerate(("here", "some/where/else")):
        repo, cache = tmp_path / place / "repo", tmp_path / place / "cache"
        umask = os.umask(0o077 if number else 0o022)
        try:
            for date, new in ((DATE, first), (DATE + 86400, second)):
                monkeypatch.setenv("SOURCE_DATE_EPOCH", str(date))
                with signing.signer(Signing(), tmp_path) as signer:
                    snapshot = repository.publish(
                        repo, new[:: -1 if number else 1], settings=settings, cache=cache, signer=signer
                    )
                    site.write(repo, snapshot, settings, signer.public_keys())
                assert snapshot.date == date
        finally:
            os.umask(umask)
        trees.append(files(repo))
    assert {name for name in trees[0] if name.endswith("InRelease")} > {"InRelease", "dists/trixie/InRelease"}
    one, other = trees
    assert sorted(one) == sorted(other)
    assert [name for name in one if one[name][1] != other[name][1]] == []
    assert [(name, oct(one[name][0]), oct(other[name][0])) for name in one if one[name][0] != other[name][0]] == []
