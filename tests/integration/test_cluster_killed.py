"""Making, extending and undoing a cluster, killed before every single change of the disk."""

from __future__ import annotations

from functools import partial
from itertools import count, takewhile
from pathlib import Path

import pytest
from unit.cluster import test_create as create
from unit.cluster import test_nodes as nodes

pytestmark = pytest.mark.integration


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fsync", lambda _: None)
    monkeypatch.setattr("os.sync", lambda: None)


def test_making_the_first_node_can_be_killed_anywhere(tmp_path: Path) -> None:
    assert len(list(takewhile(partial(create.killed_make, tmp_path), count(1)))) > 100


def test_undoing_can_be_killed_anywhere(tmp_path: Path) -> None:
    assert len(list(takewhile(partial(create.killed_undo, tmp_path), count(1)))) > 100


def test_adding_a_node_can_be_killed_anywhere(tmp_path: Path) -> None:
    assert len(list(takewhile(partial(nodes.killed_add, tmp_path), count(1)))) > 60


def test_removing_a_node_can_be_killed_anywhere(tmp_path: Path) -> None:
    assert len(list(takewhile(partial(nodes.killed_remove, tmp_path), count(1)))) > 30
