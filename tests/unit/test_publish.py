"""What an address means, what goes in which order, and with which headers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from openssi import config
from openssi.errors import Error
from openssi_build import settings
from openssi_build.publish import targets, tree
from openssi_build.publish.directory import DirectoryTarget
from openssi_build.publish.objects import ObjectTarget
from openssi_build.publish.remote import RemoteTarget


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("./site", DirectoryTarget),
        ("/srv/with:colon", DirectoryTarget),
        ("web@www.example.org:/srv/openssi", RemoteTarget),
        ("www:openssi", RemoteTarget),
        ("ssh://www.example.org:2222/srv/openssi", RemoteTarget),
        ("s3://bucket/a/prefix", ObjectTarget),
    ],
)
def test_an_address_names_its_kind_of_target(address: str, kind: type, tmp_path: Path) -> None:
    assert isinstance(targets.open_target(targets.find([], address), tmp_path), kind)


@pytest.mark.parametrize("address", ["ftp://host/x", "ssh://host", "ssh:///x", "ssh://host:x/y", "ssh://[h/x", "s3://"])
def test_an_address_that_means_nothing_is_refused(address: str, tmp_path: Path) -> None:
    with pytest.raises(Error, match=re.escape(address)):
        targets.open_target(targets.find([], address), tmp_path)


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(Error, match=r"--to siet: .* \(there are: site\)"):
        targets.find([settings.Publish("site", "/srv")], "siet")


def test_targets_are_tables_of_openssi_toml() -> None:
    text = '[[publish]]\nname = "site"\nto = "/srv/www"\nwait-s = 5\n[[publish]]\nname = "store"\nto = "s3://b"\n'
    first, second = config.parse(text, settings.Settings, "t").publish
    assert (first.wait_s, second.to) == (5, "s3://b")
    with pytest.raises(Error, match=r"t: publish\[0\]: unknown key 'tos' \(did you mean 'to'\?"):
        config.parse('[[publish]]\nname = "site"\ntos = "x"\n', settings.Settings, "t")


PATHS = {
    "pool/main/o/one/InRelease.deb": "packages",
    "dists/trixie/main/netboot-amd64/6.12-1/images/linux": "packages",
    "snapshots/3/InRelease": "snapshots",
    "dists/trixie/main/by-hash/SHA256/0123": "by-hash",
    "by-hash/SHA256/0123": "by-hash",
    "Packages.xz": "indexes",
    "dists/trixie/main/netboot-amd64/current/images/linux": "indexes",
    "openssi.sources": "indexes",
    "dists/trixie/Release.gpg": "Release.gpg",
    "Release": "Release",
    "InRelease": "InRelease",
    "dists/trixie/InRelease": "InRelease",
}


def test_packages_come_first_and_inrelease_last(tmp_path: Path) -> None:
    for path in (*PATHS, ".lock", "dists/.hidden"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("x")
    items = tree.read(tmp_path)
    assert {path: item.phase for path, item in items.items()} == PATHS
    ordered = tree.in_order(items)
    assert [name for name, _ in ordered] == list(dict.fromkeys(PATHS.values()))
    headers = {name: {item.cache_control for item in found} for name, found in ordered}
    for name, (header,) in headers.items():
        assert ("immutable" in header) == (name in ("packages", "snapshots", "by-hash"))
        assert ("max-age=60" in header) == (name not in ("packages", "snapshots", "by-hash"))


def test_a_target_without_links_gets_the_current_boot_images_in_full(tmp_path: Path) -> None:
    images = tmp_path / "dists/trixie/main/netboot-amd64/6.12-1/images"
    images.mkdir(parents=True)
    (images / "linux").write_text("x")
    (images.parent.parent / "current").symlink_to("6.12-1")
    (tmp_path / "snapshots/1").mkdir(parents=True)
    (tmp_path / "snapshots/1/pool").symlink_to("../../pool")
    top = "dists/trixie/main/netboot-amd64"
    assert list(tree.read(tmp_path)) == [f"{top}/6.12-1/images/linux", f"{top}/current", "snapshots/1/pool"]
    assert list(tree.read(tmp_path, links=False)) == [f"{top}/6.12-1/images/linux", f"{top}/current/images/linux"]
