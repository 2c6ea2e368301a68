import lzma

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openssi_build.repository import xz


@given(st.lists(st.binary(min_size=1, max_size=5000), max_size=6))
def test_blocks_make_one_stream_that_decodes_to_their_contents(texts: list[bytes]) -> None:
    packed = b"".join(xz.stream(xz.block(text, preset=0) for text in texts))
    decoder = lzma.LZMADecompressor(lzma.FORMAT_XZ)
    assert decoder.decompress(packed) == b"".join(texts)
    assert decoder.eof and not decoder.unused_data


def test_a_block_is_the_same_bytes_wherever_it_is_used() -> None:
    one, two = xz.block(b"one" * 1000), xz.block(b"two" * 1000)
    alone = b"".join(xz.stream([one]))
    assert one in alone
    assert one + two in b"".join(xz.stream([one, two]))


def test_a_damaged_block_is_noticed_by_its_check() -> None:
    packed = bytearray(b"".join(xz.stream([xz.block(b"abc" * 100)])))
    packed[40] ^= 1
    with pytest.raises(lzma.LZMAError):
        lzma.decompress(bytes(packed))


@pytest.mark.parametrize(
    ("value", "coded"),
    [(0, b"\0"), (127, b"\x7f"), (128, b"\x80\x01"), (300, b"\xac\x02"), (2**63 - 1, b"\xff" * 8 + b"\x7f")],
)
def test_numbers_are_coded_in_sevens_least_first(value: int, coded: bytes) -> None:
    assert xz.number(value) == coded
