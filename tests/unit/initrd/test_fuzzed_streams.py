"""Images and modules that were cut off or overwritten: an Error, never a traceback, never a write."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openssi.errors import Error
from openssi.initrd import codecs, cpio
from openssi.kernel import modinfo

CONTENT = bytes(range(256)) * 64
COMPRESSED = {codec: codecs.compress(cpio.pack([cpio.regular("a/b", CONTENT)], 1), codec) for codec in codecs.CODECS}
SUFFIXES = {".ko.xz": "xz", ".ko.zst": "zstd", ".ko.gz": "gzip"}


@pytest.mark.parametrize("codec", codecs.CODECS)
@given(share=st.floats(0.01, 0.95))
def test_an_image_that_is_cut_off_anywhere_is_an_error(codec: str, share: float) -> None:
    image = COMPRESSED[codec]
    with pytest.raises(Error, match="image: "):
        list(codecs.segments(image[: int(len(image) * share)], "image"))


@pytest.mark.parametrize("suffix", SUFFIXES)
@given(share=st.floats(0, 0.95))
def test_a_module_that_is_cut_off_anywhere_is_an_error(suffix: str, share: float) -> None:
    image = COMPRESSED[SUFFIXES[suffix]]
    with pytest.raises(Error, match=r"m\.ko"):
        modinfo.decompress(image[: int(len(image) * share)], Path(f"m{suffix}"))


@given(st.sampled_from(["../x", "a/../../x", "/x", "..", "a/.."]), st.sampled_from(codecs.CODECS))
def test_a_name_that_leads_out_is_refused_under_any_compression(name: str, codec: str) -> None:
    image = codecs.compress(cpio.pack([cpio.regular(name, b"x")], 0), codec)
    with pytest.raises(Error, match="leads out"):
        list(codecs.segments(image, "image"))
