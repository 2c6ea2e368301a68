"""Derived packages for real: procps built in a chroot, installed, and asked about other nodes."""

from __future__ import annotations

import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import needs
from debian.debian_support import Version

from openssi.errors import Error
from openssi_build import apt, derived
from openssi_build.chroot import Chroot, base

pytestmark = pytest.mark.integration

# Node 9 is down, node 2 answers late; each one's ps is told apart by what onnode says on stderr.
ONNODE = """#!/bin/sh
node=$1; shift
[ "$node" != 9 ] || { echo "onnode: node 9 is down" >&2; exit 255; }
[ "$node" != 2 ] || sleep 0.3
for word; do printf '[%s]' "$word"; done >&2
exec "$@"
"""
TABLE = "# number ip hardware protocol initnode bootdev\n" + "".join(
    f"{number}\t10.0.0.{number}\t52:54:00:00:00:0{number}\tP\t0\t-\n" for number in (1, 2, 9)
)


@pytest.fixture(scope="module")
def procps(root: Path, cache: Path) -> list[Path]:
    needs("mmdebstrap", "newuidmap")
    return derived.build_all(root, cache, suite="trixie", strict=True).files


@pytest.fixture(scope="module")
def node(procps: list[Path], cache: Path) -> Iterator[Chroot]:
    # Debian's own is there first: what comes is the downgrade that only the pin makes apt do.
    with Chroot(base(cache, "trixie", ["procps", "shunit2"])) as chroot:
        for path in procps:
            if path.name.startswith(("procps_", "libproc2-0_")) and path.suffix == ".deb":
                chroot.copy_in(path, f"debs/{path.name}")
        chroot.run(["dpkg", "--install", *(f"/debs/{path.name}" for path in sorted((chroot.path / "debs").iterdir()))])
        onnode = chroot.path / "usr/local/bin/onnode"
        onnode.write_text(ONNODE)
        onnode.chmod(0o755)
        yield chroot


@pytest.fixture
def member(node: Chroot) -> Iterator[Chroot]:
    """The chroot as a node of a cluster of three."""
    (node.path / "run/ssi").mkdir()
    (node.path / "run/ssi/nodenum").write_text("1\n")
    (node.path / "etc/clustertab").write_text(TABLE)
    yield node
    shutil.rmtree(node.path / "run/ssi")
    (node.path / "etc/clustertab").unlink()


def ps(chroot: Chroot, *words: str, env: dict[str, str] | None = None) -> tuple[int, list[str], str]:
    code, out, err = chroot.status(["ps", *words], env=env, timeout=60)
    return code, out.decode().splitlines(), err.decode()


def test_source_and_binaries_come_out_below_debians_version(procps: list[Path], cache: Path) -> None:
    debian = apt.Apt(cache, "trixie").show_source("procps").version
    ours = f"{debian}~openssi2"
    assert Version(ours) < Version(debian)
    upstream = ours.partition(":")[2]
    names = [path.name for path in procps]
    assert {f"procps_{upstream}_amd64.deb", f"libproc2-0_{upstream}_amd64.deb", f"procps_{upstream}.dsc"} <= set(names)
    assert any(name.endswith(".orig.tar.xz") for name in names)
    assert not any("dbgsym" in name for name in names)


def test_a_second_build_comes_from_the_cache(procps: list[Path], root: Path, cache: Path) -> None:
    said: list[str] = []
    assert derived.build_all(root, cache, suite="trixie", say=said.append).files == procps
    assert said == []


def test_ps_without_node_is_as_ever(node: Chroot) -> None:
    code, lines, _ = ps(node, "-p", "1", "-o", "pid,comm")
    assert (code, lines[0].split()) == (0, ["PID", "COMMAND"])


@pytest.mark.parametrize("missing", ["run/ssi/nodenum", "etc/clustertab"])
def test_on_a_machine_that_is_no_node_ps_says_so(member: Chroot, missing: str) -> None:
    content = (member.path / missing).read_text()
    (member.path / missing).unlink()
    code, lines, err = ps(member, "--node", "all")
    (member.path / missing).write_text(content)
    assert (code, lines) == (1, [])
    assert "this machine is not a node of an OpenSSI cluster" in err


