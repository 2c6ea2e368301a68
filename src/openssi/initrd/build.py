"""Putting an initrd together: what goes in and why, then the bytes.

The image is archives one behind the other: the modules as the kernel's package ships them (already compressed
where it does so), then all else, compressed in parts that are kept in a cache. Optional parts come before (microcode, which the kernel
reads before it can decompress anything) and behind (overlays).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from openssi import files
from openssi.errors import Error
from openssi.initrd import codecs, cpio
from openssi.initrd import firmware as firmware_files
from openssi.initrd.drivers import Chosen
from openssi.kernel import modinfo
from openssi.kernel.modules import Modules

# What every image needs besides drivers: the root's filesystem and what DHCP and its client listen with.
BASE = ("nfsv4", "af_packet")
_SHIPPED_COMPRESSED = (".xz", ".zst", ".gz")
_EMPTY = ("dev", "proc", "root", "run", "sys", "tmp")
_BY_THE_LIST = ("lib/openssi/tables.sh", "lib/openssi/drivers")


@dataclass(frozen=True)
class Inputs:
    """Where things come from; all paths are read, none is written."""

    kernel: Modules
    chosen: Chosen
    busybox: Path
    parts: Path  # the directory with init and parts/
    firmware: tuple[Path, ...] = ()
    microcode: tuple[Path, ...] = ()  # files of early archives, put first as they are
    overlays: tuple[Path, ...] = ()  # archives appended as they are
    codec: str = "zstd"
    level: int | None = None
    date: int | None = None  # seconds since 1970; by default SOURCE_DATE_EPOCH, else that of the newest input
    cache: Path | None = None


@dataclass(frozen=True)
class Content:
    """What an image will hold."""

    modules: dict[str, Path]  # by name in loading order
    why: dict[str, str]  # module: what asked for it
    firmware: dict[str, Path]  # by name below /lib/firmware
    missing: tuple[firmware_files.Missing, ...]
    plain: tuple[cpio.Entry, ...] = field(repr=False)  # stored as they are
    packed: tuple[cpio.Entry, ...] = field(repr=False)  # under the compression
    date: int = 0


def plan(inputs: Inputs) -> Content:
    """Return what the image of ``inputs`` will hold; nothing is written but the cache of what modules say of themselves."""
    modules, why = _modules(inputs)
    said = _information(inputs, modules)
    located, missing = _firmware(inputs, said)
    stored = [
        cpio.regular(f"lib/modules/{inputs.kernel.version}/{inputs.kernel.dependencies[name][0]}", path.read_bytes())
        for name, path in modules.items()
    ]
    plain = [entry for entry in stored if entry.name.endswith(_SHIPPED_COMPRESSED)]
    packed = [entry for entry in stored if not entry.name.endswith(_SHIPPED_COMPRESSED)]
    packed += [_firmware_entry(name, path, located) for name, path in located.items()]
    packed += _base(inputs, modules, said)
    sources = [inputs.busybox, *modules.values(), *located.values(), *inputs.parts.rglob("*")]
    return Content(
        modules=modules,
        why=why,
        firmware=located,
        missing=missing,
        plain=tuple(cpio.with_directories(plain)) if plain else (),
        packed=tuple(cpio.with_directories(packed)),
        date=_date(inputs, sources),
    )


def _date(inputs: Inputs, sources: Iterable[Path]) -> int:
    if inputs.date is not None:
        return inputs.date
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    if epoch and epoch.isdecimal():
        return int(epoch)
    return max(int(path.stat().st_mtime) for path in sources)


def _modules(inputs: Inputs) -> tuple[dict[str, Path], dict[str, str]]:
    kernel = inputs.kernel
    why: dict[str, str] = {}
    order: dict[str, Path] = {}
    wanted = [*((name, "the driver list") for name in inputs.chosen.modules), *((name, "every image") for name in BASE)]
    for name, reason in wanted:
        found = kernel.find(name)
        if found is None:
            raise Error(f"kernel {kernel.version} has no module '{name}', which {reason} needs")
        for module in kernel.closure(found.modules):
            order.setdefault(module, kernel.path(module))
            why.setdefault(module, reason if module in found.modules else f"needed by {name}")
    return order, why


def _information(inputs: Inputs, modules: dict[str, Path]) -> dict[str, dict[str, list[str]]]:
    """Return .modinfo by module; kept in the cache by the file's size and time, since reading one means unpacking it."""
    path = inputs.cache / f"modinfo-{inputs.kernel.version}.json" if inputs.cache else None
    known: dict[str, dict[str, list[str]]] = {}
    if path is not None and path.exists():
        try:
            known = json.loads(path.read_bytes())
        except ValueError:
            known = {}
    fresh = False
    said = {}
    for name, file in modules.items():
        status = file.stat()
        key = f"{file} {status.st_size} {status.st_mtime_ns}"
        if key not in known:
            all_ = modinfo.fields(modinfo.read(file), str(file))
            known[key] = {each: all_[each] for each in ("alias", "firmware", "description") if each in all_}
            fresh = True
        said[name] = known[key]
    if path is not None and fresh:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write(path, json.dumps(known, sort_keys=True), durable=False)
    return said


