"""The repository of everything, as `inv build-repo` makes it."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import pytest
from conftest import needs
from debian.deb822 import Packages

from openssi import run
from openssi.netboot import media
from openssi_build import apt, build, chroot, netboot, settings, signing
from openssi_build.archive import KEYRING

pytestmark = pytest.mark.integration


def index(repo: Path) -> dict[str, str]:
    """Return the versions by name that the published amd64 index has."""
    import lzma

    text = lzma.decompress((repo / "dists/trixie/main/binary-amd64/Packages.xz").read_bytes())
    return {each["Package"]: each["Version"] for each in Packages.iter_paragraphs(text, use_apt_pkg=False)}


def test_our_packages_the_derived_and_the_kernel_are_published_and_signed(built_repo: Path, root: Path) -> None:
    versions = index(built_repo)
    control = (root / "debian/control").read_text()
    ours = set(re.findall(r"^Package: (\S+)$", control, re.MULTILINE))
    assert {*ours, "linux-image-amd64"} <= set(versions)
    assert "~openssi" in versions["procps"]
    signing.check_signature(built_repo / "dists/trixie/InRelease", built_repo / Path(KEYRING).name)


def test_the_boot_media_in_the_package_are_those_of_netboot_images(
    built_repo: Path, root: Path, cache: Path, tmp_path: Path
) -> None:
    needs("mcopy", "xorriso")
    (deb,) = built_repo.glob("pool/**/openssi-etherboot_*.deb")
    run.run(["dpkg-deb", "--extract", deb, tmp_path / "package"], timeout=60)
    rules = settings.load(root).repository
    found = netboot.fetch(cache, rules.suite, "amd64", apt.mirror(rules))
    made = media.make(tmp_path, media.parts(found.tree))
    packed = tmp_path / "package/usr/share/openssi/etherboot"
    assert sorted(packed.iterdir()) == sorted(packed / path.name for path in made)
    assert [path.read_bytes() == (packed / path.name).read_bytes() for path in made] == [True] * 3


def test_the_boot_media_come_with_the_licences_and_the_names_of_their_sources(built_repo: Path, tmp_path: Path) -> None:
    (deb,) = built_repo.glob("pool/**/openssi-etherboot_*.deb")
    sources = re.findall(r"(\S+) \(= \S+\)", run.output(["dpkg-deb", "--field", deb, "Built-Using"]).decode())
    assert sources == ["grub-efi-amd64-signed", "grub2", "ipxe", "shim", "shim-signed", "syslinux"]
    run.run(["dpkg-deb", "--extract", deb, tmp_path], timeout=60)
    licences = {
        path.name.split(".")[1]: (gzip.open if path.suffix == ".gz" else open)(path, "rt").read()
        for path in tmp_path.glob("usr/share/doc/openssi-etherboot/copyright.*")
    }
    named = {"grub-efi-amd64-bin": "GPL-3", "ipxe": "GPL-2", "shim-unsigned": "OpenSSL", "syslinux": "GPL-2"}
    assert {name: named[name] in text for name, text in licences.items()} == dict.fromkeys(named, True)


def test_the_same_tree_is_the_same_repository_at_once(
    built_repo: Path, root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chroot, "Chroot", lambda *_: pytest.fail("something was built again"))
    before = (built_repo / "dists/trixie/InRelease").read_bytes()
    assert build.repository_by_content(root, cache, settings.load(root)) == built_repo
    assert (built_repo / "dists/trixie/InRelease").read_bytes() == before


def test_a_client_installs_openssi_tools_and_runs_a_command(built_repo: Path, cache: Path) -> None:
    base = chroot.base(cache, "trixie", ["python3", "python3-zstandard", "man-db"])
    with chroot.Chroot(base) as client:
        client.copy_in(built_repo / "dists", "/srv/openssi/dists")
        (client.path / "srv/openssi/pool").mkdir()
        for deb in built_repo.glob("pool/**/openssi*.deb"):
            client.copy_in(deb, f"/srv/openssi/{deb.relative_to(built_repo)}")
        client.copy_in(built_repo / Path(KEYRING).name, KEYRING)
        source = f"deb [signed-by={KEYRING}] file:/srv/openssi trixie main\n"
        (client.path / "etc/apt/sources.list.d/local.list").write_text(source)
        local = ["-o", "Dir::Etc::SourceList=/etc/apt/sources.list.d/local.list", "-o", "Dir::Etc::SourceParts=-"]
        client.run(["apt-get", "update", *local], timeout=300)
        install = ["apt-get", "install", "--yes", "--no-install-recommends", "openssi-archive-keyring"]
        client.run(install, env={"DEBIAN_FRONTEND": "noninteractive"}, timeout=300)
        # The package's own key is the one that signed it, and its pin lets an older version win.
        client.run(["apt-get", "update", *local], timeout=300)
        # The pin of the package lets an older version win.
        policy = client.output(["apt-cache", "policy", *local, "procps"]).decode()
        candidate = policy.split("Candidate:")[1].split()[0]
        assert "~openssi" in candidate, policy
        client.run(["dpkg", "--unpack", *_inside(client, "openssi-tools")])
        code, out, err = client.status(["clusternode_num"])
        assert (code, out) == (1, b"")
        assert err.decode().startswith("clusternode_num: error: /run/ssi/nodenum: this machine is no node")
        assert b"print the number" in client.output(["man", "clusternode_num"], env={"MANPAGER": "cat"})


def _inside(client: chroot.Chroot, name: str) -> list[str]:
    return [f"/{path.relative_to(client.path)}" for path in client.path.glob(f"srv/openssi/pool/**/{name}_*.deb")]


def test_the_mirror_of_openssi_toml_wins_over_the_hosts() -> None:
    named = settings.Repository(mirror="http://mirror.example.org/debian/", security_mirror=None)
    assert apt.mirror(named) == apt.Mirror("http://mirror.example.org/debian", None)
