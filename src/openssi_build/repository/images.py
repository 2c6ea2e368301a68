"""Boot images beside the packages: ``dists/SUITE/COMPONENT/netboot-ARCH/VERSION/images/`` with ``current``, as Debian
publishes its installer's. The signed Release lists each SHA256SUMS, and with it every file."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import file_digest, sha256
from pathlib import Path

from openssi import files
from openssi.errors import Error
from openssi_build.repository import release
from openssi_build.repository.release import Index
from openssi_build.settings import Repository

SUMS = "SHA256SUMS"
CURRENT = "current"
ARCHITECTURE = "images"  # in a snapshot's changes, where packages have theirs
_LISTED = re.compile(rf"(dists/.+/netboot-[^/]+)/([^/]+)/images/{SUMS}")

# What a Release lists, by directory below the repository: the SHA256 of SHA256SUMS by version; CURRENT is one of these.
Listed = dict[str, dict[str, str]]


def entries(sums: str) -> Iterator[tuple[str, str]]:
    """Yield name and SHA256 of each line of a SHA256SUMS."""
    for line in sums.splitlines():
        digest, _, name = line.partition("  ")
        yield name, digest


def directory(settings: Repository, architecture: str) -> str:
    """Return where the images of ``architecture`` lie below the repository."""
    return f"dists/{settings.suite}/{settings.component}/netboot-{architecture}"


@dataclass(frozen=True)
class Images:
    """Files to be published: ``names`` below ``source``, SHA256SUMS among them, as ``version`` of ``architecture``."""

    source: Path
    names: tuple[str, ...]
    architecture: str
    version: str

    @cached_property
    def digest(self) -> str:
        """The SHA256 of SHA256SUMS."""
        return sha256((self.source / SUMS).read_bytes()).hexdigest()

    def place(self, repo: Path, settings: Repository) -> None:
        """Put them under their version, where no Release names them yet; Error when they are not what SHA256SUMS says."""
        top = repo / directory(settings, self.architecture)
        staging = top / f".{self.version}.new"
        for name in self.names:
            copy = staging / "images" / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            with (self.source / name).open("rb") as source, copy.open("wb") as stream:
                shutil.copyfileobj(source, stream, 1 << 20)
                stream.flush()
                os.fchmod(stream.fileno(), 0o644)
                os.fsync(stream.fileno())
        sums = staging / "images" / SUMS
        for name, digest in entries(sums.read_text()):
            with (staging / "images" / name).open("rb") as stream:
                if file_digest(stream, "sha256").hexdigest() != digest:
                    raise Error(f"{self.source / name}: not what {SUMS} says", hint="make or fetch it again")
        by_hash = staging / "images/by-hash/SHA256"
        by_hash.mkdir(parents=True)
        os.link(sums, by_hash / self.digest)
        for each, _, _ in os.walk(staging):
            files.sync_directory(Path(each))
        staging.rename(top / self.version)
        files.sync_directory(top)


@dataclass(frozen=True)
class Plan:
    """What the next Release lists, and what must be placed for it."""

    listed: Listed
    new: tuple[Images, ...] = ()


def make(repo: Path, settings: Repository, before: Listed, coming: Sequence[Images]) -> Plan:
    """Return what making ``coming`` current changes where ``before`` is listed.

    What is there under a version never changes: Error when it is there with other bytes. The oldest are no longer listed
    when there are more than ``settings.keep``.
    """
    places = [directory(settings, each) for each in settings.architectures]
    listed = {place: dict(before[place]) for place in places if place in before}
    new = []
    for each in coming:
        place = directory(settings, each.architecture)
        if place not in places:
            raise Error(
                f"{each.source}: architecture {each.architecture}: expected {', '.join(settings.architectures)}"
            )
        versions = listed.setdefault(place, {})
        _refuse_other_files(repo / place / each.version, each)
        if not (repo / place / each.version).exists():
            new.append(each)
        versions |= {each.version: each.digest, CURRENT: each.version}
    for place, versions in listed.items():
        for version in _older(repo / place, versions, settings.keep):
            del versions[version]
    return Plan(listed, tuple(new))


def _refuse_other_files(version: Path, each: Images) -> None:
    sums = version / "images" / SUMS
    if sums.exists() and sums.read_bytes() != (each.source / SUMS).read_bytes():
        raise Error(f"{sums.parent}: published already with other files", hint="another version needs another name")


def _older(top: Path, versions: dict[str, str], keep: int) -> list[str]:
    """Return the versions that are older than the ``keep`` newest; the current one is none of them."""
    others = sorted(versions.keys() - {CURRENT, versions[CURRENT]})
    if len(others) < keep:
        return []
    others.sort(key=lambda version: (top / version).stat().st_mtime_ns)
    return others[: len(others) - (keep - 1)]


def of_release(text: bytes, prefix: str, current: Mapping[str, str]) -> Listed:
    """Return what the Release ``text`` of the tree below ``prefix`` lists of boot images.

    ``current`` says by directory which version is current, as several may have one SHA256SUMS, signed by other keys.
    """
    found: Listed = {}
    for path, index in release.listed(text).items():
        match = _LISTED.fullmatch(prefix + path)
        if match:
            found.setdefault(match[1], {})[match[2]] = index.sha256
    for place, versions in found.items():
        digest = versions.pop(CURRENT, "")
        fitting = [version for version in versions if versions[version] == digest]
        if not fitting:
            raise Error(
                f"{place}: the Release does not list the version that is current", hint="inv build-repo --fresh"
            )
        versions[CURRENT] = current[place] if current.get(place) in fitting else fitting[0]
    return found


def indexes(repo: Path, listed: Listed) -> dict[str, Index]:
    """Return ``listed`` as a Release has it, by path below ``repo``; Error names what is gone or not what was published."""
    found = {}
    for place, versions in listed.items():
        for name in versions:
            version = versions[CURRENT] if name == CURRENT else name
            sums, digest = repo / place / version / "images" / SUMS, versions[version]
            try:
                text = sums.read_bytes()
            except FileNotFoundError:
                raise Error(f"{sums}: published, but gone", hint="put the images back") from None
            if sha256(text).hexdigest() != digest:
                raise Error(f"{sums}: not the file that was published: SHA256 differs", hint="put it back")
            found[f"{place}/{name}/images/{SUMS}"] = Index(len(text), digest)
    return found


def offer(repo: Path, listed: Listed) -> None:
    """Let what is to be current have each version's SHA256SUMS by its hash: the Release of a client may be another one."""
    for place, versions in listed.items():
        by_hash = repo / place / versions[CURRENT] / "images/by-hash/SHA256"
        for sums in (repo / place).glob(f"[!.]*/images/{SUMS}"):
            target = by_hash / sha256(sums.read_bytes()).hexdigest()
            if not target.exists():
                os.link(sums, target)
        files.sync_directory(by_hash)


