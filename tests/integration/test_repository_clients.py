"""The repository as its clients have it: over http, by apt 2.6 and 3.0, with Debian beside it."""

from __future__ import annotations

import contextlib
import hashlib
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import needs
from gpgsigner import GpgSigner, PlainSigner
from rich.console import Console

from openssi.errors import Error
from openssi_build import archive, build, chroot, keys, repository, settings, signing, site, verify
from openssi_build.bench import pool
from openssi_build.repository import Snapshot
from openssi_build.verify import kept, trees, web
from openssi_build.verify.clients import Client

pytestmark = pytest.mark.integration


def keyring(repo: Path) -> bytes:
    return (repo / Path(archive.KEYRING).name).read_bytes()


@pytest.fixture(scope="module")
def uri(built_repo: Path) -> Iterator[str]:
    with web.serve(built_repo) as uri:
        yield uri


@pytest.fixture(scope="module")
def preferences(root: Path) -> str:
    return archive.preferences(settings.load(root).repository)


@pytest.fixture(scope="module")
def debian(built_repo: Path, uri: str, preferences: str, cache: Path) -> Iterator[Client]:
    """A trixie that has Debian's procps, and the repository as a source."""
    with chroot.Chroot(chroot.base(cache, "trixie", ["procps"])) as session:
        client = Client(session)
        client.use(uri, "trixie", keyring(built_repo), preferences=preferences)
        yield client


@pytest.fixture(scope="module", params=["bookworm", "trixie"])
def alone(request: pytest.FixtureRequest, cache: Path) -> Iterator[Client]:
    """A machine of each suite that has no source but the one of the test."""
    needs("mmdebstrap")
    with chroot.Chroot(chroot.base(cache, request.param)) as session:
        yield Client(session, debian=False)


def test_the_pin_downgrades_procps_and_without_it_debians_comes_back(debian: Client, uri: str) -> None:
    before = debian.installed("procps")
    assert before
    assert "openssi" not in before
    updated = debian.update()
    assert (updated.code, updated.complaints) == (0, [])
    policy = debian.policy("procps")
    assert "~openssi" in policy.candidate
    assert policy.priorities == {uri: 1001}
    down = debian.apt("dist-upgrade", "--yes", "--allow-downgrades", "--no-install-recommends")
    assert debian.installed("procps") == policy.candidate, down.text
    assert "DOWNGRADED" in down.text
    code, out, err = debian.chroot.status(["ps", "--node", "all"])
    assert (code, out) == (1, b"")
    assert b"this machine is not a node" in err
    (debian.chroot.path / "etc/apt/preferences.d/repository.pref").unlink()
    assert "~openssi" not in debian.policy("procps").candidate
    up = debian.apt("dist-upgrade", "--yes", "--no-install-recommends")
    assert debian.installed("procps") == debian.policy("procps").candidate, up.text
    assert "~openssi" not in debian.installed("procps")


def test_sources_come_by_deb_src(debian: Client, built_repo: Path) -> None:
    debian.update()
    for name in ("openssi", "procps"):
        (published,) = built_repo.glob(f"pool/**/{name}_*.dsc")
        _, version = published.stem.split("_")
        listed = debian.apt("showsrc", name, program="apt-cache").text
        (full,) = {
            line.split()[1]
            for line in listed.splitlines()
            if line.startswith("Version:") and line.split()[1].rpartition(":")[2] == version
        }
        debian.chroot.run(["sh", "-c", "rm -rf /srv/source; mkdir -p /srv/source"])
        argv = ["apt-get", "source", "--download-only", f"{name}={full}"]
        debian.chroot.run(["sh", "-c", 'cd /srv/source && exec "$@"', "sh", *argv], network=True, timeout=300)
        fetched = {path.name: path.read_bytes() for path in (debian.chroot.path / "srv/source").iterdir()}
        assert fetched[published.name] == published.read_bytes()
        assert len(fetched) > 1


