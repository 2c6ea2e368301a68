"""`inv bench repo`: our indexing beside apt-ftparchive, reprepro and aptly, on one pool and in the same run."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median

from openssi import run
from openssi.errors import Error
from openssi_build.bench import measure, pool, writer
from openssi_build.bench.measure import Row, Sample, median_cpu
from openssi_build.bench.peers import PROGRAMS, Aptly, FtpArchive, Reprepro, total
from openssi_build.signing import Home

_SECONDS = 0.3  # a publish that changes nothing
_MEMORY_MIB = 130.0


@dataclass
class Ours:
    """Our writer as a process of its own, publishing the pool that lies in ``base``/repo/pool."""

    base: Path
    source: Path  # what Python imports us from
    home: Path
    fingerprint: str
    published: list[Path] = field(default_factory=list)

    def _once(self, *words: str | Path) -> Sample:
        argv = [sys.executable, "-m", "openssi_build.bench.writer", *words]
        return measure.once(argv, env={"PYTHONPATH": str(self.source)})

    def index(self) -> Sample:
        """Write the stanzas of the whole pool."""
        return self._once("index", self.base / "repo/pool", self.base / "Packages")

    def publish(self, *new: Path) -> Sample:
        """Publish ``new``, or the whole pool."""
        return self._once("publish", self.base / "repo", self.base / "cache", self.home, self.fingerprint, *new)

    def state(self) -> dict[str, tuple[int, int, int]]:
        """Return inode, size and time of change of all that is published."""
        paths = (path for path in (self.base / "repo").rglob("*") if path.name != ".lock")
        return {
            str(path): (status.st_ino, status.st_size, status.st_ctime_ns) for path in paths if (status := path.lstat())
        }

    def nothing(self) -> Sample:
        """Publish the whole pool again; Error when that rewrites anything."""
        before = self.state()
        sample = self.publish()
        if self.state() != before:
            raise Error("a publish that changes nothing has rewritten files")
        return sample


def missing() -> list[str]:
    """Return the Debian packages of the peers that this machine lacks."""
    return [run.PACKAGES.get(program, program) for program in PROGRAMS if run.find(program) is None]


def bench(root: Path, work: Path, *, packages: int = 10_000, times: int = 3) -> bool:
    """Measure in ``work``, print the table, and return True when every bar is met.

    Error names the Debian packages of peers that are not installed.
    """
    if missing():
        raise Error(f"no peers to measure against: {', '.join(missing())}", hint=f"apt install {' '.join(missing())}")
    made = work / f"pool-{packages}"
    pool.generate(made, packages, extra=times + 2)
    with tempfile.TemporaryDirectory(prefix="repo-", dir=work) as directory, Home() as home:
        fingerprint = home.generate("bench <bench@openssi.invalid>", expires="0")
        rows = _Bench(Path(directory), made, root / "src", home.path, fingerprint, times).rows()
    measure.show(f"{packages} packages, {times} runs each, median", rows)
    return all(row.met for row in rows)


@dataclass
class _Bench:
    base: Path
    made: Path  # of pool.generate()
    source: Path
    home: Path
    fingerprint: str
    times: int

    def rows(self) -> list[Row]:
        """Return all lines of the table."""
        self.ours = Ours(self.base / "ours", self.source, self.home, self.fingerprint)
        self.ftparchive = FtpArchive(self.base / "apt-ftparchive", self.home, self.fingerprint)
        self.reprepro = Reprepro(self.base / "reprepro", self.home, self.fingerprint)
        self.aptly = Aptly(self.base / "aptly", self.home, self.fingerprint)
        for each in (self.ftparchive, self.reprepro, self.aptly):
            each.prepare()
        self._link(self.ours.base / "repo/pool")
        self._link(self.ftparchive.base / "pool")
        return [*self._cold(), *self._changes()]

    def _link(self, target: Path) -> None:
        """Make ``target`` a copy of the pool's .debs, by hard links."""
        for name in writer.found(self.made / "pool"):
            copy = target / Path(name).relative_to(self.made / "pool")
            copy.parent.mkdir(parents=True, exist_ok=True)
            os.link(name, copy)

    def _cold(self) -> list[Row]:
        index = self._interleaved({"ours": lambda _: self.ours.index(), "peer": lambda _: self.ftparchive.index()})
        debs = [Path(name) for name in writer.found(self.ours.base / "repo/pool")]
        include = self.reprepro.include(debs)
        everything = {
            "apt-ftparchive": self.ftparchive.publish(),
            "reprepro": total(include, self.reprepro.export()),
            "aptly": self.aptly.everything(self.ftparchive.base / "pool"),
        }
        ours = self._interleaved({"ours": lambda _: self._from_nothing()})["ours"]
        best = min(everything, key=lambda name: everything[name].cpu_s)
        what = "all from nothing, with Contents, signed"
        own = median_cpu(index["ours"])
        return [
            Row("index of the pool, cold", own, "apt-ftparchive", median_cpu(index["peer"]), "s", 0.9),
            Row("", own, "reprepro", include.cpu_s, "s", 1 / 10),
            *(
                Row(what, median_cpu(ours), name, each.cpu_s, "s", 0.45 if name == best else None)
                for name, each in everything.items()
            ),
            Row("its peak memory", median(each.peak_mib for each in ours), "limit", _MEMORY_MIB, "MiB", 1.0),
        ]

    def _from_nothing(self) -> Sample:
        for name in ("dists", "snapshots", "Packages.xz", "by-hash"):
            path = self.ours.base / "repo" / name
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        shutil.rmtree(self.ours.base / "cache", ignore_errors=True)
        return self.ours.publish()

    def _changes(self) -> list[Row]:
        extra = sorted((self.made / "extra").iterdir())
        bars = {"apt-ftparchive": 1 / 15, "reprepro": 1 / 8, "aptly": 1 / 3}
        adding = self._interleaved(
            {
                "ours": lambda number: self.ours.publish(extra[number]),
                "apt-ftparchive": lambda number: self.ftparchive.add(extra[number]),
                "reprepro": lambda number: self.reprepro.add(extra[number]),
                "aptly": lambda number: self.aptly.add(extra[number]),
            }
        )
        own = median_cpu(adding["ours"])
        nothing = self._interleaved({"ours": lambda _: self.ours.nothing()})["ours"]
        peak = max(each.peak_mib for each in adding["ours"])
        return [
            *(
                Row("add one, publish, signed", own, name, median_cpu(adding[name]), "s", bar)
                for name, bar in bars.items()
            ),
            Row("its peak memory", peak, "limit", _MEMORY_MIB, "MiB", 1.0),
            Row("nothing changed, not a byte rewritten", median_cpu(nothing), "limit", _SECONDS, "s", 1.0),
        ]

    def _interleaved(self, runs: dict[str, Callable[[int], Sample]]) -> dict[str, list[Sample]]:
        """Call the functions in turn with the number of the round."""
        samples: dict[str, list[Sample]] = {name: [] for name in runs}
        for number in range(self.times):
            turn = measure.interleaved({name: partial(each, number) for name, each in runs.items()}, times=1)
            for name, each in turn.items():
                samples[name] += each
        return samples
