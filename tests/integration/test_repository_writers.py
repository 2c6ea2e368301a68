"""What writers promise: one at a time, killed at any moment, on a full disk, with readers all the while."""

from __future__ import annotations

import os
import random
import re
import sys
import time
from pathlib import Path
from subprocess import Popen

import pytest
from conftest import needs
from gpgsigner import GpgSigner
from publishing import Client, web_server
from repositories import AsApt, SmallRepository, missing_images

from openssi import files, run
from openssi_build import chroot, repository, verify
from openssi_build.settings import Repository
from openssi_build.verify import clients, trees

pytestmark = pytest.mark.integration
KILLS = 12
PUBLISHES = 100


@pytest.fixture
def site(tmp_path: Path) -> SmallRepository:
    needs("gpg")
    made = SmallRepository(tmp_path, GpgSigner(tmp_path / "gpg"))
    (tmp_path / "keyring.gpg").write_bytes(made.signer.public_keys())
    return made


def writer(
    root: Path, site: SmallRepository, name: str, first: int, count: int, size: int = 10
) -> tuple[Popen[bytes], Path]:
    log = site.base / f"{name}-{first}.log"
    words = (name, str(first), str(count), str(size))
    argv: list[str | Path] = [sys.executable, root / "tests/one_writer.py", site.base, site.base / "gpg", *words]
    return run.start(argv, log_to=log), log


def wait_for(log: Path, pattern: str, process: Popen[bytes]) -> None:
    deadline = time.monotonic() + 300
    while not re.search(pattern, log.read_text()):
        assert time.monotonic() < deadline, log.read_text()
        assert process.poll() is None, log.read_text()
        time.sleep(0.02)


def names(repo: Path) -> set[str]:
    return {path.name.partition("_")[0] for path in repo.glob("pool/**/*.deb")}


def test_a_second_writer_waits_and_is_told_who_holds_the_lock(site: SmallRepository, root: Path) -> None:
    with files.lock(site.repo / ".lock"):
        process, log = writer(root, site, "late", 1, 1)
        try:
            wait_for(log, rf"^waiting for \S+ pid {os.getpid()} since ", process)
        except BaseException:
            run.stop(process)
            raise
        assert not (site.repo / "dists").exists()
    assert process.wait(timeout=300) == 0, log.read_text()
    assert names(site.repo) == {"late-1"}


def test_writers_side_by_side_lose_nothing(site: SmallRepository, root: Path) -> None:
    both = [writer(root, site, name, 0, 4) for name in ("alpha", "beta")]
    try:
        assert [process.wait(timeout=300) for process, _ in both] == [0, 0], [log.read_text() for _, log in both]
    finally:
        for process, _ in both:
            run.stop(process)
    newest = repository.newest(site.repo)
    assert newest
    assert (newest.number, newest.packages) == (8, 8)
    every = {f"{name}-{number}" for name in ("alpha", "beta") for number in range(4)}
    assert names(site.repo) == every
    top = site.repo / "dists/trixie/main/netboot-amd64"
    assert {path.name for path in top.iterdir()} == {"current", *every}
    for snapshot in repository.every(site.repo):
        signed = (site.repo / snapshot.directory / "dists/trixie/InRelease").read_bytes()
        assert missing_images(site.repo, signed) == set(), snapshot.number


def test_a_writer_killed_at_any_moment_leaves_what_apt_accepts(site: SmallRepository, root: Path, cache: Path) -> None:
    process, log = writer(root, site, "probe", 0, 1)
    assert process.wait(timeout=300) == 0, log.read_text()
    chance = random.Random(7)
    with chroot.Chroot(chroot.base(cache, "trixie")) as session, web_server(site.repo) as uri:
        client = clients.Client(session, debian=False)
        client.use(uri, "trixie", site.signer.public_keys(), deb_src=False)
        first = 1
        for _ in range(KILLS):
            process, log = writer(root, site, "probe", first, 10_000, 300_000)
            try:
                wait_for(log, r"is in snapshot", process)
                time.sleep(chance.uniform(0, 0.6))
            finally:
                process.kill()
                process.wait()
            first += len(re.findall("is in snapshot", log.read_text())) + 1
            # The one that was cut short may be public, but what is public is whole.
            assert verify.check(AsApt(site.repo), "trixie", site.signer.public_keys()).faults == []
            assert missing_images(site.repo, (site.repo / "dists/trixie/InRelease").read_bytes()) == set()
            updated = client.update()
            assert (updated.code, updated.complaints) == (0, []), updated.text
            fetched = client.apt("install", "--yes", "--download-only", f"probe-{first - 2}")
            assert fetched.code == 0, fetched.text
    process, log = writer(root, site, "last", 0, 1)
    assert process.wait(timeout=300) == 0, log.read_text()
    assert verify.check(trees.Directory(site.repo), "trixie", site.signer.public_keys()).faults == []
    assert [path for path in site.repo.rglob(".*") if path.name != ".lock"] == []
    indexed = re.findall(r"^Package: (\S+)", site.plain("Packages"), re.M)
    assert names(site.repo) == set(indexed), "a file in the pool that no index names"


def test_a_reader_in_a_loop_sees_no_error_during_a_hundred_publishes(site: SmallRepository, cache: Path) -> None:
    site.settings = Repository()
    version = 0

    def publish() -> None:
        nonlocal version
        version += 1
        new = [site.deb("probe", f"{version}.0"), site.deb(f"more-{version}")]
        repository.publish(
            site.repo, new, settings=site.settings, cache=site.base / "cache", signer=site.signer,
            boot_images=[site.images(f"v{version}")],
        )  # fmt: skip

    publish()
    with chroot.Chroot(chroot.base(cache, "trixie")) as session, web_server(site.repo) as uri:
        with Client(session, uri, site.base / "keyring.gpg") as client:
            client.go_round(1)
            for _ in range(PUBLISHES):
                signed = (site.repo / "dists/trixie/InRelease").read_bytes()
                publish()
                assert missing_images(site.repo, signed) == set()
            client.go_round(2)
        assert client.said == b""
        assert client.seen() == f"{PUBLISHES + 1}.0"
        assert client.rounds > 5


def test_a_full_disk_publishes_nothing_by_half(tmp_path: Path, root: Path) -> None:
    needs("unshare")
    site = SmallRepository(tmp_path / "published")
    site.publish(site.deb("one"), images=[site.images("v1")])
    # In a mount namespace of its own, where a small filesystem can be mounted without touching the machine.
    namespace = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"])]
    said = run.output([*namespace, sys.executable, root / "tests/small_disk.py", tmp_path], timeout=600).decode()
    failed = re.fullmatch(r"failed (\d+) times, then published\n", said)
    assert failed, said
    assert int(failed[1]) > 10
