"""What apt 2.6 and 3.0 make of odd repositories, and that our own check says so beforehand."""

from __future__ import annotations

import lzma
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from aptvariants import DAY, PACKAGES, Keys, Variant
from conftest import needs

from openssi_build import chroot, signing, verify
from openssi_build.verify import trees, web
from openssi_build.verify.clients import Client

pytestmark = pytest.mark.integration

SUITES = ("bookworm", "trixie")  # apt 2.6 and 3.0
OK, WARNS, REFUSED, NOT_FOUND = "ok", "warns", "refused", "404"
EMPTY, WITHOUT_ALL, NO_DOWNLOAD = "no packages, no word", "packages of all missing, no word", "download refused"


@dataclass(frozen=True)
class Row:
    """A variant, what the two apts do, and what our check finds wrong (a part of it; None: nothing)."""

    variant: Variant
    bookworm: str
    trixie: str
    fault: str | None = None
    trusted: tuple[str, ...] = ()  # keys that the client has; by default those that sign
    judged: bool = True  # our check by the rules sees it; else real apt alone does


def same(variant: Variant, outcome: str, fault: str | None = None) -> Row:
    return Row(variant, outcome, outcome, fault)


ROWS = {
    "InRelease and SHA256 alone, Packages.xz alone": same(Variant(), OK),
    "Release with Release.gpg, no InRelease": same(Variant(signed=("Release.gpg",)), OK),
    "plain Packages not listed": same(Variant(listed=()), EMPTY, "main/binary-amd64/Packages itself is not listed"),
    "Release with MD5 and SHA1": same(Variant(hashes=("MD5Sum", "SHA1")), REFUSED, "SHA1 is the strongest hash"),
    "Release with SHA512": same(Variant(hashes=("SHA512",)), OK),
    "stanza with MD5 and SHA1": same(Variant(stanza=("MD5Sum", "SHA1")), NO_DOWNLOAD, "neither SHA256 nor SHA512"),
    "signature with SHA1": same(Variant(keys=("rsa2048",), digest="SHA1"), REFUSED, "weak digest"),
    "key bound by SHA1": Row(Variant(keys=("sha1-bound",)), OK, REFUSED, judged=False),
    "rsa1024": Row(Variant(keys=("rsa1024",)), OK, REFUSED, judged=False),
    "dsa2048": Row(Variant(keys=("dsa2048",)), OK, REFUSED, judged=False),
    "brainpoolP256r1": Row(Variant(keys=("brainpoolP256r1",)), OK, REFUSED, judged=False),
    "nistp256": same(Variant(keys=("nistp256",)), OK),
    "rsa2048": same(Variant(keys=("rsa2048",)), OK),
    "rsa3072": same(Variant(keys=("rsa3072",)), OK),
    "rsa4096": same(Variant(keys=("rsa4096",)), OK),
    "signing subkey under a primary that certifies": same(Variant(keys=("subkey",)), OK),
    "key expired since": Row(
        Variant(keys=("expired",), date=-25 * DAY, signing=-25 * DAY), REFUSED, OK, "the key has expired"
    ),
    "unknown key": Row(Variant(), REFUSED, REFUSED, "not in the keyring", trusted=("other",)),
    "two signatures, client has the old key": Row(Variant(keys=("ed25519", "other")), OK, OK, trusted=("ed25519",)),
    "two signatures, client has the new key": Row(Variant(keys=("ed25519", "other")), OK, OK, trusted=("other",)),
    "two signatures, client has both keys": same(Variant(keys=("ed25519", "other")), OK),
    "two signatures, one of a key bound by SHA1": Row(Variant(keys=("ed25519", "sha1-bound")), OK, OK, judged=False),
    "Valid-Until past": same(Variant(date=-2 * DAY, valid=-DAY), REFUSED, "expired 1.0 days ago"),
    "Valid-Until to come": same(Variant(valid=DAY), OK),
    "Date ten minutes in the future": same(Variant(date=600), REFUSED, "in the future"),
    "Date 5 s in the future": same(Variant(date=5), OK),
    "no Date": same(Variant(fields={"Date": ""}), WARNS, "no Date"),
    "neither Suite nor Codename": same(
        Variant(fields={"Suite": "", "Codename": ""}), WARNS, "neither Suite nor Codename"
    ),
    "another Codename": same(Variant(fields={"Suite": "other", "Codename": "other"}), WARNS, "clients ask for trixie"),
    **{f"Packages.{form} alone": same(Variant(forms=(form,)), OK) for form in ("gz", "zst", "bz2", "lz4")},
    "plain Packages alone": same(Variant(forms=("",)), OK),
    "xz of several blocks": same(Variant(joined="xz blocks"), OK),
    "gz of several members": same(Variant(forms=("gz",), joined="gz members"), OK),
    "zst of several frames": same(Variant(forms=("zst",), joined="zst frames"), OK),
    "xz of several streams": same(Variant(joined="xz streams"), REFUSED, "several xz streams"),
    "by-hash alone": same(Variant(by_hash=("SHA256",), canonical=False), OK),
    "by-hash of a weaker hash than the strongest listed": same(
        Variant(by_hash=("SHA256",), canonical=False, hashes=("SHA256", "SHA512")), NOT_FOUND, "listed, but not there"
    ),
    "by-hash of the strongest hash": same(
        Variant(by_hash=("SHA256", "SHA512"), canonical=False, hashes=("SHA256", "SHA512")), OK
    ),
    "by-hash promised, not there": same(Variant(by_hash=()), OK, "missing in by-hash"),
    "binary-all apart, listed as an architecture": same(Variant(split=True), OK),
    "binary-all apart, without support for it": same(
        Variant(split=True, fields={"No-Support-for-Architecture-all": "Packages"}),
        WITHOUT_ALL,
        "lacks variant-all 1.0",
    ),
    "binary-all apart, no architecture": same(
        Variant(split=True, fields={"Architectures": "amd64"}), WITHOUT_ALL, "lacks variant-all 1.0"
    ),
    "Signed-By of a key that did not sign": same(
        Variant(fields={"Signed-By": "0" * 40}, valid=DAY), OK, "Signed-By names none of the keys that signed"
    ),
    "text before the signed message": same(Variant(before=b"hello\n"), REFUSED, "does not begin with a signed message"),
    "text behind the signed message": same(Variant(after=b"hello\n"), REFUSED, "something behind the signature"),
}


