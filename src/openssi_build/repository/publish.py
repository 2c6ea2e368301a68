"""Publishing: from files and the published tree to the next snapshot."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from hashlib import sha256
from itertools import pairwise
from pathlib import Path

from openssi import files
from openssi.errors import Error
from openssi_build.repository import control, plan, pool, release, snapshots, tables
from openssi_build.repository.chunks import Table
from openssi_build.repository.plan import Plan
from openssi_build.repository.pool import Package
from openssi_build.repository.release import Index, Signer
from openssi_build.repository.snapshots import Change, Snapshot
from openssi_build.repository.store import COMPRESSIONS, Seen, Stale, Store, read_seen, write_seen
from openssi_build.settings import Repository

_DAY = 86400
_JOURNAL = ".incoming"  # paths that an unfinished publish may have put into the pool
_GRACE_DAYS = 30  # how long a client may go on with a Release that has no Valid-Until


def publish(
    repo: Path,
    new: Sequence[Path],
    *,
    settings: Repository,
    cache: Path,
    signer: Signer,
    date: int | None = None,
    waiting: Callable[[str], None] | None = None,
) -> Snapshot:
    """Add ``new`` (.deb and .dsc files) to the repository ``repo`` and return the snapshot that is then public.

    Everything is read and judged first; Error means that nothing was published. When nothing changes, no byte is
    written and the snapshot is the one that was public (its ``new`` is False). ``date`` (seconds since 1970) is
    SOURCE_DATE_EPOCH or now. Another writer is waited for; ``waiting`` is called once with who it is.
    """
    with _writing(repo, cache, settings, signer, date, waiting) as start:
        try:
            return start().add(new)
        except Stale:
            return start(afresh=True).add(new)


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
    """Publish the packages of snapshot ``number`` again, as a new snapshot: apt refuses a Release older than its own."""
    with _writing(repo, cache, settings, signer, date, waiting) as start:
        return start(afresh=True).back_to(snapshots.read(repo, number))


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
    try:
        repo.mkdir(parents=True, exist_ok=True)
        with files.lock(repo / ".lock", waiting=waiting):
            yield partial(_Writer, repo, cache, settings, signer, date)
    except OSError as problem:
        place = problem.filename or repo
        raise Error(f"{place}: {problem.strerror or problem}", hint="nothing was published") from problem


class _Writer:
    """The holder of the lock, with what is public and what the cache knows of it."""

    def __init__(
        self, repo: Path, cache: Path, settings: Repository, signer: Signer, date: int, *, afresh: bool = False
    ) -> None:
        self.repo = repo.absolute()
        self.settings = settings
        self.signer = signer
        tag = sha256(f"{self.repo}\0{settings.suite}\0{settings.component}".encode()).hexdigest()[:16]
        self.cache = cache / "repository" / tag
        if afresh:
            shutil.rmtree(self.cache, ignore_errors=True)
        self.store = Store(self.cache / "chunks")
        self._recover()
        self.before = snapshots.newest(self.repo)
        self._inputs: dict[str, Seen] | None = None
        self.date = max(date, self.before.date) if self.before else date
        self.notes = read_seen(self.cache / "pool")
        self.tables = self._tables()

    # -- what is there --------------------------------------------------------------------------------------------

    def _recover(self) -> None:
        """Finish or undo what an interrupted writer left."""
        snapshots.tidy(self.repo)
        current = snapshots.newest(self.repo)
        if current and not snapshots.is_public(self.repo, current):
            snapshots.install(self.repo, current)
        journal = self.repo / _JOURNAL
        if journal.exists():
            published = {path for each in snapshots.every(self.repo) for change in each.added for path in change.paths}
            for path in json.loads(journal.read_bytes() or b"[]"):
                target = self.repo / path
                target.with_name(f".{target.name}.new").unlink(missing_ok=True)
                if path not in published:
                    target.unlink(missing_ok=True)
            journal.unlink()

    def _base(self) -> str:
        """Return what names the published state: the hash of the suite's InRelease."""
        try:
            top, _ = tables.releases(self.settings)
            return sha256((self.repo / f"{top}InRelease").read_bytes()).hexdigest()
        except FileNotFoundError:
            return ""

    def _tables(self) -> dict[str, Table]:
        kept = tables.kept(self.cache / "tables", self.settings, self.store, self._base())
        if kept is not None:
            return kept
        read = tables.published(self.repo, self.settings, self.store)
        self.notes = self._examined(read)
        return read

    def _examined(self, read: dict[str, Table]) -> dict[str, Seen]:
        """Return notes on every file that the published indexes name, which must all be there."""
        notes = {}
        for name, table in read.items():
            if name.startswith("packages-") or name == "sources":
                for stanza in table.items():
                    for path, size, digest in control.files(stanza):
                        notes[path] = Seen(size, 0, 0, digest)
        return notes

    def check_pool(self) -> bool:
        """Compare the pool with the notes; read again what looks different. Error names a file that is not what was
        published. Return True when a note was renewed.
        """
        renewed = False
        top = f"{self.repo}/"
        for path, note in self.notes.items():
            try:
                status = os.stat(top + path)  # noqa: PTH116 - one Path for each of 10,000 files takes longer than stat
            except FileNotFoundError:
                raise Error(f"{top}{path}: published, but gone", hint="inv rollback, or put the file back") from None
            if note.fits(status):
                continue
            archive, status = pool.content(Path(top + path))
            if len(archive) != note.size or sha256(archive).hexdigest() != note.sha256:
                raise Error(f"{top}{path}: not the file that was published: its SHA256 differs", hint="put it back")
            self.notes[path] = Seen(status.st_size, status.st_mtime_ns, status.st_ino, note.sha256)
            renewed = True
        return renewed

    # -- what is asked --------------------------------------------------------------------------------------------

    def add(self, new: Sequence[Path]) -> Snapshot:
        """Add files; see publish()."""
        renewed = self.check_pool()
        packages = self._read(new)
        decided = plan.make(self.repo, self.tables, packages, self.settings)
        identity = self._identity()
        if self.before and not decided.changes and self.before.identity == identity and not self._ageing():
            if renewed:
                self._save(self.tables)
            return self.before
        edited = {name: table.edit(decided.changes.get(name, {})) for name, table in self.tables.items()}
        return self._publish(edited, decided, identity, "" if self.before else "first publish")

    def _ageing(self) -> bool:
        """Return True when half of the public Release's validity is over."""
        assert self.before
        return self.before.valid_until > 0 and self.date > (self.before.date + self.before.valid_until) // 2

    def back_to(self, target: Snapshot) -> Snapshot:
        """Publish an older snapshot's packages; see rollback()."""
        directory = self.repo / target.directory
        wanted = tables.published(directory, self.settings, self.store)
        old, new = self._stanzas(self.tables), self._stanzas(wanted)
        shared = {path for stanza in new for path, _, _ in control.files(stanza)}
        decided = Plan(dropped=sorted(old - new), shared=shared)
        self.notes = self._examined(wanted)
        self.check_pool()
        back = [plan.change(stanza) for stanza in sorted(new - old)]
        return self._publish(wanted, decided, self._identity(), f"back to {target.number}", back)

    def _stanzas(self, read: dict[str, Table]) -> set[bytes]:
        named = [table for name, table in read.items() if name.startswith("packages-") or name == "sources"]
        return {stanza for table in named for stanza in table.items()}

    def _read(self, new: Sequence[Path]) -> list[Package]:
        """Read what is not published yet, by the notes on files that were read before."""
        inputs = read_seen(self.cache / "inputs")
        known = {note.sha256 for note in self.notes.values()}
        top = f"{self.repo}/"
        packages = []
        fresh: dict[str, Seen] = {}
        for origin in new:
            name = os.path.abspath(origin)  # noqa: PTH100 - as above
            inside = name[len(top) :] if name.startswith(top) else ""
            if inside and inside in self.notes:
                continue  # check_pool() has looked at it
            note = inputs.get(name)
            if note and note.sha256 in known and _still(name, note):
                fresh[name] = note
                continue
            package = pool.read(Path(name), top, self.settings.component, self.settings.architectures)
            packages.append(package)
            if not inside:
                fresh[name] = package.incoming[0].note
        self._inputs = fresh
        return packages

    # -- what is written ------------------------------------------------------------------------------------------

    def _identity(self) -> str:
        said = json.dumps([repr(self.settings), sorted(release.fingerprints(self.signer.public_keys()))])
        return sha256(said.encode()).hexdigest()[:16]

    def _publish(
        self,
        edited: dict[str, Table],
        decided: Plan,
        identity: str,
        note: str,
        back: Iterable[Change] = (),
    ) -> Snapshot:
        added = [plan.change(package.stanza) for package in decided.added] + list(back)
        dropped = [plan.change(stanza, decided.shared) for stanza in decided.dropped]
        placed = self._place(decided.added)
        snapshot: Snapshot | None = None
        try:
            staging = snapshots.stage(self.repo)
            indexes = self._write_indexes(staging, edited)
            packages, sources = self._counts(edited, added, dropped)
            snapshot = Snapshot(
                number=self.before.number + 1 if self.before else 1,
                date=self.date,
                valid_until=self.date + self.settings.valid_for_days * _DAY if self.settings.valid_for_days else 0,
                note=note,
                identity=identity,
                releases=tables.releases(self.settings),
                indexes={
                    path: index.sha256 for path, index in indexes.items() if path.rpartition(".")[2] in COMPRESSIONS
                },
                packages=packages,
                sources=sources,
                added=tuple(added),
                dropped=tuple(dropped),
                new=True,
            )
            self._write_releases(staging, snapshot, indexes)
            snapshots.complete(self.repo, staging, snapshot)
            snapshots.install(self.repo, snapshot)
        except BaseException:
            self._undo(snapshot, placed)
            raise
        (self.repo / _JOURNAL).unlink(missing_ok=True)
        for change in dropped:
            for path in change.paths:
                self.notes.pop(path, None)
        for stanza_change in added:
            for path in stanza_change.paths:
                self.notes.setdefault(path, Seen(0, 0, 0, ""))
        self._expire(snapshot)
        self._save(edited)
        return snapshot

    def _counts(self, edited: dict[str, Table], added: list[Change], dropped: list[Change]) -> tuple[int, int]:
        def of(changes: list[Change]) -> tuple[int, int]:
            sources = sum(change.architecture == "source" for change in changes)
            return len(changes) - sources, sources

        if self.before is None:
            return plan.counts(edited, lambda table: sum(1 for _ in table.items()))
        (more, more_sources), (less, less_sources) = of(added), of(dropped)
        return self.before.packages + more - less, self.before.sources + more_sources - less_sources

    def _place(self, added: Sequence[Package]) -> list[str]:
        """Put new files into the pool and return the paths that were not there before."""
        placed = []
        waiting = []
        for package in added:
            for each in package.incoming:
                if each.origin == self.repo / each.path:
                    self.notes[each.path] = each.note
                elif each.path in self.notes or (self.repo / each.path).exists():
                    self._must_equal(each)
                else:
                    waiting.append(each)
        if waiting:
            files.write(self.repo / _JOURNAL, json.dumps([each.path for each in waiting]))
        try:
            for each in waiting:
                placed.append(each.path)
                self.notes[each.path] = pool.put(self.repo, each)
        except BaseException:
            self._undo(None, placed)
            raise
        return placed

    def _must_equal(self, each: pool.Incoming) -> None:
        archive, status = pool.content(self.repo / each.path)
        if sha256(archive).hexdigest() != each.note.sha256:
            raise Error(
                f"{each.origin}: {self.repo / each.path} has that name and other content",
                hint="the same version with other bytes is refused: raise the version",
            )
        self.notes[each.path] = Seen(status.st_size, status.st_mtime_ns, status.st_ino, each.note.sha256)

    def _undo(self, snapshot: Snapshot | None, placed: Iterable[str]) -> None:
        """Take back what a publish that failed has written; the disk may be full, so only names are removed."""
        if snapshot and (self.repo / snapshot.directory).exists():
            snapshots.discard(self.repo, snapshot)
            if self.before:
                snapshots.install(self.repo, self.before)
        snapshots.tidy(self.repo)
        for path in placed:
            (self.repo / path).unlink(missing_ok=True)
        (self.repo / _JOURNAL).unlink(missing_ok=True)

    def _write_indexes(self, staging: Path, edited: dict[str, Table]) -> dict[str, Index]:
        """Write every index in every form below ``staging`` and return what they are, the plain ones too."""
        made: dict[str, tuple[Index, dict[str, tuple[Path, Index]]]] = {}
        indexes: dict[str, Index] = {}
        for path, parts in tables.layout(self.settings).items():
            names = [chunk.name for part in parts for chunk in edited[part].chunks]
            key = "\n".join(names)
            (staging / path).parent.mkdir(parents=True, exist_ok=True)
            if key in made:
                plain, forms = made[key]
                for suffix, (source, _) in forms.items():
                    os.link(source, staging / f"{path}.{suffix}")
            else:
                plain, forms = made[key] = self._write_index(staging / path, names)
            indexes[path] = plain
            indexes |= {f"{path}.{suffix}": index for suffix, (_, index) in forms.items()}
        return indexes

    def _write_index(self, path: Path, names: list[str]) -> tuple[Index, dict[str, tuple[Path, Index]]]:
        plain, size = sha256(), 0
        for name in names:
            text = self.store.text(name)
            plain.update(text)
            size += len(text)
        forms = {}
        for suffix in self.settings.compress:
            target = path.with_name(f"{path.name}.{suffix}")
            forms[suffix] = (target, self._write_form(target, names, suffix))
        return Index(size, plain.hexdigest()), forms

    def _write_form(self, target: Path, names: list[str], suffix: str) -> Index:
        compression = COMPRESSIONS[suffix]
        digest, size = sha256(), 0
        with target.open("wb") as stream:
            for piece in compression.join(self.store.compressed(name, suffix) for name in names):
                digest.update(piece)
                size += len(piece)
                stream.write(piece)
            if not size:
                stream.write(compression.empty)
                digest.update(compression.empty)
                size = len(compression.empty)
            stream.flush()
            os.fchmod(stream.fileno(), 0o644)
            os.fsync(stream.fileno())
        return Index(size, digest.hexdigest())

    def _write_releases(self, staging: Path, snapshot: Snapshot, indexes: dict[str, Index]) -> None:
        for prefix in snapshot.releases:
            own = {
                path.removeprefix(prefix): index
                for path, index in indexes.items()
                if (path.startswith(prefix) if prefix else not path.startswith("dists/"))
            }
            text = release.text(self._fields(snapshot, flat=not prefix), own)
            files.write(staging / f"{prefix}Release", text)
            files.write(staging / f"{prefix}Release.gpg", self.signer.detach(text, self.date))
            files.write(staging / f"{prefix}InRelease", self.signer.clearsign(text, self.date))

    def _fields(self, snapshot: Snapshot, *, flat: bool) -> dict[str, str]:
        settings = self.settings
        return {
            "Origin": settings.origin,
            "Label": settings.label,
            "Suite": settings.suite,
            "Codename": settings.suite,
            "Date": release.rfc2822(snapshot.date),
            "Valid-Until": release.rfc2822(snapshot.valid_until) if snapshot.valid_until else "",
            "Acquire-By-Hash": "yes",
            # Without ``all`` here, apt leaves out binary-all without a word.
            "Architectures": " ".join(("all", *settings.architectures)),
            "Components": "" if flat else settings.component,
            "Description": settings.description,
            "Signed-By": ",".join(release.fingerprints(self.signer.public_keys())),
        }

    # -- what is thrown away --------------------------------------------------------------------------------------

    def _expire(self, current: Snapshot) -> None:
        """Remove old index files, old snapshots, and pool files that nothing which is kept names."""
        records = [*snapshots.every(self.repo)[:-1], current]
        replaced = {each.number: after.date for each, after in pairwise(records)}
        recent = [
            each
            for position, each in enumerate(records, 1)
            if position + self.settings.by_hash_generations > len(records) or replaced[each.number] + _DAY > self.date
        ]
        snapshots.clean(self.repo, recent)
        grace = (self.settings.valid_for_days or _GRACE_DAYS) * _DAY
        expired = []
        for each in records[: -self.settings.snapshots]:
            if max(each.valid_until, replaced[each.number] + (0 if each.valid_until else grace)) >= self.date:
                break  # a client may still have this Release, and those after it
            expired.append(each)
        self._forget(expired, records[len(expired) :])

    def _forget(self, expired: list[Snapshot], kept: list[Snapshot]) -> None:
        """Remove ``expired`` (the oldest snapshots) and the pool files that only they name.

        A file that a snapshot drops is named by those before it; so the oldest one that is kept names what it has itself
        and what later ones drop.
        """
        if not expired:
            return
        boundary = [*expired[1:], kept[0]]
        candidates = {path for each in boundary for change in each.dropped for path in change.paths}
        named = {path for each in kept[1:] for change in each.dropped for path in change.paths} | self.notes.keys()
        for path in sorted(candidates - named):
            target = self.repo / path
            target.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # not empty
                target.parent.rmdir()
        for each in expired:
            snapshots.discard(self.repo, each)

    def _save(self, edited: dict[str, Table]) -> None:
        """Keep what the next publish need not find out again."""
        write_seen(self.cache / "pool", self.notes)
        if self._inputs is not None:
            write_seen(self.cache / "inputs", self._inputs)
        tables.save(self.cache / "tables", edited, self._base())  # last: it says that the others are of this state
        self.store.prune(chunk.name for table in edited.values() for chunk in table.chunks)


def _still(name: str, note: Seen) -> bool:
    try:
        return note.fits(os.stat(name))  # noqa: PTH116 - as above
    except FileNotFoundError:
        return False
