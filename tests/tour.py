"""The machines that walk through the install guide, what the walk needs beside them, and how far it has come."""

from __future__ import annotations

import contextlib
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from openssi import run
from openssi_build.lab import cluster
from openssi_build.lab.walk import Walk

_WRITER = "i=0; while :; do i=$((i+1)); echo $i >>/srv/numbers; sleep 1; done &"


@dataclass
class Tour(Walk):
    """The walk, and the steps that were ``reached``."""

    reached: set[str] = field(default_factory=set)

    def needs(self, step: str) -> None:
        """Skip the calling test when ``step`` has failed: nothing can be told without it."""
        if step not in self.reached:
            pytest.skip(f"step {step} was not reached")

    def node_2(self) -> list[str]:
        """Return the qemu command of node 2, which has two disks; they are made empty if need be."""
        paths = [self.lab.directory / f"node2.{name}" for name in ("sda", "sdb")]
        disks = [path if path.exists() else empty(path, 512 * 2**20) for path in paths]
        return cluster.node_command(2, self.lab.switch, extra=cluster.disk_words(*disks))

    def start_writing(self) -> None:
        """Let node 2 write a number a second into a file of the shared root."""
        self.lab.machines[2].send(f"{_WRITER}\n")
        self.until("wc -l </srv/numbers", r"^[1-9]", 60)

    def numbers(self) -> int:
        """Return how many numbers the writer on node 2 has written; fail when one of them is lost."""
        said = self.ok('awk \'$1 != NR { print "lost", NR } END { print NR, "numbers" }\' /srv/numbers')
        assert not re.search(r"^lost \d", said, re.MULTILINE), said
        return int(re.findall(r"^(\d+) numbers", said, re.MULTILINE)[-1])

    def goes_on(self) -> None:
        """Wait until the writer on node 2 goes on; it must not have lost a number."""
        before = self.numbers()
        end = time.monotonic() + 300
        while self.numbers() < before + 3:
            assert time.monotonic() < end, "the writer on node 2 does not go on"
            time.sleep(1)


def empty(path: Path, size: int) -> Path:
    """Make an empty disk, and return it."""
    with path.open("wb") as stream:
        stream.truncate(size)
    return path


@contextmanager
def proxy(directory: Path) -> Iterator[tuple[int, Path]]:
    """Run a real HTTP proxy on the loopback: its port, and its log."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    log = directory / "log"
    conf = f'Port {port}\nListen 127.0.0.1\nLogFile "{log}"\nLogLevel Connect\nMaxClients 20\n'
    (directory / "conf").write_text(conf)
    process = run.start(["tinyproxy", "-d", "-c", directory / "conf"], log_to=directory / "out")
    try:
        end = time.monotonic() + 20
        while time.monotonic() < end:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            time.sleep(0.1)
        yield port, log
    finally:
        run.stop(process)
