"""A program on a terminal of its own, typed at by a test."""

from __future__ import annotations

import os
import pty
import select
import signal
import time
from collections.abc import Sequence


def on_a_terminal(
    argv: Sequence[str], answers: Sequence[tuple[bytes, bytes]], *, timeout: float = 60
) -> tuple[int, bytes]:
    """Run ``argv``; each time the text of a pair is said, type the other; return the exit status and all that was said.

    It may be killed before that by what is typed; AssertionError when a text does not come in ``timeout`` seconds.
    """
    pid, terminal = pty.fork()
    if pid == 0:
        # As a login gives them to a shell; what runs in the background may be deaf to Ctrl-C.
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
            signal.signal(number, signal.SIG_DFL)
        os.execvp(argv[0], list(argv))
    said = b""
    seen = 0
    end = time.monotonic() + timeout
    waiting = list(answers)
    while time.monotonic() < end:
        ready, _, _ = select.select([terminal], [], [], 0.2)
        try:
            piece = os.read(terminal, 65536) if ready else b""
        except OSError:  # the other side is closed
            break
        said += piece
        if waiting and (at := said.find(waiting[0][0], seen)) >= 0:
            seen = at + len(waiting[0][0])
            os.write(terminal, waiting.pop(0)[1])
    else:
        os.kill(pid, 9)
    os.close(terminal)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert not waiting, f"{waiting[0][0]!r} was not said: {said.decode(errors='replace')}"
    return code, said