def test_nodes_are_shown_in_the_order_asked_for_under_one_header(member: Chroot) -> None:
    code, lines, err = ps(member, "--node", "2,1", "-p", "1", "-o", "pid,comm")
    assert code == 0
    assert [line.split()[:2] for line in lines] == [["NODE", "PID"], ["2", "1"], ["1", "1"]]
    assert err.count("[ps][-p][1][-o][pid,comm]") == 2


@pytest.mark.parametrize("words", [("-ef",), ("aux",), ("-eLf",), ("-e", "--forest"), ("axo", "pid,args")])
def test_node_goes_with_the_other_options(member: Chroot, words: tuple[str, ...]) -> None:
    code, lines, _ = ps(member, "--node=1,2", *words)
    assert code == 0
    assert lines[0].startswith("NODE ")
    assert {line.split()[0] for line in lines[1:]} == {"1", "2"}


@pytest.mark.parametrize("words", [("-o", "pid="), ("h",), ("--no-headers",)])
def test_no_header_is_made_up_where_none_is_wanted(member: Chroot, words: tuple[str, ...]) -> None:
    code, lines, _ = ps(member, *words, "--node", "1,2", "-p", "1")
    assert code == 0
    assert [line.split()[:2] for line in lines] == [["1", "1"], ["2", "1"]]


def test_a_node_that_is_down_is_named_after_the_others_are_shown(member: Chroot) -> None:
    code, lines, err = ps(member, "--node", "all", "-p", "1", "-o", "pid=")
    assert code == 1
    assert [line.split() for line in lines] == [["1", "1"], ["2", "1"]]
    assert "ps: node 9: onnode ended with status 255" in err


def test_the_width_of_the_screen_leaves_room_for_the_column(member: Chroot) -> None:
    _, _, err = ps(member, "--node", "1", "-p", "1", env={"COLUMNS": "60"})
    assert "[ps][--cols=55][-p][1]" in err


def test_without_a_selection_it_is_the_users_own_processes(member: Chroot) -> None:
    _, _, err = ps(member, "--node", "1", "-o", "pid,comm")
    assert "[ps][--user=0][-o][pid,comm]" in err


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("--node", "7"), "node 7 is not in /etc/clustertab"),
        (("--node", "126"), "node 126 is not in /etc/clustertab"),
        (("--node", "1,"), "expected node numbers separated by commas"),
        (("--node=",), "expected node numbers separated by commas"),
        (("--node", "1x"), "expected node numbers separated by commas"),
        (("--node",), "expected node numbers separated by commas"),
        (("--node", "1", "--node", "2"), "may be given only once"),
        (("--node", "1", "--bogus"), "unknown gnu long option"),
    ],
)
def test_a_wrong_list_is_refused_before_anything_is_run(member: Chroot, words: tuple[str, ...], error: str) -> None:
    code, lines, err = ps(member, *words)
    assert (code, lines) == (1, [])
    assert error in err
    assert "[ps]" not in err


def test_a_terminal_of_another_node_is_left_to_it(member: Chroot) -> None:
    _, _, err = ps(member, "--node", "1", "-t", "pts/99")
    assert "[ps][-t][pts/99]" in err


def test_the_manual_and_the_help_describe_it(procps: list[Path], node: Chroot) -> None:
    deb = next(path for path in procps if path.name.startswith("procps_") and path.suffix == ".deb")
    node.copy_in(deb, "debs/page.deb")
    node.run(["dpkg-deb", "--extract", "/debs/page.deb", "/page"])
    page = node.output(["zcat", "/page/usr/share/man/man1/ps.1.gz"]).decode()
    assert r".BI \-\-node \ nodelist" in page
    assert "--node" in "\n".join(ps(node, "--help", "list")[1])


