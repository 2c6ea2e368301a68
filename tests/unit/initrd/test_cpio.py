from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openssi.errors import Error
from openssi.initrd import codecs, cpio

ENTRIES = cpio.with_directories(
    [cpio.regular("b/c", b"content", 0o755), cpio.symlink("b/link", "c"), cpio.regular("a", b"")]
)


def test_what_is_packed_is_unpacked_again() -> None:
    archive = cpio.pack(ENTRIES, 1_700_000_000)
    entries, end = cpio.unpack(archive, "x")
    assert [entry.name for entry in entries] == ["a", "b", "b/c", "b/link"]
    assert entries == ENTRIES
    assert archive[end:].strip(b"\0") == b""


def test_equal_entries_give_equal_bytes() -> None:
    assert cpio.pack(ENTRIES, 5) == cpio.pack(list(ENTRIES), 5)
    assert cpio.pack(ENTRIES, 5) != cpio.pack(ENTRIES, 6)


@pytest.mark.parametrize("name", ["/etc/passwd", "../x", "a/../../x"])
def test_a_name_that_leads_out_is_refused(name: str) -> None:
    with pytest.raises(Error, match="leads out"):
        cpio.unpack(cpio.pack([cpio.regular(name, b"")], 0), "x")


@pytest.mark.parametrize("codec", codecs.CODECS)
def test_every_codec_is_read_back(codec: str) -> None:
    archive = cpio.pack(ENTRIES, 7)
    (segment,) = codecs.segments(codecs.compress(archive, codec), "x")
    assert segment.codec == codec
    assert list(segment.entries) == ENTRIES


def test_archives_behind_each_other_are_all_read() -> None:
    one, two = cpio.pack([cpio.regular("one", b"1")], 0), cpio.pack([cpio.regular("two", b"2")], 0)
    for codec in ("gzip", "xz", "zstd", "none"):
        image = one + codecs.compress(two, codec) + bytes(4) + codecs.compress(one, "gzip")
        found = [entry.name for segment in codecs.segments(image, "x") for entry in segment.entries]
        assert found == ["one", "two", "one"]


def test_an_unknown_compression_is_refused() -> None:
    with pytest.raises(Error, match="expected one of zstd"):
        codecs.compress(b"", "rar")
    with pytest.raises(Error, match="at byte 0"):
        list(codecs.segments(b"what is this?", "x"))


IMAGES = [cpio.pack(ENTRIES, 7) + codecs.compress(cpio.pack(ENTRIES, 7), codec) for codec in codecs.CODECS]


@given(st.sampled_from(IMAGES), st.integers(0, 1100), st.binary(max_size=16), st.booleans())
def test_a_damaged_image_is_an_error_and_nothing_else(image: bytes, at: int, noise: bytes, cut: bool) -> None:
    damaged = image[:at] if cut else image[:at] + noise + image[at + len(noise) :]
    try:
        for segment in codecs.segments(damaged, "x"):
            for entry in segment.entries:
                assert ".." not in entry.name.split("/")
    except Error:
        pass
