"""Publishes the same packages and boot images again and again from the same state, each time killed one step later: BASE GPG-HOME.

A step is a change of a file or name below the repository. What a kill leaves lies in BASE/killed/<step>, what the next writer makes of it in
BASE/resumed/<step>, and what a publish makes that nobody kills in BASE/whole.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parents[1] / "src")]

from gpgsigner import GpgSigner  # noqa: E402
from repositories import SmallRepository  # noqa: E402

from openssi_build.repository import Images  # noqa: E402

_STEPS = {"os.rename", "os.link", "os.symlink", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.chmod"}


def killed_at(step: int, site: SmallRepository, new: list[Path], images: list[Images]) -> bool:
    """Publish ``new`` and ``images`` in a process that kills itself before the step; return False when it came to its end."""
    child = os.fork()
    if child == 0:
        left = step

        def watch(event: str, arguments: tuple[object, ...]) -> None:
            nonlocal left
            writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
            if (event in _STEPS or writes) and str(arguments[0]).startswith(str(site.repo)):
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                left -= 1

        sys.addaudithook(watch)
        site.publish(*new, images=images)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL, status
        return True
    assert status == 0, status
    return False


class Remembering(GpgSigner):
    """Signs what it has signed before without asking gpg, which would say the same."""

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self.known: dict[tuple[str, bytes, int], bytes] = {}
        self.keys = super().public_keys()

    def clearsign(self, data: bytes, date: int) -> bytes:
        said = self.known.get(("clear", data, date)) or super().clearsign(data, date)
        return self.known.setdefault(("clear", data, date), said)

    def detach(self, data: bytes, date: int) -> bytes:
        said = self.known.get(("detached", data, date)) or super().detach(data, date)
        return self.known.setdefault(("detached", data, date), said)

    def public_keys(self) -> bytes:
        return self.keys


def linked(source: Path, target: Path) -> Path:
    """Make ``target`` a copy of ``source``; no file of a repository is written to once it has its name, so links will do."""
    shutil.copytree(source, target, symlinks=True, copy_function=os.link, ignore=shutil.ignore_patterns(".lock"))
    return target


def main(base: Path, home: Path) -> None:
    """Make the states and say how many there are."""
    site = SmallRepository(base, Remembering(home), keep=1, valid_for_days=0)
    site.publish(site.deb("one"), site.deb("other"), images=[site.images("v1")])
    site.publish(site.deb("one", "2.0"), images=[site.images("v2")])
    new = [site.deb("one", "3.0"), site.deb("more", architecture="all")]
    images = [site.images("v3")]
    before, date = site.repo, site.date
    site.repo = linked(before, base / "whole")
    site.publish(*new, images=images)
    step = 0
    while True:
        site.repo, site.date = linked(before, base / f"resumed/{step}"), date
        if not killed_at(step, site, new, images):
            break
        linked(site.repo, base / f"killed/{step}")
        site.publish(*new, images=images)
        step += 1
    shutil.rmtree(site.repo)
    print(step)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
