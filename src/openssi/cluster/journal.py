"""What was before: ssi-create notes every file here before it changes it, so that --undo gives the machine back.

``/var/lib/openssi/undo/journal`` has one JSON object a line; ``was`` says what lay at ``path`` (a file's content
is kept beside the journal under ``copy``). A line is on the disk before the change it speaks of begins, and
restoring can be repeated: killed at any step, the next run goes on.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from openssi import files
from openssi.cluster import blocks, fstab
from openssi.errors import Error

DIRECTORY = "var/lib/openssi/undo"
_LIST = "journal"


@dataclass(frozen=True)
class Was:
    """What lay at ``path`` (below the root, no leading slash).

    ``kind`` says how undoing treats what others did to it since: ``whole`` is all ours; ``block``, ``hosts`` and
    ``fstab`` keep others' lines; ``cdsl`` keeps the node's own content; ``tree`` is a directory that goes with all
    that is in it.
    """

    path: str
    kind: str
    was: str  # absent, file, link, directory
    node: int = 0
    copy: str = ""
    target: str = ""
    mode: int = 0
    uid: int = 0
    gid: int = 0
    mtime_ns: int = 0


class Journal:
    """The journal on the tree ``root``; made by the first save()."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.directory = root / DIRECTORY
        self.entries = self._read()

    def _read(self) -> list[Was]:
        try:
            text = (self.directory / _LIST).read_text()
        except FileNotFoundError:
            return []
        # A line without its end was being written when all stopped: its change had not begun.
        whole = text[: text.rfind("\n") + 1]
        try:
            return [Was(**json.loads(line)) for line in whole.splitlines()]
        except (ValueError, TypeError) as problem:
            raise Error(f"{self.directory / _LIST}: {problem}", hint="the originals lie beside it") from None

    def knows(self, path: str) -> bool:
        """Return True when ``path`` or a tree that it lies in is noted."""
        return any(
            path == each.path or (each.kind == "tree" and path.startswith(each.path + "/")) for each in self.entries
        )

    def original(self, path: str) -> bytes | None:
        """Return what the file ``path`` held before us: as noted, else as it is now; None when there was none."""
        for each in self.entries:
            if each.path == path:
                return (self.directory / each.copy).read_bytes() if each.was == "file" else None
        try:
            return (self.root / path).read_bytes()
        except (FileNotFoundError, IsADirectoryError):
            return None

    def save(self, path: str, kind: str = "whole", node: int = 0) -> None:
        """Note what lies at ``path``, and at each missing directory above it, unless it is noted already."""
        parent = str(Path(path).parent)
        if parent != "." and not (self.root / parent).exists():
            self.save(parent)
        if self.knows(path):
            return
        entry = self._look(path, kind, node)
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        if entry.copy:
            files.write(self.directory / entry.copy, (self.root / path).read_bytes(), mode=0o600)
        self._append(json.dumps(asdict(entry), ensure_ascii=True) + "\n")
        self.entries.append(entry)

    def _append(self, line: str) -> None:
        fd = os.open(self.directory / _LIST, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "r+b") as stream:
            data = stream.read()
            stream.seek(data.rfind(b"\n") + 1)
            stream.truncate()
            stream.write(line.encode())
            stream.flush()
            os.fsync(fd)
        files.sync_directory(self.directory)

    def _look(self, path: str, kind: str, node: int) -> Was:
        place = self.root / path
        try:
            found = place.lstat()
        except FileNotFoundError:
            return Was(path, kind, "absent", node)
        facts = (stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid, found.st_mtime_ns)
        if stat.S_ISLNK(found.st_mode):
            return Was(path, kind, "link", node, "", str(place.readlink()), *facts)
        if stat.S_ISDIR(found.st_mode):
            empty = not any(place.iterdir())
            return Was(path, kind if empty else "whole", "directory", node, "", "", *facts)
        return Was(path, kind, "file", node, f"{len(self.entries):04}", "", *facts)

    def undo(self, say: Callable[[str], None] = lambda _: None) -> None:
        """Give back everything noted, newest first, and forget it. Can be repeated after a kill."""
        files.sweep(self.root / entry.path for entry in self.entries)
        for entry in reversed(self.entries):
            if self._restore(entry):
                say(f"restored /{entry.path}")
        done = self.directory.with_name("undone")
        if self.directory.exists():
            if done.exists():
                shutil.rmtree(done)
            self.directory.rename(done)
        if done.exists():
            shutil.rmtree(done)
        self.entries = []

    def _restore(self, entry: Was) -> bool:
        """Restore one entry; return False when nothing had to be done."""
        place = self.root / entry.path
        if entry.was == "directory":
            _empty(place, all_of_it=entry.kind == "tree")
            _settle(place, entry)
            return entry.kind == "tree"
        if entry.was == "absent":
            return self._remove(place, entry)
        if entry.kind == "cdsl" and not place.is_symlink() and place.exists():
            return False
        if entry.was == "link":
            files.symlink(entry.target, place)
            return True
        place.parent.mkdir(parents=True, exist_ok=True)
        files.write(place, self._content(place, entry), mode=entry.mode)
        _settle(place, entry)
        return True

    def _remove(self, place: Path, entry: Was) -> bool:
        if entry.kind in ("block", "hosts") and place.is_file():
            rest = blocks.strip(place.read_text(errors="surrogateescape"), f"/{entry.path}")
            if rest:
                files.write(place, rest.encode(errors="surrogateescape"))
                return True
        if place.is_dir() and not place.is_symlink():
            _empty(place, all_of_it=entry.kind == "tree")
            try:
                place.rmdir()
            except OSError:
                return False  # others have put something there
            return True
        existed = place.is_symlink() or place.exists()
        place.unlink(missing_ok=True)
        return existed

    def _content(self, place: Path, entry: Was) -> bytes:
        """Return the original, with what others changed since."""
        saved = (self.directory / entry.copy).read_bytes()
        now = self._now(place, entry)
        if now is None or entry.kind == "whole":
            return saved
        if entry.kind == "cdsl":
            return now
        original, current = (data.decode(errors="surrogateescape") for data in (saved, now))
        text = _plain(entry, current, original)
        return text.encode(errors="surrogateescape")

    def _now(self, place: Path, entry: Was) -> bytes | None:
        if entry.kind == "cdsl":
            place = self.root / f"cluster/node{entry.node}" / entry.path
        try:
            return place.read_bytes()
        except OSError:
            return None


def _plain(entry: Was, current: str, original: str) -> str:
    where = f"/{entry.path}"
    if entry.kind == "fstab":
        return fstab.restored(current, original, entry.node)
    if entry.kind == "hosts":
        return blocks.restored(blocks.unpark(current), original, where)
    return blocks.restored(current, original, where)


def _settle(place: Path, entry: Was) -> None:
    """Give ``place`` its owner, mode and time back."""
    if not place.exists():
        return
    if os.geteuid() == 0:
        os.chown(place, entry.uid, entry.gid)
    place.chmod(entry.mode)
    os.utime(place, ns=(entry.mtime_ns, entry.mtime_ns))


def _empty(place: Path, *, all_of_it: bool) -> None:
    """Remove what is in the directory ``place`` if that is asked for."""
    if not all_of_it or not place.is_dir():
        return
    for each in place.iterdir():
        if each.is_dir() and not each.is_symlink():
            shutil.rmtree(each)
        else:
            each.unlink()
