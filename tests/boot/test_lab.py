"""`inv lab` that is interrupted or killed while its first machine boots: nothing goes on that lab-stop could not end."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path

import pytest
from conftest import needs
from terminal import on_a_terminal

from openssi import run
from openssi.errors import Error
from openssi_build import settings
from openssi_build.lab import running, tending, trial

pytestmark = [pytest.mark.boot, pytest.mark.timeout(900)]

_PROGRAM = """
import sys
from pathlib import Path
from openssi_build import settings
from openssi_build.lab import trial
root, cache, repo = map(Path, sys.argv[1:])
trial.build.repository_by_content = lambda *_, **__: repo
trial.start(root, cache, settings.load(root))
"""


@pytest.fixture
def tree(root: Path, tmp_path: Path) -> Path:
    """A tree for a trial cluster that is none of the checkout's."""
    needs("qemu-system-x86_64", "mmdebstrap", "vde_switch")
    for name in ("docs", "openssi.toml"):
        (tmp_path / name).symlink_to(root / name)
    return tmp_path


@pytest.fixture
def command(root: Path, tree: Path, cache: Path, built_repo: Path) -> list[str]:
    """The command that makes a trial cluster in ``tree``."""
    return ["env", f"PYTHONPATH={root / 'src'}", sys.executable, "-c", _PROGRAM, str(tree), str(cache), str(built_repo)]


def processes(tree: Path) -> bytes:
    return run.status(["pgrep", "--list-full", "--full", str(tree)])[1]


def test_ctrl_c_ends_all_that_was_started(tree: Path, command: list[str]) -> None:
    # The kernel's first lines are shown beside the clock: the machine runs.
    code, said = on_a_terminal(command, [(b"boots Debian", b""), (b"] ", b"\x03")], timeout=600)
    assert code != 0
    assert b"KeyboardInterrupt" in said
    assert processes(tree) == b""
    assert running.recall(tending.directory(tree)) == running.State()


def test_what_a_killed_one_leaves_is_seen_and_ended(tree: Path, command: list[str], cache: Path) -> None:
    said = tree / "said"
    process = run.start(command, log_to=said)
    try:
        end = time.monotonic() + 600
        while running.alive(tending.directory(tree)) != [1]:
            assert process.poll() is None and time.monotonic() < end, said.read_text()
            time.sleep(0.1)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    with pytest.raises(Error, match=r"a trial cluster runs there \(inv lab-stop ends it\)"):
        trial.start(tree, cache, settings.load(tree))
    assert tending.stop(tree) == [1]
    assert processes(tree) == b""
    assert not tending.directory(tree).exists()
