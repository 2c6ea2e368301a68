"""clusternode_num, clustername, mklocalfile, mkglobalfile as a user meets them."""

from __future__ import annotations

from pathlib import Path

import pytest

from openssi.commands import call, clustername, clusternode_num, mkglobalfile, mklocalfile


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OPENSSI_ROOT", str(tmp_path))
    (tmp_path / "etc").mkdir()
    return tmp_path


def invoke(monkeypatch: pytest.MonkeyPatch, module: object, *words: str) -> int:
    monkeypatch.setattr("sys.argv", ["command", *words])
    return call(module.main, "command")  # type: ignore[attr-defined]


def test_the_number_and_the_name_are_printed(
    tree: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tree / "run/ssi").mkdir(parents=True)
    (tree / "run/ssi/nodenum").write_text("12\n")
    (tree / "etc/clustername").write_text("galley\n")
    assert invoke(monkeypatch, clusternode_num) == 0
    assert invoke(monkeypatch, clustername) == 0
    assert capsys.readouterr().out == "12\ngalley\n"


def test_outside_a_cluster_both_fail_in_one_line(
    tree: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(monkeypatch, clusternode_num) == 1
    assert invoke(monkeypatch, clustername) == 1
    assert invoke(monkeypatch, mkglobalfile, "/etc/motd") == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert all(line.startswith("command: error: /") for line in lines)


def test_a_file_is_made_local_and_global_by_the_commands(
    tree: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tree / "cluster/node3").mkdir(parents=True)
    (tree / "etc/motd").write_text("x")
    assert invoke(monkeypatch, mklocalfile, "/etc/motd") == 0
    assert invoke(monkeypatch, mklocalfile, "/etc/motd") == 0
    assert invoke(monkeypatch, mkglobalfile, "--node", "3", "/etc/motd") == 0
    assert capsys.readouterr().out.splitlines() == [
        "/etc/motd: each node has its own now (nodes 3)",
        "/etc/motd: each node has its own already",
        "/etc/motd: all nodes share that of node 3 now",
    ]
    assert (tree / "etc/motd").read_text() == "x"
