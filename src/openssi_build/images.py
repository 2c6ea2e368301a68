"""Boot images: one for each [[initrd]] of openssi.toml, beside its kernel and a manifest, by the code that nodes run."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from openssi import files, run
from openssi.errors import Error
from openssi.initrd import build, drivers, report
from openssi.kernel.modules import Modules, modules
from openssi.netboot.images import Image, digest
from openssi_build import apt, deb, kernels
from openssi_build.settings import Initrd, Settings

_BUSYBOX = "busybox-static"


@dataclass(frozen=True)
class Made:
    """One boot image below out/initrd/NAME."""

    name: str
    version: str  # the kernel's, as uname says it
    kernel: Path
    initrd: Path
    manifest: Path
    package: Path  # Debian's of the kernel
    notes: tuple[str, ...]  # what the list's names stood for, missing firmware

    @property
    def netboot(self) -> Image:
        """The image as the tftp tree takes it."""
        return Image(self.version, self.kernel, self.initrd)


def build_all(
    root: Path, cache: Path, settings: Settings, *, out: Path | None = None, say: Callable[[str], None] = print
) -> list[Made]:
    """Make every [[initrd]] of ``settings`` below ``out`` (out/initrd by default) and return them in the file's order.

    Error when a driver is unknown or, with ``strict``, firmware is missing.
    """
    mirror = apt.mirror(settings.repository)
    return [_make(root, cache, wanted, out or root / "out" / "initrd", mirror, say) for wanted in settings.initrd]


def kernels_of(root: Path, settings: Settings) -> list[str]:
    """Return the names in kernels/ of the kernels that the boot images are made for: those that the repository carries.

    Error when one is of another release or architecture than the repository: clients could not run what they boot.
    """
    repository = settings.repository
    for wanted in settings.initrd:
        kernel = kernels.describe(root, wanted.kernel)
        where = f"openssi.toml: initrd '{wanted.name}': key 'kernel': {wanted.kernel} is"
        if kernel.suite != repository.suite:
            raise Error(f"{where} of Debian {kernel.suite}, but [repository] suite is {repository.suite}")
        if kernel.architecture not in repository.architectures:
            known = ", ".join(repository.architectures)
            raise Error(f"{where} for {kernel.architecture}, but [repository] architectures are {known}")
    return list(dict.fromkeys(wanted.kernel for wanted in settings.initrd))


def _make(root: Path, cache: Path, wanted: Initrd, out: Path, mirror: apt.Mirror, say: Callable[[str], None]) -> Made:
    kernel = kernels.qualified(root, cache, wanted.kernel, mirror=mirror)
    inputs, problems = inputs_of(root, cache, wanted, kernel, mirror)
    content = build.plan(inputs)
    lacking = list(report.missing_lines(content.missing))
    if wanted.strict and (problems or lacking):
        raise Error(f"openssi.toml: initrd '{wanted.name}': strict: " + "; ".join([*problems, *lacking]))
    for line in (*problems, *lacking):
        say(f"warning: initrd '{wanted.name}': {line}")
    directory = out / wanted.name
    directory.mkdir(parents=True, exist_ok=True)
    made = Made(
        wanted.name, kernel.abi, directory / f"vmlinuz-{kernel.abi}",
        directory / f"initrd.img-{kernel.abi}", directory / "manifest.json",
        kernel.debs[0], (*inputs.chosen.notes, *lacking),
    )  # fmt: skip
    image = build.image(inputs, content)
    if not made.kernel.exists() or digest(made.kernel) != digest(kernel.vmlinuz):
        with files.replacing(made.kernel) as stream, kernel.vmlinuz.open("rb") as source:
            shutil.copyfileobj(source, stream, 1 << 20)
    files.write_if_changed(made.initrd, image)
    files.write_if_changed(made.manifest, _manifest(made, kernel, wanted, content, len(image)))
    for stray in set(directory.iterdir()) - {made.kernel, made.initrd, made.manifest}:
        if stray.is_file():
            stray.unlink()  # of a kernel before this one
    return made


def inputs_of(
    root: Path, cache: Path, wanted: Initrd, kernel: kernels.QualifiedKernel, mirror: apt.Mirror
) -> tuple[build.Inputs, list[str]]:
    """Return what the image ``wanted`` is made of, fetched where the cache lacks it, and what could not be had."""
    microcode = _archives(root, wanted, "microcode", wanted.microcode)
    overlays = _archives(root, wanted, "overlays", wanted.overlays)
    suite = kernels.describe(root, wanted.kernel).suite
    architecture = kernels.describe(root, wanted.kernel).architecture
    own = modules(kernel.tree, kernel.abi)
    trees, problems = _firmware(cache, wanted.firmware, apt.Apt(
        cache, suite, architecture, mirror, component="main non-free-firmware",
    ))  # fmt: skip
    busybox = apt.Apt(cache, suite, architecture, mirror).download([_BUSYBOX])[_BUSYBOX]
    inputs = build.Inputs(
        kernel=own,
        chosen=drivers.choose(_wishes(root, wanted), own),
        busybox=build.busybox(unpack(cache, busybox)),
        parts=root / "initrd",
        firmware=tuple(path for tree in trees for path in build.firmware_directories(tree, own)),
        microcode=microcode,
        overlays=overlays,
        codec=wanted.compress,
        date=_date(root, kernel),
        cache=cache / "initrd",
    )
    return inputs, problems


def _archives(root: Path, wanted: Initrd, key: str, paths: Sequence[Path]) -> tuple[Path, ...]:
    """Return the files that ``key`` names below ``root``; Error when one is none."""
    for path in paths:
        if not (root / path).is_file():
            what = "not a file" if (root / path).exists() else "no such file"
            raise Error(f"openssi.toml: initrd '{wanted.name}': key '{key}': {path}: {what}")
    return tuple(root / path for path in paths)


def _date(root: Path, kernel: kernels.QualifiedKernel) -> int | None:
    """Return the image's date: that of the kernel or of our own newest version, never of the checkout's files."""
    if "SOURCE_DATE_EPOCH" in os.environ:
        return None
    return max(deb.version(root).epoch, int(kernel.vmlinuz.stat().st_mtime))


def _wishes(root: Path, wanted: Initrd) -> list[drivers.Wish]:
    if wanted.drivers is None:
        return drivers.read(root / "initrd/modules.default")
    return drivers.parse("\n".join(wanted.drivers), f"openssi.toml: initrd '{wanted.name}': drivers")


def _firmware(cache: Path, packages: Sequence[str], source: apt.Apt) -> tuple[list[Path], list[str]]:
    """Return the trees of the firmware ``packages`` and a line for each that Debian does not have."""
    trees, problems = [], []
    for package in packages:
        try:
            trees.append(unpack(cache, source.download([package])[package]))
        except apt.UnknownPackageError as problem:
            problems.append(f"no firmware from {package}: {problem}")
    return trees, problems


def unpack(cache: Path, deb: Path) -> Path:
    """Return the unpacked tree of the package ``deb``, kept by content; what is in it is only read."""
    tree = cache.absolute() / "unpacked" / digest(deb)[:16]
    if tree.exists():
        return tree
    with files.lock(tree.with_suffix(".lock")):
        if not tree.exists():
            temporary = Path(tempfile.mkdtemp(prefix=f".{tree.name}.", dir=tree.parent))
            try:
                run.run(["dpkg-deb", "--extract", deb, temporary], timeout=300)
                temporary.chmod(0o755)
                temporary.rename(tree)
            except BaseException:
                shutil.rmtree(temporary, ignore_errors=True)
                raise
    return tree


def _manifest(made: Made, kernel: kernels.QualifiedKernel, wanted: Initrd, content: build.Content, size: int) -> str:
    """Return manifest.json: what the image is, byte for byte, and what it is made of."""
    described = {
        "name": made.name,
        "kernel": {
            "version": kernel.abi,
            "package": kernel.debs[0].name,
            "file": made.kernel.name,
            "sha256": digest(made.kernel),
            "size": made.kernel.stat().st_size,
        },
        "initrd": {
            "file": made.initrd.name,
            "sha256": digest(made.initrd),
            "compress": wanted.compress,
            "date": content.date,
        },
        "content": report.summary(content, size),
    }
    return json.dumps(described, indent=2, ensure_ascii=False) + "\n"


def kernel_modules(root: Path, cache: Path, settings: Settings, name: str = "") -> Modules:
    """Return the modules of kernels/NAME.toml (by default of the first [[initrd]]), fetched where the cache lacks it."""
    name = name or settings.initrd[0].kernel
    kernel = kernels.qualified(root, cache, name, mirror=apt.mirror(settings.repository))
    return modules(kernel.tree, kernel.abi)
