"""What `./inv --list` shows."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from openssi import run


def test_each_task_is_one_line_of_the_list(root: Path) -> None:
    shown = run.output([sys.executable, "-m", "invoke", "--search-root", root, "--list"]).decode()
    heading, *lines = [line for line in shown.splitlines() if line]
    assert heading == "Available tasks:"
    assert len(lines) > 20
    assert [line for line in lines if not re.fullmatch(r"  [a-z-]+ +[A-Z].*\S", line) or len(line) > 80] == []
