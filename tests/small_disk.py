"""Publishes on a small filesystem with more and more room on it, in a mount namespace: BASE (see test_repository_writers)."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parents[1] / "src")]

from repositories import SmallRepository  # noqa: E402

from openssi import run  # noqa: E402
from openssi.errors import Error  # noqa: E402

STEP = 16 << 10


def tree(top: Path) -> dict[str, bytes]:
    """Return all files and links below ``top`` but the lock, by their path."""
    found = (path for path in top.rglob("*") if path.name != ".lock" and (path.is_file() or path.is_symlink()))
    return {
        str(path.relative_to(top)): bytes(path.readlink()) if path.is_symlink() else path.read_bytes() for path in found
    }


def attempt(base: Path, room: int) -> bool:
    """Publish with ``room`` bytes free; return True when it was done. Nothing may have changed when it was not."""
    disk = base / "disk"
    run.run(["mount", "-t", "tmpfs", "-o", "size=64m", "small", disk])
    try:
        shutil.copytree(base / "published/repo", disk / "repo", symlinks=True)
        site = SmallRepository(base / "published")
        site.repo, site.date = disk / "repo", site.date + 10
        status = os.statvfs(disk)
        used = (status.f_blocks - status.f_bfree) * status.f_frsize
        run.run(["mount", "-o", f"remount,size={used + room}", disk])
        before = tree(site.repo)
        new = [site.deb("two", body=os.urandom(100_000)), site.deb("three", body=os.urandom(100_000))]
        try:
            site.publish(*new, images=[site.images("v2", os.urandom(100_000))])
        except Error as problem:
            assert "No space left on device" in str(problem), problem
            assert "nothing was published" in str(problem), problem
            after = tree(site.repo)
            assert after == before, sorted(after.keys() ^ before.keys())
            return False
        return True
    finally:
        run.run(["umount", disk])


def main(base: Path) -> None:
    """Give more room until it is enough, and say how often it was not."""
    (base / "disk").mkdir()
    room, failed = STEP, 0
    while not attempt(base, room):
        room, failed = room + STEP, failed + 1
    print(f"failed {failed} times, then published")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
