"""Small repositories, each of them odd in one way, as apt's acceptance tests need them."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import lz4.frame
import zstandard

from openssi import run
from openssi_build import signing
from openssi_build.bench import pool
from openssi_build.repository import release

PACKAGES = {"variant-any": "amd64", "variant-all": "all"}
_LABELS = {"MD5Sum": "md5", "SHA1": "sha1", "SHA256": "sha256", "SHA512": "sha512"}
DAY = 86400


def halves(pack: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    """Return a packer that packs two halves by themselves and joins the results."""
    return lambda text: pack(text[: len(text) // 2]) + pack(text[len(text) // 2 :])


def _blocks(text: bytes) -> bytes:
    return run.output(["xz", "--format=xz", "--block-size=512", "--stdout"], input=text)


PACK: dict[str, Callable[[bytes], bytes]] = {
    "xz": lzma.compress,
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "zst": zstandard.ZstdCompressor().compress,
    "lz4": lz4.frame.compress,
}
JOINED: dict[str, Callable[[bytes], bytes]] = {
    "xz blocks": _blocks,
    "xz streams": halves(lzma.compress),
    "gz members": halves(gzip.compress),
    "zst frames": halves(zstandard.ZstdCompressor().compress),
}


class Keys:
    """Signing keys of all kinds in one home, made when first asked for."""

    def __init__(self, home: signing.Home) -> None:
        self.home = home
        self._made: dict[str, str] = {}

    def __call__(self, kind: str) -> str:
        """Return the fingerprint of the key ``kind``: an algorithm of gpg's, or subkey, sha1-bound, expired, other."""
        if kind not in self._made:
            self._made[kind] = self._make(kind)
        return self._made[kind]

    def _make(self, kind: str) -> str:
        user, past = f"{kind} <{kind}@example.org>", int(time.time()) - 30 * DAY
        if kind == "expired":
            return self.home.generate(user, expires="10d", date=past)
        if kind == "subkey":
            fingerprint = self._generate(user, "ed25519", "cert")
            self._gpg("--quick-add-key", fingerprint, "ed25519", "sign", "0")
            return fingerprint
        if kind == "sha1-bound":
            return self._generate(user, "rsa2048", "sign", "--cert-digest-algo", "SHA1")
        algorithm = "ed25519" if kind == "other" else kind
        return self._generate(user, algorithm, "sign")

    def _gpg(self, *words: str) -> bytes:
        argv = self.home.command("--pinentry-mode", "loopback", "--passphrase", "", "--status-fd", "1", *words)
        return run.output(argv, timeout=120)

    def _generate(self, user: str, algorithm: str, usage: str, *options: str) -> str:
        said = self._gpg(*options, "--quick-generate-key", user, algorithm, usage, "0")
        return said.decode().split("KEY_CREATED ")[1].split()[1]

    def public(self, *kinds: str) -> bytes:
        """Return the binary keyring of the keys ``kinds``."""
        return self.home.export([self(kind) for kind in kinds])

    def sign(self, how: str, text: bytes, kinds: tuple[str, ...], digest: str, date: float) -> bytes:
        """Return the signature of ``text`` by the keys ``kinds``; ``how`` is gpg's command."""
        users = [word for kind in kinds for word in ("--local-user", self(kind))]
        faked = ["--faked-system-time", f"{int(date)}!"]
        argv = self.home.command("--pinentry-mode", "loopback", "--passphrase", "", *faked, "--digest-algo", digest)
        return run.output([*argv, *users, "--armor", "--output", "-", how], input=text, timeout=120)


