"""The trial cluster's plan, its transcript, and the file that says what of it runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from openssi.errors import Error
from openssi_build.lab import cluster, running, tending, transcript, trial
from openssi_build.lab.cluster import Lab
from openssi_build.lab.running import Powered, State
from openssi_build.lab.transcript import Transcript
from openssi_build.settings import Settings


def test_machines_boot_by_one_way_or_by_each_in_turn() -> None:
    assert trial.ways_of(3, "uefi") == ["uefi", "uefi"]
    assert trial.ways_of(5, "mixed") == ["pxe", "uefi", "etherboot", "pxe"]
    assert trial.ways_of(1, "pxe") == []


@pytest.mark.parametrize(
    ("nodes", "boot", "said"),
    [
        (0, "pxe", "--nodes 0: expected 1 to 9"),
        (10, "pxe", "--nodes 10: expected 1 to 9"),
        (3, "tape", "--boot tape: expected "),
    ],
)
def test_what_no_lab_can_have_is_refused(nodes: int, boot: str, said: str) -> None:
    with pytest.raises(Error, match=said):
        trial.ways_of(nodes, boot)


def test_etherboot_takes_the_floppy_of_the_repository(tmp_path: Path) -> None:
    lab = Lab(tmp_path, tmp_path / "repo")
    with pytest.raises(Error, match=r"etherboot\.dsk \(inv build-repo\)"):
        lab.command(2, "etherboot")
    floppy = tmp_path / "repo/dists/trixie/main" / cluster.FLOPPY
    floppy.parent.mkdir(parents=True)
    floppy.touch()
    command = lab.command(2, "etherboot")
    assert any(f"file={floppy}" in word for word in command)
    assert "virtio-net-pci,id=card,netdev=inside,mac=52:54:00:0a:0a:02,romfile=" in command


def test_a_recording_that_has_no_place_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(Error, match="no such directory"):
        trial.start(tmp_path, tmp_path, Settings(), record=tmp_path / "no/where.md")
    assert list(tmp_path.iterdir()) == []


def test_a_process_that_is_not_of_the_lab_is_left_alone(tmp_path: Path) -> None:
    stranger = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    ours = subprocess.Popen([sys.executable, "-c", "input()", tmp_path], stdin=subprocess.PIPE)
    try:
        state = State({"switch": stranger.pid}, {1: Powered(ours.pid, ["qemu"]), 2: Powered(stranger.pid, ["qemu"])})
        running.remember(tmp_path, state)
        assert running.recall(tmp_path) == state
        assert running.alive(tmp_path) == [1]
        assert running.end(tmp_path) == [1]
        assert ours.wait(10) != 0
        assert stranger.poll() is None
        assert running.recall(tmp_path) == State()
    finally:
        for process in (stranger, ours):
            process.kill()
            process.communicate()


def test_the_tasks_say_what_is_not_there(tmp_path: Path) -> None:
    assert tending.status(tmp_path) == ["no trial cluster: inv lab starts one"]
    for task in (tending.console, tending.power):
        with pytest.raises(Error, match=r"node 1: no such machine \(inv lab starts a trial cluster\)"):
            task(tmp_path, 1)
    where = tending.directory(tmp_path)
    where.mkdir(parents=True)
    running.remember(where, State({}, {1: Powered(2**22, ["qemu"])}))
    with pytest.raises(Error, match=r"node 1: it is switched off \(inv lab-power 1 switches it on\)"):
        tending.console(tmp_path, 1)
    with pytest.raises(Error, match=r"node 2: no such machine \(there are 1\)"):
        tending.power(tmp_path, 2)


def test_status_reads_the_membership_from_the_first_nodes_console(tmp_path: Path) -> None:
    where = tending.directory(tmp_path)
    where.mkdir(parents=True)
    gone = {number: Powered(2**22, []) for number in (1, 2, 3)}
    running.remember(where, State({"switch": 2**22}, gone))
    (where / "node1.log").write_bytes(b"nodeup 2\r\nnodeup 3\r\nnodedown 2\r\n\x1b[1m# \x1b[0m\r\n")
    (where / "node2.log").write_bytes(b"ssi: mounting\r\n# \r\n")
    (where / "node3.log").touch()
    assert tending.status(tmp_path)[1:] == [
        "node1       off    init node nodedown 2",
        "node2       off    nodedown  ssi: mounting",
        "node3       off    nodeup    ",
        "switch      off",
    ]


def test_a_transcript_is_plain_and_leaves_out_the_middle_of_what_is_long() -> None:
    assert transcript.plain("\x1b[=3h\x1b[1mbold\x1b[0m\r\n 10%\r100%\r\n\x07end \r\n") == "bold\n100%\nend\n"
    boot = [f"[ {n}.0] kernel" for n in range(20)] + ["[ 20.0] ssi: waiting"] + [f"systemd {n}" for n in range(20)]
    said = transcript.shown("\n".join(boot) + "\n# ", keep=["ssi: "]).split("\n")
    assert said[:12] == boot[:12]
    assert said[12:15] == ["[… 8 lines …]", "[ 20.0] ssi: waiting", "[… 8 lines …]"]
    assert said[15:] == boot[-12:]
    for few in (5, 24, 28):
        assert transcript.shown("\n".join(boot[:few])) == "\n".join(boot[:few])


def test_how_a_status_is_asked_for_is_no_part_of_a_transcript() -> None:
    heard = "# # cat /etc/x; echo R''123=$?=\r\nhello\r\nR123=0=\r\n"
    assert transcript.shown(heard) == "# cat /etc/x\nhello"


def test_a_transcript_is_a_document_with_the_time_of_each_step() -> None:
    made = Transcript()
    made.add("node1", "what comes before the first step is left out")
    made.heading("first step")
    made.add("node1", "cluster -v\r\n1: UP\r\n# ")
    made.add("node1", "id -u\r\n0\r\n# ")
    made.add("node2", "ssi: waiting\r\n")
    assert made.markdown("Title", "What it is.").split("\n") == [
        "% Title", "", "What it is.", "", "# 0:00 first step", "", "At the console of node1:", "", "~~~",
        "cluster -v", "1: UP", "id -u", "0", "~~~", "", "At the console of node2:", "", "~~~", "ssi: waiting", "~~~", "",
    ]  # fmt: skip
