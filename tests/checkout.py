"""A clean clone of the tree as it is, changes that are not committed included."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from openssi import run


def clone(root: Path, destination: Path) -> Path:
    """Make ``destination`` a git clone that has what ``root`` has; return it."""
    listed = run.output(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=root)
    for name in filter(None, listed.decode().split("\0")):
        source, target = root / name, destination / name
        if not os.path.lexists(source):
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target, follow_symlinks=False)
    who = ["-c", "user.name=Test", "-c", "user.email=test@example.org"]
    for words in (["init", "--quiet"], ["add", "--all"], [*who, "commit", "--quiet", "--message", "all"]):
        run.run(["git", *words], cwd=destination)
    return destination