@dataclass(frozen=True)
class Variant:
    """A repository of two packages; each field's default is the good way."""

    forms: tuple[str, ...] = ("xz",)  # of Packages; "" is the plain file
    joined: str = ""  # how the compressed file is made, of JOINED
    listed: tuple[str, ...] = ("",)  # forms that Release lists besides those there
    hashes: tuple[str, ...] = ("SHA256",)
    stanza: tuple[str, ...] = ("SHA256",)
    by_hash: tuple[str, ...] | None = None  # hashes; None: no Acquire-By-Hash
    canonical: bool = True  # the indexes lie under their own names
    split: bool = False  # packages of ``all`` are in binary-all alone
    fields: Mapping[str, str] = field(default_factory=dict)  # changed in Release; an empty value takes the field out
    date: float = 0  # seconds from now
    valid: float | None = None
    signing: float = 0  # when it is signed
    keys: tuple[str, ...] = ("ed25519",)
    digest: str = "SHA512"
    signed: tuple[str, ...] = ("InRelease",)  # and Release.gpg
    before: bytes = b""  # the clearsigned text
    after: bytes = b""

    def build(self, top: Path, keys: Keys) -> None:
        """Write the repository into ``top``."""
        stanzas = {name: self._deb(top, name) for name in PACKAGES}
        indexes: dict[str, bytes] = {}
        texts = {"amd64": b"".join(stanzas.values())}
        if self.split:
            texts = {"amd64": stanzas["variant-any"], "all": stanzas["variant-all"]}
        for architecture, text in texts.items():
            indexes |= self._index(top, f"main/binary-{architecture}/Packages", text)
        self._release(top, indexes, keys)

    def _deb(self, top: Path, name: str) -> bytes:
        control = (
            f"Package: {name}\nVersion: 1.0\nArchitecture: {PACKAGES[name]}\nMaintainer: A <a@example.org>\n"
            "Description: a variant\n"
        )
        path = top / f"pool/{name}_1.0_{PACKAGES[name]}.deb"
        path.parent.mkdir(parents=True, exist_ok=True)
        archive = pool.deb(control, {f"usr/share/{name}/data": b"x"})
        path.write_bytes(archive)
        sums = "".join(f"{label}: {hashlib.new(_LABELS[label], archive).hexdigest()}\n" for label in self.stanza)
        return f"{control}Filename: {path.relative_to(top)}\nSize: {len(archive)}\n{sums}\n".encode()

    def _index(self, top: Path, name: str, text: bytes) -> dict[str, bytes]:
        listed = {}
        for form in dict.fromkeys((*self.forms, *self.listed)):
            pack = JOINED[self.joined] if self.joined and form else PACK[form] if form else bytes
            content = pack(text)
            path = top / "dists/trixie" / (f"{name}.{form}" if form else name)
            listed[str(path.relative_to(top / "dists/trixie"))] = content
            if form not in self.forms:
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            if self.canonical:
                path.write_bytes(content)
            for label in self.by_hash or ():
                place = path.parent / "by-hash" / label
                place.mkdir(parents=True, exist_ok=True)
                (place / hashlib.new(_LABELS[label], content).hexdigest()).write_bytes(content)
        return listed

    def _release(self, top: Path, indexes: Mapping[str, bytes], keys: Keys) -> None:
        now = time.time() + self.date
        fields = {
            "Origin": "Variant",
            "Suite": "trixie",
            "Codename": "trixie",
            "Date": release.rfc2822(int(now)),
            "Valid-Until": release.rfc2822(int(time.time() + self.valid)) if self.valid is not None else "",
            "Acquire-By-Hash": "yes" if self.by_hash is not None else "",
            "Architectures": "all amd64",
            "Components": "main",
            **self.fields,
        }
        text = "".join(f"{name}: {value}\n" for name, value in fields.items() if value)
        for label in self.hashes:
            rows = (
                f" {hashlib.new(_LABELS[label], content).hexdigest()} {len(content)} {name}\n"
                for name, content in indexes.items()
            )
            text += f"{label}:\n" + "".join(rows)
        directory = top / "dists/trixie"
        directory.mkdir(parents=True, exist_ok=True)
        date = time.time() + self.signing
        if "InRelease" in self.signed:
            inline = keys.sign("--clearsign", text.encode(), self.keys, self.digest, date)
            (directory / "InRelease").write_bytes(self.before + inline + self.after)
        if "Release.gpg" in self.signed:
            (directory / "Release").write_text(text)
            detached = keys.sign("--detach-sign", text.encode(), self.keys, self.digest, date)
            (directory / "Release.gpg").write_bytes(detached)
