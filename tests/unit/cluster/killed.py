"""Killing a function at its n-th change of the disk: a child process gets SIGKILL there, with no clean-up of any kind."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

KILLED = -signal.SIGKILL
_CHANGES = {
    "os.rename",
    "os.remove",
    "os.mkdir",
    "os.rmdir",
    "os.symlink",
    "os.link",
    "os.chmod",
    "os.chown",
    "os.utime",
    "ctypes.dlsym",  # renameat2
}


def at(step: int, root: Path, function: Callable[[], object]) -> bool:
    """Run ``function`` in a child that dies just before its ``step``-th change below ``root``; False if it ended first."""
    child = os.fork()
    if child == 0:
        try:
            _watch(step, str(root))
            function()
            os._exit(0)
        except BaseException as problem:
            print(f"killed.at({step}): {problem!r}", file=sys.stderr)
            os._exit(1)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, KILLED), f"the child failed by itself: {status}"
    return status == KILLED


def _watch(step: int, root: str) -> None:
    count = 0

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal count
        if not _changes(event, arguments, root):
            return
        count += 1
        if count >= step:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def _changes(event: str, arguments: tuple[object, ...], root: str) -> bool:
    if event == "open":
        path, _, flags = arguments
        writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        return bool(writes) and str(path).startswith(root)
    # A name relative to a directory's descriptor (rmtree) counts too: nothing else is going on in the child.
    return event in _CHANGES
