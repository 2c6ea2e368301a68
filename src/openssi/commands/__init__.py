"""The commands of the packages: each module has ``main(argv) -> int``; /usr/bin and /usr/sbin hold stubs that call it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from openssi.errors import Error

Main = Callable[[Sequence[str]], int]


def root() -> Path:
    """Return the root that commands work on: ``/``, or ``$OPENSSI_ROOT`` for another tree."""
    return Path(os.environ.get("OPENSSI_ROOT", "/"))


def call(main: Main, name: str) -> int:
    """Run ``main`` on the process's arguments and return the exit status.

    0 done, 1 failed (one line on stderr), 2 usage (argparse), 130 interrupted; a bug keeps its traceback.
    """
    try:
        return main(sys.argv[1:])
    except Error as problem:
        print(f"{name}: error: {problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{name}: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader (head, less) has seen enough; nothing more may be written at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