def test_the_source_brings_a_test_of_it_which_passes(procps: list[Path], node: Chroot) -> None:
    [packed] = [path for path in procps if path.name.endswith(".debian.tar.xz")]
    with tarfile.open(packed) as tar:
        control, script = (tar.extractfile(f"debian/tests/{name}") for name in ("control", "ps-node"))
        assert control
        assert script
        assert b"Tests: ps-node\n" in control.read()
        (node.path / "ps-node").write_bytes(script.read())
    (node.path / "autopkgtest").mkdir()
    code, out, _ = node.status(
        ["sh", "/ps-node"], env={"AUTOPKGTEST_TMP": "/autopkgtest", "SHUNIT_COLOR": "none"}, timeout=60
    )
    assert code == 0, out.decode()
    assert b"Ran 4 tests." in out


def broken_tree(root: Path, top: Path) -> Path:
    """A tree with a patch that does not apply, a source that Debian lacks, and the good one."""
    recipes = top / "packaging" / "derived"
    shutil.copytree(root / "packaging" / "derived" / "procps", recipes / "procps")
    (top / "debian").mkdir()
    shutil.copy(root / "debian" / "control", top / "debian")
    patch = recipes / "procps" / "patches" / "ps-node.patch"
    patch.write_text(patch.read_text().replace("reset_global();", "reset_local();"))
    shutil.copytree(recipes / "procps", recipes / "no-such-source")
    return top


def test_what_can_not_be_built_is_named_and_left_out(
    procps: list[Path], root: Path, cache: Path, tmp_path: Path
) -> None:
    tree = broken_tree(root, tmp_path)
    made = derived.build_all(tree, cache, suite="trixie")
    assert made.files == []
    assert len(made.problems) == 2
    assert "no-such-source is left out: no-such-source: no such source package in Debian trixie" in made.problems[0]
    assert "procps is left out: ps-node.patch: no longer applies to Debian's procps" in made.problems[1]
    assert (tree / "out/log/derived-procps.log").read_text().count("ps-node.patch")


def test_a_patch_of_debian_that_no_longer_applies_is_named_too(root: Path, cache: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "packaging/derived/procps"
    shutil.copytree(root / "packaging/derived/procps", recipe)
    (tmp_path / "debian").mkdir()
    shutil.copy(root / "debian/control", tmp_path / "debian")
    patch = recipe / "debian.patch"
    patch.write_text(patch.read_text().replace(" Tests: version", " Tests: conversion"))
    made = derived.build_all(tmp_path, cache, suite="trixie")
    assert made.files == []
    assert "procps is left out: debian.patch: no longer applies to Debian's procps" in made.problems[0]


def test_strict_fails_at_the_first(root: Path, cache: Path, tmp_path: Path) -> None:
    with pytest.raises(Error, match="no-such-source: no such source package"):
        derived.build_all(broken_tree(root, tmp_path), cache, suite="trixie", strict=True)


@pytest.mark.parametrize("failures", [1, 2])
def test_what_does_not_build_is_tried_once_more(
    failures: int, procps: list[Path], root: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tmp_path / "packaging/derived/procps"
    shutil.copytree(root / "packaging/derived/procps", recipe)
    (tmp_path / "debian").mkdir()
    shutil.copy(root / "debian/control", tmp_path / "debian")
    text = (recipe / "recipe.toml").read_text()
    (recipe / "recipe.toml").write_text(text.replace("revision = 2", f"revision = 9{failures}"))
    made: list[Path] = []

    def build(*words: Any) -> None:
        directory, log = words[-2:]
        made.append(log)
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text("what was said\n")
        if len(made) <= failures:
            raise derived._BuildError("procps 1: does not build: exit status 2", hint=f"see {log}")
        directory.mkdir()

    monkeypatch.setattr(derived, "_build", build)
    said: list[str] = []
    try:
        problems = derived.build_all(tmp_path, cache, suite="trixie", say=said.append).problems
    finally:
        for path in cache.glob("derived/procps-*"):
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()
    assert said[1:] == ["procps 1: does not build: exit status 2; once more"]
    assert (tmp_path / "out/log/derived-procps.first.log").read_text() == "what was said\n"
    assert bool(problems) == (failures == 2)
    assert len(made) == 2
