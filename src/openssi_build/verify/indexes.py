"""The index files of a repository: every listed hash recomputed, by-hash complete, every file that they name there."""

from __future__ import annotations

import bz2
import hashlib
import lzma
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping

from openssi.errors import Error
from openssi_build.repository import control
from openssi_build.repository.release import Index
from openssi_build.verify import trees
from openssi_build.verify.release import COMPRESSED, HASHES, STRONG, Release
from openssi_build.verify.trees import Tree

# Size and hash by path and algorithm; None for a file that is not there.
Digests = dict[tuple[str, str], tuple[int, str] | None]
_TABLES = re.compile(r"(?:.*/)?(Packages|Sources)")


def _gunzip(packed: bytes) -> bytes:
    text = b""
    while packed:
        stream = zlib.decompressobj(31)
        text += stream.decompress(packed) + stream.flush()
        if not stream.eof:
            raise EOFError("cut off")
        packed = stream.unused_data
    return text


def _unxz(packed: bytes) -> bytes:
    stream = lzma.LZMADecompressor()
    text = stream.decompress(packed)
    if not stream.eof:
        raise EOFError("cut off")
    if stream.unused_data:
        raise Error("has several xz streams: apt reads the first alone")
    return text


def _unzstd(packed: bytes) -> bytes:
    import zstandard

    try:
        text: bytes = zstandard.ZstdDecompressor().stream_reader(packed, read_across_frames=True).read()
    except zstandard.ZstdError as problem:
        raise ValueError(problem) from None
    return text


def _unlz4(packed: bytes) -> bytes:
    import lz4.frame

    text: bytes = lz4.frame.decompress(packed)
    return text


_UNPACK: Mapping[str, Callable[[bytes], bytes]] = {
    "xz": _unxz, "lzma": lzma.decompress, "gz": _gunzip, "bz2": bz2.decompress, "zst": _unzstd, "lz4": _unlz4,
}  # fmt: skip


def unpack(packed: bytes, form: str) -> bytes:
    """Return the text of an index in the compressed ``form`` (``xz``, ``gz`` …) as apt reads it; Error when it can't."""
    try:
        return _UNPACK[form](packed)
    except (lzma.LZMAError, zlib.error, EOFError, OSError, ValueError, RuntimeError) as problem:
        raise Error(f"damaged: {problem}") from None


def fault(tree: Tree, path: str, expected: str, digests: Digests) -> str:
    """Return what is wrong with a file that shall have the SHA256 ``expected``, or nothing."""
    if (path, "sha256") not in digests:
        digests[path, "sha256"] = trees.digest(tree, path, "sha256")
    there = digests[path, "sha256"]
    if there is None:
        return "gone"
    return "" if there[1] == expected else f"hash {there[1][:16]}… instead of {expected[:16]}…"


