"""What of a trial cluster runs, by a file in its directory: for the tasks that come after the one that started it."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from openssi import files

_STATE = "lab.json"
_GRACE_S = 5


@dataclass(frozen=True)
class Powered:
    """A machine that was switched on: qemu's process number and its command."""

    pid: int
    argv: list[str]


@dataclass(frozen=True)
class State:
    """Process numbers: those of the switch and of the repository's server by name, the machines by number."""

    helpers: Mapping[str, int] = field(default_factory=dict)
    machines: Mapping[int, Powered] = field(default_factory=dict)


def remember(directory: Path, state: State) -> None:
    """Write down what was started for the cluster in ``directory``."""
    files.write(directory / _STATE, json.dumps(asdict(state)))


def recall(directory: Path) -> State:
    """Return what was started for the cluster in ``directory``; nothing when there is none."""
    try:
        read = json.loads((directory / _STATE).read_text())
    except FileNotFoundError:
        return State()
    return State(read["helpers"], {int(number): Powered(**each) for number, each in read["machines"].items()})


def is_ours(pid: int, directory: Path) -> bool:
    """Return True when the process is still the one that was started for ``directory``: numbers are used again."""
    try:
        return os.fsencode(directory) in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def alive(directory: Path) -> list[int]:
    """Return the numbers of the machines that run, sorted."""
    return sorted(n for n, each in recall(directory).machines.items() if is_ours(each.pid, directory))


def kill(pids: Sequence[int], directory: Path) -> None:
    """End those of the processes that are ours: SIGTERM, then SIGKILL after five seconds."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in pids:
            if is_ours(pid, directory):
                with suppress(ProcessLookupError):
                    os.kill(pid, number)
        end = time.monotonic() + _GRACE_S
        while any(is_ours(pid, directory) for pid in pids) and time.monotonic() < end:
            time.sleep(0.05)


def end(directory: Path) -> list[int]:
    """Cut the power of all machines, end the helpers, and forget them; return the numbers of the machines that ran."""
    state = recall(directory)
    running = alive(directory)
    kill([*(each.pid for each in state.machines.values()), *state.helpers.values()], directory)
    (directory / _STATE).unlink(missing_ok=True)
    return running
