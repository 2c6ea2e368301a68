"""ssi-addnode and ssi-rmnode as an administrator meets them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from unit.cluster import machine
from unit.cluster.test_nodes import EARTH, created
from unit.commands.test_ground import invoke

from openssi import membership
from openssi.cluster import nodes, state
from openssi.commands import ssi_addnode, ssi_rmnode
from openssi.membership import COMINGUP, DOWN, GOINGDOWN, NEVERUP, SHUTDOWN, UCLEANUP, UP


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("os.fsync", lambda _: None)
    monkeypatch.setattr("os.sync", lambda: None)
    monkeypatch.setenv("OPENSSI_ROOT", str(tmp_path))
    nodes.add(created(machine.bootable(machine.make(tmp_path))), EARTH)
    return tmp_path


def numbers(root: Path) -> list[int]:
    return [node.number for node in state.load(root).nodes]


def seen(root: Path, status: str, told: str) -> None:
    members = [{"status": status, "tags": {"node": "2", "state": told}}]
    path = root / membership.MEMBERS
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"members": members}))


@pytest.mark.parametrize(
    ("status", "told", "recorded", "shown"),
    [
        ("alive", UP, UP, UP),
        ("alive", COMINGUP, UP, COMINGUP),
        ("alive", SHUTDOWN, UP, SHUTDOWN),
        ("alive", GOINGDOWN, UP, GOINGDOWN),
        ("leaving", UP, UP, GOINGDOWN),
        ("failed", UP, UCLEANUP, UCLEANUP),
    ],
)
def test_a_node_that_is_not_down_stays_unless_forced(
    tree: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    status: str,
    told: str,
    recorded: str,
    shown: str,
) -> None:
    monkeypatch.setattr(ssi_rmnode, "_PATIENCE_S", 0.0)
    seen(tree, status, told)
    membership.History(tree).append(2, NEVERUP, recorded, "test")
    assert invoke(monkeypatch, ssi_rmnode, "2", "--yes") == 1
    assert f"node 2 (earth) is {shown} (ssi-shutdown -h -n 2 first, or --force)" in capsys.readouterr().err
    assert numbers(tree) == [1, 2]
    assert invoke(monkeypatch, ssi_rmnode, "2", "--yes", "--force") == 0
    assert numbers(tree) == [1]


def test_a_node_that_is_going_is_waited_for(
    tree: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen(tree, "leaving", UP)
    monkeypatch.setattr("time.sleep", lambda _: seen(tree, "left", UP))
    assert invoke(monkeypatch, ssi_rmnode, "2", "--yes") == 0
    assert "node 2 (earth) is GOINGDOWN: waiting for it to be DOWN" in capsys.readouterr().out
    assert numbers(tree) == [1]


@pytest.mark.parametrize("status", ["failed", "left"])
def test_a_node_that_is_down_goes(tree: Path, monkeypatch: pytest.MonkeyPatch, status: str) -> None:
    seen(tree, status, UP)
    membership.History(tree).append(2, UP, DOWN, "test")
    assert invoke(monkeypatch, ssi_rmnode, "2", "--yes") == 0
    assert numbers(tree) == [1]


def test_without_membership_nobody_knows_and_the_node_stays(
    tree: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(monkeypatch, ssi_rmnode, "earth", "--yes") == 1
    assert "nobody knows whether it is up: /run/ssi/members.json: no such file" in capsys.readouterr().err
    assert numbers(tree) == [1, 2]


def test_number_zero_is_refused_and_no_other_taken(
    tree: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mac = "52:54:00:00:00:03"
    assert invoke(monkeypatch, ssi_addnode, "--node-number", "0", "--mac", mac, "--yes") == 1
    assert "expected 1 to 125" in capsys.readouterr().err
    assert numbers(tree) == [1, 2]
