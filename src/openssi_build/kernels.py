"""The kernels that the cluster is qualified on: Debian's own packages, held at one version, unpacked by content.

What is held is written into the repository, ``kernels/<name>.toml`` beside the pool that has the packages, so that it
goes where the repository goes and is there when the mirror has moved on.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from debian.debian_support import Version

from openssi import config, files
from openssi.errors import Error
from openssi.run import run
from openssi_build import apt
from openssi_build.repository import control, tables


@dataclass(frozen=True)
class Description:
    """kernels/<name>.toml: the metapackage and where it comes from."""

    package: str
    suite: str
    architecture: str = "amd64"
    version: str | None = None  # that one and no other; by default the newest when first built, then held
    sha256: str | None = None  # of the image package's .deb; another one is refused

    def __post_init__(self) -> None:
        if self.sha256 is not None and not re.fullmatch("[0-9a-f]{64}", self.sha256):
            raise ValueError("key 'sha256': expected 64 hexadecimal digits")


@dataclass(frozen=True)
class Held:
    """What is recorded of a kernel: its packages as the mirror had them."""

    package: str  # the metapackage
    suite: str
    architecture: str
    version: str
    image: str  # the image package, and its version
    image_version: str
    files: dict[str, str]  # SHA256 by file name: the image, then the metapackage

    def fits(self, wanted: Description) -> bool:
        """Return True when this is a kernel that ``wanted`` describes."""
        same = (self.package, self.suite, self.architecture) == (wanted.package, wanted.suite, wanted.architecture)
        return (
            same and wanted.version in (None, self.version) and wanted.sha256 in (None, next(iter(self.files.values())))
        )

    def toml(self) -> str:
        """Return the record as a file."""
        fields = ("package", "suite", "architecture", "version", "image", "image_version")
        lines = [f'{name.replace("_", "-")} = "{getattr(self, name)}"\n' for name in fields]
        sums = [f'"{name}" = "{digest}"\n' for name, digest in self.files.items()]
        return "# The kernel that this repository holds; `inv qualify` moves it.\n" + "".join(
            [*lines, "\n[files]\n", *sums]
        )


@dataclass(frozen=True)
class QualifiedKernel:
    """A kernel that is at hand: ``abi`` is its version as uname says it, ``tree`` the unpacked image package."""

    name: str
    abi: str
    debs: tuple[Path, ...]  # the image and the metapackage, unmodified
    tree: Path

    @property
    def vmlinuz(self) -> Path:
        """The kernel image."""
        return self.tree / f"boot/vmlinuz-{self.abi}"


def describe(root: Path, name: str) -> Description:
    """Read kernels/<name>.toml of the tree ``root``."""
    path = root / "kernels" / f"{name}.toml"
    if not path.exists():
        known = ", ".join(sorted(each.stem for each in path.parent.glob("*.toml")))
        raise Error(f"{path}: no such kernel", hint=f"there are: {known}")
    return config.load(path, Description)


def record(root: Path, name: str) -> Path:
    """Return where the tree's repository says which kernel it holds."""
    return root / "out" / "repo" / "kernels" / f"{name}.toml"


def held(root: Path, name: str) -> Held | None:
    """Return the kernel that the tree's repository holds, or None before the first build."""
    path = record(root, name)
    return config.load(path, Held) if path.exists() else None


def qualified(
    root: Path, cache: Path, name: str = "trixie-amd64", *, mirror: apt.Mirror | None = None
) -> QualifiedKernel:
    """Return the kernel that kernels/<name>.toml describes, fetched and unpacked where the cache lacks it.

    Without ``version`` there it is the newest one when this is called for the first time, and the same one ever
    after, until qualify() moves it. Error when a version is neither at hand nor on the mirror.
    """
    wanted = describe(root, name)
    kernel = held(root, name)
    if kernel is None or not kernel.fits(wanted):
        kernel = _choose(root, cache, name, wanted, mirror)
        _hold(root, name, kernel)
    return _ready(root, cache, name, kernel, mirror)


def qualify(
    root: Path, cache: Path, name: str = "trixie-amd64", *, mirror: apt.Mirror | None = None, version: str | None = None
) -> tuple[Held | None, Held]:
    """Hold the newest kernel of the mirror, or ``version``; return what was held before and what is held now."""
    wanted = describe(root, name)
    if wanted.version and version != wanted.version:
        raise Error(f"kernels/{name}.toml: version: fixed at {wanted.version}", hint="change it there")
    before = held(root, name)
    apt.Apt(cache, wanted.suite, wanted.architecture, mirror).update(max_age=0)
    kernel = _choose(root, cache, name, wanted, mirror, version)
    _hold(root, name, kernel)
    _ready(root, cache, name, kernel, mirror)
    return before, kernel


def check_newest(root: Path, repo: Path, names: Sequence[str]) -> None:
    """Raise Error when ``repo`` has published a newer kernel than those of kernels/``names``: clients would take that one."""
    wanted: dict[str, Held] = {}
    for kernel in filter(None, (held(root, name) for name in names)):
        if kernel.package not in wanted or Version(kernel.version) > Version(wanted[kernel.package].version):
            wanted[kernel.package] = kernel
    for stanza in tables.listing(repo, "Packages"):
        package, version, _ = (part.decode() for part in control.identity(stanza))
        if package in wanted and Version(version) > Version(wanted[package].version):
            raise Error(
                f"{package} {version} is published, newer than {wanted[package].version}, which the boot images are made for: "
                "clients would take it",
                hint="inv qualify moves to the newest; inv rollback goes back to a snapshot without it",
            )


