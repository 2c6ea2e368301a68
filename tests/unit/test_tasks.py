"""What `./inv --list` shows."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path

from invoke.tasks import Task

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


def test_every_flag_is_explained(root: Path) -> None:
    spec = importlib.util.spec_from_file_location("tasks_of_inv", root / "tasks.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found = [each for each in vars(module).values() if isinstance(each, Task)]
    assert len(found) > 20
    flags = {f"{each.name} --{flag.name}": flag.help for each in found for flag in each.get_arguments()}
    assert [name for name, text in flags.items() if not text] == []
    for name in ("nics --wanted", "keys --action", "rollback --number", "bench --part", "verify_repo --repo"):
        assert f"; may stand without --{name.split('--')[1]}" in str(flags[name])
