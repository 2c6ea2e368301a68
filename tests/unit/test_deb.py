"""Where the control file lies in a package, and how far the package is read for it."""

from __future__ import annotations

import pytest

from openssi.errors import Error
from openssi_build.bench import pool
from openssi_build.repository import deb

CONTROL = b"Package: a\n"
LONG = b"".join(b"Field-%d: %d\n" % (number, number * 7919) for number in range(20_000))
suffixes = pytest.mark.parametrize("suffix", [".xz", ".zst", ".gz", ""])


def package(suffix: str, **inside: bytes) -> bytes:
    data = pool.squeeze(pool.tar({"usr/bin/a": b"a"}), suffix)
    members = {f"control.tar{suffix}": pool.squeeze(pool.tar(inside), suffix), f"data.tar{suffix}": data}
    return pool.ar({"debian-binary": b"2.0\n"} | members)


def control(archive: bytes, *, whole: bool = True) -> bytes:
    return deb.control(archive, deb.members(archive, "t")[0], "t", whole=whole)


@suffixes
@pytest.mark.parametrize("whole", [True, False])
def test_the_control_file_is_found_wherever_it_lies_and_however_long_it_is(suffix: str, whole: bool) -> None:
    assert control(package(suffix, control=CONTROL, md5sums=LONG), whole=whole) == CONTROL
    assert control(package(suffix, conffiles=LONG, control=CONTROL), whole=whole) == CONTROL
    assert control(package(suffix, control=LONG), whole=whole) == LONG


@suffixes
def test_without_a_control_file_it_is_no_package(suffix: str) -> None:
    with pytest.raises(Error, match=r"^t: not a Debian package: no control file in control\.tar$"):
        control(package(suffix, conffiles=LONG))


@pytest.mark.parametrize("suffix", [".xz", ".gz"])
def test_damage_behind_the_control_file_is_noticed_when_the_whole_is_read(suffix: str) -> None:
    archive = bytearray(package(suffix, control=CONTROL, md5sums=LONG))
    _, at, size = deb.members(bytes(archive), "t")[0]
    archive[at + size - 60] ^= 1
    with pytest.raises(Error, match=r"^t: damaged: "):
        control(bytes(archive))
    assert control(bytes(archive), whole=False) == CONTROL


@suffixes
def test_the_paths_are_those_of_data_tar(suffix: str) -> None:
    archive = package(suffix, control=CONTROL)
    assert deb.names(archive, deb.members(archive, "t")[1], "t") == [b"usr/bin/a"]
