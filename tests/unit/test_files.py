import multiprocessing
import os
import time
from pathlib import Path

import pytest

from openssi import files
from openssi.errors import Error


def test_a_written_file_has_its_content_and_mode_whatever_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o077)
    try:
        files.write(tmp_path / "a", "text\n", mode=0o644)
    finally:
        os.umask(old)
    assert (tmp_path / "a").read_text() == "text\n"
    assert (tmp_path / "a").stat().st_mode & 0o7777 == 0o644


def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    files.write(tmp_path / "a", "old")
    with pytest.raises(KeyboardInterrupt), files.replacing(tmp_path / "a") as stream:
        stream.write(b"new")
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_text() == "old"


def test_equal_content_is_not_written_again(tmp_path: Path) -> None:
    assert files.write_if_changed(tmp_path / "a", "x")
    before = (tmp_path / "a").stat().st_ino
    assert not files.write_if_changed(tmp_path / "a", "x")
    assert (tmp_path / "a").stat().st_ino == before
    assert files.write_if_changed(tmp_path / "a", "x", mode=0o600)


def test_a_link_is_replaced_in_one_step(tmp_path: Path) -> None:
    files.symlink("one", tmp_path / "link")
    files.symlink("two", tmp_path / "link")
    assert (tmp_path / "link").readlink() == Path("two")
    assert len(list(tmp_path.iterdir())) == 1


def _hold(path: Path, seconds: float) -> None:
    with files.lock(path):
        (path.parent / "held").touch()
        time.sleep(seconds)


def test_a_second_process_waits_for_the_lock_and_is_told_who_holds_it(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    process = multiprocessing.get_context("spawn").Process(target=_hold, args=(lock, 1.0))
    process.start()
    try:
        while not (tmp_path / "held").exists():
            time.sleep(0.01)
        with pytest.raises(Error, match=f"locked by .* pid {process.pid} "), files.lock(lock, timeout=0.1):
            pass
        told: list[str] = []
        with files.lock(lock, waiting=told.append):
            assert len(told) == 1
            assert f"pid {process.pid}" in told[0]
    finally:
        process.join()
