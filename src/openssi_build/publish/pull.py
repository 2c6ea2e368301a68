"""Fetching what a target holds, so that the next publish descends from it. What comes is not believed but checked."""

from __future__ import annotations

import gzip
import lzma
import re
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from openssi import files
from openssi.errors import Error
from openssi_build import repository, signing
from openssi_build.publish import tree
from openssi_build.publish.publisher import Progress, heads
from openssi_build.publish.targets import Target
from openssi_build.repository import images, release
from openssi_build.settings import Repository


def _unzstd(packed: bytes) -> bytes:
    import zstandard

    return zstandard.ZstdDecompressor().decompressobj().decompress(packed)


_UNPACK: dict[str, Callable[[bytes], bytes]] = {".xz": lzma.decompress, ".gz": gzip.decompress, ".zst": _unzstd}


def pull(repo: Path, target: Target, settings: Repository, keyring: Path, *, progress: Progress | None = None) -> str:
    """Make ``repo`` what ``target`` (connected) holds, unless it descends from that already; return what was done in words.

    Every Release must be signed by a key of ``keyring``, and every file named by the newest must have its hash. What ``repo`` had and
    the target has not is gone from it: `inv build-repo` adds the packages of the tree again. Error leaves ``repo`` as it was.
    """
    progress = progress or Progress()
    top = f"dists/{settings.suite}/InRelease"
    repo.parent.mkdir(parents=True, exist_ok=True)
    with (
        files.lock(repo.parent / f".{repo.name}.pull"),
        target.lock(lambda holder: progress.say(f"waiting for {holder}")),
    ):
        public = target.read(top)
        if public is None:
            return "nothing is published there yet"
        if (repo / "snapshots").is_dir() and public in heads(repo).get(top, ()):
            return "this tree descends from what is published there already"
        with tempfile.TemporaryDirectory(prefix=f".{repo.name}.", dir=repo.parent) as name:
            fetched = Path(name) / "new"
            fetched.mkdir()
            listing = {path: size for path, size in target.listing().items() if not _is_link(path)}
            _check_names(listing, target.name)
            target.fetch(sorted(listing), fetched, progress.start("fetching", sum(listing.values())))
            _check(fetched, keyring, target.name)
            _check_images(fetched)
            _link(fetched)
            if repo.exists():
                with files.lock(repo / ".lock"):
                    repo.rename(Path(name) / "old")
                    fetched.rename(repo)
            else:
                fetched.rename(repo)
        newest = repository.newest(repo)
        assert newest
        return f"snapshot {newest.number} with {newest.packages} packages"


def _is_link(path: str) -> bool:
    """Return True for what is a link in our tree, and for what lies behind one."""
    return re.fullmatch(rf"snapshots/\d+/pool|.*/netboot-[^/]+/{tree.CURRENT}(/.*)?", path) is not None


def _link(fetched: Path) -> None:
    """Make the links: from each snapshot to the pool, and to the boot images that are current."""
    for snapshot in repository.every(fetched):
        (fetched / snapshot.directory / "pool").symlink_to("../../pool")
    for place, versions in repository.boot_images(fetched, snapshot).items():
        files.symlink(versions[tree.CURRENT], fetched / place / tree.CURRENT)


def _check_names(paths: Iterable[str], name: str) -> None:
    for path in paths:
        if any(part in ("", ".", "..") for part in path.split("/")):
            raise Error(f"{name}: a file is called '{path}': expected a path below the repository")


def _check(fetched: Path, keyring: Path, name: str) -> None:
    """Raise Error unless all of ``fetched`` is what its signatures say."""
    for path in fetched.rglob("*"):
        if path.is_symlink():
            raise Error(f"{name}: {path.relative_to(fetched)} is a symbolic link: expected a file")
    snapshots = repository.every(fetched)
    if not snapshots:
        raise Error(f"{name}: holds a repository without snapshots", hint="it was not published by inv publish")
    for snapshot in snapshots:
        for prefix in snapshot.releases:
            _check_release(fetched / snapshot.directory, prefix, keyring, old=snapshot is not snapshots[-1])
        for change in repository.changes(fetched, snapshot.number).dropped:
            _check_names(change.paths, name)
            if not all(path.startswith("pool/") for path in change.paths):
                raise Error(f"{name}: snapshot {snapshot.number} drops files outside of its pool")
    for prefix in snapshots[-1].releases:
        _check_release(fetched, prefix, keyring)
    _check_pool(fetched, snapshots[-1].indexes)


def _check_images(fetched: Path) -> None:
    """Raise Error unless a snapshot's Release lists all boot images that are there, and each file has its hash."""
    listed: dict[Path, str] = {}
    for snapshot in repository.every(fetched):
        for place, versions in repository.boot_images(fetched, snapshot).items():
            listed |= {
                fetched / place / version: digest for version, digest in versions.items() if version != tree.CURRENT
            }
    for version in fetched.glob("dists/*/*/netboot-*/*"):
        path, sums = version.relative_to(fetched), version / "images" / images.SUMS
        if version not in listed:
            raise Error(f"{path}: no Release lists it", hint="publish to that target again")
        _check_hash(sums, listed[version])
        for file, digest in images.entries(sums.read_text()):
            _check_names([file], str(path))
            _check_hash(sums.parent / file, digest)


def _check_release(top: Path, prefix: str, keyring: Path, *, old: bool = False) -> None:
    signed = top / f"{prefix}InRelease"
    if not signed.is_file():
        raise Error(f"{signed}: not there", hint="publish to that target again")
    signing.check_signature(signed, keyring, expired=old)  # the key of an old snapshot may have expired since
    for path, index in release.listed(signed.read_bytes()).items():
        file = top / prefix / path
        if file.exists():
            _check_hash(file, index.sha256)


def _hash(file: Path) -> str:
    return tree.Item(file.name, file, 0).sha256


def _check_hash(file: Path, expected: str) -> None:
    if not file.is_file():
        raise Error(f"{file.name}: named, but not there", hint="publish to that target again")
    if _hash(file) != expected:
        raise Error(f"{file.name}: its hash is not the one that its Release names", hint="publish to that target again")


def _check_pool(fetched: Path, indexes: Iterable[str]) -> None:
    """Raise Error unless every package and source file that the indexes name is there with its hash."""
    named: dict[str, str] = {}
    for path in indexes:
        if Path(path).stem in ("Packages", "Sources"):
            named.update(_named(_UNPACK[Path(path).suffix]((fetched / path).read_bytes()).decode()))
    for file, digest in named.items():
        _check_names([file], file)
        _check_hash(fetched / file, digest)


def _named(index: str) -> Iterable[tuple[str, str]]:
    """Yield ``(path, sha256)`` of each file that a Packages or Sources index names."""
    for stanza in index.split("\n\n"):
        fields = dict(re.findall(r"^(Filename|SHA256|Directory): (.+)$", stanza, re.MULTILINE))
        if "Filename" in fields:
            yield fields["Filename"].removeprefix("./"), fields["SHA256"]
        elif "Directory" in fields:
            listed = re.search(r"^Checksums-Sha256:\n((?: .+\n?)+)", stanza, re.MULTILINE)
            for line in listed[1].splitlines() if listed else []:
                digest, _, name = line.split()
                yield f"{fields['Directory'].removeprefix('./')}/{name}", digest