class Indexes:
    """The indexes of one Release below ``prefix`` of ``tree``: check() reads them all and keeps the texts.

    ``digests`` is what is known of the pool already: a file that two Releases name is read once.
    """

    def __init__(self, tree: Tree, prefix: str, release: Release, digests: Digests | None = None) -> None:
        self.tree = tree
        self.prefix = prefix
        self.release = release
        self.faults: list[str] = []
        self.files = 0
        self.texts: dict[str, bytes] = {}  # of Packages and Sources by path below the prefix
        self.packages: dict[tuple[str, str, str], bytes] = {}  # stanzas by package, version and architecture
        self._digests: Digests = {} if digests is None else digests
        self._pool: dict[str, tuple[int, str, str]] = {}  # size, algorithm and hash by path below the tree

    def check(self) -> list[str]:
        """Return everything that is wrong with the indexes and with the files that they name."""
        plain = sorted({_plain(name) for name in self.release.indexes})
        for name in plain:
            self._index(name)
        self._all_is_seen()
        for path, (size, algorithm, expected) in sorted(self._pool.items()):
            if (path, algorithm) not in self._digests:
                self._digests[path, algorithm] = trees.digest(self.tree, path, algorithm)
            self._same(path, self._digests[path, algorithm], size, expected)
        return self.faults

    def _index(self, plain: str) -> None:
        """Check an index in all its forms; the plain one need not be there where a compressed one is."""
        forms = [form for form in ("", *COMPRESSED) if _name(plain, form) in self.release.indexes]
        there = [form for form in forms if self._form(plain, form)]
        if forms == [""] and not there and self.release.indexes[plain].size:
            self.faults.append(f"{self.prefix}{plain}: listed, but not there")

    def _form(self, plain: str, form: str) -> bool:
        """Check one form of an index; return True when it is there, by its name or by its hash."""
        name = _name(plain, form)
        content = trees.read(self.tree, f"{self.prefix}{name}")
        hashed = self._by_hash(name) if self.release.by_hash else None
        where = f"{self.prefix}{name}"
        if content is None and hashed is None:
            if form:
                self.faults.append(f"{where}: listed, but not there")
            return False
        if self.release.by_hash and hashed is None:
            hint = f"apt asks for by-hash/{self.release.strongest}/{self.release.indexes[name].sha256[:16]}…"
            self.faults.append(f"{where}: missing in by-hash: {hint}")
        self.files += 1
        for each in (content, hashed):
            if each is not None:
                self._hashes(where, name, each)
        packed = content if content is not None else hashed
        assert packed is not None
        try:
            text = unpack(packed, form) if form else packed
        except Error as problem:
            self.faults.append(f"{where}: {problem}")
            return True
        if form and plain in self.release.indexes:
            self._hashes(f"{where} unpacked", plain, text)
        if _TABLES.fullmatch(plain) and plain not in self.texts:
            self.texts[plain] = text
            self._stanzas(where, text)
        return True

    def _hashes(self, where: str, name: str, content: bytes) -> None:
        for label, listed in self.release.listed.items():
            if name in listed:
                digest = hashlib.new(HASHES[label], content, usedforsecurity=False).hexdigest()
                if Index(len(content), digest) != listed[name]:
                    self.faults.append(f"{where}: {len(content)} bytes, {label} {digest[:16]}…: {_said(listed[name])}")

    def _by_hash(self, name: str) -> bytes | None:
        directory = f"{self.prefix}{name}".rpartition("/")[0]
        place = f"{directory}/by-hash" if directory else "by-hash"
        return trees.read(self.tree, f"{place}/{self.release.strongest}/{self.release.indexes[name].sha256}")

    def _stanzas(self, where: str, text: bytes) -> None:
        for stanza in filter(None, text.strip(b"\n").split(b"\n\n")):
            try:
                if where.rpartition("/")[2].startswith("Sources"):
                    self._source(stanza)
                else:
                    self._package(stanza)
            except Error as problem:
                self.faults.append(f"{where}: {problem}")

    def _package(self, stanza: bytes) -> None:
        name, version, architecture = (_field(stanza, key) for key in (b"Package", b"Version", b"Architecture"))
        self.packages[name, version, architecture] = stanza
        path, size = _field(stanza, b"Filename"), _field(stanza, b"Size")
        for label in STRONG:
            digest = control.value(stanza, label.encode()).decode()
            if digest:
                self._name(path, int(size), HASHES[label], digest)
                return
        raise Error(f"{name} {version}: neither SHA256 nor SHA512: apt refuses to download it")

    def _source(self, stanza: bytes) -> None:
        name, directory = _field(stanza, b"Package"), _field(stanza, b"Directory")
        match = re.search(rb"^Checksums-Sha256:[^\n]*\n((?: [^\n]+(?:\n|$))+)", stanza, re.M)
        if not match:
            raise Error(f"{name}: source without Checksums-Sha256")
        for line in match[1].decode().splitlines():
            digest, size, base = line.split()
            self._name(f"{directory}/{base}" if directory != "." else base, int(size), "sha256", digest)

    def _name(self, path: str, size: int, algorithm: str, digest: str) -> None:
        path = path.removeprefix("./")
        if path.startswith("/") or ".." in path.split("/"):
            raise Error(f"{path}: points out of the repository")
        self._pool[path] = (size, algorithm, digest)

    def _same(self, path: str, found: tuple[int, str] | None, size: int, digest: str) -> None:
        self.files += 1
        if found is None:
            self.faults.append(f"{path}: an index names it, but it is gone")
        elif found != (size, digest):
            self.faults.append(f"{path}: {found[0]} bytes, hash {found[1][:16]}…: {_said(Index(size, digest))}")

    def _all_is_seen(self) -> None:
        """Packages of ``all`` must reach every architecture: apt leaves them out without a word."""
        texts = {name: text for name, text in self.texts.items() if "/binary-" in name}
        split = {name for name in texts if "/binary-all/" in name}
        reads_all = "all" in self.release.words("Architectures")
        reads_all &= "Packages" not in self.release.words("No-Support-for-Architecture-all")
        alone = _identities(text for name, text in texts.items() if name in split)
        for name in sorted(set(texts) - split):
            lacking = alone - _identities([texts[name]])
            if lacking and not reads_all:
                shown = ", ".join(sorted(lacking)[:3])
                self.faults.append(
                    f"{self.prefix}{name}: lacks {shown} of binary-all, which apt does not read: Architectures in "
                    "Release lacks 'all', or No-Support-for-Architecture-all is set"
                )
        if self.prefix:
            expected = {each for each in self.release.words("Architectures") if each != "all"}
            for architecture in sorted(expected - {_architecture(name) for name in texts}):
                self.faults.append(f"{self.prefix}Release: has architecture {architecture}, but no Packages of it")


def _said(index: Index) -> str:
    return f"listed are {index.size} bytes and {index.sha256[:16]}…"


def _field(stanza: bytes, name: bytes) -> str:
    value = control.value(stanza, name).decode("utf-8", "replace")
    if not value:
        raise Error(f"a stanza without {name.decode()}: {stanza[:60].decode('utf-8', 'replace')!r}")
    return value


def _identities(texts: Iterable[bytes]) -> set[str]:
    return set(_each_identity(texts))


def _each_identity(texts: Iterable[bytes]) -> Iterator[str]:
    for text in texts:
        for stanza in filter(None, text.strip(b"\n").split(b"\n\n")):
            yield f"{control.value(stanza, b'Package').decode()} {control.value(stanza, b'Version').decode()}"


def _architecture(name: str) -> str:
    match = re.search(r"/binary-([^/]+)/", name)
    return match[1] if match else ""


def _plain(name: str) -> str:
    stem, dot, form = name.rpartition(".")
    return stem if dot and form in COMPRESSED else name


def _name(plain: str, form: str) -> str:
    return f"{plain}.{form}" if form else plain
