"""debian/copyright is machine-readable and true of the tree."""

from __future__ import annotations

from pathlib import Path

import dep5
import pytest

from openssi_build import deb

HEADER = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\nUpstream-Name: a\n"
FILES = "\nFiles: *\nCopyright: 2026 A\nLicense: Expat\n"
EXPAT = "\nLicense: Expat\n Permission is hereby granted.\n"


def test_ours_is_in_order(root: Path) -> None:
    assert dep5.faults((root / "debian/copyright").read_text(), deb.shipped(root)) == []


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (FILES + EXPAT, "Format: expected https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/"),
        (HEADER.replace("1.0", "0.9") + FILES + EXPAT, "Format: expected"),
        (HEADER + FILES + EXPAT + "\nFilez: b\n", "a stanza that is none of header, Files and License: Filez: b"),
        (HEADER + FILES.replace("Copyright", "Copyrigth") + EXPAT, "unknown field copyrigth"),
        (HEADER + FILES.replace("Copyright: 2026 A\n", "") + EXPAT, "Files: *: no Copyright"),
        (HEADER + FILES, "License: Expat: its text is nowhere"),
        (HEADER + FILES.replace("License: Expat\n", "") + EXPAT, "Files without License"),
        (HEADER + FILES + EXPAT + EXPAT.replace("Expat", "GPL-2"), "License: GPL-2: no Files stanza uses it"),
        (HEADER + FILES.replace("*", "src/*") + EXPAT, "no stanza is about README"),
        (HEADER + FILES + FILES.replace("*", "lib/*") + EXPAT, "Files: lib/*: no such file"),
    ],
)
def test_what_is_wrong_is_named(text: str, fault: str) -> None:
    found = dep5.faults(text, ["README", "src/a/b.c"])
    assert any(each.startswith(fault) for each in found), found


def test_patterns_reach_into_directories_and_licenses_may_be_joined() -> None:
    text = HEADER + FILES.replace("*", "README src/*.?").replace("Expat", "Expat or GPL-2") + EXPAT
    assert dep5.faults(text + EXPAT.replace("Expat", "GPL-2"), ["README", "src/a/b.c"]) == []
