"""`inv lab`: a trial cluster from nothing by the steps of the install guide, left running."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

from rich.console import Console, RenderableType
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from openssi import files, run
from openssi.errors import Error
from openssi.qemu import accelerator
from openssi_build import build, doctor
from openssi_build.lab import guide, image, running, tending
from openssi_build.lab.cluster import CARD, NETWORK, Lab
from openssi_build.lab.walk import Walk
from openssi_build.settings import Settings

WAYS = ("pxe", "uefi", "etherboot")
_MOST = 9
_SLOW = {"kvm": 1, "tcg": 4}  # how much longer a guest takes than it does natively
_TITLE = "A trial cluster, recorded"
_INTRODUCTION = """\
What was typed and said at the consoles of virtual machines while `{command}` made a cluster by the steps of
[INSTALL](INSTALL.md); that command wrote it. A heading tells the minutes and seconds since the first machine was switched on.
{meaning} Of long output the middle is left out: `[… 17 lines …]`. Nothing else is changed."""
_MEANING = {
    "kvm": "The machines ran at the speed of the processor.",
    "tcg": "The machines were emulated, which is several times slower than real ones are.",
}
# What a recording ends with.
_LOOK = (
    "onall uname -nr",
    "echo hello >/srv/hello; onnode {last} cat /srv/hello",
    "onnode {last} hostname",
    "ssi-status",
)


@dataclass(frozen=True)
class Step:
    """One step: ``usual`` is how many seconds it takes natively."""

    what: str
    usual: float
    act: Callable[[Walk], None]


def start(
    root: Path, cache: Path, settings: Settings, *, nodes: int = 3, boot: str = "pxe", record: Path | None = None
) -> None:
    """Make a cluster of ``nodes`` machines below ``out/lab`` and leave it running; Error when one runs there already.

    With ``record`` what was typed and said is written there.
    """
    ways = ways_of(nodes, boot)
    if record and not record.absolute().parent.is_dir():
        raise Error(f"--record {record}: no such directory")
    directory = tending.directory(root)
    if running.alive(directory):
        raise Error(f"{directory}: a trial cluster runs there", hint="inv lab-stop ends it")
    memory = doctor.memory(nodes)
    if memory.state != "ok":
        raise Error(f"--nodes {nodes}: {memory.said}", hint=memory.remedy)
    tending.clear(root)
    console = Console()
    shown = Shown(console, directory)
    with run.interrupted_by_signals():
        repo = build.repository_by_content(root, cache, settings, console)
        with shown.step("disk with Debian for the first node", 40):
            disk = image.disk(cache, image.Machine(), log_to=root / "out/log/lab-disk.log")
        with Lab(directory, repo, lasting=True) as lab:
            walk = Walk(lab, guide.read(root, lab.url, CARD, NETWORK))
            take(walk, [*first_steps(disk), *node_steps(ways)], shown)
            members = walk.ok("cluster -v").rstrip()
            if record:
                files.write(record, recorded(walk, f"inv lab --nodes {nodes} --boot {boot}", nodes))
            tending.hand_over(lab)
    console.print(f"\n# cluster -v\n{members}\n", highlight=False, markup=False)
    console.print(
        "It runs on. inv lab-console 1 is the first node's console, inv lab-status shows all, inv lab-stop ends it.",
        highlight=False, soft_wrap=True,
    )  # fmt: skip


def ways_of(nodes: int, boot: str) -> list[str]:
    """Return how each machine but the first boots; Error when ``nodes`` or ``boot`` is not known."""
    if not 1 <= nodes <= _MOST:
        raise Error(f"--nodes {nodes}: expected 1 to {_MOST}")
    if boot not in (*WAYS, "mixed"):
        raise Error(f"--boot {boot}: expected one of {', '.join((*WAYS, 'mixed'))}")
    return list(islice(cycle(WAYS if boot == "mixed" else (boot,)), nodes - 1))


def first_steps(disk: Path) -> list[Step]:
    """Return the steps that make a machine with the disk ``disk`` the first node."""
    return [
        Step(f"the first node boots Debian ({accelerator()})", 9, lambda walk: walk.boot(disk)),
        Step("1.4: the interconnect's address", 1, Walk.give_address),
        Step("2.1 to 2.4: apt gets the repository, dist-upgrade", 9, _upgrade),
        Step("2.6: apt-get install openssi", 18, Walk.install),
        Step("2.7: the first node reboots", 12, Walk.restart),
    ]


def _upgrade(walk: Walk) -> None:
    walk.name_the_repository()
    walk.pin_the_repository()
    walk.upgrade()


def node_steps(ways: Sequence[str]) -> list[Step]:
    """Return the steps that add a machine for each of the ``ways``, the first as node 2."""
    steps = []
    for number, way in enumerate(ways, 2):
        steps.append(Step(f"3.3: machine {number} starts by {way}", 4, _meeting(number, way)))
        steps.append(Step(f"3.4: ssi-addnode; node {number} joins", 14, _adding(number, way)))
    return steps


def _meeting(number: int, way: str) -> Callable[[Walk], None]:
    return lambda walk: walk.meet(number, walk.lab.command(number, way))


def _adding(number: int, way: str) -> Callable[[Walk], None]:
    return lambda walk: walk.add(number, protocol="E" if way == "etherboot" else "P")


def take(walk: Walk, steps: Sequence[Step], shown: Shown) -> None:
    """Take the steps one after the other; the first Error ends it."""
    for step in steps:
        walk.transcript.heading(step.what)
        with shown.step(step.what, step.usual * _SLOW[accelerator()]):
            step.act(walk)


def recorded(walk: Walk, command: str, nodes: int) -> str:
    """Look around in the cluster and return the recording of all of it, in Markdown."""
    walk.transcript.heading("a look around")
    for line in _LOOK:
        walk.ok(line.format(last=nodes))
    return walk.transcript.markdown(_TITLE, _INTRODUCTION.format(command=command, meaning=_MEANING[accelerator()]))


class Shown:
    """Shows a step while it is taken: a clock and what a machine says last; a line for each where there is no terminal."""

    def __init__(self, console: Console, directory: Path) -> None:
        self._console = console
        self._directory = directory

    @contextmanager
    def step(self, what: str, usual: float) -> Iterator[None]:
        """Say what is done, how long it usually takes and in the end took."""
        if not self._console.is_terminal:
            self._say(f"{what} (usually {usual:.0f} s)")
        began = time.monotonic()
        with _Watched(self._console, self._directory) as progress:
            progress.add_task(f"{what} (usually {usual:.0f} s)")
            yield
        self._say(f"{time.monotonic() - began:5.0f} s  {what}")

    def _say(self, line: str) -> None:
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)


class _Watched(Progress):
    """A clock, and below it the last line that any machine's console said."""

    def __init__(self, console: Console, directory: Path) -> None:
        self._directory = directory  # before the base class, which draws at once
        columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
        super().__init__(*columns, console=console, transient=True, disable=not console.is_terminal)

    def get_renderables(self) -> Iterator[RenderableType]:
        """Return the clock, and the line, dim and cut to the terminal's width."""
        yield from super().get_renderables()
        logs = sorted(self._directory.glob("node*.log"), key=lambda path: path.stat().st_mtime)
        yield Text(tending.last_line(logs[-1]) if logs else "", style="dim", no_wrap=True, overflow="ellipsis")
