"""Repositories of small made-up packages, for the tests of the writer."""

from __future__ import annotations

import lzma
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import IO

from gpgsigner import PlainSigner

from openssi_build import repository
from openssi_build.bench import pool
from openssi_build.repository import release
from openssi_build.repository.snapshots import Snapshot
from openssi_build.settings import Repository
from openssi_build.verify import trees

DATE = 1_790_000_000


class SmallRepository:
    """A repository in a temporary directory, at a time of its own; with a signer that signs nothing unless told otherwise."""

    def __init__(self, base: Path, signer: release.Signer | None = None, **settings: object) -> None:
        self.base = base
        self.repo = base / "repo"
        self.settings = Repository(architectures=("amd64", "arm64"), **settings)  # type: ignore[arg-type]
        self.signer = signer or PlainSigner()
        self.date = DATE

    def publish(self, *new: Path, images: Sequence[repository.Images] = ()) -> Snapshot:
        self.date += 1
        return repository.publish(
            self.repo, new, settings=self.settings, cache=self.base / "cache", signer=self.signer,
            boot_images=images, date=self.date,
        )  # fmt: skip

    def rollback(self, number: int) -> Snapshot:
        self.date += 1
        return repository.rollback(
            self.repo, number, settings=self.settings, cache=self.base / "cache", signer=self.signer, date=self.date
        )

    def images(self, version: str, body: bytes = b"") -> repository.Images:
        """Return boot images of ``version``: a kernel, a tree with a file, and what says what they are."""
        source = self.base / "images" / version
        (source / "tree").mkdir(parents=True, exist_ok=True)
        sums = ""
        for name, content in {"linux": version.encode() + body, "tree/boot.ipxe": b"#!ipxe\n"}.items():
            (source / name).write_bytes(content)
            sums += f"{sha256(content).hexdigest()}  {name}\n"
        (source / "SHA256SUMS").write_text(sums)
        (source / "SHA256SUMS.gpg").write_bytes(self.signer.detach(sums.encode(), self.date))
        return repository.Images(source, ("linux", "tree/boot.ipxe", "SHA256SUMS", "SHA256SUMS.gpg"), "amd64", version)

    def deb(self, name: str, version: str = "1.0", architecture: str = "amd64", body: bytes = b"x") -> Path:
        directory = self.base / "new" / version
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / f"{name}_{version}_{architecture}.deb"
        control = (
            f"Package: {name}\nVersion: {version}\nArchitecture: {architecture}\nMaintainer: A <a@example.org>\n"
            f"Section: misc\nDescription: {name} {version}\n In long words.\n"
        )
        path.write_bytes(pool.deb(control, {f"usr/share/{name}/data": body, f"usr/share/{name}/{version}": b""}))
        return path

    def source(self, name: str, version: str, binaries: list[str]) -> Path:
        directory = self.base / "source" / name
        directory.mkdir(parents=True)
        return pool.dsc(name, version, binaries, directory)

    def plain(self, path: str) -> str:
        return lzma.decompress((self.repo / f"{path}.xz").read_bytes()).decode()


class AsApt(trees.Directory):
    """What apt reads of a repository: InRelease, and every index by its hash; boot images under the version it names.

    The other names of an index change one after another before InRelease does; the next writer ends what was cut off there.
    """

    def open(self, path: str) -> IO[bytes] | None:
        apt_reads = path.endswith("InRelease") or "by-hash/" in path or path.startswith("pool/")
        if "/netboot-" in path and "by-hash/" not in path:
            place, _, rest = path.partition("/current/")
            if rest:
                sums = release.listed((self.top / "dists/trixie/InRelease").read_bytes())
                wanted = sums[f"{place.removeprefix('dists/trixie/')}/current/images/SHA256SUMS"]
                (path,) = {
                    f"dists/trixie/{name.removesuffix('images/SHA256SUMS')}{rest}"
                    for name, index in sums.items()
                    if "/netboot-" in name and "/current/" not in name and index == wanted
                }
            apt_reads = True
        return super().open(path) if apt_reads else None


def missing_images(repo: Path, signed: bytes) -> set[str]:
    """Return what a client that has the Release ``signed`` looks for and does not find, of the boot images."""
    lacking = set()
    for path, index in release.listed(signed).items():
        if "/netboot-" not in path:
            continue
        hashed = repo / "dists/trixie" / Path(path).parent / "by-hash/SHA256" / index.sha256
        if not hashed.is_file() or sha256(hashed.read_bytes()).hexdigest() != index.sha256:
            lacking.add(f"{path} by its hash")
            continue
        images = repo / "dists/trixie" / Path(path).parent
        if "/current/" not in path:
            listed = (line.split("  ") for line in hashed.read_text().splitlines())
            lacking |= {
                f"{path}: {name}"
                for digest, name in listed
                if not (images / name).is_file() or sha256((images / name).read_bytes()).hexdigest() != digest
            }
    return lacking
