"""The shell lines of the install guide."""

import re
from pathlib import Path

import pytest

from openssi.errors import Error
from openssi_build.lab import guide


def test_a_block_gives_its_lines_without_the_indent_of_its_list() -> None:
    text = "1. Do:\n\n    ``` {.sh #step-1-1}\n    one\n      two\n    ```\n\n``` {.sh}\nnot a step\n```\n"
    assert guide.steps(text) == {"step-1-1": ["one", "  two"]}


def test_two_blocks_of_one_name_are_refused() -> None:
    block = "``` {.sh #step-1}\none\n```\n"
    with pytest.raises(Error, match="two blocks are called step-1"):
        guide.steps(block + block)


def read(root: Path) -> guide.Steps:
    return guide.read(root, "http://10.0.2.2:8000", "eno9", "10.7.7")


def test_the_names_that_are_true_here_are_put_in(root: Path) -> None:
    found = read(root)
    assert found["step-2-1-line"][0].endswith(" http://10.0.2.2:8000 ./")
    assert found["step-1-4"] == ["auto eno9", "iface eno9 inet static", "    address 10.7.7.1/24"]
    assert found.taken == {"step-2-1-line", "step-1-4"}


def test_every_line_that_is_to_be_typed_is_in_a_block_that_the_walk_knows(root: Path) -> None:
    text = (root / "docs/INSTALL.md").read_text()
    # What is shown, not typed, says so; no block goes without a word.
    fences = re.findall(r"^ *```(.*)$", text, re.MULTILINE)
    assert all(re.fullmatch(r" \{\.\w+ #step-[\w.-]+\}| \{\.output\}|", words) for words in fences), fences
    # Nor is there a block by its indent alone: behind an empty line stands a fence, an item, or a sentence.
    outside = re.sub(r"^ *``` \{[\s\S]*?^ *```$", "", text, flags=re.MULTILINE)
    assert re.findall(r"\n\n((?: {4,}|\t)(?! |\d+\. |- |[A-Z`]).*)", outside) == []


def test_the_walk_types_every_block_of_the_guide(root: Path) -> None:
    sources = [root / "tests/boot/test_install_guide.py", root / "src/openssi_build/lab/walk.py"]
    named = set(re.findall(r"['\"](step-[\w.-]+)['\"]", "".join(path.read_text() for path in sources)))
    assert read(root).keys() == named