def test_the_line_deb_uri_dot_works(alone: Client, built_repo: Path, uri: str, preferences: str) -> None:
    alone.use(uri, "trixie", keyring(built_repo), preferences=preferences)
    (alone.chroot.path / "etc/apt/sources.list.d/repository.sources").unlink()
    line = "etc/apt/sources.list.d/flat.list"
    alone.write(line, f"deb [signed-by=/etc/apt/keyrings/repository.gpg] {uri} ./\n")
    try:
        updated = alone.update()
        assert updated.code == 0, updated.text
        assert not [each for each in updated.complaints if "modernize" not in each]
        assert 1001 in alone.policy("openssi-archive-keyring").priorities.values()
        # The old guide's form of the pin does it too.
        host = uri.removeprefix("http://").partition(":")[0]
        alone.write("etc/apt/preferences.d/repository.pref", f'Package: *\nPin: origin "{host}"\nPin-Priority: 1001\n')
        assert 1001 in alone.policy("openssi-archive-keyring").priorities.values()
        assert alone.apt("install", "--yes", "openssi-archive-keyring").code == 0
        assert (alone.chroot.path / archive.KEYRING.lstrip("/")).read_bytes() == keyring(built_repo)
        assert alone.apt("purge", "--yes", "openssi-archive-keyring").code == 0
    finally:
        (alone.chroot.path / line).unlink()


def package(directory: Path, name: str, version: str, architecture: str = "amd64") -> Path:
    path = directory / f"{name}_{version}_{architecture}.deb"
    control = (
        f"Package: {name}\nVersion: {version}\nArchitecture: {architecture}\nMaintainer: A <a@example.org>\n"
        f"Description: {name}\n of which much\n can be said\n"
    )
    path.write_bytes(pool.deb(control, {f"usr/share/{name}/data": version.encode()}))
    return path


@pytest.mark.parametrize("form", ["xz", "gz", "zst"])
def test_both_apts_read_every_form_that_we_write(form: str, alone: Client, tmp_path: Path) -> None:
    needs("gpg")
    signer = GpgSigner(tmp_path / "gpg")
    wanted = settings.Repository(compress=(form,))
    repo, cache = tmp_path / "repo", tmp_path / "cache"
    # Enough packages for an index of several blocks.
    packages = [package(tmp_path, f"package-{hashlib.sha256(b'%d' % n).hexdigest()}", "1.0") for n in range(1200)]
    packages += [package(tmp_path, "everywhere", "1.0", "all")]
    repository.publish(repo, packages[:-1], settings=wanted, cache=cache, signer=signer)
    repository.publish(repo, packages, settings=wanted, cache=cache, signer=signer)
    with web.serve(repo) as uri:
        alone.use(uri, "trixie", signer.public_keys())
        updated = alone.update()
        assert (updated.code, updated.complaints) == (0, [])
        names = alone.apt("pkgnames", program="apt-cache").text.split()
        assert {path.name.partition("_")[0] for path in packages} <= set(names)
        assert "much" in alone.apt("show", "everywhere", program="apt-cache").text
        assert alone.apt("install", "--yes", "everywhere").code == 0
        alone.chroot.run(["dpkg", "--purge", "everywhere"])
    assert verify.check(trees.Directory(repo), "trixie", signer.public_keys()).faults == []


def test_clients_follow_while_the_key_is_rotated(alone: Client, root: Path, cache: Path, tmp_path: Path) -> None:
    needs("gpg")
    (tmp_path / "chroots").symlink_to(cache / "chroots")  # what is built with keys of a moment is not to stay
    with signing.Home() as home:  # a path that gpg-agent's socket fits into
        tree = home.path / "tree"
        tree.mkdir()
        repo = tmp_path / "repo"
        (tree / "openssi.toml").write_bytes((root / "openssi.toml").read_bytes())
        steps = [step for step in build.STEPS if step.name in ("openssi packages", "publish")]

        def publish(version: str) -> bytes:
            read = settings.load(tree)
            with signing.signer(read.signing, tree) as signer:
                made = build.Build(root, tmp_path, repo, read, signer, packages=[package(tmp_path, "one", version)])
                build.run(made, steps, Console(quiet=True))
                return signer.public_keys()

        def update(version: str) -> None:
            updated = alone.update()
            assert (updated.code, updated.complaints) == (0, [])
            assert alone.policy("one").candidate == version

        def install() -> str:
            assert alone.apt("install", "--yes", "openssi-archive-keyring").code == 0
            return alone.installed("openssi-archive-keyring")

        with web.serve(repo) as where:
            keys.make(tree, settings.load(tree))
            old = publish("1.0")
            alone.use(where, "trixie", old, deb_src=False)
            update("1.0")
            first = install()
            alone.use(where, "trixie", old, signed_by=archive.KEYRING, deb_src=False)
            keys.rotate(tree, settings.load(tree))
            publish("2.0")
            update("2.0")  # the client has only the old key as yet
            assert install() == f"{first}+k1"  # and now both
            keys.rotate(tree, settings.load(tree), finish=True)
            publish("3.0")
            update("3.0")
            # Who has missed the rotation is told so, and keeps what it had.
            alone.use(where, "trixie", old, deb_src=False)
            late = alone.update()
            assert any(line.startswith(("W:", "E:")) for line in late.complaints), late.text
            assert alone.apt("purge", "--yes", "openssi-archive-keyring").code == 0


