"""The project's own checks: lint, and the tests in the order of what they cost."""

from __future__ import annotations

import os
import re
from pathlib import Path

from openssi.errors import Error
from openssi.run import interactive, output

# A script is known by its name or its first line.
_SHEBANG = re.compile(rb"#!\s*/(usr/)?bin/(env )?(ba|da)?sh\b")


def shell_scripts(root: Path) -> list[Path]:
    """Return the tracked files below ``root`` that are shell scripts, sorted."""
    names = output(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=root).split(b"\0")
    paths = [root / os.fsdecode(name) for name in names if name]
    return sorted(path for path in paths if path.is_file() and not path.is_symlink() and _is_shell(path))


def _is_shell(path: Path) -> bool:
    if path.suffix == ".sh":
        return True
    with path.open("rb") as stream:
        return _SHEBANG.match(stream.read(64)) is not None


def lint(root: Path) -> None:
    """Run every linter over the tree below ``root``; raise Error naming those that complained."""
    commands: dict[str, list[str | Path]] = {
        "ruff check": ["ruff", "check", "--quiet", "."],
        "ruff format": ["ruff", "format", "--quiet", "--check", "."],
        "mypy": ["mypy", "--no-error-summary"],
        "shellcheck": ["shellcheck", "--external-sources", *shell_scripts(root)],
    }
    failed = [name for name, argv in commands.items() if interactive(argv, cwd=root) != 0]
    if failed:
        raise Error(f"lint: {', '.join(failed)}")


_SUITES = {
    "unit": "not integration and not boot",
    "integration": "integration",
    "boot": "boot",
}


def test(root: Path, *, only: str = "", match: str = "") -> None:
    """Run lint and the tests of ``only`` (unit, integration, boot; all three when empty) whose names fit ``match``."""
    if only and only not in _SUITES:
        raise Error(f"--only {only}: expected one of {', '.join(_SUITES)}")
    if not only:
        lint(root)
    mark = _SUITES[only] if only else ""
    # Two files at a time: a guest under tcg keeps one processor busy.
    parallel = [] if only == "unit" else ["-n", "2", "--dist", "loadfile"]
    argv = ["python", "-m", "pytest", *parallel, *(["-m", mark] if mark else []), *(["-k", match] if match else [])]
    if interactive(argv, cwd=root) != 0:
        raise Error("tests failed")
