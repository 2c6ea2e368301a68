"""The page for people."""

from __future__ import annotations

import html.parser
import urllib.parse
from dataclasses import replace
from pathlib import Path

import pytest
from repositories import SmallRepository

from openssi_build import site
from openssi_build.settings import Repository


class Elements(html.parser.HTMLParser):
    """The elements of a page, each with its attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


@pytest.fixture
def published(tmp_path: Path) -> SmallRepository:
    made = SmallRepository(tmp_path)
    made.publish(made.deb("two", "1.9"), made.deb("two", "1.10"), made.deb("one", architecture="all"))
    return made


def test_the_page_lists_packages_by_name_and_newest_version_first(published: SmallRepository) -> None:
    rows = site.rows(published.repo)
    assert [(row.name, row.version, row.architecture) for row in rows] == [
        ("one", "1.0", "all"),
        ("two", "1.10", "amd64"),
        ("two", "1.9", "amd64"),
    ]
    assert all((published.repo / row.path).is_file() for row in rows)


def test_the_page_lists_sources_and_says_how_to_take_them(published: SmallRepository) -> None:
    source = published.source("two", "1.10-1", ["two"])
    text = site.page(published.repo, published.publish(source), published.settings, b"")
    [row] = site.rows(published.repo, "Sources")
    total = sum(path.stat().st_size for path in source.parent.iterdir())
    assert (row.name, row.version, row.architecture, row.size) == ("two", "1.10-1", "source", site.size(total))
    assert f'href="{row.path}"' in text
    assert row.path.endswith("/two_1.10-1.dsc")
    assert "3 packages, 1 source." in text
    assert "deb-src [signed-by=/usr/share/keyrings/openssi-archive-keyring.gpg] ADDRESS trixie main</pre>" in text
    assert "whose source is in Debian: one.</p>" in text


def test_what_the_page_offers_lies_beside_it_and_is_written_once(published: SmallRepository) -> None:
    snapshot = published.publish()
    settings = replace(published.settings, uri="http://cluster.example.org/ssi/", description="<b>Ours</b>")
    site.write(published.repo, snapshot, settings, b"")
    text = (published.repo / site.PAGE).read_text()
    for name in (site.SOURCES, site.PREFERENCES, "openssi-archive-keyring.gpg"):
        assert f'href="{name}"' in text
        assert (published.repo / name).exists()
    assert (
        "download-file http://cluster.example.org/ssi/openssi.sources /etc/apt/sources.list.d/openssi.sources\n" in text
    )
    assert "&lt;b&gt;Ours" in text
    assert "<script" not in text
    before = (published.repo / site.PAGE).stat()
    site.write(published.repo, snapshot, settings, b"")
    assert (published.repo / site.PAGE).stat().st_ino == before.st_ino


def test_without_an_address_the_page_says_what_to_put(published: SmallRepository) -> None:
    text = site.page(published.repo, published.publish(), Repository(), b"")
    assert "built without its public address" in text


def test_every_link_leads_to_a_file_and_nothing_comes_from_elsewhere(published: SmallRepository) -> None:
    snapshot = published.publish(published.deb("three", "1:2.0~rc1+b1"))
    settings = replace(published.settings, mirror="http://mirror.example.net/debian")
    site.write(published.repo, snapshot, settings, b"")
    text = (published.repo / site.PAGE).read_text()
    found = Elements(text).found
    links = [urllib.parse.unquote(attributes["href"] or "") for tag, attributes in found if tag == "a"]
    assert [link for link in links if not (published.repo / link).is_file()] == []
    offered = {path.relative_to(published.repo).as_posix() for path in published.repo.glob("pool/**/*.deb")}
    assert offered <= set(links)
    assert not {"script", "link", "img", "iframe", "object"} & {tag for tag, _ in found}
    assert "mirror.example.net" not in text