def test_verify_sees_everything_right_with_both_apts(built_repo: Path, root: Path, cache: Path) -> None:
    said: list[str] = []
    verify.verify(
        str(built_repo),
        root=root,
        cache=cache,
        settings=settings.load(root),
        keyring=built_repo / Path(archive.KEYRING).name,
        say=said.append,
    )
    text = "\n".join(said)
    for apt in ("bookworm: apt 2.6", "trixie: apt 3.0"):
        for seen in (
            "updates without a complaint",
            "has priority 1001",
            "dist-upgrade took",
            "installed ",
            "goes on with the key",
        ):
            assert any(line.startswith(f"Debian {apt}") and seen in line for line in said), text
    assert "amd64: all dependencies are in Debian trixie or in the repository" in said


def test_verify_names_what_no_client_could_install(root: Path, cache: Path, tmp_path: Path) -> None:
    signer = GpgSigner(tmp_path / "gpg")
    (tmp_path / "keyring.gpg").write_bytes(signer.public_keys())
    path = tmp_path / "needy_1.0_all.deb"
    control = (
        "Package: needy\nVersion: 1.0\nArchitecture: all\nMaintainer: A <a@example.org>\n"
        "Depends: bash (>= 5), no-such-package | nor-this, bash (>= 99)\nDescription: needy\n"
    )
    path.write_bytes(pool.deb(control, {"usr/share/needy/data": b"x"}))
    wanted = settings.load(root)
    repository.publish(tmp_path / "repo", [path], settings=wanted.repository, cache=tmp_path, signer=signer)
    said: list[str] = []
    with pytest.raises(Error, match=r"repo: 2 faults"):
        verify.verify(
            str(tmp_path / "repo"),
            root=root,
            cache=cache,
            settings=wanted,
            keyring=tmp_path / "keyring.gpg",
            with_clients=False,
            say=said.append,
        )
    assert any("needy 1.0: Depends: no-such-package | nor-this" in line for line in said)
    assert any("needy 1.0: Depends: bash (>= 99)" in line for line in said)


def test_verify_sees_with_real_apt_that_the_pin_does_not_hold(root: Path, cache: Path, tmp_path: Path) -> None:
    needs("mmdebstrap")
    signer = GpgSigner(tmp_path / "gpg")
    (tmp_path / "keyring.gpg").write_bytes(signer.public_keys())
    other = settings.Repository(origin="Other")
    new = [package(tmp_path, "one", "1.0", "all")]
    repository.publish(tmp_path / "repo", new, settings=other, cache=tmp_path, signer=signer)
    said: list[str] = []
    with pytest.raises(Error, match="repo: 6 faults"):
        verify.verify(
            str(tmp_path / "repo"),
            root=root,
            cache=cache,
            settings=settings.load(root),
            keyring=tmp_path / "keyring.gpg",
            say=said.append,
        )
    faults = [line for line in said if line.startswith("fault: ")]
    for suite in ("Debian bookworm: apt 2.6", "Debian trixie: apt 3.0"):
        first, second, _ = (each for each in faults if suite in each)
        assert "the repository has priority 500, expected 1001" in first
        assert "dist-upgrade: one 1.0+planted1 became 1.0+planted1, expected 1.0" in second


@pytest.mark.parametrize(
    ("gone", "fault"),
    [
        ("pool/main/o/one/one_1.0_amd64.deb", "gone, but the Release of snapshot 1 names it"),
        ("by-hash/SHA256/*", "gone, but the Release of snapshot 1 names it"),
        ("snapshots/1/Packages.xz", "snapshots/1/Packages.xz: gone"),
    ],
)
def test_verify_misses_what_a_client_may_still_ask_for(gone: str, fault: str, tmp_path: Path) -> None:
    wanted = settings.Repository(keep=1)
    signer = PlainSigner()
    for version in ("1.0", "2.0"):
        new = [package(tmp_path, "one", version)]
        repository.publish(tmp_path / "repo", new, settings=wanted, cache=tmp_path, signer=signer)
    top = tmp_path / "repo"
    tree = trees.tree(str(top))
    assert kept.numbers(tree) == [1, 2]
    assert kept.faults(tree, [1, 2]) == []
    now = {path.resolve() for path in top.glob("*.xz")}
    inodes = {path.stat().st_ino for path in now}
    doomed = [path for path in top.glob(gone) if path.stat().st_ino not in inodes]
    assert doomed
    for path in doomed:
        path.unlink()
    assert any(fault in each for each in kept.faults(tree, [1, 2])), kept.faults(tree, [1, 2])
    # Nobody goes by a Release that is past its time.
    assert kept.faults(tree, [1, 2], now=time.time() + 40 * 86400) == []


