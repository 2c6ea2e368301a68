"""The documents in every form: HTML, PDF, text and manual pages, each from its one Markdown source in docs/."""

from __future__ import annotations

import shutil
from pathlib import Path

from openssi_build import chroot, deb

_TIMEOUT = 600


def build(root: Path, cache: Path, suite: str, destination: Path, log: Path) -> list[Path]:
    """Make all documents of the tree ``root`` in ``destination``, whose old content goes; return their paths, sorted.

    It is what the package openssi-doc is built with, in the same chroot. CommandError names ``log``.
    """
    log.unlink(missing_ok=True)
    with chroot.Chroot(deb.environment(root, cache, suite)) as session:
        session.copy_in(root / "docs", "/docs")
        make = ["make", "--directory=/docs", "--jobs=2", "OUT=/made", "all"]
        # The date that documents carry is that of the newest entry of the changelog.
        epoch = str(deb.version(root).epoch)
        session.run(make, env={"SOURCE_DATE_EPOCH": epoch}, log_to=log, timeout=_TIMEOUT)
        shutil.rmtree(destination, ignore_errors=True)
        shutil.copytree(session.path / "made", destination)
    return sorted(path for path in destination.rglob("*") if path.is_file())