def _firmware(
    inputs: Inputs, said: dict[str, dict[str, list[str]]]
) -> tuple[dict[str, Path], tuple[firmware_files.Missing, ...]]:
    located: dict[str, Path] = {}
    missing = []
    for module, information in said.items():
        for name in information.get("firmware", []):
            found = firmware_files.locate(name, inputs.firmware)
            if not found:
                missing.append(firmware_files.Missing(module, name, firmware_files.package_of(name)))
            for path in found:
                top = next(top for top in inputs.firmware if path.is_relative_to(top))
                located[str(path.relative_to(top))] = path
                target = _target(path, top)
                if target is not None:
                    located[str(target.relative_to(top))] = target
    return dict(sorted(located.items())), tuple(missing)


def _target(path: Path, top: Path) -> Path | None:
    """Return the file that ``path`` leads to if it is a symbolic link to one below ``top``, which then is stored as a link."""
    if not path.is_symlink():
        return None
    target = Path(os.path.normpath(path.parent / path.readlink()))
    return target if target.is_relative_to(top) and target.is_file() and not target.is_symlink() else None


def _firmware_entry(name: str, path: Path, located: Mapping[str, Path]) -> cpio.Entry:
    if path.is_symlink():
        target = os.path.normpath(os.path.join(os.path.dirname(name), path.readlink()))  # noqa: PTH118, PTH120
        if target in located:
            return cpio.symlink(f"lib/firmware/{name}", str(path.readlink()))
    return cpio.regular(f"lib/firmware/{name}", path.read_bytes())


def _base(inputs: Inputs, modules: dict[str, Path], said: dict[str, dict[str, list[str]]]) -> list[cpio.Entry]:
    entries = [
        cpio.regular("init", (inputs.parts / "init").read_bytes(), 0o755),
        cpio.regular("bin/busybox", inputs.busybox.read_bytes(), 0o755),
        cpio.symlink("bin/sh", "busybox"),
        cpio.symlink("sbin", "bin"),
        cpio.regular("lib/openssi/tables.sh", tables(inputs.kernel, inputs.chosen, modules, said).encode()),
        cpio.regular("lib/openssi/drivers", (" ".join(inputs.chosen.modules) or "none").encode() + b"\n"),
    ]
    for part in sorted((inputs.parts / "parts").iterdir()):
        entries.append(cpio.regular(f"lib/openssi/{part.name}", part.read_bytes(), 0o644 if part.suffix else 0o755))
    entries += [cpio.directory(name) for name in _EMPTY]
    return entries


def tables(
    kernel: Modules, chosen: Chosen, modules: Iterable[str], said: Mapping[str, Mapping[str, Sequence[str]]]
) -> str:
    """Return the shell functions by which init knows files, options and devices of the modules.

    They are functions, not tables to read: the shell reads a file byte by byte, but it has parsed a function once.
    """
    lines = ["# shellcheck shell=sh", "files_of() {", "    case $1 in"]
    for name in modules:
        paths = [f"{kernel.version}/{kernel.dependencies[each][0]}" for each in kernel.closure([name])]
        lines.append(f"    {name}) files='{' '.join(paths)}' ;;")
    lines += ["    *) return 1 ;;", "    esac", "}", "options_of() {", "    options=", "    case $1 in"]
    for name, words in sorted(chosen.options.items()):
        lines.append(f"    {_spelled(name)}) options={shlex.quote(' '.join(words))} ;;")
    lines += ["    esac", "}", "load_driver_of() {"]
    for name in chosen.modules:
        # Anything but these letters would end the pattern; no bus of the kernel has others in its ids.
        patterns = [alias for alias in said[name].get("alias", []) if re.fullmatch(r"[\w:.,*?\[\]-]+", alias)]
        if patterns:
            lines += ["    case $1 in", f"    {'|'.join(patterns)}) load {name} ;;", "    esac"]
    return "\n".join([*lines, "    return 0", "}"]) + "\n"


