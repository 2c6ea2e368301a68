"""The Release file: what apt is told about a repository, in the order Debian writes it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha1
from typing import Protocol

from openssi.errors import Error


class Signer(Protocol):
    """Who signs a Release."""

    @property
    def fingerprints(self) -> Sequence[str]:
        """The primary keys that sign; public_keys() may have more."""

    def clearsign(self, data: bytes, date: int) -> bytes:
        """Return ``data`` clearsigned at ``date`` (seconds since 1970): InRelease."""

    def detach(self, data: bytes, date: int) -> bytes:
        """Return the armored signatures of ``data``: Release.gpg."""

    def public_keys(self) -> bytes:
        """Return the public keys, binary, for the keyring."""


@dataclass(frozen=True)
class Index:
    """A file as Release lists it."""

    size: int
    sha256: str


def rfc2822(date: int) -> str:
    """Return ``date`` (seconds since 1970) as apt wants it: in UTC, names in English."""
    when = time.gmtime(date)
    day = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")[when.tm_wday]
    month = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"][when.tm_mon - 1]
    return f"{day}, {when.tm_mday:02} {month} {when.tm_year} {when.tm_hour:02}:{when.tm_min:02}:{when.tm_sec:02} UTC"


def text(fields: Mapping[str, str], indexes: Mapping[str, Index]) -> bytes:
    """Return a Release with ``fields`` (empty ones left out) that lists ``indexes`` by SHA256.

    The strongest hash that is listed names the files in by-hash, so there is only this one.
    """
    lines = [f"{name}: {value}\n" for name, value in fields.items() if value]
    lines.append("SHA256:\n")
    width = max((len(str(index.size)) for index in indexes.values()), default=1)
    lines += [f" {index.sha256} {index.size:>{width}} {name}\n" for name, index in sorted(indexes.items())]
    return "".join(lines).encode()


def fields(release: bytes) -> dict[str, str]:
    """Return the one-line fields of a Release or InRelease."""
    found: dict[str, str] = {}
    for line in release.decode("utf-8", "replace").splitlines():
        name, colon, value = line.partition(": ")
        if colon and not line.startswith((" ", "-")):
            found.setdefault(name, value)
    return found


def listed(release: bytes) -> dict[str, Index]:
    """Return what a Release or InRelease of ours lists."""
    found: dict[str, Index] = {}
    for line in release.decode("utf-8", "replace").splitlines():
        words = line.split()
        if line.startswith(" ") and len(words) == 3 and len(words[0]) == 64:
            found[words[2]] = Index(int(words[1]), words[0])
    return found


def fingerprints(keyring: bytes) -> Sequence[str]:
    """Return the fingerprints of the primary keys in a binary keyring (RFC 4880, sections 4.2, 5.5 and 12.2)."""
    found = []
    at = 0
    while at < len(keyring):
        tag, start, size = _packet(keyring, at)
        body = keyring[start : start + size]
        if tag == 6:
            if body[:1] != b"\x04":
                raise Error(f"keyring: a key of version {body[0] if body else 0}: expected version 4")
            hashed = b"\x99" + len(body).to_bytes(2, "big") + body
            found.append(sha1(hashed, usedforsecurity=False).hexdigest().upper())
        at = start + size
    return found


def _packet(keyring: bytes, at: int) -> tuple[int, int, int]:
    """Return tag, offset of the body and size of the packet at ``at``."""
    try:
        head, first = keyring[at], keyring[at + 1]
        if head & 0xC0 == 0xC0:
            if first < 192:
                return head & 0x3F, at + 2, first
            if first < 224:
                return head & 0x3F, at + 3, ((first - 192) << 8) + keyring[at + 2] + 192
            if first == 255:
                return head & 0x3F, at + 6, int.from_bytes(keyring[at + 2 : at + 6], "big")
        elif head & 0xC0 == 0x80 and head & 3 != 3:
            width = 1 << (head & 3)
            return head >> 2 & 0xF, at + 1 + width, int.from_bytes(keyring[at + 1 : at + 1 + width], "big")
    except IndexError:
        pass
    raise Error(f"keyring: no OpenPGP packet at byte {at}", hint="a binary keyring is expected, not an armored one")
