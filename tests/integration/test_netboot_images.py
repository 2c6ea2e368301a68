"""What inv netboot-images makes: the same bytes each time, nothing rewritten, signed, and published beside the packages."""

import json
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
from conftest import needs
from gpgsigner import GpgSigner

from openssi import run
from openssi.errors import Error
from openssi.netboot import media
from openssi_build import apt, deb, manifest, netboot, repository, settings, signing
from openssi_build.settings import Settings, Signing

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def signer(cache: Path) -> Iterator[signing.Signer]:
    needs("gpg", "mcopy", "xorriso")
    with signing.signer(Signing(key_variable="OPENSSI_NO_SUCH_KEY"), cache / "trial") as made:
        yield made


@pytest.fixture(scope="module")
def wanted(root: Path) -> Settings:
    return settings.load(root)


@pytest.fixture(scope="module")
def out(
    root: Path, cache: Path, wanted: Settings, signer: signing.Signer, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    directory = tmp_path_factory.mktemp("netboot")
    netboot.make(root, cache, wanted, signer, out=directory)
    return directory


def test_a_second_run_writes_nothing(
    root: Path, cache: Path, wanted: Settings, signer: signing.Signer, out: Path
) -> None:
    before = {path: path.lstat().st_mtime_ns for path in out.rglob("[!.]*") if path.is_file()}
    assert netboot.make(root, cache, wanted, signer, out=out).changed == ()
    assert before == {path: path.lstat().st_mtime_ns for path in out.rglob("[!.]*") if path.is_file()}


def test_a_driver_more_makes_a_new_initrd_beside_the_old_one(
    root: Path, cache: Path, wanted: Settings, signer: signing.Signer, tmp_path: Path
) -> None:
    netboot.make(root, cache, wanted, signer, out=tmp_path)
    old = (tmp_path / "tftpboot/initrd.img").resolve()
    more = replace(wanted, initrd=(replace(wanted.initrd[0], drivers=("e1000", "virtio_net", "vmxnet3")),))
    changed = netboot.make(root, cache, more, signer, out=tmp_path).changed
    assert old.exists()
    assert (tmp_path / "tftpboot/initrd.img").resolve() != old
    assert not [line for line in changed if "etherboot" in line]


def test_the_manifest_is_checked_by_the_keyring_alone_and_a_changed_byte_is_found(
    out: Path, signer: signing.Signer, tmp_path: Path
) -> None:
    keyring = tmp_path / "keyring.gpg"
    keyring.write_bytes(signer.public_keys())
    assert manifest.check(out, keyring) > 15
    target = out / "tftpboot/ldlinux.c32"
    content = target.read_bytes()
    target.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    try:
        with pytest.raises(Error, match=r"ldlinux\.c32: not what SHA256SUMS says"):
            manifest.check(out, keyring)
    finally:
        target.write_bytes(content)
    sums = out / manifest.SUMS
    text = sums.read_text()
    # Both agree, but nobody has signed it.
    target.write_bytes(b"other")
    sums.write_text(text.replace(sha256(content).hexdigest(), sha256(b"other").hexdigest()))
    try:
        with pytest.raises(Error, match=r"SHA256SUMS\.gpg: BAD signature"):
            manifest.check(out, keyring)
    finally:
        sums.write_text(text)
        target.write_bytes(content)
    keyring.write_bytes(GpgSigner(tmp_path / "stranger").public_keys())
    with pytest.raises(Error, match=r"SHA256SUMS\.gpg: Can't check signature: No public key"):
        manifest.check(out, keyring)


def test_images_are_signed_anew_once_their_key_signs_no_more(root: Path, out: Path, tmp_path: Path) -> None:
    (tmp_path / "linux").write_text("linux")
    described = manifest.Described(settings.Repository(), "amd64", deb.version(root), {})
    with signing.Home() as home:
        old, new = (home.generate(f"{name} <{name}@example.org>", expires="1y") for name in ("old", "new"))
        carried = home.export([old])
        manifest.write(tmp_path, ["linux"], described, signing.Signer(home, [old]))
        assert manifest.write(tmp_path, ["linux"], described, signing.Signer(home, [old, new])) == []
        left = signing.Signer(home, [new], also=[carried])
        assert manifest.write(tmp_path, ["linux"], described, left) == [manifest.SIGNATURE]
        (tmp_path / "new.gpg").write_bytes(home.export([new]))
    manifest.check(tmp_path, tmp_path / "new.gpg")
    # What is published under a version never changes: other keys make another.
    made = netboot.Made(out, ("etherboot.dsk",), (), (old,))
    versions = {netboot.published(root, replace(made, signers=keys), "amd64").version for keys in ((old,), (new,))}
    assert len(versions) == 2


def test_the_bill_of_materials_names_each_binary_and_its_sources(
    root: Path, cache: Path, wanted: Settings, out: Path
) -> None:
    document = json.loads((out / manifest.SBOM).read_text())
    elements = {each["SPDXID"]: each for each in (*document["packages"], *document["files"])}
    comes_from: dict[str, set[str]] = {}
    for each in document["relationships"]:
        assert each["relatedSpdxElement"] in elements
        if each["relationshipType"] == "GENERATED_FROM":
            comes_from.setdefault(each["spdxElementId"], set()).add(each["relatedSpdxElement"])
    purpose = {key: each.get("primaryPackagePurpose") for key, each in elements.items()}
    packages = {each["name"]: key for key, each in elements.items() if "Package-" in key}

    def names(key: str) -> set[str]:
        return {elements[each]["name"] for each in comes_from[key]}

    # Every package comes from sources, and those are what Debian's own fields say.
    assert all(purpose[source] == "SOURCE" for key in packages.values() for source in comes_from[key])
    source = apt.Apt(cache, "trixie", mirror=apt.mirror(wanted.repository), component="main non-free-firmware")
    for name, key in packages.items():
        deb_file = source.download([f"{name}={elements[key]['versionInfo']}"]).popitem()[1]
        fields = run.output(
            ["dpkg-deb", "--show", "--showformat", "${source:Package} ${Built-Using}", deb_file]
        ).decode()
        assert names(key) == set(re.sub(r" \(= \S+\),?", "", fields).split())
    image = next(name for name in packages if name.startswith("linux-image-"))
    expected = {
        image: {"linux", "linux-signed-amd64"},
        "grub-efi-amd64-signed": {"grub-efi-amd64-signed", "grub2"},
        "shim-signed": {"shim", "shim-signed"},
        "busybox-static": {"busybox", "glibc"},
        "pxelinux": {"syslinux"},
    }
    assert {name: names(packages[name]) for name in expected} == expected
    # Every file comes from packages.
    files = {each["fileName"].removeprefix("./"): key for key, each in elements.items() if "fileName" in each}
    assert set(files) == set(manifest.digests(out)) - {manifest.SBOM, manifest.PAGE}
    efi = {"ipxe", "shim-signed", "grub-efi-amd64-signed", "openssi"}
    made_of = {
        "tftpboot/pxelinux.0": {"pxelinux"},
        "tftpboot/grubx64.efi": {"grub-efi-amd64-signed"},
        "tftpboot/pxelinux.cfg/default": {"openssi"},
        media.FLOPPY: {"ipxe", "syslinux", "openssi"},
        media.USB: {"syslinux", "syslinux-common", *efi},
        media.ISO: {"isolinux", "syslinux-common", *efi},
        f"tftpboot/{(out / 'tftpboot/vmlinuz').readlink()}": {image},
        f"tftpboot/{(out / 'tftpboot/initrd.img').readlink()}": {
            image, "busybox-static", "openssi", *wanted.initrd[0].firmware,
        },
    }  # fmt: skip
    assert {name: names(files[name]) for name in made_of} == made_of
    assert all(comes_from[key] for key in files.values())


def test_media_are_the_same_bytes_each_time_and_the_floppy_fits(
    cache: Path, wanted: Settings, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo = wanted.repository
    found = netboot.fetch(cache, repo.suite, "amd64", apt.mirror(repo))
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    old = os.umask(0o077)
    try:
        made = media.make(tmp_path, media.parts(found.tree))
    finally:
        os.umask(old)
    assert [path.read_bytes() == (out / path.name).read_bytes() for path in made] == [True] * 3
    assert (out / media.FLOPPY).stat().st_size == 1_474_560


def test_images_are_published_under_their_version_and_listed_in_the_signed_release(
    root: Path, cache: Path, wanted: Settings, signer: signing.Signer, out: Path, tmp_path: Path
) -> None:
    repo = tmp_path / "repo"
    made = netboot.make(root, cache, wanted, signer, out=out)
    images = netboot.published(root, made, "amd64")
    rules = wanted.repository

    def publish() -> repository.Snapshot:
        return repository.publish(repo, [], settings=rules, cache=tmp_path, signer=signer, boot_images=[images])

    assert publish().new
    top = repo / "dists" / rules.suite / "main/netboot-amd64"
    assert (top / "current").resolve() == top / images.version
    keyring = tmp_path / "keyring.gpg"
    keyring.write_bytes(signer.public_keys())
    assert manifest.check(top / "current/images", keyring) == len(made.paths)
    release = (repo / "dists" / rules.suite / "InRelease").read_text()
    for version in ("current", images.version):
        assert f" main/netboot-amd64/{version}/images/SHA256SUMS\n" in release
    assert not publish().new
