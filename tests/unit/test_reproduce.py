"""What differs between two builds is named."""

from __future__ import annotations

import gzip
import io
import lzma
import tarfile
from pathlib import Path

import pytest

from openssi_build.bench.pool import ar, deb, squeeze, tar
from openssi_build.deb import reason as build_reason
from openssi_build.reproduce import differences, packages

CONTROL = "Package: one\nVersion: 1.0\nArchitecture: all\nMaintainer: A <a@example.org>\nDescription: one\n"


def pair(tmp_path: Path, name: str, one: bytes, other: bytes) -> tuple[Path, Path]:
    made = []
    for directory, content in (("a", one), ("b", other)):
        path = tmp_path / directory / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        made.append(path)
    return made[0], made[1]


def dated(content: dict[str, bytes], *, mtime: int = 0, mode: int = 0o644, backwards: bool = False) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name in sorted(content, reverse=backwards):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mtime, entry.mode = len(content[name]), mtime, mode
            archive.addfile(entry, io.BytesIO(content[name]))
    return stream.getvalue()


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        ("dh build\nmake[2]: *** [Makefile:9: a.pdf] Segmentation fault\nmake: *** [debian/rules:5: binary] Error 2\n",
         "dh build; make[2]: *** [Makefile:9: a.pdf] Segmentation fault"),
        ("cc a.c\na.c:1: error: what?\nmake[1]: *** [a.o] Error 1\ndpkg-buildpackage: error: debian/rules\n", "a.c:1: error: what?"),
        ("tar: /x: Cannot open\n", "tar: /x: Cannot open"),
        ("", "no output"),
    ],
)  # fmt: skip
def test_a_failed_build_says_what_stopped_it(log: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text(log)
    assert build_reason(path) == reason


def test_equal_packages_differ_in_nothing(tmp_path: Path) -> None:
    package = deb(CONTROL, {"usr/share/one/data": b"x"})
    one, other = pair(tmp_path, "one.deb", package, package)
    assert differences(one, other) == []
    assert packages([one], [other]) == []


def test_the_line_of_a_file_that_differs_is_shown(tmp_path: Path) -> None:
    bodies = (b"same\nbuilt on Monday\n", b"same\nbuilt on Friday\n")
    one, other = pair(tmp_path, "one.deb", *(deb(CONTROL, {"usr/share/one/data": body}) for body in bodies))
    found = differences(one, other)
    assert "data.tar: ./usr/share/one/data: line 2: 'built on Monday' or 'built on Friday'" in found
    # dpkg's own sums show it too, with the digests.
    assert [line.partition(": line")[0] for line in found] == [
        "control.tar: ./md5sums",
        "data.tar: ./usr/share/one/data",
    ]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"mtime": 7}, "b: mtime 0 or 7"),
        ({"mode": 0o600}, "b: mode 0o644 or 0o600"),
        ({"backwards": True}, "the entries come in another order"),
    ],
)
def test_attributes_and_order_count(tmp_path: Path, change: dict[str, int], said: str) -> None:
    content = {"a": b"1", "b": b"2"}
    trees = dated(content), dated(content, **change)  # type: ignore[arg-type]
    one, other = pair(tmp_path, "one.tar.xz", *(lzma.compress(each) for each in trees))
    assert said in differences(one, other)


def test_an_entry_and_a_file_that_only_one_build_has_are_named(tmp_path: Path) -> None:
    one, other = pair(tmp_path, "one.tar.xz", *(lzma.compress(dated(each)) for each in ({"a": b""}, {"b": b""})))
    assert differences(one, other) == ["a: only in the first build", "b: only in the second build"]
    assert packages([one], []) == ["one.tar.xz: only in the first build"]


def test_the_same_content_compressed_in_another_way_is_said_so(tmp_path: Path) -> None:
    packed = [gzip.compress(b"manual\n" * 99, level, mtime=0) for level in (1, 9)]
    one, other = pair(tmp_path, "one.1.gz", *packed)
    assert differences(one, other) == ["the same content, compressed in another way"]
    inner = tar({"control": CONTROL.encode()}), tar({"usr/share/one/data": b"x"})
    debs = [
        ar(
            {
                "debian-binary": b"2.0\n",
                f"control.tar{end}": squeeze(inner[0], end),
                f"data.tar{end}": squeeze(inner[1], end),
            }
        )
        for end in (".xz", ".zst")
    ]
    one, other = pair(tmp_path, "one.deb", *debs)
    assert differences(one, other) == ["the same entries, packed or compressed in another way"]


def test_the_byte_is_named_where_it_is_no_text(tmp_path: Path) -> None:
    one, other = pair(tmp_path, "one.bin", b"\xff\x00\x01", b"\xff\x00\x02")
    assert differences(one, other) == ["byte 2: 01 or 02"]
