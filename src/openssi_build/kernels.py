"""The kernels that the cluster is qualified on: fetched by apt, unpacked by content."""

from __future__ import annotations

import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from openssi import config, files
from openssi.errors import Error
from openssi.run import run
from openssi_build import apt


@dataclass(frozen=True)
class Description:
    """kernels/<name>.toml: the metapackage and where it comes from."""

    package: str
    suite: str
    architecture: str = "amd64"
    version: str | None = None  # that one and no other; by default the newest


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


def qualified(root: Path, cache: Path, name: str = "trixie-amd64") -> QualifiedKernel:
    """Return the kernel that kernels/<name>.toml describes, fetched and unpacked where the cache lacks it."""
    wanted = describe(root, name)
    source = apt.Apt(cache, wanted.suite, wanted.architecture)
    meta_word = wanted.package + (f"={wanted.version}" if wanted.version else "")
    meta = source.download([meta_word])[meta_word]
    image = _image_package(source, meta_word)
    debs = source.download([image])
    tree = unpack(cache, debs[image])
    return QualifiedKernel(name, abi(tree), (debs[image], meta), tree)


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
    import hashlib

    with deb.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    tree = cache.absolute() / "kernels" / digest[:16]
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
