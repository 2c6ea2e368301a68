import pytest
from hypothesis import given
from hypothesis import strategies as st

from openssi.cluster import blocks
from openssi.errors import Error

HOSTS = "127.0.0.1\tlocalhost\n127.0.1.1\tsun.example.org\tsun\n\n::1 ip6-localhost\n"


def test_a_block_is_put_at_the_end_and_replaced_in_place() -> None:
    text = blocks.put("a\n", ["1"], "x")
    assert text == f"a\n{blocks.BEGIN}\n1\n{blocks.END}\n"
    assert blocks.put(text + "b\n", ["2"], "x") == f"a\n{blocks.BEGIN}\n2\n{blocks.END}\nb\n"


def test_a_lone_mark_is_an_error_with_its_line() -> None:
    with pytest.raises(Error, match="x: line 2"):
        blocks.strip(f"a\n{blocks.END}\n", "x")


_TEXT = st.text(alphabet="ab #\n", max_size=40)


@given(_TEXT, st.lists(st.text(alphabet="xyz", max_size=5)))
def test_taking_the_block_out_gives_the_original_back(original: str, lines: list[str]) -> None:
    assert blocks.restored(blocks.put(original, lines, "x"), original, "x") == original


@given(_TEXT, _TEXT)
def test_what_others_added_meanwhile_stays(original: str, more: str) -> None:
    current = blocks.put(original, ["mine"], "x") + more
    plain = blocks.restored(current, original, "x")
    assert plain.endswith(more) and plain.startswith(original)


def test_debians_line_for_the_own_name_is_parked_and_comes_back() -> None:
    parked = blocks.park(HOSTS, "sun")
    assert "# openssi: 127.0.1.1\tsun.example.org\tsun\n" in parked
    assert blocks.aliases(parked, "sun") == ["sun.example.org", "sun"]
    assert blocks.aliases(parked, "earth") == ["earth"]
    assert blocks.unpark(parked) == HOSTS


def test_a_line_for_another_name_is_left_alone() -> None:
    assert blocks.park(HOSTS, "earth") == HOSTS
