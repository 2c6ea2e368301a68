"""Where downloads, chroots and built images are kept by content."""

from __future__ import annotations

import os
from pathlib import Path


def cache_directory(root: Path) -> Path:
    """Return (and make) the cache: ``$XDG_CACHE_HOME/openssi``, ``~/.cache/openssi``, else ``out/cache`` of the tree ``root``.

    It outlives the checkout, so that a clean clone on the same machine is quick; it can be removed at any time.
    """
    base = os.environ.get("XDG_CACHE_HOME") or (Path(os.environ["HOME"]) / ".cache" if "HOME" in os.environ else None)
    for directory in [Path(base) / "openssi"] if base else []:
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(directory, os.W_OK):
            return directory
    fallback = root / "out" / "cache"
    fallback.mkdir(parents=True, exist_ok=True)
    return fallback