def _spelled(name: str) -> str:
    """Return the pattern of a module's name, whose file may have hyphens for underscores."""
    return name.replace("_", "[_-]")


def image(inputs: Inputs, content: Content) -> bytes:
    """Return the bytes of the image; the compressed archive is taken from the cache when nothing in it has changed."""
    overlays = [path.read_bytes() for path in inputs.overlays]
    if inputs.codec == "lz4" and any(not each.startswith(codecs.MAGICS["lz4"]) for each in overlays):
        raise Error(
            "compression 'lz4' with an overlay behind it: the kernel reads an lz4 stream to the end of the image",
            hint="compress with zstd, gzip or xz, or make the overlay lz4 too",
        )
    early = [path.read_bytes() for path in inputs.microcode]
    for path, archive in zip(inputs.microcode, early, strict=True):
        if not archive.startswith(cpio.MAGIC):
            raise Error(f"{path}: an early microcode archive is an uncompressed cpio archive")
    plain = [cpio.pack(content.plain, content.date)] if content.plain else []
    packed = [_compressed(inputs, cpio.pack(part, content.date)) for part in _parts(inputs.codec, content.packed)]
    return b"".join([*early, *plain, *packed, *overlays])


def _parts(codec: str, entries: Sequence[cpio.Entry]) -> list[list[cpio.Entry]]:
    """Return ``entries`` as archives of their own: what a change of the list leaves alone is not compressed again.

    The firmware of each directory, each module, what the list decides, and the rest, which is mostly busybox.
    """
    if codec in ("lz4", "none"):  # nothing to be gained; and lz4 takes what follows for its own
        return [list(entries)]
    parts: dict[str, list[cpio.Entry]] = {}
    for entry in entries:
        if stat.S_ISDIR(entry.mode):
            if entry.name in _EMPTY:
                parts.setdefault("", []).append(entry)
            continue
        names = entry.name.split("/")
        if entry.name.startswith("lib/firmware/"):
            key = "/".join(names[:3])
        elif entry.name.startswith("lib/modules/"):
            key = entry.name
        else:
            key = "list" if entry.name in _BY_THE_LIST else ""
        parts.setdefault(key, []).append(entry)
    return [cpio.with_directories(parts[key]) for key in sorted(parts)]


def _compressed(inputs: Inputs, archive: bytes) -> bytes:
    level = codecs.LEVELS[inputs.codec] if inputs.codec in codecs.LEVELS and inputs.level is None else inputs.level
    if inputs.cache is None or inputs.codec == "none":
        return codecs.compress(archive, inputs.codec, level)
    digest = hashlib.sha256(archive).hexdigest()[:32]
    path = inputs.cache / f"{digest}-{inputs.codec}-{level}"
    try:
        return path.read_bytes()
    except FileNotFoundError:
        pass
    compressed = codecs.compress(archive, inputs.codec, level)
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write(path, compressed, durable=False)
    _prune(inputs.cache, keep=256)
    return compressed


def _prune(cache: Path, keep: int) -> None:
    """Remove the oldest compressed archives but ``keep``."""
    archives = sorted((path for path in cache.iterdir() if "-" in path.name and path.suffix != ".json"), key=_age)
    for path in archives[:-keep]:
        path.unlink(missing_ok=True)


def _age(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def build(inputs: Inputs, output: Path) -> Content:
    """Write the image of ``inputs`` to ``output``, which stays the old one until the new one is whole."""
    content = plan(inputs)
    files.write(output, image(inputs, content), mode=0o644)
    return content


def busybox(root: Path) -> Path:
    """Return the static busybox below ``root``; Error names its package."""
    for name in ("usr/bin/busybox", "bin/busybox"):
        if (root / name).is_file():
            return root / name
    raise Error(f"{root / 'usr/bin/busybox'}: no busybox", hint="apt install busybox-static")


def firmware_directories(root: Path, kernel: Modules) -> Sequence[Path]:
    """Return where firmware for ``kernel`` lies below ``root``."""
    return firmware_files.directories(root, kernel.version)
