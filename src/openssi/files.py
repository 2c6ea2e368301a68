"""Writing files so that every file is the old one or the new one, and locking across processes and nodes."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from openssi.errors import Error

TYPE_CHECKING = False  # typing's own costs a quarter of a command's start
if TYPE_CHECKING:
    from typing import IO

# .<name>.<eight random digits> and .<name>.<pid>.<time>
_TEMPORARY = re.compile(r"\.(.+)\.(?:[a-z0-9_]{8}|[0-9]+\.[0-9]+)", re.DOTALL)


def sync_directory(directory: Path) -> None:
    """Make the names in ``directory`` durable."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextlib.contextmanager
def replacing(path: Path, *, mode: int = 0o644, durable: bool = True) -> Iterator[IO[bytes]]:
    """Yield a stream for the new content of ``path``, which takes its place when the block ends well.

    A reader sees the old file or the new one. An error removes the temporary file, which lies beside
    ``path`` as ``.<name>.<random>``. The umask does not matter: the file gets exactly ``mode``.
    """
    temporary = path.with_name(f".{path.name}.{os.urandom(4).hex()}")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(fd, "wb") as stream:
            yield stream
            stream.flush()
            os.fchmod(stream.fileno(), mode)
            if durable:
                os.fsync(stream.fileno())
        temporary.replace(path)
        if durable:
            sync_directory(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write(path: Path, content: bytes | str, *, mode: int = 0o644, durable: bool = True) -> None:
    """Replace the content of ``path`` atomically; text is written as UTF-8."""
    with replacing(path, mode=mode, durable=durable) as stream:
        stream.write(content.encode() if isinstance(content, str) else content)


def write_if_changed(path: Path, content: bytes | str, *, mode: int = 0o644) -> bool:
    """Like write(), but leave a file alone that already has this content and mode; return True if written."""
    data = content.encode() if isinstance(content, str) else content
    try:
        if path.read_bytes() == data and path.stat().st_mode & 0o7777 == mode:
            return False
    except FileNotFoundError:
        pass
    write(path, data, mode=mode)
    return True


def symlink(target: str | Path, path: Path) -> None:
    """Make or replace the symbolic link ``path`` atomically."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{time.monotonic_ns()}")
    temporary.symlink_to(target)
    try:
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def exchange(first: Path, second: Path) -> None:
    """Let two files, links or directories swap their names in one step; OSError where the filesystem can't (NFS)."""
    import ctypes  # a few ms that every command would pay

    at_fdcwd, rename_exchange = -100, 2  # renameat2(2), for which Python has no function
    call = ctypes.CDLL(None, use_errno=True).renameat2
    if call(at_fdcwd, os.fsencode(first), at_fdcwd, os.fsencode(second), rename_exchange) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(first), None, str(second))


def sweep(paths: Iterable[Path]) -> None:
    """Remove what a killed write() or symlink() of ``paths`` left beside them; nobody else may be writing them."""
    names: dict[Path, set[str]] = {}
    for path in paths:
        names.setdefault(path.parent, set()).add(path.name)
    for directory, own in names.items():
        try:
            found = [entry.name for entry in os.scandir(directory) if entry.name.startswith(".")]
        except (FileNotFoundError, NotADirectoryError):
            continue
        for name in found:
            match = _TEMPORARY.fullmatch(name)
            if match and match[1] in own:
                (directory / name).unlink(missing_ok=True)


@contextlib.contextmanager
def lock(
    path: Path,
    *,
    timeout: float | None = None,
    waiting: Callable[[str], None] | None = None,
) -> Iterator[None]:
    """Hold the exclusive lock on ``path`` during the block.

    The lock is fcntl's: it excludes across the nodes of a cluster too, where flock does not exclude the
    node that has the root on a local disk. The file says who holds it. ``waiting`` is called once, with
    the holder, when the lock is not free; after ``timeout`` seconds Error names the holder.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        _acquire(fd, path, timeout, waiting)
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.uname().nodename} pid {os.getpid()} since {time.strftime('%F %T')}\n".encode(), 0)
        try:
            yield
        finally:
            os.ftruncate(fd, 0)
    finally:
        os.close(fd)


def _acquire(fd: int, path: Path, timeout: float | None, waiting: Callable[[str], None] | None) -> None:
    end = None if timeout is None else time.monotonic() + timeout
    told = False
    while True:
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except (BlockingIOError, PermissionError):
            holder = os.pread(fd, 200, 0).decode("utf-8", "replace").strip() or "another process"
        if waiting and not told:
            waiting(holder)
            told = True
        if end is not None and time.monotonic() >= end:
            raise Error(f"{path}: locked by {holder}", hint="wait for it to end, or end it")
        time.sleep(0.05)


def second(path: Path) -> int:
    """Return the whole second that the file was changed in; -1 when there is none."""
    try:
        return int(path.stat().st_mtime)
    except FileNotFoundError:
        return -1


def date_after(path: Path, before: int) -> None:
    """Date the file at least a second after ``before``, that of the file whose name it takes or took.

    HTTP tells versions of a file apart by whole seconds: to a client that has one, another of the same second is
    "not modified" (RFC 9110, 13.1.3).
    """
    if second(path) <= before:
        os.utime(path, (before + 1, before + 1))
