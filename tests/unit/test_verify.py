"""The rules of `inv verify-repo` that need neither apt nor gpg."""

from __future__ import annotations

import gzip
import lzma

import pytest

from openssi.errors import Error
from openssi_build.repository.release import rfc2822
from openssi_build.verify import clients, indexes, leaf, newest, release, signatures, trees

NOW = 1_800_000_000
MESSAGE = (
    b"-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\nOrigin: A\n- -dash\n"
    b"-----BEGIN PGP SIGNATURE-----\n\nabc\n-----END PGP SIGNATURE-----\n"
)


def text(**fields: str) -> bytes:
    known = {
        "Suite": "trixie",
        "Date": rfc2822(NOW),
        **{name.replace("_", "-"): value for name, value in fields.items()},
    }
    lines = "".join(f"{name}: {value}\n" for name, value in known.items() if value)
    return f"{lines}SHA256:\n {'0' * 64} 10 main/binary-amd64/Packages\n {'1' * 64} 5 main/binary-amd64/Packages.xz\n".encode()


def test_a_good_release_has_no_fault() -> None:
    read = release.parse(text(Valid_Until=rfc2822(NOW + 86400)))
    assert release.faults(read, "trixie", NOW) == []
    assert release.left(read, NOW) == "valid for 1.0 days more"
    assert (read.strongest, read.by_hash, len(read.indexes)) == ("SHA256", False, 2)


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"Date": ""}, "no Date: apt warns"),
        ({"Date": rfc2822(NOW + 60)}, "Date is 60 s in the future"),
        ({"Date": "yesterday"}, "Date: 'yesterday' is no date"),
        ({"Valid_Until": rfc2822(NOW - 86400)}, "expired 1.0 days ago"),
        ({"Suite": ""}, "neither Suite nor Codename"),
        ({"Suite": "sid"}, "Suite and Codename are sid, but clients ask for trixie"),
    ],
)
def test_what_apt_holds_against_a_field_is_said(fields: dict[str, str], fault: str) -> None:
    (found,) = release.faults(release.parse(text(**fields)), "trixie", NOW)
    assert found.startswith(fault)


def test_a_line_that_is_none_is_an_error() -> None:
    for line in (b"no colon\n", b"SHA256:\n nothing of the kind\n"):
        with pytest.raises(Error, match="not "):
            release.parse(text() + line)


def test_the_signed_text_is_taken_out_of_its_frame() -> None:
    data, signature = signatures.split(MESSAGE)
    assert data == b"Origin: A\n-dash"
    assert signature.startswith(b"-----BEGIN PGP SIGNATURE-----\n")
    assert signature.endswith(b"-----END PGP SIGNATURE-----\n")


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (b"\n" + MESSAGE, "does not begin"),
        (MESSAGE + b"Origin: B\n", "behind the signature"),
        (MESSAGE[:-40], "cut off"),
        (MESSAGE.replace(b"Hash:", b"Comment:"), "unknown header"),
    ],
)
def test_anything_but_a_signed_text_is_refused(message: bytes, why: str) -> None:
    with pytest.raises(Error, match=why):
        signatures.split(message)


@pytest.mark.parametrize(
    ("packed", "form", "why"),
    [
        (lzma.compress(b"a") + lzma.compress(b"b"), "xz", "several xz streams"),
        (lzma.compress(b"a")[:-3], "xz", "damaged"),
        (gzip.compress(b"a", mtime=0)[:-3], "gz", "damaged"),
        (b"junk", "zst", "damaged"),
        (b"junk", "lz4", "damaged"),
    ],
)
def test_an_index_that_apt_can_not_read_whole_is_an_error(packed: bytes, form: str, why: str) -> None:
    with pytest.raises(Error, match=why):
        indexes.unpack(packed, form)


def test_members_of_gzip_are_one_text() -> None:
    assert indexes.unpack(gzip.compress(b"a") + gzip.compress(b"b"), "gz") == b"ab"


def test_the_table_of_apt_cache_policy_is_read() -> None:
    said = (
        "procps:\n  Installed: 2:4.0.4-9\n  Candidate: 2:4.0.4-9~openssi1\n  Version table:\n"
        " *** 2:4.0.4-9 500\n        500 http://mirror/debian trixie/main amd64 Packages\n"
        "        100 /var/lib/dpkg/status\n"
        "     2:4.0.4-9~openssi1 1001\n       1001 http://127.0.0.1:80 trixie/main amd64 Packages\n"
    )
    read = clients.parse_policy(said)
    assert (read.installed, read.candidate) == ("2:4.0.4-9", "2:4.0.4-9~openssi1")
    assert read.priorities == {"http://127.0.0.1:80": 1001}
    with pytest.raises(Error, match="not known"):
        clients.parse_policy("")


def test_the_newest_version_and_the_package_that_needs_no_other_are_found() -> None:
    def stanza(name: str, version: str, more: str = "") -> tuple[tuple[str, str, str], bytes]:
        body = f"Package: {name}\nVersion: {version}\nArchitecture: all\nSize: 10\n{more}"
        return (name, version, "all"), body.encode()

    packages = dict(
        [
            stanza("a-keyring", "1.9", "Depends: b\n"),
            stanza("a-keyring", "1.10"),
            stanza("a", "1"),
            stanza("b", "1", "Pre-Depends: a\n"),
        ]
    )
    found = newest(packages, "amd64")
    assert {name: each.split(b"\n")[1] for name, each in found.items()} == {
        "a": b"Version: 1", "a-keyring": b"Version: 1.10", "b": b"Version: 1",
    }  # fmt: skip
    assert leaf(found) == "a-keyring"
    assert leaf({"b": found["b"]}) is None


def test_a_place_that_is_neither_directory_nor_url_is_refused() -> None:
    with pytest.raises(Error, match="expected a directory or a URL"):
        trees.tree("ftp://example.org/debian")
    with pytest.raises(Error, match="/nowhere: no such directory"):
        trees.tree("/nowhere")
