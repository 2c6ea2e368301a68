"""The shell lines of the install guide."""

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


def test_the_guide_has_the_steps_that_the_walk_takes(root: Path) -> None:
    found = guide.read(root, "http://10.0.2.2:8000")
    assert {"step-2-1", "step-2-1-line", "step-2-2", "step-2-3", "step-2-4", "step-2-6", "step-2-7"} <= found.keys()
    assert found["step-2-1-line"][0].endswith(" http://10.0.2.2:8000 ./")
