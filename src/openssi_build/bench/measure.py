"""Measuring whole processes: processor seconds and memory from the kernel's own accounting, runs interleaved."""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from openssi import run
from openssi.errors import Error


@dataclass(frozen=True)
class Sample:
    """One run: user+system seconds of the process and all it waited for, wall seconds, largest process in MiB."""

    cpu_s: float
    wall_s: float
    peak_mib: float


def once(
    argv: run.Argv, *, cwd: Path | None = None, env: Mapping[str, str] | None = None, output: Path | None = None
) -> Sample:
    """Run ``argv`` and return what it cost; Error, with its last words, unless it exits 0. ``output`` keeps what it writes."""
    with tempfile.TemporaryDirectory() as directory:
        words = output or Path(directory) / "out"
        begin = time.monotonic()
        process = run.start(argv, cwd=cwd, env=env, log_to=words)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.monotonic() - begin
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            tail = words.read_text(errors="replace").strip().splitlines()[-3:]
            raise Error(f"{run.pasteable(argv)}: exit status {process.returncode}: {' | '.join(tail)}")
    return Sample(usage.ru_utime + usage.ru_stime, wall, usage.ru_maxrss / 1024)


def interleaved(runs: Mapping[str, Callable[[], Sample]], *, times: int = 3) -> dict[str, list[Sample]]:
    """Call every function of ``runs`` in turn, ``times`` times over, so that a change of load meets all alike."""
    samples: dict[str, list[Sample]] = {name: [] for name in runs}
    for _ in range(times):
        for name, function in runs.items():
            samples[name].append(function())
    return samples


def median_cpu(samples: Sequence[Sample]) -> float:
    """Return the median of the runs' processor seconds."""
    return statistics.median(sample.cpu_s for sample in samples)


@dataclass(frozen=True)
class Row:
    """One line of a bench table: what, ours, the peer's figure, their ratio and the bar it must stay under."""

    what: str
    ours: float
    peer: str
    theirs: float
    unit: str
    bar: float | None = None  # ours / theirs at most; None: shown only

    @property
    def ratio(self) -> float:
        """Ours over theirs."""
        return self.ours / self.theirs if self.theirs else float("inf")

    @property
    def met(self) -> bool:
        """True when there is no bar or the ratio stays under it."""
        return self.bar is None or self.ratio <= self.bar


def show(title: str, rows: Sequence[Row]) -> None:
    """Print the rows as a table; rich does the columns."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title)
    for heading in ("what", "ours", "peer", "theirs", "ratio", "bar", ""):
        table.add_column(heading, justify="left" if heading in ("what", "peer", "") else "right", no_wrap=True)
    for row in rows:
        bar = "" if row.bar is None else f"{row.bar:.3f}"
        verdict = "" if row.bar is None else "met" if row.met else "NOT MET"
        ours, theirs = (f"{value:.3f} {row.unit}" for value in (row.ours, row.theirs))
        table.add_row(row.what, ours, row.peer, theirs, f"{row.ratio:.3f}", bar, verdict)
    Console(width=None if sys.stdout.isatty() else 140).print(table)
