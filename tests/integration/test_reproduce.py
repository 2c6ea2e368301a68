"""Our packages are the same wherever, whenever and by whomever they are built."""

from __future__ import annotations

from pathlib import Path

import pytest

from openssi_build import archive, reproduce, settings

pytestmark = pytest.mark.integration


def test_two_builds_in_other_surroundings_are_the_same_bit_for_bit(built_repo: Path, root: Path, cache: Path) -> None:
    said: list[str] = []
    keys = (built_repo / Path(archive.KEYRING).name).read_bytes()
    reproduce.twice(root, cache, settings.load(root).repository, keys, said.append)
    assert "the same, bit for bit" in said[-1]
    assert "openssi-tools_" in said[-1]
