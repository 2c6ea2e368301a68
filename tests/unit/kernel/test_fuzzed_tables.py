"""Tables of depmod with anything in them: an Error, never a traceback, and no path that leads out."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from openssi.errors import Error
from openssi.initrd import drivers
from openssi.kernel.modules import Modules

WORDS = st.sampled_from(
    ["kernel/a.ko", "kernel/b-c.ko.xz", "a", "b_c", "../../etc/passwd", "/etc/shadow", "softdep", "alias", "pre:", "post:",
     "pci:v00008086d0000100Esv*sd*bc*sc*i*", "pci:v[", "*", ":", "kernel/a.ko:", "kernel/b-c.ko.xz:", "\0", "ü", "#"]
)  # fmt: skip
LINES = st.lists(st.lists(WORDS, max_size=5).map(" ".join), max_size=8).map("\n".join)
TABLES = st.one_of(LINES.map(str.encode), st.binary(max_size=60))


@settings(max_examples=60)
@given(TABLES, TABLES, TABLES, TABLES, WORDS)
def test_any_table_gives_modules_inside_or_an_error(
    dep: bytes, alias: bytes, softdep: bytes, builtin: bytes, name: str
) -> None:
    with tempfile.TemporaryDirectory() as top:
        directory = Path(top) / "6.1-test"
        directory.mkdir()
        for table, text in (("dep", dep), ("alias", alias), ("softdep", softdep), ("builtin", builtin)):
            (directory / f"modules.{table}").write_bytes(text)
        (directory / "modules.builtin.modinfo").write_bytes(builtin)
        kernel = Modules(directory)
        try:
            for module in kernel.closure(kernel.dependencies):
                assert ".." not in kernel.path(module).parts
                assert kernel.path(module).is_relative_to(directory)
            drivers.choose(drivers.parse(name, "list"), kernel)
        except Error:
            pass