def switch(repo: Path, listed: Listed) -> None:
    """Make ``current`` what ``listed`` says."""
    for place, versions in listed.items():
        link, version = repo / place / CURRENT, versions[CURRENT]
        if not link.is_symlink() or str(link.readlink()) != version:
            files.symlink(version, link)
            files.sync_directory(link.parent)


def directories(repo: Path) -> list[Path]:
    """Return the directories of ``repo`` that have boot images of an architecture."""
    return sorted(repo.glob("dists/*/*/netboot-*"))


def clean(repo: Path, named: Iterable[Listed]) -> None:
    """Remove what none of ``named`` lists, and what an interrupted writer left."""
    every = list(named)
    for top in directories(repo):
        place = top.relative_to(repo).as_posix()
        kept = {version: digest for listed in every for version, digest in listed.get(place, {}).items()}
        kept.pop(CURRENT, None)
        if not kept:
            shutil.rmtree(top)
            continue
        public = (top / CURRENT).resolve().name
        for path in top.iterdir():
            if path.name in kept:
                _clean_by_hash(path, set(kept.values()) if path.name == public else {kept[path.name]})
            elif path.is_symlink():
                if path.name != CURRENT:
                    path.unlink()
            else:
                shutil.rmtree(path)


def _clean_by_hash(version: Path, wanted: set[str]) -> None:
    for path in (version / "images/by-hash/SHA256").glob("*"):
        if path.name not in wanted:
            path.unlink()