@pytest.mark.parametrize(
    ("record", "fault"), [(None, "snapshots/1/snapshot.json: gone"), (b"{}", "snapshot 1: damaged")]
)
def test_verify_names_a_snapshot_whose_record_is_not_to_be_read(
    record: bytes | None, fault: str, tmp_path: Path
) -> None:
    new = [package(tmp_path, "one", "1.0")]
    repository.publish(tmp_path / "repo", new, settings=settings.Repository(), cache=tmp_path, signer=PlainSigner())
    path = tmp_path / "repo/snapshots/1/snapshot.json"
    path.unlink()
    if record is not None:
        path.write_bytes(record)
    [found] = kept.faults(trees.tree(str(tmp_path / "repo")), [1])
    assert found.startswith(fault)


def test_verify_asks_a_url_for_what_earlier_snapshots_name(root: Path, cache: Path, tmp_path: Path) -> None:
    signer = GpgSigner(tmp_path / "gpg")
    (tmp_path / "keyring.gpg").write_bytes(signer.public_keys())
    read = settings.load(root)
    wanted = replace(read, repository=replace(read.repository, keep=1))
    repo = tmp_path / "repo"

    def publish(version: str) -> Snapshot:
        new = [package(tmp_path, "one", version)]
        return repository.publish(repo, new, settings=wanted.repository, cache=tmp_path, signer=signer)

    def said(uri: str) -> list[str]:
        lines: list[str] = []
        with contextlib.suppress(Error):
            verify.verify(uri, root=root, cache=cache, settings=wanted, keyring=tmp_path / "keyring.gpg",
                          with_clients=False, say=lines.append)  # fmt: skip
        return lines

    publish("1.0")
    newest = publish("2.0")
    with web.serve(repo) as uri:
        assert "earlier snapshots: not checked: there is no snapshots.json, which inv build-repo writes" in said(uri)
        site.write(repo, newest, wanted.repository, signer.public_keys())
        assert "snapshots 1 to 2: all that clients may still ask for is there" in said(uri)
        old = repo / "pool/main/o/one/one_1.0_amd64.deb"
        old.write_bytes(old.read_bytes()[:-1] + b"?")
        [fault] = [line for line in said(uri) if line.startswith("fault: ")]
        assert re.fullmatch(
            rf"fault: {old.relative_to(repo)}: hash \S+… instead of .*, but the Release of snapshot 1 names it", fault
        )
        old.unlink()
        assert f"fault: {old.relative_to(repo)}: gone, but the Release of snapshot 1 names it" in said(uri)
    # What both trees and both snapshots name is told once.
    new = repo / "pool/main/o/one/one_2.0_amd64.deb"
    new.write_bytes(b"?")
    assert len([line for line in said(str(repo)) if line.startswith(f"fault: {new.relative_to(repo)}: ")]) == 1
    # And so is an older state of the whole, rightly signed.
    shutil.rmtree(repo / "dists")
    shutil.copytree(repo / "snapshots/1/dists", repo / "dists")
    assert "fault: dists/trixie/InRelease: not that of snapshot 2, the newest" in said(str(repo))


def test_verify_reads_a_url_and_finds_a_key_that_did_not_sign(root: Path, cache: Path, tmp_path: Path) -> None:
    signer = GpgSigner(tmp_path / "gpg")
    wanted = settings.load(root)
    new = [package(tmp_path, "one", "1.0")]
    repository.publish(tmp_path / "repo", new, settings=wanted.repository, cache=tmp_path, signer=signer)
    with web.serve(tmp_path / "repo") as uri:
        assert verify.check(trees.tree(uri), "trixie", signer.public_keys()).faults == []
        other = GpgSigner(tmp_path / "other").public_keys()
        faults = verify.check(trees.tree(uri), "trixie", other).faults
    assert "dists/trixie/InRelease: gpgv: signed by a key that is not in the keyring" in faults
    with pytest.raises(Error, match=r"dists/trixie/InRelease: .*refused"):
        verify.check(trees.tree(uri), "trixie", other)
