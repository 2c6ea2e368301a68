from dataclasses import dataclass, field
from pathlib import Path

import pytest

from openssi.config import load, parse
from openssi.errors import Error


@dataclass(frozen=True)
class Kernel:
    package: str
    size_mib: int = 1
    modules: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.size_mib < 0:
            raise ValueError("key 'size-mib': negative")


@dataclass(frozen=True)
class Document:
    kernel: Kernel
    extra: dict[str, Kernel] = field(default_factory=dict)
    root: Path | None = None


def test_a_full_document_becomes_dataclasses() -> None:
    text = '[kernel]\npackage = "l"\nmodules = ["a"]\n[extra.x]\npackage = "y"\nsize-mib = 2\n'
    document = parse('root = "/r"\n' + text, Document, "f")
    assert document == Document(Kernel("l", 1, ("a",)), {"x": Kernel("y", 2)}, Path("/r"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '[kernel]\npackge = "x"',
            "f: kernel: unknown key 'packge' (did you mean 'package'? known: package, size-mib, modules)",
        ),
        ("[kernel]\nzzz = 1", "f: kernel: unknown key 'zzz' (known: package, size-mib, modules)"),
        ("[kernel]\n", "f: kernel: missing key 'package'"),
        ("[kernel]\npackage = 1", "f: kernel: key 'package': expected a string, got an integer (1)"),
        (
            '[kernel]\npackage = "a"\nsize-mib = true',
            "f: kernel: key 'size-mib': expected an integer, got true or false (True)",
        ),
        ('[kernel]\npackage = "a"\nsize-mib = -1', "f: kernel: key 'size-mib': negative"),
        (
            '[kernel]\npackage = "a"\nmodules = [1]',
            "f: kernel: key 'modules[0]': expected a string, got an integer (1)",
        ),
        ("kernel = 1", "f: kernel: expected a table, got an integer (1)"),
        ("kernel = ", "f: not TOML: Invalid value (at end of document)"),
    ],
)
def test_a_mistake_is_named_with_its_place(text: str, message: str) -> None:
    with pytest.raises(Error) as caught:
        parse(text, Document, "f")
    assert str(caught.value) == message


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(Error, match="no such file"):
        load(tmp_path / "none", Document)
