"""Pools of made-up but valid packages, the same bytes for the same arguments.

The figures are those of Debian's main archive: about two binaries a source, half of them ``all``, control files of
1.1 KB, xz and zstd members as 65 to 35. Packages are kept small (13 KB in the mean), so that what is measured is the
cost of a package and not that of its bytes.
"""

from __future__ import annotations

import hashlib
import io
import lzma
import random
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_EPOCH = 1_700_000_000
# The fast match finder, but the 8 MiB dictionary that dpkg-deb declares: decoders set it up as for a real package.
_XZ = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 8 << 20, "mf": lzma.MF_HC3, "nice_len": 32}]
_MAINTAINERS = (
    "Cluster Maintainers <maintainers@example.org>",
    "Ada Example <ada@example.net>",
    "Example Packaging Team <team+packages@lists.example.org>",
)
_SECTIONS = [
    "admin",
    "devel",
    "doc",
    "libs",
    "libdevel",
    "net",
    "python",
    "perl",
    "utils",
    "web",
    "science",
    "text",
    "misc",
    "kernel",
]
_STEMS = [
    "net",
    "sys",
    "lib",
    "core",
    "graph",
    "data",
    "file",
    "log",
    "mail",
    "time",
    "image",
    "text",
    "crypt",
    "disk",
    "sound",
    "term",
    "node",
    "task",
    "page",
    "link",
]
_ENDS = [
    "kit",
    "ctl",
    "d",
    "view",
    "scan",
    "map",
    "fs",
    "pipe",
    "gen",
    "sync",
    "cast",
    "lint",
    "form",
    "pack",
    "mux",
    "box",
    "hub",
    "graph",
    "trace",
    "tree",
]
_PROSE = [
    "this",
    "package",
    "provides",
    "the",
    "runtime",
    "development",
    "files",
    "command",
    "line",
    "tools",
    "and",
    "documentation",
    "for",
    "programs",
    "that",
    "use",
    "a",
    "fast",
    "portable",
    "library",
    "of",
    "system",
    "network",
    "data",
    "image",
    "text",
    "and",
    "format",
    "routines",
    "with",
    "bindings",
    "modules",
    "plugins",
    "examples",
    "tests",
    "it",
    "can",
    "be",
    "used",
    "to",
    "build",
    "simple",
    "server",
    "client",
    "graphical",
    "applications",
    "on",
    "machines",
]
_TRIPLETS = {"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu", "all": "common"}


