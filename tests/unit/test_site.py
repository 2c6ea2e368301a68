"""The page for people."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from repositories import Site

from openssi_build import site
from openssi_build.settings import Repository


@pytest.fixture
def published(tmp_path: Path) -> Site:
    made = Site(tmp_path)
    made.publish(made.deb("two", "1.9"), made.deb("two", "1.10"), made.deb("one", architecture="all"))
    return made


def test_the_page_lists_packages_by_name_and_newest_version_first(published: Site) -> None:
    rows = site.rows(published.repo, published.settings)
    assert [(row.name, row.version, row.architecture) for row in rows] == [
        ("one", "1.0", "all"),
        ("two", "1.10", "amd64"),
        ("two", "1.9", "amd64"),
    ]
    assert all((published.repo / row.path).is_file() for row in rows)


def test_what_the_page_offers_lies_beside_it_and_is_written_once(published: Site) -> None:
    snapshot = published.publish()
    settings = replace(published.settings, uri="http://cluster.example.org/ssi/", description="<b>Ours</b>")
    site.write(published.repo, snapshot, settings, b"")
    text = (published.repo / site.PAGE).read_text()
    for name in (site.SOURCES, site.PREFERENCES, "openssi-archive-keyring.gpg"):
        assert f'href="{name}"' in text
        assert (published.repo / name).exists()
    assert "wget -P /etc/apt/sources.list.d http://cluster.example.org/ssi/openssi.sources" in text
    assert "&lt;b&gt;Ours" in text
    assert "<script" not in text
    before = (published.repo / site.PAGE).stat()
    site.write(published.repo, snapshot, settings, b"")
    assert (published.repo / site.PAGE).stat().st_ino == before.st_ino


def test_without_an_address_the_page_says_what_to_put(published: Site) -> None:
    text = site.page(published.repo, published.publish(), Repository(), b"")
    assert "built without its public address" in text
