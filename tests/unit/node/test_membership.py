"""Who is there, in OpenSSI's words, and the history of it."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openssi import membership
from openssi.commands import cluster, record_transitions
from openssi.errors import Error
from openssi.membership import COMINGUP, DOWN, GOINGDOWN, NEVERUP, UCLEANUP, UP, History, Member


def serf(*members: tuple[int, str, str, str]) -> str:
    """Return what serf says of (number, status, state tag, boot id)."""
    return json.dumps(
        {
            "members": [
                {
                    "name": f"node{number}",
                    "addr": f"10.0.0.{number}:7946",
                    "status": status,
                    "tags": {
                        "node": str(number),
                        "role": "init" if number == 1 else "node",
                        "state": told,
                        "boot": boot,
                    },
                }
                for number, status, told, boot in members
            ]
        }
    )


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for directory in ("etc/openssi/nodeup.d", "etc/openssi/nodedown.d", "cluster/etc", "run/ssi", "dev"):
        (tmp_path / directory).mkdir(parents=True)
    (tmp_path / "etc/clustertab").write_text(
        "".join(f"{n}\t10.0.0.{n}\t52:54:00:00:00:0{n}\tP\t{int(n == 1)}\t-\n" for n in (1, 2, 3))
    )
    (tmp_path / "etc/clustername").write_text("farm\n")
    (tmp_path / "cluster/etc/cluster.toml").write_text('interconnect = "10.0.0.0/24"\nservice-address = "10.0.0.100"\n')
    (tmp_path / "dev/console").touch()
    return tmp_path


def see(root: Path, *members: tuple[int, str, str, str], settled: bool = False) -> list[tuple[int, str, str]]:
    """Let the agent see ``members``; return the transitions that were recorded."""
    before = len(membership.history(root))
    (root / membership.MEMBERS).write_text(serf(*members))
    record_transitions.record(root, settled=settled)
    return [(each.node, each.old, each.new) for each in membership.history(root)[before:]]


def console(root: Path) -> str:
    return (root / "dev/console").read_text().strip()


def test_the_words_are_openssi_s() -> None:
    seen = membership.parse_members(
        serf((1, "alive", "UP", ""), (2, "alive", "COMINGUP", ""), (3, "failed", "UP", ""), (4, "left", "UP", ""),
             (5, "leaving", "UP", ""), (6, "alive", "nonsense", ""))
    )  # fmt: skip
    assert [each.state for each in seen.values()] == [UP, COMINGUP, DOWN, DOWN, GOINGDOWN, UP]
    assert (seen[3].cause, seen[4].cause) == ("not reachable", "it left")


def test_a_node_comes_up_and_goes(tree: Path) -> None:
    assert see(tree, (1, "alive", "UP", "a"), (2, "alive", "COMINGUP", "b")) == [
        (1, NEVERUP, UP),
        (2, NEVERUP, COMINGUP),
    ]
    assert see(tree, (1, "alive", "UP", "a"), (2, "alive", "UP", "b")) == [(2, COMINGUP, UP)]
    assert console(tree) == "nodeup 2 (node2, 10.0.0.2)"
    assert see(tree, (1, "alive", "UP", "a"), (2, "failed", "UP", "b")) == [(2, UP, UCLEANUP), (2, UCLEANUP, DOWN)]
    assert console(tree) == "nodedown 2 (node2, 10.0.0.2): not reachable"
    assert see(tree, (1, "alive", "UP", "a"), (2, "failed", "UP", "b")) == []


def test_ids_count_on_over_everything(tree: Path) -> None:
    see(tree, (1, "alive", "UP", "a"))
    see(tree, (1, "alive", "UP", "a"), (2, "alive", "UP", "b"))
    assert [each.id for each in membership.history(tree)] == [1, 2]


def test_a_boot_that_was_too_quick_to_be_missed_is_seen(tree: Path) -> None:
    see(tree, (2, "alive", "UP", "old"))
    assert see(tree, (2, "alive", "UP", "new")) == [(2, UP, UCLEANUP), (2, UCLEANUP, DOWN), (2, DOWN, UP)]


def test_silence_counts_only_when_all_had_time_to_speak(tree: Path) -> None:
    see(tree, (1, "alive", "UP", "a"), (2, "alive", "UP", "b"))
    assert see(tree, (1, "alive", "UP", "a")) == []
    assert see(tree, (1, "alive", "UP", "a"), settled=True) == [(2, UP, UCLEANUP), (2, UCLEANUP, DOWN)]


def test_a_stranger_to_the_table_is_not_told(tree: Path) -> None:
    assert see(tree, (9, "alive", "UP", "a")) == []


def test_hooks_run_in_order_with_what_happened_and_a_bad_one_stops_nothing(tree: Path) -> None:
    for name, body in {
        "10-bad": "exit 3",
        "20-good.sh": f'echo "$1 $OPENSSI_EVENT $OPENSSI_ADDRESS" >>{tree}/said',
    }.items():
        hook = tree / "etc/openssi/nodeup.d" / name
        hook.write_text(f"#!/bin/sh\n{body}\n")
        hook.chmod(0o755)
    for name in ("20-good.sh~", "20-good.sh.dpkg-old", ".20-good.sh.swp", "#20-good.sh#", "20-good.sh.bak"):
        left = tree / "etc/openssi/nodeup.d" / name
        left.write_text(f"#!/bin/sh\ntouch {tree}/wrong\n")
        left.chmod(0o755)
    see(tree, (2, "alive", "UP", "b"))
    assert (tree / "said").read_text() == "2 nodeup 10.0.0.2\n"
    assert not (tree / "wrong").exists()


def test_a_torn_line_is_skipped_and_ended(tree: Path) -> None:
    see(tree, (2, "alive", "UP", "b"))
    with (tree / membership.HISTORY).open("a") as stream:
        stream.write("2\t2026-01-01T00:0")
    assert [each.id for each in membership.history(tree)] == [1]
    see(tree, (2, "failed", "UP", "b"))
    assert [each.new for each in membership.history(tree)] == [UP, UCLEANUP, DOWN]


def test_the_history_does_not_grow_for_ever(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(membership, "_KEPT", 10)
    for _ in range(25):
        History(tree).append(2, DOWN, UP, "test")
    found = membership.history(tree)
    assert len(found) <= 10
    assert found[-1].id == 25


def test_states_know_the_nodes_that_nobody_sees() -> None:
    recorded = {2: membership.Transition(1, "", 2, NEVERUP, UP, "")}
    seen = {1: Member(1, UP, "", "init", "")}
    assert membership.states([1, 2, 3], seen, recorded) == {1: UP, 2: DOWN, 3: NEVERUP}


@given(st.text())
def test_any_text_is_a_history_or_none(text: str) -> None:
    assert membership._transition(text) is None or text.count("\t") == 5


def test_without_an_agent_the_error_says_what_to_look_at(tree: Path) -> None:
    with pytest.raises(Error, match="systemctl status openssi-membership"):
        membership.members(tree)


def test_cluster_v_lists_number_state_name_address_and_role(
    tree: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OPENSSI_ROOT", str(tree))
    see(tree, (1, "alive", "UP", "a"), (2, "failed", "UP", "b"))
    assert cluster.main(["-v"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "1: UP      node1 10.0.0.1 init",
        "2: DOWN    node2 10.0.0.2 node",
        "3: NEVERUP node3 10.0.0.3 -",
    ]
    cluster.main([])
    assert capsys.readouterr().out == "1\n"
    cluster.main(["-V", "node1"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == ["Node 1:", "State: UP", "Previous state: NEVERUP"]
    assert "Number of CPUs: -" in lines
    cluster.main(["--json"])
    assert [each["state"] for each in json.loads(capsys.readouterr().out)["nodes"]] == [UP, DOWN, NEVERUP]
