"""Which version the packages get when keys or settings have changed since they were published."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from openssi_build import deb, revision

OLD, BOTH, NEW = (
    {"debian/archive/keyring.gpg": keys, "debian/archive/openssi.sources": b"x"} for keys in (b"o", b"on", b"n")
)
CHANGELOG = """openssi (3.0.0-1) trixie; urgency=medium

  * First.

 -- Us <us@example.org>  Mon, 23 Nov 2026 08:00:00 +0000
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "debian").mkdir()
    (tmp_path / "debian/changelog").write_text(CHANGELOG)
    return tmp_path


def publish(tree: Path, version: str, generated: Mapping[str, bytes]) -> None:
    path = tree / f"pool/main/o/openssi/openssi_{version}.debian.tar.xz"
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:xz") as tar:
        for name, content in {"debian/control": b"c", **generated}.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))


def version(tree: Path, generated: Mapping[str, bytes]) -> str:
    made = revision.revised(tree, tree / "pool", generated)
    text = made.pop("debian/changelog", CHANGELOG.encode())
    assert made == generated
    (tree / "again/debian").mkdir(parents=True, exist_ok=True)
    (tree / "again/debian/changelog").write_bytes(text)
    return deb.version(tree / "again").version


def test_each_other_set_of_keys_is_a_higher_version_and_the_same_one_is_the_same(tree: Path) -> None:
    assert version(tree, OLD) == "3.0.0-1"
    for number, keys in enumerate((OLD, BOTH, NEW, OLD)):
        expected = f"3.0.0-1+k{number}" if number else "3.0.0-1"
        assert version(tree, keys) == expected
        publish(tree, expected, keys)
        assert version(tree, keys) == expected
    publish(tree, "3.0.0-1+k10", NEW)
    assert version(tree, NEW) == "3.0.0-1+k10"
    assert version(tree, OLD) == "3.0.0-1+k11"


def test_a_new_version_of_the_tree_begins_without(tree: Path) -> None:
    publish(tree, "2.9.0-1+k4", OLD)
    publish(tree, "3.0.0-10", OLD)
    assert version(tree, NEW) == "3.0.0-1"


def test_the_entry_stands_above_the_others_with_a_date_of_its_own(tree: Path) -> None:
    publish(tree, "3.0.0-1", OLD)
    text = revision.revised(tree, tree / "pool", NEW)["debian/changelog"].decode()
    assert text.endswith("\n" + CHANGELOG)
    assert " -- Us <us@example.org>  Mon, 23 Nov 2026 08:00:01 +0000\n" in text
