"""Commands over many nodes: their plans, their reports, the loads that are exchanged."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openssi import loads, remote, run, services
from openssi.commands import onall, ssi_shutdown, ssi_status
from openssi.errors import Error
from openssi.loads import Load
from openssi.remote import Answer


def load(number: int, level: float = 0.0, free: int = 100) -> Load:
    return Load(number, level, 2, 2, 1000, free, 60, "6.12", 50, 1000.0)


def test_nodes_that_say_the_same_are_shown_once() -> None:
    answers = [Answer(1, 0, b"a\n"), Answer(2, 0, b"b"), Answer(3, 0, b"a\n"), Answer(4, 0, b"a\n"), Answer(5, 0, b"")]
    assert onall.report(answers) == b"--- nodes 1,3-4\na\n--- node 2\nb\n"


def test_failures_are_told_by_status() -> None:
    answers = [Answer(2, 1, b""), Answer(3, 255, b""), Answer(7, 1, b"")]
    assert onall.complaints(answers) == ["exit status 1: 2,7", "not reached, or exit status 255: 3"]


def test_answers_come_by_number_whatever_the_order_of_ending() -> None:
    def call(number: int, argv: Sequence[str], *, timeout: float | None = None) -> Answer:
        return Answer(number, number, " ".join(argv).encode())

    assert [each.status for each in remote.on_nodes({9, 2, 5}, ["x"], call=call)] == [2, 5, 9]
    assert remote.on_nodes([], ["x"], call=call) == []


@given(st.sets(st.integers(1, 125)))
def test_ranges_name_every_number(numbers: set[int]) -> None:
    text = remote.ranges(sorted(numbers))
    found: set[int] = set()
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        found |= set(range(int(first), int(last or first) + 1))
    assert found == numbers


def test_the_root_goes_last() -> None:
    assert ssi_shutdown.plan([1, 2, 3], 1, [], rolling=False) == [[2, 3], [1]]
    assert ssi_shutdown.plan([1], 1, [], rolling=False) == [[1]]
    assert ssi_shutdown.plan([1, 2, 3], 1, [], rolling=True) == [[2], [3]]
    assert ssi_shutdown.plan([1, 2, 3], 1, [3], rolling=False) == [[3]]


def test_the_root_is_not_taken_from_under_others() -> None:
    with pytest.raises(Error, match="node 1 has the root of node 2-3"):
        ssi_shutdown.plan([1, 2, 3], 1, [1], rolling=False)
    with pytest.raises(Error, match="node 4: not up"):
        ssi_shutdown.plan([1, 2], 1, [4], rolling=False)


def test_a_load_survives_the_wire() -> None:
    assert loads.decode(loads.encode(load(3, 1.25)), 1000.0) == load(3, 1.25)
    assert load(3, 1.25).level == 125


@given(st.binary(max_size=1200))
def test_what_is_no_load_is_refused(datagram: bytes) -> None:
    with pytest.raises(ValueError):
        loads.decode(datagram, 0.0)


@pytest.mark.parametrize("change", [{"number": "1"}, {"cpus": True}, {"load": None}, {"kernel": "a\nb"}, {"more": 1}])
def test_a_field_of_another_type_is_refused(change: dict[str, object]) -> None:
    said = json.loads(loads.encode(load(1)))
    with pytest.raises(ValueError):
        loads.decode(json.dumps({**said, **change}).encode(), 0.0)


def test_old_news_is_no_news(tmp_path: Path) -> None:
    (tmp_path / "run/ssi").mkdir(parents=True)
    (tmp_path / loads.FILE).write_text(loads.dump({1: load(1), 2: load(2)}))
    assert set(loads.read(tmp_path, now=1005.0)) == {1, 2}
    assert loads.read(tmp_path, now=1009.0) == {}


def test_the_idlest_node_wins_and_memory_breaks_a_tie() -> None:
    assert loads.least({1: load(1, 0.5), 2: load(2, 0.1), 3: load(3, 0.1, free=500)}) == 3
    assert loads.least({}) is None


def test_this_machine_s_load_can_be_told() -> None:
    mine = loads.measure(Path("/"), 1)
    assert mine.memory_mib > mine.free_mib > 0
    assert loads.decode(loads.encode(mine), 0.0).cpus >= 1


@pytest.mark.parametrize(("seconds", "text"), [(5, "5 s"), (65, "1 min 5 s"), (7260, "2 h 1 min"), (100000, "1 d 3 h")])
def test_spans_are_told_in_two_units(seconds: int, text: str) -> None:
    assert ssi_status.duration(seconds) == text


def test_the_policy_is_changed_line_by_line(tmp_path: Path) -> None:
    (tmp_path / "usr/lib/openssi").mkdir(parents=True)
    (tmp_path / services.SHIPPED).write_text("cron.service once\n")
    services.change(tmp_path, "cron.service", "every")
    services.change(tmp_path, "x.timer", "2:3")
    assert {name: rule.scope for name, rule in services.load(tmp_path).items()} == {
        "cron.service": "every",
        "x.timer": "2:3",
    }
    services.change(tmp_path, "cron.service", None)
    assert services.load(tmp_path)["cron.service"].scope == "once"


@pytest.mark.parametrize(
    "text", ["cron.service", "cron.service sometimes", "../x.service every", "x.service 0", "x.service 126"]
)
def test_a_bad_line_of_the_policy_is_named(text: str) -> None:
    with pytest.raises(Error, match="services: line 2: "):
        services.parse(f"# first\n{text}\n", "services")


def test_scopes_are_kept_in_one_form() -> None:
    assert services.scope("3:2:3") == "2:3"
    assert services.unit("cron") == "cron.service"


@pytest.mark.parametrize(
    ("version", "cluster", "status", "words"),
    [
        (
            "6.12.1",
            True,
            1,
            "zz-openssi: kernel 6.12.1 is run by node 3 7: boot it anew first (ssi-shutdown --rolling)",
        ),
        ("6.12.2", True, 0, ""),
        ("6.12.1", False, 0, ""),
    ],
)
def test_a_kernel_that_another_node_runs_is_not_removed(
    version: str, cluster: bool, status: int, words: str, root: Path, tmp_path: Path
) -> None:
    (tmp_path / "etc").mkdir()
    if cluster:
        (tmp_path / "etc/clustertab").touch()
    kernels = ((1, "init", "6.12.2"), (3, "node", "6.12.1"), (5, "node", None), (7, "node", "6.12.1"))
    nodes = [{"number": number, "role": role, "kernel": kernel} for number, role, kernel in kernels]
    (tmp_path / "ssi-status").write_text(f"#!/bin/sh\necho '{json.dumps({'nodes': nodes})}'\n")
    (tmp_path / "ssi-status").chmod(0o755)
    env = {"OPENSSI_ROOT": str(tmp_path), "PATH": f"{tmp_path}:{run.PATH}"}
    found = run.status([root / "node/etc/kernel/prerm.d/zz-openssi", version], env=env, timeout=60)
    assert (found[0], found[2].decode().strip()) == (status, words)
