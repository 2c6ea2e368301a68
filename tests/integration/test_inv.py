"""./inv itself: when it makes its venv anew, and when it does not."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from openssi import run

pytestmark = pytest.mark.integration


def said(tree: Path) -> tuple[int, str]:
    code, out, err = run.status([tree / "inv", "--list"], timeout=300)
    return code, (out + err).decode()


def test_a_tree_that_was_moved_gets_a_venv_of_its_new_place(root: Path, tmp_path: Path) -> None:
    tree = tmp_path / "here"
    venv = tree / "out/venv"
    (tree / "packaging").mkdir(parents=True)
    (venv / "bin").mkdir(parents=True)
    shutil.copy(root / "inv", tree)
    for name, stamp in (("packaging/build-deps", "stamp.list"), ("requirements.lock", "stamp.lock")):
        (tree / name).write_text("")
        (venv / stamp).write_text("")
    (venv / "pyvenv.cfg").write_text(f"home = /usr/bin\ncommand = /usr/bin/python3 -m venv {venv}\n")
    program = venv / "bin/invoke"
    program.write_text(f"#!{venv}/bin/python3\n")
    program.chmod(0o755)
    (venv / "bin/python3").symlink_to("/bin/echo")
    assert said(tree) == (0, f"{program} --search-root {tree} --list\n")
    moved = tree.rename(tmp_path / "there")
    code, text = said(moved)
    # The lock of this tree has no invoke, so that it ends there; but the venv is that of the place.
    assert code == 127
    assert text.startswith(f"./inv makes {moved}/out/venv from requirements.lock\n")
    assert f" -m venv {moved}/out/venv\n" in (moved / "out/venv/pyvenv.cfg").read_text()
