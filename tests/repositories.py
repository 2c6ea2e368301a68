"""Repositories of small made-up packages, for the tests of the writer."""

from __future__ import annotations

import lzma
from pathlib import Path

from gpgsigner import PlainSigner

from openssi_build import repository
from openssi_build.bench import pool
from openssi_build.repository import release
from openssi_build.repository.snapshots import Snapshot
from openssi_build.settings import Repository

DATE = 1_790_000_000


class SmallRepository:
    """A repository in a temporary directory, at a time of its own; with a signer that signs nothing unless told otherwise."""

    def __init__(self, base: Path, signer: release.Signer | None = None, **settings: object) -> None:
        self.base = base
        self.repo = base / "repo"
        self.settings = Repository(architectures=("amd64", "arm64"), **settings)  # type: ignore[arg-type]
        self.signer = signer or PlainSigner()
        self.date = DATE

    def publish(self, *new: Path) -> Snapshot:
        self.date += 1
        cache, settings = self.base / "cache", self.settings
        return repository.publish(self.repo, new, settings=settings, cache=cache, signer=self.signer, date=self.date)

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
