"""Publishing a tree to a target: compare, upload in order, verify, switch, verify, then delete what nobody can name."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from openssi import files
from openssi.errors import Error
from openssi_build.publish import tree
from openssi_build.publish.targets import Advance, Target
from openssi_build.publish.tree import Item
from openssi_build.repository import newest, release
from openssi_build.settings import Repository

STATE = ".publish.json"
_DAY = 86400
_GRACE_DAYS = 30  # as long as a client is taken to go on with a Release that has no Valid-Until


@dataclass
class Result:
    """What a publish did, or would do."""

    snapshot: int
    uploads: list[Item] = field(default_factory=list)
    kept: int = 0  # files that were there already
    doomed: list[str] = field(
        default_factory=list
    )  # no longer in the tree, kept while a Release that names them may be used
    deleted: list[str] = field(default_factory=list)

    @property
    def size(self) -> int:
        """Return the bytes that were uploaded."""
        return sum(item.size for item in self.uploads)


class Progress:
    """What is told while it goes on; this one says nothing."""

    def say(self, line: str) -> None:
        """Say a line."""

    def start(self, step: str, total: int) -> Advance:
        """Begin a step of ``total`` bytes; return what is called with bytes done."""
        return lambda _: None


def publish(
    repo: Path,
    target: Target,
    settings: Repository,
    *,
    dry_run: bool = False,
    progress: Progress | None = None,
    now: Callable[[], float] = time.time,
) -> Result:
    """Make ``target`` (connected) the repository that ``repo`` is; return what was done.

    Interrupted, it goes on where it stopped when it is called again. Error when the target holds what this tree does not
    descend from: another publisher was there. With ``dry_run`` nothing is written, not even a lock.
    """
    progress = progress or Progress()
    if not (repo / "snapshots").is_dir():
        raise Error(f"{repo}: no repository", hint="inv build-repo makes it")
    with files.lock(repo / ".lock", waiting=lambda holder: progress.say(f"waiting for {holder}")):
        publisher = _Publisher(repo, target, settings, progress, now)
        if dry_run:
            return publisher.plan().result
        with target.lock(lambda holder: progress.say(f"waiting for the publisher that is at work there: {holder}")):
            return publisher.run()


def heads(repo: Path) -> dict[str, set[bytes]]:
    """Return, for the InRelease of each tree of ``repo``, the contents it had in the snapshots that are kept."""
    current = newest(repo)
    if current is None:
        raise Error(f"{repo}: nothing is published in it", hint="inv build-repo does it")
    return {
        f"{prefix}InRelease": {path.read_bytes() for path in repo.glob(f"snapshots/*/{prefix}InRelease")}
        for prefix in current.releases
    }


@dataclass
class _Plan:
    result: Result
    there: dict[str, bytes | None]  # each InRelease as the target has it
    since: dict[str, int]  # when each doomed path was first not in the tree


class _Publisher:
    def __init__(
        self, repo: Path, target: Target, settings: Repository, progress: Progress, now: Callable[[], float]
    ) -> None:
        self.target = target
        self.progress = progress
        self.items = tree.read(repo, links=target.links)
        self.heads = heads(repo)
        current = newest(repo)
        assert current
        self.snapshot = current
        self.grace = (settings.valid_for_days or _GRACE_DAYS) * _DAY
        self.now = int(now())

    def plan(self) -> _Plan:
        """Compare tree and target."""
        there = self._descended()
        listing = self.target.listing()
        result = Result(self.snapshot.number)
        changed = [item for item in self.items.values() if not item.immutable and item.path in listing]
        same = self.target.digests(changed)
        for item in self.items.values():
            if listing.get(item.path) == item.size and (item.immutable or same.get(item.path) == item.sha256):
                result.kept += 1
            elif item.immutable and item.path in listing:
                raise Error(
                    f"{self.target.name}: {item.path} has {listing[item.path]} bytes there and {item.size} here",
                    hint="a published file never changes: give the package a new version",
                )
            else:
                result.uploads.append(item)
        since = self._since()
        result.doomed = sorted(listing.keys() - self.items.keys())
        since = {path: since.get(path, self.now) for path in result.doomed}
        result.deleted = [path for path, date in since.items() if date + self.grace < self.now]
        return _Plan(result, there, since)

    def run(self) -> Result:
        """Do it."""
        plan = self.plan()
        uploads = {item.path: item for item in plan.result.uploads}
        switch = [item for item in plan.result.uploads if item.phase == tree.PHASES[-1]]
        before = [item for item in plan.result.uploads if item not in switch]
        for step, items in tree.in_order(uploads):
            if step == tree.PHASES[-1]:
                self._verify(before)
                for item in items:
                    self.target.replace(item, plan.there[item.path])
            elif items:
                self.target.put(items, self.progress.start(step, sum(item.size for item in items)))
        self._check_public()
        if plan.result.deleted:
            self.target.delete(plan.result.deleted)
        left = {path: date for path, date in plan.since.items() if path not in plan.result.deleted}
        self._remember(left)
        plan.result.doomed = sorted(left)
        return plan.result

    def _descended(self) -> dict[str, bytes | None]:
        """Return each InRelease of the target; Error if this tree does not come from it."""
        there = {path: self.target.read(path) for path in self.heads}
        for path, content in there.items():
            if content is not None and content not in self.heads[path]:
                date = release.fields(content).get("Date", "an unknown date")
                raise Error(
                    f"{self.target.name}: holds a repository of {date} that this one does not descend from",
                    hint=f"inv pull --from {self.target.name}, then inv build-repo, then publish again",
                )
        return there

    def _verify(self, items: Sequence[Item]) -> None:
        """Raise Error unless the target has ``items`` as they are here."""
        there = self.target.digests(items)
        wrong = [item for item in items if there.get(item.path) != item.sha256]
        self.target.delete(item.path for item in wrong if item.immutable)  # no Release names it yet
        for item in wrong:
            what = "is not there" if item.path not in there else "has other bytes there"
            raise Error(
                f"{self.target.name}: {item.path} {what} after its upload", hint="run again: it is uploaded anew"
            )

    def _check_public(self) -> None:
        """Raise Error unless all that the tree has is there, and each InRelease is ours."""
        listing = self.target.listing()
        for item in self.items.values():
            if listing.get(item.path) != item.size:
                raise Error(f"{self.target.name}: {item.path} vanished while it was published", hint="run again")
        signed = [self.items[path] for path in self.heads]
        there = self.target.digests(signed)
        for path in self.heads:
            if there.get(path) != self.items[path].sha256:
                raise Error(f"{self.target.name}: {path} was changed by another publisher")

    def _since(self) -> dict[str, int]:
        try:
            noted = json.loads(self.target.read(STATE) or b"{}")["doomed"]
            return {str(path): int(date) for path, date in noted.items()}
        except (ValueError, KeyError, TypeError, AttributeError):
            return {}  # everything is kept for the whole time again

    def _remember(self, since: dict[str, int]) -> None:
        content = json.dumps({"doomed": since}, indent=1, sort_keys=True).encode() + b"\n"
        if self.target.read(STATE) != content:
            self.target.write(STATE, content)
