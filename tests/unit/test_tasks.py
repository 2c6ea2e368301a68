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


def test_help_stands_where_a_word_is_due(root: Path) -> None:
    shown = run.output([sys.executable, "-m", "invoke", "--search-root", root, "serve-netboot", "--help"]).decode()
    assert "Usage: inv" in shown
    assert "--interface=STRING" in shown


def test_a_word_for_a_number_is_one_line(root: Path) -> None:
    argv = [sys.executable, "-m", "invoke", "--search-root", str(root), "boot-medium", "--node", "two"]
    assert run.status(argv) == (1, b"", b"error: two: expected a number\n")
