"""`inv publish` and `inv pull` as a person sees them."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.progress import Progress as Bars

from openssi_build import history, signing, site
from openssi_build.caches import cache_directory
from openssi_build.publish import targets
from openssi_build.publish.publisher import Progress, Result, publish
from openssi_build.publish.pull import pull
from openssi_build.publish.targets import Advance
from openssi_build.settings import Settings


class _Shown(Progress):
    """A bar for each step on a terminal, lines elsewhere."""

    def __init__(self, console: Console) -> None:
        columns = (
            TextColumn("{task.description:>11}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
        )
        self.bars = Bars(*columns, console=console, transient=True, disable=not console.is_terminal)

    def say(self, line: str) -> None:
        self.bars.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def start(self, step: str, total: int) -> Advance:
        if not self.bars.console.is_terminal:
            self.say(f"{step}: {site.size(total)}")
        task = self.bars.add_task(step, total=total)
        return lambda count: self.bars.update(task, advance=count)


def publish_to(root: Path, settings: Settings, to: str, *, dry_run: bool = False, rollback: int = 0) -> None:
    """Publish ``out/repo`` to the target ``to`` and say what was done; with ``rollback`` go back to that snapshot first."""
    chosen = targets.find(settings.publish, to)
    repo = root / "out" / "repo"
    shown = _Shown(Console())
    if rollback and not dry_run:
        history.back(root, repo, cache_directory(root), settings, rollback, say=shown.say)
    start = time.monotonic()
    with targets.open_target(chosen, root) as target, shown.bars:
        result = publish(repo, target, settings.repository, dry_run=dry_run, progress=shown)
    for line in _told(result, chosen.to, dry_run, time.monotonic() - start):
        shown.say(line)


def _told(result: Result, to: str, dry_run: bool, took: float) -> list[str]:
    counts = f"{len(result.uploads)} files ({site.size(result.size)}), {result.kept} are there already"
    if dry_run:
        lines = [f"{item.phase:>11} {item.path} ({site.size(item.size)})" for item in result.uploads]
        lines += [f"{'delete':>11} {path}" for path in result.deleted]
        return [*lines, f"would upload {counts}, and delete {len(result.deleted)}"]
    kept = f", {len(result.doomed)} old ones are kept until no client can name them" if result.doomed else ""
    return [
        f"{to}: snapshot {result.snapshot}, verified ({took:.0f} s)",
        f"uploaded {counts}; deleted {len(result.deleted)}{kept}",
    ]


def pull_from(root: Path, settings: Settings, origin: str) -> None:
    """Make ``out/repo`` what the target ``origin`` holds, and say what came of it."""
    chosen = targets.find(settings.publish, origin)
    shown = _Shown(Console())
    with tempfile.TemporaryDirectory(prefix="ossi-") as name, signing.signer(settings.signing, root) as signer:
        keyring = Path(name) / "keyring.gpg"
        keyring.write_bytes(signer.public_keys())
        with targets.open_target(chosen, root) as target, shown.bars:
            said = pull(root / "out" / "repo", target, settings.repository, keyring, progress=shown)
    shown.say(f"{chosen.to}: {said}")
