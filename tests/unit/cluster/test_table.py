from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openssi.cluster import table
from openssi.cluster.table import Node
from openssi.errors import Error

FIRST = Node(1, "10.0.0.1", "52:54:00:00:00:01", "P", True, "/dev/sda1")
SECOND = Node(2, "10.0.0.2", "52:54:00:00:00:02", "E")


def test_a_line_has_six_columns_between_tabs() -> None:
    assert FIRST.line == "1\t10.0.0.1\t52:54:00:00:00:01\tP\t1\t/dev/sda1\n"
    assert SECOND.line == "2\t10.0.0.2\t52:54:00:00:00:02\tE\t0\t-\n"


def test_what_was_written_is_read_and_comments_stay() -> None:
    text = "# mine\n\n" + table.put(table.put("", SECOND), FIRST)
    assert table.parse(text) == [FIRST, SECOND]
    moved = Node(2, "10.0.0.9", SECOND.mac)
    assert table.parse(table.put(text, moved)) == [FIRST, moved]
    assert table.drop(table.put(text, moved), 2) == "# mine\n\n" + FIRST.line


def test_blanks_between_columns_serve_as_well_as_tabs() -> None:
    assert table.parse(SECOND.line.replace("\t", "  ")) == [SECOND]


def test_a_missing_newline_at_the_end_is_no_trap() -> None:
    text = table.put(FIRST.line.rstrip("\n"), SECOND)
    assert table.parse(text) == [FIRST, SECOND]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("0\t10.0.0.3\t52:54:00:00:00:03\tP\t0\t-", "line 2: node number '0': expected 1 to 125"),
        ("126\t10.0.0.3\t52:54:00:00:00:03\tP\t0\t-", "expected 1 to 125"),
        ("03\t10.0.0.3\t52:54:00:00:00:03\tP\t0\t-", "expected 1 to 125"),
        ("3\t10.0.0.300\t52:54:00:00:00:03\tP\t0\t-", "address '10.0.0.300'"),
        ("3\t127.0.0.1\t52:54:00:00:00:03\tP\t0\t-", "no machine can have it"),
        ("3\t10.0.0.3\t52:54:00:00:03\tP\t0\t-", "expected six hex pairs"),
        ("3\t10.0.0.3\t01:54:00:00:00:03\tP\t0\t-", "a group's"),
        ("3\t10.0.0.3\t52:54:00:00:00:03\tX\t0\t-", "expected P (PXE) or E"),
        ("3\t10.0.0.3\t52:54:00:00:00:03\tP\tyes\t-", "expected 1 or 0"),
        ("3\t10.0.0.3\t52:54:00:00:00:03\tP\t0\tsda1", "expected /dev/"),
        ("3\t10.0.0.3\t52:54:00:00:00:03\tP\t0\t/dev/../etc/passwd", "expected /dev/"),
        ("3\t10.0.0.3\t52:54:00:00:00:03\tP\t0", "5 columns"),
        ("3\t10.0.0.1\t52:54:00:00:00:03\tP\t0\t-", "address 10.0.0.1 is taken by line 1"),
        ("3\t10.0.0.3\t52:54:00:00:00:01\tP\t0\t-", "MAC 52:54:00:00:00:01 is taken by line 1"),
        ("1\t10.0.0.3\t52:54:00:00:00:03\tP\t0\t-", "number 1 is taken by line 1"),
    ],
)
def test_a_bad_line_is_refused_with_its_number(line: str, complaint: str) -> None:
    with pytest.raises(Error) as caught:
        table.parse(FIRST.line + line + "\n")
    assert complaint in str(caught.value)
    assert "line 2" in str(caught.value)


def test_a_table_that_is_not_there_says_what_makes_one(tmp_path: Path) -> None:
    with pytest.raises(Error, match="ssi-create"):
        table.read(tmp_path / "clustertab")


def test_macs_are_taken_in_the_forms_people_paste() -> None:
    assert table.mac("52-54-00-AB-cd-01") == "52:54:00:ab:cd:01"


@given(st.text())
def test_any_text_is_a_table_or_an_error(text: str) -> None:
    try:
        nodes = table.parse(text)
    except Error:
        return
    assert table.parse("".join(node.line for node in nodes)) == nodes


_FIELDS = st.sampled_from(
    [
        "1",
        "2",
        "125",
        "10.0.0.1",
        "10.0.0.2",
        "52:54:00:00:00:01",
        "P",
        "E",
        "0",
        "-",
        "/dev/sda1",
        "#",
        "\t",
        "\n",
        " ",
    ]
)


@given(st.lists(_FIELDS, max_size=40).map("\t".join))
def test_shuffled_columns_are_a_table_or_an_error(text: str) -> None:
    try:
        nodes = table.parse(text)
    except Error:
        return
    extra = Node(99, "10.9.9.9", "52:54:00:00:00:99")
    assert table.parse(table.put(text, extra)) == [*nodes, extra] or any(n.number > 99 for n in nodes)
    assert table.parse(table.drop(table.put(text, extra), 99)) == nodes


_NODES = st.builds(
    Node,
    st.integers(1, 125),
    st.integers(1, 2**24 - 2).map(lambda n: f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}"),
    st.integers(1, 2**40 - 1).map(lambda n: ":".join(["52", *(f"{n >> 8 * i & 255:02x}" for i in range(5))])),
    st.sampled_from("PE"),
    st.booleans(),
    st.sampled_from([None, "/dev/sda1", "/dev/disk/by-id/x", "LABEL=boot", "UUID=1-2"]),
)


@given(st.lists(_NODES, max_size=20, unique_by=(lambda n: n.number, lambda n: n.ip, lambda n: n.mac)))
def test_every_table_of_nodes_survives_writing_and_reading(nodes: list[Node]) -> None:
    text = table.HEADER
    for node in nodes:
        text = table.put(text, node)
    assert table.parse(text) == sorted(nodes, key=lambda node: node.number)
