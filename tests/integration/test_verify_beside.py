"""`inv verify-repo` sees what lies beside the packages: boot images, and what people are told to take."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import needs
from publishing import SignedRepository

from openssi.errors import Error
from openssi_build import images, kernels, settings, site, verify
from openssi_build.repository import control
from openssi_build.verify import offered, trees

pytestmark = pytest.mark.integration
TOP = "dists/trixie/main/netboot-amd64"


@pytest.fixture
def published(tmp_path: Path, root: Path) -> SignedRepository:
    needs("gpg", "gpgv")
    made = SignedRepository(tmp_path)
    made.settings = settings.load(root).repository
    made.add("one", "1.0")
    made.add_images("v1")
    made.add_images("v2")
    made.date = int(time.time()) - 1
    snapshot = made.rollback(2)
    site.write(made.repo, snapshot, made.settings, made.signer.public_keys())
    return made


def said(published: SignedRepository, root: Path, cache: Path) -> list[str]:
    """Return the faults that verify-repo tells of."""
    lines: list[str] = []
    try:
        verify.verify(
            str(published.repo), root=root, cache=cache, settings=settings.load(root),
            keyring=published.keyring, with_clients=False, say=lines.append,
        )  # fmt: skip
    except Error:
        return [line for line in lines if line.startswith("fault: ")]
    assert lines[-1].endswith(": nothing wrong")
    return []


def rewrite(path: Path, content: bytes) -> None:
    """Give the file other content, and none of its other names."""
    path.unlink()
    path.write_bytes(content)


def empty(path: Path) -> None:
    rewrite(path, b"")


def change_a_byte(path: Path) -> None:
    content = path.read_bytes()
    rewrite(path, content[:-1] + bytes([content[-1] ^ 1]))


@pytest.mark.parametrize(
    ("path", "damage", "told"),
    [
        (f"{TOP}/current/images/linux", change_a_byte, "but SHA256SUMS names it"),
        (f"{TOP}/v1/images/tree/boot.ipxe", Path.unlink, "gone, but SHA256SUMS names it"),
        (f"{TOP}/v2/images/linux", change_a_byte, "but the Release of snapshot 3 names it"),
        (f"{TOP}/v2/images/SHA256SUMS", Path.unlink, "but the Release of snapshot 3 names it"),
        (f"{TOP}/current/images/SHA256SUMS", Path.unlink, "gone"),
        (f"{TOP}/current/images/SHA256SUMS.gpg", Path.unlink, "gone"),
        (f"{TOP}/v1/images/SHA256SUMS.gpg", empty, "no signature"),
        ("openssi-archive-keyring.gpg", empty, "does not have the keys of Signed-By"),
        ("openssi-archive-keyring.gpg", Path.unlink, "gone"),
        ("openssi.sources", change_a_byte, "not what openssi.toml says"),
        ("openssi.pref", Path.unlink, "gone"),
        ("index.html", Path.unlink, "gone"),
        ("index.html", empty, "not the page of snapshot 4"),
    ],
)
def test_what_is_gone_or_changed_is_named(
    published: SignedRepository, root: Path, cache: Path, path: str, damage: Callable[[Path], None], told: str
) -> None:
    damage(published.repo / path)
    faults = said(published, root, cache)
    name = path.replace("/v1/", "/current/") if "signature" in told else path
    assert any(line.startswith(f"fault: {name}: ") and told in line for line in faults), faults


def test_by_its_hash_each_current_manifest_stays_for_older_releases(
    published: SignedRepository, root: Path, cache: Path
) -> None:
    assert said(published, root, cache) == []
    for path in (published.repo / TOP / "current/images/by-hash/SHA256").iterdir():
        content = path.read_bytes()
        path.unlink()
        assert said(published, root, cache)
        path.write_bytes(content)
    assert said(published, root, cache) == []


def test_the_record_of_the_kernel_is_there_and_fits_the_index(root: Path, tmp_path: Path) -> None:
    wanted = settings.load(root)
    name = images.kernels_of(root, wanted)[0]
    meta = kernels.describe(root, name).package
    tree = trees.Directory(tmp_path)
    stanza = (
        f"Package: {meta}\nVersion: 1\nArchitecture: amd64\nFilename: pool/{meta}_1_amd64.deb\nSize: 1\n"
        f"SHA256: {'a' * 64}\n\n"
    ).encode()
    packages = {(meta, "1", "amd64"): stanza}
    assert control.files(stanza)
    assert list(offered.kernel_faults(tree, root, wanted, {})) == []
    assert list(offered.kernel_faults(tree, root, wanted, packages)) == [f"kernels/{name}.toml: gone"]
    held = kernels.Held(meta, "trixie", "amd64", "1", meta, "1", {f"{meta}_1_amd64.deb": "a" * 64})
    (tmp_path / "kernels").mkdir()
    (tmp_path / f"kernels/{name}.toml").write_text(held.toml())
    assert list(offered.kernel_faults(tree, root, wanted, packages)) == []
    other = replace(held, files={f"{meta}_1_amd64.deb": "b" * 64})
    (tmp_path / f"kernels/{name}.toml").write_text(other.toml())
    (fault,) = offered.kernel_faults(tree, root, wanted, packages)
    assert "which no index names with that hash" in fault
    (tmp_path / f"kernels/{name}.toml").write_text("damaged")
    (fault,) = offered.kernel_faults(tree, root, wanted, packages)
    assert fault.startswith(f"kernels/{name}.toml: ")
