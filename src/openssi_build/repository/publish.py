"""Publishing: from files and the published tree to the next snapshot."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from hashlib import sha256
from pathlib import Path

from openssi import files
from openssi.errors import Error
from openssi_build.repository import images, indexes, placing, plan, pool, release, retention, snapshots, tables
from openssi_build.repository.chunks import Table
from openssi_build.repository.images import Images
from openssi_build.repository.pool import Package
from openssi_build.repository.release import Signer
from openssi_build.repository.snapshots import Change, Changes, Snapshot
from openssi_build.repository.store import COMPRESSIONS, Seen, Stale, Store, read_seen, write_seen
from openssi_build.settings import Repository


def publish(
    repo: Path,
    new: Sequence[Path],
    *,
    settings: Repository,
    cache: Path,
    signer: Signer,
    boot_images: Sequence[Images] = (),
    date: int | None = None,
    waiting: Callable[[str], None] | None = None,
) -> Snapshot:
    """Add ``new`` (.deb and .dsc files) and boot images to the repository ``repo``; return the snapshot that is then public.

    Everything is read and judged first; Error means that nothing was published. When nothing changes, no byte is
    written and the snapshot is the one that was public (its ``new`` is False). ``date`` (seconds since 1970) is
    SOURCE_DATE_EPOCH or now. Another writer is waited for; ``waiting`` is called once with who it is.
    """
    with _writing(repo, cache, settings, signer, date, waiting) as start:
        try:
            return start().add(new, boot_images)
        except Stale:
            return start(afresh=True).add(new, boot_images)


def rollback(
    repo: Path,
    number: int,
    *,
    settings: Repository,
    cache: Path,
    signer: Signer,
    date: int | None = None,
    waiting: Callable[[str], None] | None = None,
) -> Snapshot:
    """Publish the packages and boot images of snapshot ``number`` again, as a new snapshot: apt refuses a Release older than its own.

    When they are what is public already, nothing is written and the public snapshot is returned.
    """
    with _writing(repo, cache, settings, signer, date, waiting) as start:
        return start(afresh=True).back_to(snapshots.read(repo, number))


def start_anew(repo: Path, *, waiting: Callable[[str], None] | None = None) -> None:
    """Remove all that is published in ``repo``, so that the next publish is its first: for a repository without clients.

    Interrupted, it leaves nothing that names a file which is gone.
    """
    with files.lock(repo / ".lock", waiting=waiting):
        doomed = repo / ".old"
        shutil.rmtree(doomed, ignore_errors=True)
        doomed.mkdir()
        public = {path.name: path for path in repo.iterdir() if not path.name.startswith(".")}
        naming = [name for name in ("InRelease", "dists", snapshots.DIRECTORY) if name in public]
        for name in dict.fromkeys([*naming, *public]):
            public[name].rename(doomed / name)
        shutil.rmtree(doomed)


@contextlib.contextmanager
def _writing(
    repo: Path,
    cache: Path,
    settings: Repository,
    signer: Signer,
    date: int | None,
    waiting: Callable[[str], None] | None,
) -> Iterator[Callable[..., _Writer]]:
    if date is None:
        date = int(os.environ.get("SOURCE_DATE_EPOCH") or time.time())
    repo = repo.absolute()
    before = os.umask(0o022)  # directories too are for everyone to read: a web server runs as somebody else
    try:
        repo.mkdir(parents=True, exist_ok=True)
        with pool.uncollected(), files.lock(repo / ".lock", waiting=waiting):
            yield partial(_Writer, repo, cache, settings, signer, date)
    except OSError as problem:
        place = problem.filename2 or problem.filename or repo
        raise Error(f"{place}: {problem.strerror or problem}", hint="nothing was published") from problem
    finally:
        os.umask(before)


class _Writer:
    """The holder of the lock, with what is public and what the cache knows of it."""

    def __init__(
        self, repo: Path, cache: Path, settings: Repository, signer: Signer, date: int, *, afresh: bool = False
    ) -> None:
        self.repo = repo
        self.settings = settings
        self.signer = signer
        tag = sha256(f"{repo}\0{settings.suite}\0{settings.component}\0{tables.CUT}".encode()).hexdigest()[:16]
        self.cache = cache / "repository" / tag
        if afresh:
            shutil.rmtree(self.cache, ignore_errors=True)
        self.store = Store(self.cache / "chunks")
        self._recover()
        self.before = snapshots.newest(repo)
        self.date = max(date, self.before.date) if self.before else date
        self.boot = snapshots.boot_images(repo, self.before) if self.before else {}
        self.identity = self._identity()
        self.inputs: dict[str, Seen] | None = None
        self.inputs_renewed = False
        self.notes, self.tables = self._known()

    def _recover(self) -> None:
        """Finish or undo what an interrupted writer left."""
        snapshots.tidy(self.repo)
        newest = snapshots.newest(self.repo)
        if newest and not snapshots.is_public(self.repo, newest):
            snapshots.install(self.repo, newest)
        placing.recover(self.repo)

    def _identity(self) -> str:
        """Return a digest of all but the packages and boot images that a Release depends on."""
        keys = sorted(release.fingerprints(self.signer.public_keys()))
        return sha256(json.dumps([repr(self.settings), keys, sorted(self.signer.fingerprints)]).encode()).hexdigest()[
            :16
        ]

    def _base(self) -> str:
        """Return the hash of the suite's InRelease: it names the published state."""
        top, _ = tables.releases(self.settings)
        try:
            return sha256((self.repo / f"{top}InRelease").read_bytes()).hexdigest()
        except FileNotFoundError:
            return ""

    def _known(self) -> tuple[dict[str, Seen], dict[str, Table]]:
        """Return notes on the pool and the tables: from the cache if it is of this state, or from what is published."""
        kept = tables.kept(self.cache / "tables", self.settings, self.store, self._base())
        if kept is not None:
            return read_seen(self.cache / "pool"), kept
        read = tables.published(self.repo, self.settings, self.store)
        return placing.named(read), read

    def add(self, new: Sequence[Path], boot_images: Sequence[Images]) -> Snapshot:
        """Add files; see publish()."""
        renewed = placing.check(self.repo, self.notes)
        images.indexes(self.repo, self.boot)
        packages = self._read(new)
        decided = plan.make(self.repo, self.tables, packages, self.settings)
        boot = images.make(self.repo, self.settings, self.boot, boot_images)
        same = not decided.changes and boot.listed == self.boot
        if self.before and same and self.before.identity == self.identity and not self._ageing():
            if renewed or self.inputs_renewed:
                self._save(self.tables)
            return self.before
        edited = {name: table.edit(decided.changes.get(name, {})) for name, table in self.tables.items()}
        changes = Changes(
            tuple(sorted(plan.coming(package) for package in decided.added)),
            tuple(sorted(plan.change(stanza, decided.shared) for stanza in decided.dropped)),
        )
        return self._publish(edited, decided.added, boot, changes, "" if self.before else "first publish")

    def _ageing(self) -> bool:
        """Return True when half of the public Release's validity is over."""
        assert self.before
        return self.before.valid_until > 0 and self.date > (self.before.date + self.before.valid_until) // 2

    def _read(self, new: Sequence[Path]) -> list[Package]:
        """Read what is not published yet, by the notes on files that were read before."""
        before = read_seen(self.cache / "inputs")
        known = {note.sha256 for note in self.notes.values()}
        top = f"{self.repo}/"
        packages = []
        self.inputs = {}
        for origin in new:
            name = os.path.abspath(origin)  # noqa: PTH100 - for 10,000 files, making the Path takes longer than stat
            if name.startswith(top) and name[len(top) :] in self.notes:
                continue  # placing.check() has looked at it
            note = before.get(name)
            if not (note and note.sha256 in known and _still(name, note)):
                packages.append(pool.read(name, top, self.settings.component, self.settings.architectures))
                note = packages[-1].incoming[0].note
            self.inputs[name] = note
        self.inputs_renewed = bool(self.inputs.items() - before.items())
        return packages

    def back_to(self, target: Snapshot) -> Snapshot:
        """Publish what an older snapshot had; see rollback()."""
        wanted = tables.published(self.repo / target.directory, self.settings, self.store)
        old, new = _stanzas(self.tables), _stanzas(wanted)
        boot = snapshots.boot_images(self.repo, target)
        if old == new and boot == self.boot and self.before:
            return self.before
        self.notes = placing.named(wanted)
        placing.check(self.repo, self.notes)
        images.indexes(self.repo, boot)
        changes = Changes(
            tuple(plan.change(stanza) for stanza in sorted(new - old)),
            tuple(plan.change(stanza, self.notes) for stanza in sorted(old - new)),
        )
        return self._publish(wanted, [], images.Plan(boot), changes, f"back to {target.number}")

    def _publish(
        self, edited: dict[str, Table], added: Sequence[Package], boot: images.Plan, changes: Changes, note: str
    ) -> Snapshot:
        changes, note = _with_images(self.boot, boot.listed, changes, note)
        placed = placing.place(self.repo, added, self.notes, boot.new, self.settings)
        snapshot = None
        try:
            staging = snapshots.stage(self.repo)
            written = indexes.write(staging, edited, self.settings, self.store)
            digests = {path: index.sha256 for path, index in written.items()}
            snapshot = self._snapshot(digests, changes, edited, boot.listed, note)
            listed = written | images.indexes(self.repo, boot.listed)
            indexes.write_releases(staging, snapshot, listed, self.settings, self.signer)
            snapshots.complete(self.repo, staging, snapshot, changes)
            snapshots.install(self.repo, snapshot)
        except BaseException:
            self._undo(snapshot, placed)
            raise
        for change in changes.dropped:
            for path in change.paths:
                self.notes.pop(path, None)
        retention.expire(self.repo, snapshot, self.settings, self.notes)
        placing.done(self.repo)
        self._save(edited)
        return snapshot

    def _snapshot(
        self, digests: dict[str, str], changes: Changes, edited: dict[str, Table], boot: images.Listed, note: str
    ) -> Snapshot:
        packages, sources = plan.counts(edited, self.before, changes)
        valid = self.settings.valid_for_days * retention.DAY
        return Snapshot(
            number=self.before.number + 1 if self.before else 1,
            date=self.date,
            valid_until=self.date + valid if valid else 0,
            note=note,
            identity=self.identity,
            releases=tables.releases(self.settings),
            indexes={path: digest for path, digest in digests.items() if path.rpartition(".")[2] in COMPRESSIONS},
            packages=packages,
            sources=sources,
            current={place: versions[images.CURRENT] for place, versions in boot.items()},
            new=True,
        )

    def _undo(self, snapshot: Snapshot | None, placed: Sequence[str]) -> None:
        """Take back what a publish that failed has written; the disk may be full, so only names change."""
        if snapshot and (self.repo / snapshot.directory).exists():
            snapshots.discard(self.repo, snapshot)
            if self.before:
                snapshots.install(self.repo, self.before)
        snapshots.tidy(self.repo)
        placing.take_back(self.repo, placed)

    def _save(self, edited: dict[str, Table]) -> None:
        """Keep what the next publish need not find out again; what can't be kept is found out again."""
        with contextlib.suppress(OSError):
            write_seen(self.cache / "pool", self.notes)
            if self.inputs is not None:
                write_seen(self.cache / "inputs", self.inputs)
            tables.save(self.cache / "tables", edited, self._base())  # last: it says that the others are of this state
            self.store.prune(chunk.name for table in edited.values() for chunk in table.chunks)


def _stanzas(read: dict[str, Table]) -> set[bytes]:
    named = [table for name, table in read.items() if name.startswith("packages-") or name == "sources"]
    return {stanza for table in named for stanza in table.items()}


def _with_images(before: images.Listed, after: images.Listed, changes: Changes, note: str) -> tuple[Changes, str]:
    """Return ``changes`` and ``note`` with what came and went of boot images; those current again are in the note."""
    old, new = (
        {
            Change(place.rpartition("/")[2], version, images.ARCHITECTURE, ())
            for place, versions in listed.items()
            for version in versions
            if version != images.CURRENT
        }
        for listed in (before, after)
    )
    again = [
        f"{place.rpartition('/')[2]} {versions[images.CURRENT]} again"
        for place, versions in sorted(after.items())
        if place in before and versions[images.CURRENT] in before[place].keys() - {before[place][images.CURRENT]}
    ]
    changed = Changes((*changes.added, *sorted(new - old)), (*changes.dropped, *sorted(old - new)))
    return changed, ", ".join(filter(None, (note, *again)))


def _still(name: str, note: Seen) -> bool:
    try:
        return note.fits(os.stat(name))  # noqa: PTH116 - as above
    except FileNotFoundError:
        return False