@pytest.fixture(scope="module")
def keys() -> Iterator[Keys]:
    needs("gpg", "gpgv", "xz")
    with signing.Home() as home:
        yield Keys(home)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A directory, and where loopback serves it."""
    top = tmp_path_factory.mktemp("site")
    with web.serve(top) as uri:
        yield top, uri


@pytest.fixture(scope="module", params=SUITES)
def client(request: pytest.FixtureRequest, cache: Path) -> Iterator[Client]:
    """A machine of each suite that knows no other repository."""
    needs("mmdebstrap")
    with chroot.Chroot(chroot.base(cache, request.param)) as session:
        yield Client(session, debian=False)


def suite(client: Client) -> str:
    return "bookworm" if client.version().startswith("2.") else "trixie"


def outcome(client: Client) -> tuple[str, str]:
    """Return what updating from the client's source comes to, and what apt said."""
    client.chroot.run(["sh", "-c", "rm -rf /var/lib/apt/lists/* /*.deb"])
    updated = client.update()
    names = {name for name in PACKAGES if f"{name}:" in client.apt("policy", *PACKAGES, program="apt-cache").text}
    said = updated.text
    if updated.code != 0:
        assert not names, said
        return REFUSED if "404" not in said else NOT_FOUND, said
    if names != set(PACKAGES):
        return (EMPTY if not names else WITHOUT_ALL if not updated.complaints else said), said
    fetched = client.apt("download", *PACKAGES)
    if fetched.code != 0:
        return NO_DOWNLOAD, said + fetched.text
    return WARNS if updated.complaints else OK, said


@pytest.mark.parametrize("name", ROWS)
def test_apt_takes_or_refuses(name: str, client: Client, site: tuple[Path, str], keys: Keys) -> None:
    top, uri = site
    row = ROWS[name]
    place = f"{suite(client)}-{list(ROWS).index(name)}"
    row.variant.build(top / place, keys)
    client.use(f"{uri}/{place}", "trixie", keys.public(*(row.trusted or row.variant.keys)), deb_src=False)
    result, said = outcome(client)
    assert result == getattr(row, suite(client)), said


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row.judged])
def test_our_check_finds_what_apt_would(name: str, tmp_path: Path, keys: Keys) -> None:
    row = ROWS[name]
    row.variant.build(tmp_path, keys)
    keyring = keys.public(*(row.trusted or row.variant.keys))
    faults = verify.check(trees.Directory(tmp_path), "trixie", keyring).faults
    if row.fault is None:
        assert faults == []
    else:
        assert any(row.fault in fault for fault in faults), faults


