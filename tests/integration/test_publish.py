"""`inv publish` to a real directory, sshd and object storage, with apt clients at work and everything that goes wrong."""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest
from conftest import needs
from gpgsigner import GpgSigner
from publishing import Client, End, Proxy, SignedRepository, object_server, ssh_server, web_server

from openssi import run
from openssi.errors import Error
from openssi_build import chroot, settings
from openssi_build.publish import objects, publish, pull
from openssi_build.publish.publisher import STATE, Result
from openssi_build.publish.targets import Target

pytestmark = pytest.mark.integration
KINDS = ("directory", "ssh", "s3")
BIG = 3_000_000


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> GpgSigner:
    needs("gpg", "gpgv")
    return GpgSigner(tmp_path_factory.mktemp("gpg"))


@pytest.fixture
def site(tmp_path: Path, signer: GpgSigner) -> SignedRepository:
    return SignedRepository(tmp_path, signer)


@pytest.fixture(params=KINDS)
def end(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[End]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    if request.param == "directory":
        with web_server(tmp_path / "www") as uri:
            yield End(settings.Publish("www", str(tmp_path / "www"), wait_s=60), uri)
    elif request.param == "ssh":
        needs("ssh", "sshd", "rsync")
        with ssh_server(tmp_path / "ssh") as chosen, web_server(tmp_path / "ssh/site") as uri:
            yield End(chosen, uri)
    else:
        with object_server() as chosen:
            yield End(chosen, f"{chosen.endpoint}/{chosen.to.removeprefix('s3://')}")


def bring(site: SignedRepository, end: End, **options: object) -> Result:
    with end.open() as target:
        return publish(site.repo, target, site.settings, **options)  # type: ignore[arg-type]


def noise(size: int) -> bytes:
    """Bytes that no compressor makes smaller."""
    return random.Random(size).randbytes(size)


def test_a_client_that_updates_all_the_time_sees_no_error(end: End, site: SignedRepository, cache: Path) -> None:
    site.add("probe", "1.0")
    site.add("other", "1:2.0+b1~rc1")
    bring(site, end)
    with chroot.Chroot(chroot.base(cache, "trixie")) as session:
        with Client(session, end.uri, site.keyring) as client:
            client.go_round(1)
            for number in range(2, 7):
                site.add("probe", f"{number}.0", noise(100_000))
                site.add(f"more{number}", "1.0+dfsg~1")
                bring(site, end)
                client.go_round(1)
            client.go_round(1)
        assert client.said == b""
        assert client.seen() == "6.0"
        packages = session.output(["apt-get", "-qq", "--print-uris", "download", "more6", "other"], network=True)
        assert packages.count(b"SHA256:") == 2
        session.run(["sh", "-c", "cd /tmp && apt-get -qq download more6 other"], network=True)


def test_publishes_in_one_second_are_different_files_to_a_client_that_asks_by_date(
    end: End, site: SignedRepository
) -> None:
    dates = set()
    for number in range(4):
        site.add("probe", f"{number}.0")
        bring(site, end)
        with urlopen(f"{end.uri}/dists/trixie/InRelease", timeout=30) as answer:
            dates.add(answer.headers["Last-Modified"])
    assert len(dates) == 4


def test_the_second_time_nothing_is_uploaded_and_a_dry_run_writes_nothing(end: End, site: SignedRepository) -> None:
    site.add("probe", "1.0")
    would = bring(site, end, dry_run=True)
    with end.open() as target:
        assert target.listing() == {}
        assert target.read(STATE) is None
    first = bring(site, end)
    assert [item.path for item in first.uploads] == [item.path for item in would.uploads]
    again = bring(site, end)
    assert (again.uploads, again.kept) == ([], len(first.uploads))


def test_what_the_tree_drops_stays_until_no_client_can_name_it(end: End, site: SignedRepository) -> None:
    site.settings = replace(site.settings, keep=1, by_hash_generations=3, snapshots=1, valid_for_days=1)
    for number in range(1, 4):
        site.add("probe", f"{number}.0")
        bring(site, end)
    gone = "pool/main/p/probe/probe_1.0_amd64.deb"
    # A tree that has thrown the old package away, as it does when no Release that names it is valid any longer.
    (site.repo / gone).unlink()
    now = time.time()
    result = bring(site, end, now=lambda: now)
    assert (result.doomed, result.deleted) == ([gone], [])
    result = bring(site, end, now=lambda: now + 86400 - 5)
    assert result.deleted == []
    with end.open() as target:
        assert gone in target.listing()
    result = bring(site, end, now=lambda: now + 86400 + 5)
    assert (result.doomed, result.deleted) == ([], [gone])
    with end.open() as target:
        assert gone not in target.listing()
        assert "pool/main/p/probe/probe_3.0_amd64.deb" in target.listing()
        assert json.loads(target.read(STATE) or b"") == {"doomed": {}}


def test_a_publisher_that_does_not_descend_from_what_is_there_is_refused_and_pull_helps(
    end: End, site: SignedRepository, tmp_path: Path, signer: GpgSigner
) -> None:
    site.add("probe", "1.0")
    bring(site, end)
    (tmp_path / "b").mkdir()
    other = SignedRepository(tmp_path / "b", signer)
    other.add("later", "1.0")
    with pytest.raises(Error, match=r"does not descend from \(inv pull --from "):
        bring(other, end)
    with end.open() as target:
        before = target.listing()
        assert not any("later" in path for path in before)
        said = pull(other.repo, target, other.settings, other.keyring)
    assert said == "snapshot 1 with 1 packages"
    other.add("later", "1.0")
    bring(other, end)
    with end.open() as target:
        assert {path for path in target.listing() if path.endswith(".deb")} == {
            "pool/main/p/probe/probe_1.0_amd64.deb",
            "pool/main/l/later/later_1.0_amd64.deb",
        }
        assert pull(other.repo, target, other.settings, other.keyring).startswith("this tree descends")


def test_pull_believes_no_package_and_no_key_but_ours(end: End, site: SignedRepository, tmp_path: Path) -> None:
    site.add("probe", "1.0", b"good")
    bring(site, end)
    stranger = GpgSigner(tmp_path / "stranger")
    strange = tmp_path / "strange.gpg"
    strange.write_bytes(stranger.public_keys())
    mine = tmp_path / "mine"
    with end.open() as target, pytest.raises(Error, match=r"InRelease: .*(public key|signature)"):
        pull(mine, target, site.settings, strange)
    with end.open() as target:
        target.write("pool/main/p/probe/probe_1.0_amd64.deb", b"evil")
        with pytest.raises(Error, match="its hash is not the one that its Release names"):
            pull(mine, target, site.settings, site.keyring)
    assert not mine.exists()


def test_boot_images_go_along_and_come_back_by_pull(end: End, site: SignedRepository, tmp_path: Path) -> None:
    site.add("probe", "1.0")
    for version in ("6.12-1", "6.12-2"):
        site.add_images(version)
        bring(site, end)
    top = "dists/trixie/main/netboot-amd64"
    with urlopen(f"{end.uri}/{top}/current/images/linux") as answer:
        assert answer.read() == b"6.12-2"
    fresh = tmp_path / "fresh"
    with end.open() as target:
        pull(fresh, target, site.settings, site.keyring)
    assert str((fresh / top / "current").readlink()) == "6.12-2"
    assert (fresh / top / "6.12-1/images/linux").read_text() == "6.12-1"
    with end.open() as target:
        assert publish(fresh, target, site.settings).uploads == []
        target.write(f"{top}/6.12-1/images/linux", b"wicked")
        with pytest.raises(Error, match="linux: its hash is not"):
            pull(tmp_path / "again", target, site.settings, site.keyring)


class Tampering:
    """A target that goes on as another one, but whose disk changes a byte of what it is given."""

    def __init__(self, inner: Target) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> object:
        return getattr(self.inner, name)

    def put(self, items, advance) -> None:  # type: ignore[no-untyped-def]
        self.inner.put(items, advance)
        for item in items:
            if item.path.endswith(".deb"):
                self.inner.write(item.path, bytes(item.size))


def test_a_byte_that_changed_on_the_way_never_becomes_public(end: End, site: SignedRepository) -> None:
    site.add("probe", "1.0")
    with end.open() as target, pytest.raises(Error, match=r"probe_1.0_amd64.deb has other bytes there"):
        publish(site.repo, Tampering(target), site.settings)  # type: ignore[arg-type]
    with end.open() as target:
        assert target.read("dists/trixie/InRelease") is None
        assert not any(path.endswith(".deb") for path in target.listing())
    bring(site, end)


@pytest.mark.parametrize("end", ["ssh", "s3"], indirect=True)
def test_a_connection_that_is_cut_leaves_the_old_repository_and_the_next_run_goes_on(
    end: End, site: SignedRepository, cache: Path
) -> None:
    site.add("probe", "1.0")
    bring(site, end)
    site.add("probe", "2.0")
    for number in range(4):
        site.add(f"big{number}", "1.0", noise(BIG + number))
    url = urlsplit(end.chosen.endpoint or end.chosen.to)
    assert url.port
    with end.open() as target:
        public = target.read("dists/trixie/InRelease")
    with Proxy(url.port, budget=2 * BIG) as proxy:
        cut = url._replace(netloc=url.netloc.replace(str(url.port), str(proxy.port))).geturl()
        chosen = replace(end.chosen, endpoint=cut, uploads=2) if end.chosen.endpoint else replace(end.chosen, to=cut)
        if chosen.known_hosts:
            known = chosen.known_hosts.with_name("known-proxy")
            known.write_text(chosen.known_hosts.read_text().replace(str(url.port), str(proxy.port)))
            chosen = replace(chosen, known_hosts=known)
        with pytest.raises(Error, match=r"goes on where it stopped|the connection broke"):
            bring(site, End(chosen, end.uri))
    with end.open() as target:
        assert target.read("dists/trixie/InRelease") == public
    if not end.chosen.endpoint:
        result = bring(site, end)
    else:
        # The cut publisher could not give its lock back: it is taken over once it shows no sign of life.
        with pytest.raises(Error, match="locked by"):
            bring(site, End(replace(end.chosen, wait_s=0), end.uri))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(objects, "_STALE", 1)
            result = bring(site, end)
    assert result.kept > 0
    with chroot.Chroot(chroot.base(cache, "trixie")) as session:
        with Client(session, end.uri, site.keyring) as client:
            client.go_round(1)
        assert (client.said, client.seen()) == (b"", "2.0")


@pytest.mark.parametrize("kind", ["directory", "ssh"])
def test_a_full_disk_leaves_the_old_repository_and_with_more_room_it_goes_on(
    kind: str, site: SignedRepository, tmp_path: Path, root: Path
) -> None:
    needs("unshare", *(["sshd", "rsync"] if kind == "ssh" else []))
    site.add("probe", "1.0")
    shutil.copytree(site.repo, tmp_path / "old", symlinks=True)
    for number in range(4):
        site.add(f"big{number}", "1.0", noise(BIG + number))
    # In a mount namespace of its own, where a small filesystem can be mounted without touching the machine.
    namespace = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"])]
    program = [sys.executable, str(root / "tests/full_disk.py"), kind, str(tmp_path)]
    assert run.output([*namespace, *program], timeout=300) == b"the old one stayed, then the new one came\n"


def test_two_publishers_at_a_time_lose_no_package(
    end: End, site: SignedRepository, tmp_path: Path, root: Path, signer: GpgSigner
) -> None:
    site.add("probe", "1.0")
    bring(site, end)
    environment = dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), "test")
    (tmp_path / "target.json").write_text(
        json.dumps({name: str(value) for name, value in vars(end.chosen).items() if value})
    )
    names = ("alpha", "beta")
    logs = [tmp_path / f"{name}.log" for name in names]
    both = [
        run.start(
            [sys.executable, root / "tests/one_publisher.py", name, tmp_path, signer.home], env=environment, log_to=log
        )
        for name, log in zip(names, logs, strict=True)
    ]
    try:
        assert [process.wait(timeout=300) for process in both] == [0, 0], [log.read_text() for log in logs]
    finally:
        for process in both:
            run.stop(process)
    with end.open() as target:
        published = {Path(path).name.split("_")[0] for path in target.listing() if path.endswith(".deb")}
        assert published == {"probe"} | {f"{name}{number}" for name in names for number in range(3)}
        fresh = tmp_path / "fresh"
        assert pull(fresh, target, site.settings, site.keyring) == "snapshot 7 with 7 packages"
    assert any("waiting for" in log.read_text() or "does not descend" in log.read_text() for log in logs)