def _hold(root: Path, name: str, kernel: Held) -> None:
    path = record(root, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_if_changed(path, kernel.toml())


def _choose(
    root: Path, cache: Path, name: str, wanted: Description, mirror: apt.Mirror | None, version: str | None = None
) -> Held:
    """Return the record of ``version``, of the version that is described, or of the newest on the mirror."""
    version = version or wanted.version
    kept = cache.absolute() / "kernels" / f"{wanted.package}_{version}_{wanted.suite}_{wanted.architecture}.toml"
    if version and kept.exists():
        kernel = config.load(kept, Held)
    else:
        kernel = _look_up(apt.Apt(cache, wanted.suite, wanted.architecture, mirror), name, wanted, version)
        kept = kept.with_name(f"{wanted.package}_{kernel.version}_{wanted.suite}_{wanted.architecture}.toml")
        kept.parent.mkdir(parents=True, exist_ok=True)
        files.write_if_changed(kept, kernel.toml())
    if not kernel.fits(wanted):
        image, digest = next(iter(kernel.files.items()))
        raise Error(f"kernels/{name}.toml: sha256: {image} of the mirror has {digest}")
    return kernel


def _look_up(source: apt.Apt, name: str, wanted: Description, version: str | None) -> Held:
    there = [each.version for each in source.versions(wanted.package)]
    if not there or (version and version not in there):
        raise Error(
            f"kernels/{name}.toml: {wanted.package} {version or ''}".rstrip()
            + f": neither in the cache nor on the mirror of Debian {wanted.suite}",
            hint=f"the mirror has {', '.join(there) or 'none'}: set version to one of them, or leave it out",
        )
    word = f"{wanted.package}={version}" if version else wanted.package
    meta = source.show([word])[word]
    image_word = _image_package(source, word)
    image = source.show([image_word])[image_word]
    return Held(
        wanted.package, wanted.suite, wanted.architecture, meta.version, image.name, image.version,
        {image.filename: image.sha256, meta.filename: meta.sha256},
    )  # fmt: skip


def _ready(root: Path, cache: Path, name: str, kernel: Held, mirror: apt.Mirror | None) -> QualifiedKernel:
    """Return the kernel with its packages at hand: from the cache, the repository's pool, or the mirror."""
    words = (f"{kernel.image}={kernel.image_version}", f"{kernel.package}={kernel.version}")
    debs = []
    for word, (filename, digest) in zip(words, kernel.files.items(), strict=True):
        path = cache.absolute() / "debs" / digest / filename
        if not path.exists() and not _from_pool(root, path, digest):
            _download(kernel, name, word, path, apt.Apt(cache, kernel.suite, kernel.architecture, mirror))
        debs.append(path)
    tree = unpack(cache, debs[0])
    return QualifiedKernel(name, abi(tree), tuple(debs), tree)


def _from_pool(root: Path, path: Path, digest: str) -> bool:
    """Copy a package that the cache has lost from the tree's repository; return False when it is not there."""
    for found in sorted((root / "out" / "repo" / "pool").rglob(path.name)):
        if _sha256(found) == digest:
            path.parent.mkdir(parents=True, exist_ok=True)
            with files.replacing(path) as stream, found.open("rb") as content:
                shutil.copyfileobj(content, stream, 1 << 20)
            return True
    return False


def _download(kernel: Held, name: str, word: str, path: Path, source: apt.Apt) -> None:
    gone = Error(
        f"{word}: held by kernels/{name}.toml of the repository, but gone from cache, repository and mirror",
        hint="inv qualify moves to the newest",
    )
    try:
        found = source.download([word])[word]
    except Error:
        raise gone from None
    if found != path:
        raise gone


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _image_package(source: apt.Apt, meta: str) -> str:
    depends = source.depends(meta)
    found = re.search(r"\b(linux-image-[0-9][^\s,|(]*)\s*(?:\(= ([^)]+)\))?", depends)
    if not found:
        raise Error(f"{meta}: depends on no linux-image package", hint=f"Depends: {depends}")
    return found[1] + (f"={found[2]}" if found[2] else "")


def abi(tree: Path) -> str:
    """Return the version of the one kernel below ``tree``."""
    found = sorted(path.name.removeprefix("vmlinuz-") for path in (tree / "boot").glob("vmlinuz-*"))
    if len(found) != 1:
        raise Error(f"{tree}/boot: expected one vmlinuz, found {len(found)}")
    return found[0]


def unpack(cache: Path, deb: Path) -> Path:
    """Return the unpacked tree of a kernel's image package, kept by content; depmod writes its tables."""
    tree = cache.absolute() / "kernels" / _sha256(deb)[:16]
    if tree.exists():
        return tree
    with files.lock(tree.with_suffix(".lock")):
        if tree.exists():
            return tree
        temporary = Path(tempfile.mkdtemp(prefix=f".{tree.name}.", dir=tree.parent))
        try:
            run(["dpkg-deb", "--extract", deb, temporary], timeout=300)
            temporary.chmod(0o755)
            if not (temporary / "lib").exists():
                (temporary / "lib").symlink_to("usr/lib")  # where depmod looks
            run(["depmod", "--basedir", temporary, abi(temporary)], timeout=300)
            temporary.rename(tree)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
    return tree
