"""Control data as the writer reads it."""

from __future__ import annotations

import pytest
from debian.deb822 import Deb822
from hypothesis import given
from hypothesis import strategies as st

from openssi.errors import Error
from openssi_build.repository import control

names = st.from_regex(r"[A-Za-z][A-Za-z0-9-]{0,8}", fullmatch=True)
words = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=9)
values = st.tuples(st.one_of(st.just(""), words), st.lists(words, max_size=3))


@given(st.dictionaries(names, values, min_size=1, max_size=8))
def test_fields_are_those_that_python_debian_reads(stanza: dict[str, tuple[str, list[str]]]) -> None:
    by_name = {name.lower(): (name, value) for name, value in stanza.items()}
    lines = [f"{name}: {first}\n" + "".join(f" {line}\n" for line in more) for name, (first, more) in by_name.values()]
    text = "".join(lines).encode()
    found = control.fields(text, "t")
    expected = Deb822(text.decode())
    assert [name.decode() for name in found] == list(expected)
    for name, value in found.items():
        assert value.decode().strip() == expected[name.decode()].strip()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"Package: a\n\nPackage: b\n", "not of the form 'Name: value': ''"),
        (b" Package: a\n", "not of the form"),
        (b"Package: a\nno colon\n", "not of the form 'Name: value': 'no colon'"),
        (b"Package: a\nDescription: b\n \t\n", "not of the form"),
        (b"Package: a\npackage: b\n", "package: the field is there twice"),
        (b"Package: a\n-Bad: b\n", "not of the form 'Name: value': '-Bad: b'"),
        (b"Package: a\nDescription: \xff\n", "not UTF-8"),
        (b"Package: a\nDescription: x\0\n", "it has a NUL byte"),
        (b"", "not of the form"),
    ],
)
def test_what_is_no_stanza_is_refused_with_its_line(text: bytes, said: str) -> None:
    with pytest.raises(Error, match=f"^t: control data: .*{said}"):
        control.fields(text, "t")
