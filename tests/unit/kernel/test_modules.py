from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from modfiles import elf

from openssi.errors import Error
from openssi.kernel import modinfo
from openssi.kernel.modules import Found, Modules, module_name


@pytest.fixture
def tables(tmp_path: Path) -> Modules:
    directory = tmp_path / "6.1-test"
    directory.mkdir()
    (directory / "modules.dep").write_text(
        "kernel/a/r8169.ko.xz: kernel/b/libphy.ko.xz\n"
        "kernel/b/libphy.ko.xz:\nkernel/b/realtek.ko: kernel/b/libphy.ko.xz\n"
        "kernel/c/top.ko: kernel/c/mid.ko kernel/c/low.ko\nkernel/c/mid.ko: kernel/c/low.ko\nkernel/c/low.ko:\n"
        "kernel/d/snd-hda.ko:\nkernel/e/crc32_generic.ko:\n"
    )
    (directory / "modules.softdep").write_text(
        "# soft\nsoftdep r8169 pre: realtek nosuch\nsoftdep top low post: snd_hda\n"
    )
    (directory / "modules.alias").write_text(
        "alias pci:v000010ECd00008168sv*sd*bc*sc*i* r8169\nalias char-major-7 snd-hda\nalias crc32 crc32_generic\n"
    )
    (directory / "modules.builtin").write_text("kernel/net/packet/af_packet.ko\nkernel/lib/crc32.ko\n")
    (directory / "modules.builtin.modinfo").write_bytes(b"virtio_pci.alias=virtio-pci-x*\0af_packet.license=GPL\0")
    return Modules(directory)


def test_a_closure_has_softdeps_and_dependencies_in_loading_order(tables: Modules) -> None:
    assert tables.closure(["r8169"]) == ["libphy", "realtek", "r8169"]
    assert tables.closure(["top"]) == ["low", "mid", "top", "snd_hda"]


def test_a_name_is_found_by_module_alias_modalias_or_as_builtin(tables: Modules) -> None:
    assert tables.find("snd-hda") == Found(("snd_hda",))
    assert tables.find("pci:v000010ECd00008168sv1sd2bc02sc00i00") == Found(("r8169",))
    assert tables.find("char-major-7") == Found(("snd_hda",))
    assert tables.find("af_packet") == Found((), builtin=True)
    assert tables.find("virtio-pci-xyz") == Found((), builtin=True)
    assert tables.find("nosuch") is None


def test_an_alias_comes_before_what_is_built_in(tables: Modules) -> None:
    assert tables.find("crc32") == Found(("crc32_generic",))


def test_a_path_that_leads_out_is_refused(tables: Modules) -> None:
    (tables.directory / "modules.dep").write_text("../../etc/x.ko:\n")
    with pytest.raises(Error, match="leads out"):
        Modules(tables.directory).find("x")


def test_names_are_equal_with_hyphens_and_any_suffix() -> None:
    assert {module_name(name) for name in ("a-b", "a_b", "k/a-b.ko", "k/a-b.ko.xz", "a_b.ko.zst")} == {"a_b"}


def test_modinfo_is_read_from_the_section() -> None:
    image = elf(modinfo_text=b"description=A driver\0firmware=x/y.bin\0firmware=z.bin\0")
    assert modinfo.fields(image, "m.ko") == {"description": ["A driver"], "firmware": ["x/y.bin", "z.bin"]}


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (b"", "not an ELF file"),
        (b"\x7fELF\x01\x01" + bytes(60), "not a 64-bit"),
        (elf(modinfo_text=b"a=b\0", section=b".modinfx"), "not a kernel module"),
        (elf(modinfo_text=b"a=b\0")[:-100], "broken ELF"),
    ],
)
def test_what_is_no_module_is_an_error(image: bytes, message: str) -> None:
    with pytest.raises(Error, match=message):
        modinfo.fields(image, "m.ko")


@given(st.integers(0, 400), st.binary(max_size=24))
def test_a_damaged_module_is_an_error_and_nothing_else(at: int, noise: bytes) -> None:
    image = bytearray(elf(modinfo_text=b"description=A driver\0"))
    image[at : at + len(noise)] = noise
    try:
        modinfo.fields(bytes(image), "m.ko")
    except Error:
        pass


@given(st.sampled_from([".ko.xz", ".ko.gz", ".ko.zst"]), st.binary(max_size=64))
def test_a_damaged_stream_is_an_error_and_nothing_else(suffix: str, noise: bytes) -> None:
    try:
        modinfo.decompress(noise, Path("m" + suffix))
    except Error:
        pass
