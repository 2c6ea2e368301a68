"""A client that follows README or the guide, and then the package that brings and keeps its apt configuration."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from openssi_build import chroot
from openssi_build.archive import KEYRING
from openssi_build.chroot import Chroot

pytestmark = pytest.mark.integration

ADDRESS = "http://repository.example.org/openssi"
HERE = "file:/srv/openssi"
SOURCES = "etc/apt/sources.list.d/openssi.sources"
PREFERENCES = "etc/apt/preferences.d/openssi.pref"
GIVEN = "usr/share/openssi-archive-keyring"


class Client:
    """A Debian whose only repository is ours, on its own disk."""

    def __init__(self, session: Chroot, repo: Path) -> None:
        self.session, self.tree = session, session.path
        session.copy_in(repo / "dists", "/srv/openssi/dists")
        for deb in repo.glob("pool/**/openssi-archive-keyring_*.deb"):
            session.copy_in(deb, f"/srv/openssi/{deb.relative_to(repo)}")
        session.copy_in(repo / Path(KEYRING).name, f"/srv/openssi/{Path(KEYRING).name}")
        for path in (self.tree / "etc/apt/sources.list.d").iterdir():
            path.unlink()

    def write(self, path: str, text: str) -> None:
        (self.tree / path).write_text(text)

    def read(self, path: str) -> str:
        return (self.tree / path).read_text()

    def execute(self, lines: str) -> str:
        """Run shell lines with nobody to ask, as they stand in a document; return what they said."""
        script = lines.replace(ADDRESS, HERE).replace("apt install", "apt-get install --yes")
        code, out, err = self.session.status(["sh", "-ec", f"exec </dev/null; {script}"], timeout=300)
        said = (out + err).decode(errors="replace")
        assert code == 0, said
        return said

    def upgrade(self, change: str) -> None:
        """Install a newer package whose files ``change``, a command of sed's, has changed."""
        self.execute(
            "rm -rf /next /next.deb; dpkg-deb --raw-extract /srv/openssi/pool/main/o/openssi/*.deb /next\n"
            f"sed -i '{change}' /next/{GIVEN}/*; sed -i 's/^Version: .*/&+next/' /next/DEBIAN/control\n"
            "dpkg-deb --root-owner-group --build /next /next.deb; dpkg --install /next.deb"
        )


@pytest.fixture
def client(cache: Path, built_repo: Path) -> Iterator[Client]:
    with chroot.Chroot(chroot.base(cache, "trixie", ["python3", "python3-zstandard", "man-db"])) as session:
        yield Client(session, built_repo)


def blocks(text: str) -> list[str]:
    """Return the indented blocks of a document, dedented."""
    return [
        re.sub(r"(?m)^    ", "", block).strip() + "\n" for block in re.findall(r"(?:^    .*\n)+", text, re.MULTILINE)
    ]


def test_who_follows_readme_is_asked_nothing_and_kept_up_to_date(client: Client, root: Path) -> None:
    section = (root / "README.md").read_text().partition("## On a client\n")[2].partition("\n## ")[0]
    fetch, source, preference, install = blocks(section)
    client.execute(fetch)
    source = source.replace(ADDRESS, HERE)
    client.write(SOURCES, source)
    client.write(PREFERENCES, preference)
    update, keyring, *_ = install.splitlines()
    client.execute(f"{update}\n{keyring}\n{update}")
    assert (client.read(SOURCES), client.read(PREFERENCES)) == (source, preference)
    assert "~openssi" in client.execute("apt-cache policy procps").split("Candidate:")[1].split()[0]
    assert re.search(rf"^ *1001 {HERE} ", client.execute("apt-cache policy"), re.MULTILINE)
    # what is as the package would have written it follows the package; the address is this client's own
    client.upgrade("s/1001/1002/; s/deb deb-src/deb/")
    assert client.read(PREFERENCES) == client.read(f"{GIVEN}/openssi.pref")
    assert "Pin-Priority: 1002" in client.read(PREFERENCES)
    assert client.read(SOURCES) == source


def test_the_file_that_the_repository_offers_stays_as_it_was_edited(client: Client, built_repo: Path) -> None:
    client.session.copy_in(built_repo / Path(KEYRING).name, KEYRING)
    client.session.copy_in(built_repo / "openssi.sources", f"/{SOURCES}")
    edited = client.read(SOURCES).replace(ADDRESS, HERE).replace("Enabled: no\n", "")
    assert edited != client.read(SOURCES)
    client.write(SOURCES, edited)
    client.execute("apt-get update; apt-get install --yes openssi-archive-keyring; apt-get update")
    assert client.read(SOURCES) == edited
    assert "~openssi" in client.execute("apt-cache policy procps").split("Candidate:")[1].split()[0]


def test_what_the_package_wrote_it_keeps_up_to_date_and_takes_away(client: Client) -> None:
    client.execute("dpkg --install /srv/openssi/pool/main/o/openssi/*.deb")
    for path in (SOURCES, PREFERENCES):
        assert client.read(path) == client.read(f"{GIVEN}/{Path(path).name}")
    client.upgrade("s/deb deb-src/deb/")
    assert "Types: deb\n" in client.read(SOURCES)
    # what was removed or changed is the administrator's
    (client.tree / SOURCES).unlink()
    client.write(PREFERENCES, client.read(PREFERENCES).replace("1001", "990"))
    client.upgrade("s/1001/1002/")
    assert not (client.tree / SOURCES).exists()
    assert "Pin-Priority: 990" in client.read(PREFERENCES)
    client.execute("dpkg --purge openssi-archive-keyring")
    assert not (client.tree / PREFERENCES).exists()
    assert not (client.tree / "var/lib/openssi-archive-keyring").exists()