def tampered_packages(top: Path) -> None:
    path = top / "dists/trixie/main/binary-amd64/Packages.xz"
    path.write_bytes(lzma.compress(lzma.decompress(path.read_bytes()).replace(b"a variant", b"a Variant")))


def tampered_deb(top: Path) -> None:
    path = top / "pool/variant-any_1.0_amd64.deb"
    path.write_bytes(path.read_bytes()[:-1] + b"!")


def gone_deb(top: Path) -> None:
    (top / "pool/variant-all_1.0_all.deb").unlink()


@pytest.mark.parametrize(
    ("tamper", "expected", "fault"),
    [
        (tampered_packages, REFUSED, "Packages.xz: "),
        (tampered_deb, NO_DOWNLOAD, "pool/variant-any_1.0_amd64.deb: "),
        (gone_deb, NO_DOWNLOAD, "pool/variant-all_1.0_all.deb: an index names it, but it is gone"),
    ],
)
def test_a_file_that_was_changed_since_is_refused(
    tamper: Callable[[Path], None], expected: str, fault: str, client: Client, site: tuple[Path, str], keys: Keys
) -> None:
    top, uri = site
    place = f"{suite(client)}-{tamper.__name__}"
    Variant().build(top / place, keys)
    tamper(top / place)
    public = keys.public("ed25519")
    client.use(f"{uri}/{place}", "trixie", public, deb_src=False)
    result, said = outcome(client)
    assert result == expected, said
    faults = verify.check(trees.Directory(top / place), "trixie", public).faults
    assert any(each.partition(fault)[1] for each in faults), faults


def embedded(armored: str) -> str:
    lines = (f" {line or '.'}\n" for line in armored.splitlines())
    return "Signed-By:\n" + "".join(lines)


@pytest.mark.parametrize(
    ("where", "signed_by", "bookworm", "trixie"),
    [
        ("etc/apt/keyrings/variant.asc", "Signed-By: /etc/apt/keyrings/variant.asc\n", OK, OK),
        ("usr/share/keyrings/variant.pgp", "Signed-By: /usr/share/keyrings/variant.pgp\n", OK, OK),
        ("", "embedded", OK, OK),
        ("etc/apt/trusted.gpg.d/variant.asc", "", OK, OK),
        ("etc/apt/trusted.gpg", "", WARNS, REFUSED),
    ],
)
def test_the_key_reaches_apt_in_several_ways(
    where: str, signed_by: str, bookworm: str, trixie: str, client: Client, site: tuple[Path, str], keys: Keys
) -> None:
    top, uri = site
    place = f"{suite(client)}-key-{where.replace('/', '-')}"
    Variant().build(top / place, keys)
    armored = keys.home.export([keys("ed25519")], armor=True)
    if where:
        binary = where.endswith((".pgp", ".gpg"))
        client.write(where, keys.public("ed25519") if binary else armored)
    if signed_by == "embedded":
        signed_by = embedded(armored.decode())
    source = f"Types: deb\nURIs: {uri}/{place}\nSuites: trixie\nComponents: main\n{signed_by}"
    client.write("etc/apt/sources.list.d/repository.sources", source)
    result, said = outcome(client)
    if where:
        (client.chroot.path / where).unlink()
    assert result == (bookworm if suite(client) == "bookworm" else trixie), said


def test_a_component_that_is_not_there_is_a_warning(client: Client, site: tuple[Path, str], keys: Keys) -> None:
    top, uri = site
    place = f"{suite(client)}-component"
    Variant().build(top / place, keys)
    client.use(f"{uri}/{place}", "trixie", keys.public("ed25519"), deb_src=False)
    path = client.chroot.path / "etc/apt/sources.list.d/repository.sources"
    path.write_text(path.read_text().replace("Components: main", "Components: main extra"))
    result, said = outcome(client)
    assert result == WARNS, said
    assert "extra" in said
