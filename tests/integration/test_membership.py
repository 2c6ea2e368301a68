"""Agents of Debian's serf, configured as a node's are, in a network namespace of their own."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from conftest import needs

from openssi import run
from openssi_build import chroot

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

_PROGRAM = """
import json, signal, sys, time
from pathlib import Path
from openssi import run
from openssi_build.bench.members import Room

def until_alive(count):
    end = time.monotonic() + 60
    while room.alive() < count and time.monotonic() < end:
        time.sleep(0.2)
    print(room.alive())

run.run(["ip", "link", "set", "lo", "up"], timeout=10)
room = Room(json.loads(sys.argv[1]), Path(sys.argv[2]))
try:
    for number in (1, 2, 3):
        room.start(number)
    until_alive(3)
    # As systemd ends it when the machine reboots.
    room.agents[1].send_signal(signal.SIGINT)
    room.agents.pop(1).wait(timeout=20)
    room.start(1)
    until_alive(3)
finally:
    room.end()
"""


def test_an_init_node_that_comes_back_and_knows_nobody_is_found_by_the_others(
    root: Path, cache: Path, tmp_path: Path
) -> None:
    needs("unshare", "ip", "mmdebstrap")
    with chroot.Chroot(chroot.base(cache, "trixie", ["serf"])) as session:
        libraries = session.path / "usr/lib/x86_64-linux-gnu"
        serf = [libraries / "ld-linux-x86-64.so.2", "--library-path", libraries, session.path / "usr/bin/serf"]
        own = ["--user", "--map-root-user"] if os.geteuid() != 0 else []
        said = run.output(
            ["unshare", *own, "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "--",
             sys.executable, "-c", _PROGRAM, json.dumps(list(map(str, serf))), tmp_path],
            env={"PYTHONPATH": str(root / "src")},
            timeout=300,
        )  # fmt: skip
    assert said.split() == [b"3", b"3"]
