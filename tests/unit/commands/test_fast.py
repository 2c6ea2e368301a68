"""fast: where the command goes."""

import json
import time
from dataclasses import asdict
from pathlib import Path

import pytest

from openssi.commands import call, fast
from openssi.loads import FILE, Load


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "run/ssi").mkdir(parents=True)
    program = tmp_path / "onnode"
    program.write_text('#!/bin/sh\necho "$@" >"$0.calls"\nexit 7\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("OPENSSI_ROOT", str(tmp_path))
    return tmp_path


def test_the_command_goes_to_the_idlest_node_and_its_status_comes_back(tree: Path) -> None:
    said = [Load(number, 0.5 / number, 2, 2, 1000, 100, 60, "6.12", 50, time.time() + 60) for number in (1, 2, 3)]
    (tree / FILE).write_text(json.dumps([asdict(each) for each in said]))
    assert fast.main(["make", "-j", "2"]) == 7
    assert (tree / "onnode.calls").read_text() == "3 make -j 2\n"


def test_where_no_load_is_known_it_stays_here(
    tree: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tree / "run/ssi/nodenum").write_text("9\n")
    assert fast.main(["--", "true"]) == 7
    assert (tree / "onnode.calls").read_text() == "9 true\n"
    (tree / "run/ssi/nodenum").unlink()
    monkeypatch.setattr("sys.argv", ["fast", "true"])
    assert call(fast.main, "fast") == 1
    assert "did not boot as a node" in capsys.readouterr().err
