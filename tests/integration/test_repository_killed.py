"""A writer killed before each of its steps, one after the other: apt takes what is public, and the next writer goes on."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from conftest import needs
from gpgsigner import GpgSigner
from repositories import AsApt, missing_images

from openssi import run
from openssi_build import chroot, verify
from openssi_build.verify import clients, trees, web

pytestmark = pytest.mark.integration
TRIED = 12  # states that apt looks at


def tree(top: Path, *, hidden: bool = True) -> dict[str, bytes]:
    """Return the files below ``top`` but the lock and, unless ``hidden``, those that no client asks for."""
    found: dict[str, bytes] = {}
    for directory, directories, names in os.walk(top):
        if (link := Path(directory, "current")).is_symlink() and "current" in directories:
            found[str(link.relative_to(top))] = bytes(link.readlink())
        for name in names:
            path = Path(directory, name)
            parts = path.relative_to(top).parts
            if name != ".lock" and (hidden or not (parts[0] == "snapshots" or any(each[0] == "." for each in parts))):
                found["/".join(parts)] = path.read_bytes()
    return found


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Path:
    """The states that tests/killed_writer.py leaves."""
    needs("gpg", "gpgv")
    base = tmp_path_factory.mktemp("killed")
    GpgSigner(base / "gpg")
    steps = int(run.output([sys.executable, root / "tests/killed_writer.py", base, base / "gpg"], timeout=900))
    assert steps > 50
    assert len(list((base / "killed").iterdir())) == steps
    return base


def states(base: Path) -> list[Path]:
    return sorted((base / "killed").iterdir(), key=lambda path: int(path.name))


def test_apt_accepts_what_is_public_between_the_old_and_the_new(base: Path, cache: Path) -> None:
    keys = GpgSigner(base / "gpg").public_keys()
    ends = [base / "repo", base / "whole"]
    assert [verify.check(trees.Directory(each), "trixie", keys).faults for each in ends] == [[], []]
    whole = [tree(each, hidden=False) for each in ends]
    half = [state for state in states(base) if tree(state, hidden=False) not in whole]
    assert len(half) > TRIED
    with chroot.Chroot(chroot.base(cache, "trixie")) as session, web.serve(base / "killed") as uri:
        client = clients.Client(session, debian=False)
        for state in half[:: len(half) // TRIED]:
            client.use(f"{uri}/{state.name}", "trixie", keys, deb_src=False)
            updated = client.update()
            assert (updated.code, updated.complaints) == (0, []), f"step {state.name}: {updated.text}"
            fetched = client.apt("install", "--yes", "--download-only", "one", "other")
            assert fetched.code == 0, f"step {state.name}: {fetched.text}"


def test_what_is_public_is_whole_at_every_step(base: Path) -> None:
    keys = GpgSigner(base / "gpg").public_keys()
    for state in states(base):
        assert verify.check(AsApt(state), "trixie", keys).faults == [], state.name
        assert missing_images(state, (state / "dists/trixie/InRelease").read_bytes()) == set(), state.name


def test_the_next_writer_makes_of_each_state_what_was_meant(base: Path) -> None:
    wanted = tree(base / "whole")
    for state in states(base):
        made = tree(base / "resumed" / state.name)
        differing = [path for path in sorted(wanted.keys() | made.keys()) if wanted.get(path) != made.get(path)]
        assert differing == [], state.name