def tar(content: Mapping[str, bytes]) -> bytes:
    """Return a tar archive as dpkg-deb writes it: ``./`` in front, each directory before what is in it."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT) as archive:
        done = set()
        for name, data in content.items():
            parts = name.split("/")
            for depth in range(len(parts)):
                directory = "/".join([".", *parts[:depth]]) + "/"
                if directory not in done:
                    done.add(directory)
                    archive.addfile(_header(directory, tarfile.DIRTYPE, 0o755, 0))
            archive.addfile(_header(f"./{name}", tarfile.REGTYPE, 0o644, len(data)), io.BytesIO(data))
    return stream.getvalue()


def _header(name: str, kind: bytes, mode: int, size: int) -> tarfile.TarInfo:
    header = tarfile.TarInfo(name)
    header.type, header.mode, header.size, header.mtime = kind, mode, size, _EPOCH
    header.uname = header.gname = "root"
    return header


def ar(members: Mapping[str, bytes]) -> bytes:
    """Return an ar archive of ``members``."""
    out = [b"!<arch>\n"]
    for name, data in members.items():
        out.append(f"{name:<16}{_EPOCH:<12}{0:<6}{0:<6}{'100644':<8}{len(data):<10}`\n".encode())
        out.append(data + b"\n" * (len(data) % 2))
    return b"".join(out)


def _zstd(data: bytes) -> bytes:
    import zstandard

    return zstandard.ZstdCompressor(level=1).compress(data)


def squeeze(data: bytes, suffix: str) -> bytes:
    """Return ``data`` compressed for a member with this ``suffix``: ``.xz``, ``.zst``, ``.gz`` or nothing."""
    if suffix == ".xz":
        return lzma.compress(data, check=lzma.CHECK_CRC64, filters=_XZ)
    if suffix == ".gz":
        import gzip

        return gzip.compress(data, 1, mtime=0)
    return _zstd(data) if suffix == ".zst" else data


def deb(control: str, content: Mapping[str, bytes], suffix: str = ".xz") -> bytes:
    """Return a binary package with this control file and these files."""
    sums = "".join(
        f"{hashlib.md5(data, usedforsecurity=False).hexdigest()}  {name}\n" for name, data in content.items()
    )
    inner = tar({"control": control.encode(), "md5sums": sums.encode()})
    return ar(
        {
            "debian-binary": b"2.0\n",
            f"control.tar{suffix}": squeeze(inner, suffix),
            f"data.tar{suffix}": squeeze(tar(content), suffix),
        }
    )


def dsc(source: str, version: str, binaries: Sequence[str], directory: Path) -> Path:
    """Write a source package into ``directory`` and return its .dsc."""
    upstream, _, revision = version.rpartition(":")[2].partition("-")
    tree = f"{source}-{upstream}"
    parts = {
        f"{source}_{upstream}.orig.tar.xz": squeeze(tar({f"{tree}/README": f"{source}\n".encode() * 50}), ".xz"),
        f"{source}_{upstream}-{revision}.debian.tar.xz": squeeze(
            tar({"debian/source/format": b"3.0 (quilt)\n", "debian/rules": b"#!/usr/bin/make -f\n%:\n\tdh $@\n"}), ".xz"
        ),
    }
    listed = {
        "Checksums-Sha1": ("sha1", parts),
        "Checksums-Sha256": ("sha256", parts),
        "Files": ("md5", parts),
    }
    text = [
        "Format: 3.0 (quilt)",
        f"Source: {source}",
        f"Binary: {', '.join(binaries)}",
        "Architecture: any all",
        f"Version: {version}",
        f"Maintainer: {_MAINTAINERS[0]}",
        "Standards-Version: 4.7.0",
        "Build-Depends: debhelper-compat (= 13)",
    ]
    for field, (algorithm, each) in listed.items():
        text.append(f"{field}:")
        text += [f" {hashlib.new(algorithm, data).hexdigest()} {len(data)} {name}" for name, data in each.items()]
    for name, data in parts.items():
        (directory / name).write_bytes(data)
    path = directory / f"{source}_{upstream}-{revision}.dsc"
    path.write_text("\n".join(text) + "\n")
    return path


@dataclass
class _Maker:
    """What one generator run goes on from."""

    chance: random.Random
    known: list[str]
    text: bytes
    noise: bytes

    def word(self) -> str:
        return self.chance.choice(_STEMS) + self.chance.choice(_ENDS)

    def name(self) -> str:
        return f"{self.word()}{self.chance.randrange(10**5):05}"

    def relations(self) -> str:
        count = min(30, max(1, int(self.chance.lognormvariate(1.1, 0.9))))
        words = ["libc6 (>= 2.36)"]
        for _ in range(count):
            other = self.chance.choice(self.known)
            bound = (
                f" (>= {self.chance.randrange(9)}.{self.chance.randrange(30)})" if self.chance.random() < 0.5 else ""
            )
            words.append(other + bound)
        return ", ".join(dict.fromkeys(words))

    def prose(self, words: int) -> str:
        return " ".join(self.chance.choices(_PROSE, k=words))

    def body(self, size: int) -> bytes:
        """Return ``size`` bytes that compress about three to one."""
        out = []
        while size > 0:
            part = min(size, 3000)
            plain, random_part = part * 2 // 3, part - part * 2 // 3
            at = self.chance.randrange(len(self.text) - 3000)
            there = self.chance.randrange(len(self.noise) - 3000)
            out += [self.text[at : at + plain], self.noise[there : there + random_part]]
            size -= part
        return b"".join(out)

    def control(self, package: str, source: str, version: str, architecture: str, size: int) -> str:
        lines = [f"Package: {package}"]
        if source != package:
            lines.append(f"Source: {source}")
        lines += [
            f"Version: {version}",
            f"Architecture: {architecture}",
            f"Maintainer: {self.chance.choice(_MAINTAINERS)}",
            f"Installed-Size: {size // 1024 + 1}",
            f"Depends: {self.relations()}",
        ]
        for field, often in (("Recommends", 0.3), ("Suggests", 0.2), ("Breaks", 0.15)):
            if self.chance.random() < often:
                lines.append(f"{field}: {self.relations()}")
        lines += [f"Section: {self.chance.choice(_SECTIONS)}", "Priority: optional"]
        lines += [f"Homepage: https://{source}.example.org/", f"Description: {self.prose(6)}"]
        for paragraph in range(self.chance.choice((1, 1, 2, 3))):
            lines += [" ."] * bool(paragraph)
            lines += [f" {self.prose(11)}" for _ in range(self.chance.randint(2, 6))]
        return "\n".join(lines) + "\n"

    def content(self, package: str, architecture: str) -> dict[str, bytes]:
        total = min(60_000, int(self.chance.lognormvariate(8.85, 0.5))) * 5 // 2
        count = max(3, min(300, int(self.chance.lognormvariate(1.95, 0.7))))
        triplet = _TRIPLETS[architecture]
        places = (
            lambda: f"usr/bin/{package}-{self.word()}",
            lambda: f"usr/lib/{triplet}/{package}/{self.word()}.so",
            lambda: f"usr/share/{package}/{self.word()}/{self.word()}.dat",
            lambda: f"usr/share/man/man1/{package}-{self.word()}.1.gz",
            lambda: f"usr/include/{package}/{self.word()}.h",
        )
        names = {f"usr/share/doc/{package}/{name}" for name in ("copyright", "changelog.Debian.gz")}
        for _ in range(count - 2):
            names.add(self.chance.choices(places, (2, 3, 7, 2, 4))[0]())
        share = max(40, total // len(names))
        return {name: self.body(share) for name in sorted(names)}

    def binaries(self, source: str) -> list[tuple[str, str]]:
        kind = self.chance.random()
        if kind < 0.4:
            names = [f"lib{source}{self.chance.randrange(9)}", f"lib{source}-dev"]
            names += self.chance.sample(
                [f"{source}-tools", f"lib{source}-doc", f"python3-{source}"], self.chance.randint(0, 3)
            )
        elif kind < 0.65:
            names = [f"python3-{source}"]
        else:
            names = [
                source,
                *self.chance.sample([f"{source}-common", f"{source}-data", f"{source}-doc"], self.chance.randint(0, 2)),
            ]
        return [(name, self._architecture(name)) for name in names]

    def _architecture(self, package: str) -> str:
        if package.startswith("python3-") or package.endswith(("-doc", "-common", "-data")):
            return "all"
        return "amd64" if self.chance.random() < 0.7 else "arm64"


def _maker(seed: int) -> _Maker:
    chance = random.Random(seed)  # noqa: S311 - repeatable, not secret
    return _Maker(chance, ["libc6"], " ".join(chance.choices(_PROSE, k=40_000)).encode(), chance.randbytes(4 << 20))


def generate(directory: Path, count: int, *, seed: int = 1, extra: int = 5) -> list[Path]:
    """Write ``count`` packages below ``directory``/pool, a source package for one in 40 beside them, and ``extra``
    more packages into ``directory``/extra; return these. A directory that is complete is left alone.
    """
    done = directory / "complete"
    outside = directory / "extra"
    if not done.exists():
        maker = _maker(seed)
        _write(maker, directory, outside, count, extra)
        done.write_text(f"{count} packages, seed {seed}\n")
    return sorted(outside.iterdir())


def _write(maker: _Maker, directory: Path, outside: Path, count: int, extra: int) -> None:
    made = sources = 0
    outside.mkdir(parents=True, exist_ok=True)
    while made < count + extra:
        source = maker.name()
        version = f"{maker.chance.randrange(9)}.{maker.chance.randrange(40)}-{maker.chance.randint(1, 5)}"
        # A source lies in the pool or outside of it as a whole, so that an extra package is new in every respect.
        left = count - made if made < count else count + extra - made
        binaries = maker.binaries(source)[:left]
        prefix = source[:4] if source.startswith("lib") else source[0]
        place = directory / "pool" / "main" / prefix / source if made < count else outside
        place.mkdir(parents=True, exist_ok=True)
        for package, architecture in binaries:
            _write_deb(maker, place, source, package, version, architecture)
        if sources * 40 < made < count:
            dsc(source, version, [name for name, _ in binaries], place)
            sources += 1
        made += len(binaries)
        maker.known += [name for name, _ in binaries]


def _write_deb(maker: _Maker, place: Path, source: str, package: str, version: str, architecture: str) -> None:
    content = maker.content(package, architecture)
    control = maker.control(package, source, version, architecture, sum(map(len, content.values())))
    suffix = ".xz" if maker.chance.random() < 0.65 else ".zst"
    (place / f"{package}_{version}_{architecture}.deb").write_bytes(deb(control, content, suffix))


def debs(directory: Path) -> Iterable[Path]:
    """Return all .deb and .dsc files below ``directory``, sorted."""
    return sorted(path for path in directory.rglob("*") if path.suffix in (".deb", ".dsc"))
